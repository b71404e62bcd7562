//! What a run asks of a site, and whether the site can give it, as far as its profile knows.
use sirocco_config::{Device, Run, RunFile};
use sirocco_site::{Arch, Needs, Required, Runs, Scheduler, Site};

use crate::failure::Failure;
use crate::site::find;

/// The site of a run, if the run can work there as far as its profile knows.
pub(crate) fn site_of(file: &RunFile, run: &Run) -> Result<Site, Failure> {
    let site = find::site(&run.site.profile)?.site;
    let at = file.place_of("site.profile");
    if site.scheduler != Scheduler::Slurm {
        let message = format!("{at}: [site] profile = {:?} has no scheduler: expected a site with Slurm", run.site.profile);
        return Err(Failure::usage(message).help(
            "--set site.profile=slurm is any cluster with Slurm; sirocco site list names others; sirocco train needs none",
        ));
    }
    let lacking = lacking(run, &site);
    if !lacking.is_empty() {
        let (title, names) = (&site.title, lacking.join(", "));
        let message = format!("{at}: {title} demands of every job: {names}; found none under [site]");
        let form = site.submit.iter().find_map(|known| known.facts.account_form.as_deref());
        let form = form
            .filter(|_| lacking.contains(&"account"))
            .map_or_else(String::new, |form| format!("; an account looks like {form}"));
        return Err(Failure::usage(message)
            .help(format_args!("--set site.{}=…; sirocco site show {} lists what there is{form}", lacking[0], site.name)));
    }
    if run.model.device == Device::Auto && partition_gpus(run, &site) > 0 {
        let (at, title) = (file.place_of("model.device"), &site.title);
        let message = format!(
            "{at}: [model] device = \"auto\" is the CPU, and the partition of {title} has GPUs: expected \"cuda\" or \"cpu\""
        );
        return Err(Failure::usage(message)
            .help("--set model.device=cuda computes on the GPUs; --set model.device=cpu leaves them unused"));
    }
    if let Some(reason) = site.refuses(&needs(run)) {
        let message = format!("{at}: this run cannot work on {}: {reason}", site.title);
        return Err(Failure::usage(message).help(format_args!("sirocco site show {} says what the site has", site.name)));
    }
    Ok(site)
}

/// GPUs that each node has to give: one for each of its ranks, unless the run computes on the hosts.
pub(crate) fn gpus_per_node(run: &Run) -> u64 {
    if run.model.device == Device::Cuda { run.ranks() / run.site.nodes } else { 0 }
}

/// GPUs of a node of the run's partition, as far as its profile knows.
fn partition_gpus(run: &Run, site: &Site) -> u64 {
    let name = run.site.partition.as_deref().or(site.default_partition.as_deref());
    let gpus = name.and_then(|name| site.partition(name)).and_then(|partition| partition.gpus.as_ref());
    gpus.map_or(0, |gpus| gpus.count)
}

/// What a run asks of a site.
fn needs(run: &Run) -> Needs {
    let gpus_per_node = gpus_per_node(run);
    let cuda = gpus_per_node > 0;
    Needs {
        partition: run.site.partition.clone(),
        qos: run.site.qos.clone(),
        runs: if cuda { Runs::Cuda } else { Runs::Cpu },
        programs: Arch::from_name(std::env::consts::ARCH),
        gpus_per_node,
        nodes: run.site.nodes + run.site.spare_nodes,
        time: run.site.time,
    }
}

/// What the site demands of every job and this run file does not say.
fn lacking(run: &Run, site: &Site) -> Vec<&'static str> {
    let asked = &run.site;
    let required = site.submit.iter().flat_map(|known| &known.facts.required);
    let is_there = |required: &Required| match required {
        Required::Account => asked.account.is_some(),
        Required::Partition => asked.partition.is_some() || site.default_partition.is_some(),
        Required::Qos => asked.qos.is_some(),
        Required::Time => asked.time.is_some(),
        Required::Nodes => true,
    };
    required.filter(|required| !is_there(required)).map(|required| required.name()).collect()
}
