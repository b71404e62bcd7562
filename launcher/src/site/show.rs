//! A profile as a page: every fact, "not known" where there is none, and the number of its sources behind it.
use std::fmt::{Display, Write as _};

use sirocco_site::{Disk, DiskKind, Gpus, Known, Needs, Outbound, Partition, Qos, Runs, Site};

use super::find::Found;

/// What nobody knows.
const NOT_KNOWN: &str = "not known";

/// The whole page.
pub(crate) fn page(found: &Found) -> String {
    let mut page = Page { site: &found.site, text: String::new() };
    page.head(&found.from);
    found.site.partitions.iter().for_each(|known| page.partition(known));
    page.qualities();
    page.rest();
    page.verdict();
    page.sources();
    page.text
}

/// Why nothing that computes with CUDA works in the partition that runs take.
pub(crate) fn refuses_cuda(site: &Site) -> Option<String> {
    site.refuses(&Needs { runs: Runs::Cuda, ..Needs::default() }).map(|reason| reason.to_string())
}

/// A node in one line: `4 × NVIDIA A100, 40 GB each; 64 cores, 512 GB, x86_64`.
pub(crate) fn node(partition: &Partition) -> String {
    let host = [
        partition.cores.map(|cores| format!("{cores} cores")),
        partition.memory_gb.map(|gb| format!("{gb} GB")),
        partition.arch.map(|arch| arch.name().to_owned()),
    ];
    let host = host.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let parts = [partition.gpus.as_ref().map(gpus), (!host.is_empty()).then_some(host)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// `4 × NVIDIA A100, 40 GB each`.
pub(crate) fn gpus(gpus: &Gpus) -> String {
    if gpus.count == 0 {
        return "none".to_owned();
    }
    let vendor = gpus.vendor.map_or("GPU", sirocco_site::Vendor::name);
    let kind = gpus.kind.as_ref().map_or_else(String::new, |kind| format!(" {kind}"));
    let memory = gpus.memory_gb.map_or_else(String::new, |gb| format!(", {gb} GB each"));
    format!("{} × {vendor}{kind}{memory}", gpus.count)
}

/// `a disk, 1920 GB, at /tmp`.
pub(crate) fn disk(disk: &Disk) -> String {
    let kind = match disk.kind {
        DiskKind::Ssd => "a disk",
        DiskKind::Memory => "memory that looks like a disk",
    };
    let size = disk.gb.map_or_else(String::new, |gb| format!(", {gb} GB"));
    let path = disk.path.as_ref().map_or_else(String::new, |path| format!(", at {path}"));
    format!("{kind}{size}{path}")
}

/// What leaves a compute node.
pub(crate) fn outbound(outbound: Outbound) -> &'static str {
    match outbound {
        Outbound::Open => "open: the site confines nothing",
        Outbound::Closed => "closed",
    }
}

struct Page<'a> {
    site: &'a Site,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, text: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn title(&mut self, title: impl Display, sources: &[String]) {
        let title = format!("{title} {}", self.marks(sources));
        self.line("");
        self.line(title.trim_end());
    }

    fn row(&mut self, name: &str, value: Option<impl Display>) {
        let value = value.map_or_else(|| NOT_KNOWN.to_owned(), |value| value.to_string());
        self.line(format!("  {name:21}{value}"));
    }

    /// The numbers of sources, as the end of the page lists them: `[1, 3]`.
    fn marks(&self, sources: &[String]) -> String {
        let numbered = self.site.sources.keys().enumerate().filter(|(_, name)| sources.contains(name));
        let numbers: Vec<_> = numbered.map(|(index, _)| (index + 1).to_string()).collect();
        if numbers.is_empty() { String::new() } else { format!("[{}]", numbers.join(", ")) }
    }

    fn head(&mut self, from: &str) {
        let site = self.site;
        let title = format!("{}: {} {}", site.name, site.title, self.marks(&site.named_by));
        self.line(title.trim_end());
        self.row("country", site.country.as_ref());
        self.row("operator", site.operator.as_ref());
        let scheduler = match site.scheduler {
            sirocco_site::Scheduler::Slurm => "Slurm",
            sirocco_site::Scheduler::None => "none",
        };
        self.row("scheduler", Some(scheduler));
        self.row("profile", Some(from));
    }

    fn partition(&mut self, known: &Known<Partition>) {
        let one = &known.facts;
        let default = if self.site.default_partition.as_ref() == Some(&one.name) { ", which runs take" } else { "" };
        self.title(format_args!("partition {}{default}", one.name), &known.sources);
        self.row("nodes", one.nodes);
        let threads = one.threads_per_core.map_or_else(String::new, |threads| format!(", {threads} threads each"));
        self.row("cores of a node", one.cores.map(|cores| format!("{cores}{threads}")));
        self.row("memory of a node", one.memory_gb.map(|gb| format!("{gb} GB")));
        self.row("hosts", one.arch.map(sirocco_site::Arch::name));
        self.row("GPUs of a node", one.gpus.as_ref().map(gpus));
        self.row("longest job", one.max_time);
        self.row("nodes of a job", one.max_nodes);
        self.row("jobs of a user", one.max_jobs);
        self.row("nodes are shared", one.shared.map(yes));
        self.row("binding of ranks", one.cpu_bind.as_ref());
    }

    /// A table; `?` is what nobody knows.
    fn qualities(&mut self) {
        let site = self.site;
        if site.qos.is_empty() {
            self.title("qos", &[]);
            self.row("names and limits", None::<String>);
            return;
        }
        self.line("");
        self.line(format!("{:18}{:14}{:12}{:12}what for (? is not known)", "qos", "longest job", "nodes", "jobs/user"));
        for known in &site.qos {
            let qos = &known.facts;
            let may = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
            let (time, jobs) =
                (may(qos.max_time.map(|time| time.to_string())), may(qos.jobs_per_user.map(|jobs| jobs.to_string())));
            let row = format!(
                "  {:16}{time:14}{:12}{jobs:12}{} {}",
                qos.name,
                may(nodes(qos)),
                purpose(qos),
                self.marks(&known.sources)
            );
            self.line(row.trim_end());
        }
    }

    fn rest(&mut self) {
        let site = self.site;
        let submit = site.submit.as_ref().map(|known| &known.facts);
        self.title("jobs", sources(site.submit.as_ref()));
        let all = |words: Vec<&str>| (!words.is_empty()).then(|| words.join(", "));
        self.row("must name", submit.and_then(|submit| all(submit.required.iter().map(|required| required.name()).collect())));
        self.row("an account is", submit.and_then(|submit| submit.account_form.as_ref()));
        self.row("always get", submit.and_then(|submit| all(submit.options.iter().map(String::as_str).collect())));
        self.row("ask for GPUs by", submit.and_then(|submit| submit.gpu_request.as_ref()));
        self.row("get whole nodes", submit.and_then(|submit| submit.whole_nodes).map(yes));
        let network = site.network.as_ref().map(|known| &known.facts);
        self.title("network", sources(site.network.as_ref()));
        self.row("fabric", network.and_then(|network| network.fabric.as_ref()));
        let ports = |network: &sirocco_site::Network| {
            let speed = network.port_gbit.map_or_else(String::new, |gbit| format!(", {gbit} Gbit/s each"));
            network.ports.map(|ports| format!("{ports}{speed}"))
        };
        self.row("adapters of a node", network.and_then(ports));
        self.row("interfaces", network.and_then(|network| all(network.interfaces.iter().map(String::as_str).collect())));
        self.row("end of host names", network.and_then(|network| network.host_suffix.as_ref()));
        let pair = |(name, value): (&String, &String)| format!("{name}={value}");
        let environment = network.map(|network| network.environment.iter().map(pair).collect::<Vec<_>>().join(" "));
        self.row("environment", environment.filter(|text| !text.is_empty()));
        self.machine();
    }

    fn machine(&mut self) {
        let site = self.site;
        let software = site.software.as_ref().map(|known| &known.facts);
        self.title("software", sources(site.software.as_ref()));
        self.row("Slurm", software.and_then(|software| software.slurm.as_ref()));
        self.row("daemon of a node", software.and_then(|software| software.node_daemon.as_ref()));
        self.row("system", software.and_then(|software| software.os.as_ref()));
        self.row("driver of GPUs", software.and_then(|software| software.gpu_driver.as_ref()));
        self.title("everything else", &[]);
        let marked = |page: &Page<'_>, text: Option<String>, sources: &[String]| {
            text.map(|text| format!("{text} {}", page.marks(sources)))
        };
        let mpi = site.mpi.as_ref().map(|known| known.facts.start.command().to_owned());
        self.row("MPI is started by", marked(self, mpi, sources(site.mpi.as_ref())));
        let modules = site.modules.as_ref().map(|known| known.facts.load.join(" ")).filter(|text| !text.is_empty());
        self.row("modules to load", marked(self, modules, sources(site.modules.as_ref())));
        let login = site.modules.as_ref().and_then(|known| known.facts.on_login_nodes).map(|on| yes(on).to_owned());
        self.row("and on login nodes", marked(self, login, sources(site.modules.as_ref())));
        self.row("disk of a node", marked(self, site.disk.as_ref().map(|known| disk(&known.facts)), sources(site.disk.as_ref())));
        let internet = site.internet.as_ref().map(|known| {
            let words = known.facts.words.as_ref().map_or_else(String::new, |words| format!(" ({words})"));
            format!("{}{words}", outbound(known.facts.compute_nodes))
        });
        self.row("internet in jobs", marked(self, internet, sources(site.internet.as_ref())));
        let energy = site.energy.as_ref().map(|known| known.facts.read_at.join(", "));
        self.row("energy is read at", marked(self, energy, sources(site.energy.as_ref())));
        for known in &site.notes {
            let note = format!("  note: {} {}", known.facts.text, self.marks(&known.sources));
            self.line(note);
        }
    }

    /// What these facts mean for a run.
    fn verdict(&mut self) {
        let arch = self.site.default_partition.as_deref().and_then(|name| self.site.partition(name)).and_then(|one| one.arch);
        self.title("a run there", &[]);
        self.row("needs programs for", arch.map(sirocco_site::Arch::name));
        let cuda = refuses_cuda(self.site).map_or_else(|| "not refused".to_owned(), |reason| format!("refused: {reason}"));
        self.row("with CUDA", Some(cuda));
    }

    fn sources(&mut self) {
        self.title("sources", &[]);
        for (index, source) in self.site.sources.values().enumerate() {
            let as_of = source.as_of.as_ref().map_or_else(String::new, |date| format!(", of {date}"));
            let via = source.via.as_ref().map_or_else(String::new, |via| format!(", via {via}"));
            self.line(format!("  [{}] {}, read {}{as_of}{via}", index + 1, source.at, source.read));
        }
    }
}

fn sources<T>(known: Option<&Known<T>>) -> &[String] {
    known.map_or(&[], |known| &known.sources)
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `2`, `65 to 256`, `25 %`, or `2, 2/user`.
fn nodes(qos: &Qos) -> Option<String> {
    let most = qos.max_nodes.map(|nodes| nodes.to_string()).or_else(|| qos.max_percent.map(|percent| format!("{percent} %")));
    let span = match (qos.min_nodes, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("from {least}")),
        (None, most) => most,
    };
    match (span, qos.nodes_per_user) {
        (Some(span), Some(user)) => Some(format!("{span}, {user}/user")),
        (None, Some(user)) => Some(format!("{user}/user")),
        (span, None) => span,
    }
}

fn purpose(qos: &Qos) -> String {
    let flags = [
        qos.purpose.clone(),
        qos.preemptible.filter(|yes| *yes).map(|_| "may be stopped".to_owned()),
        qos.by_arrangement.filter(|yes| *yes).map(|_| "by arrangement".to_owned()),
    ];
    flags.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
