//! Where a run would compute: this machine, or nodes of a site, with their speed, their memory and who says so.
use serde::Serialize;
use sirocco_config::{Device as Wanted, Run};
use sirocco_plan::{BASE_BYTES, Device, Kind, Machine, Place, Surroundings, device};
use sirocco_site::{MostNodes, Needs, Partition, Runs, Scheduler, Site};

use super::calibration::{Calibration, calibration};
use crate::failure::{Failure, Kind as Fault};
use crate::site::find;
use crate::site::show;

/// Of a GPU's memory, what a run may have: the rest goes to the driver and to gaps between buffers.
const ROOM: f64 = 0.94;
/// The same of a host's, for the system.
const HOST_ROOM: f64 = 0.95;
/// What a rank on a host has before it loads a model, where `make bench` did not measure it: libtorch's pages and MPI.
const HOST_BASE: u64 = 150_000_000;

/// A place and what is known of it.
#[derive(Serialize)]
pub(crate) struct Found {
    /// The site's name.
    pub(crate) site: String,
    pub(crate) title: String,
    pub(crate) partition: Option<String>,
    pub(crate) nodes: u64,
    pub(crate) ranks_per_node: u64,
    /// Of a job; `None` where nobody knows.
    pub(crate) most_nodes: Option<MostNodes>,
    /// A node, in words.
    pub(crate) node: String,
    /// Where its speed was read, or why it is not known.
    pub(crate) speed: String,
    /// Whether a table of more nodes says anything.
    #[serde(skip)]
    pub(crate) scales: bool,
    /// The GPU, and its figures with their sources.
    pub(crate) gpu: Option<&'static Device>,
    pub(crate) calibration: Option<Calibration>,
    /// Bytes that a rank may take.
    pub(crate) room_bytes: Option<u64>,
    /// Bytes per second at which a rank writes a checkpoint.
    #[serde(skip)]
    pub(crate) disk: Option<f64>,
    #[serde(skip)]
    pub(crate) place: Place,
}

impl Found {
    pub(crate) fn ranks(&self) -> u64 {
        self.nodes * self.ranks_per_node
    }

    /// What the run file's own mesh meets here: as many ranks on each node as `sirocco submit` puts there, where that divides, else full nodes.
    /// `None` for more ranks than there are places.
    pub(crate) fn of_mesh(&self, ranks: u64) -> Option<Place> {
        let each = if ranks.is_multiple_of(self.nodes) { ranks / self.nodes } else { self.ranks_per_node };
        let machine = self.place.machine.map(|machine| Machine { ranks_per_node: each, ..machine });
        (ranks <= self.ranks()).then_some(Place { ranks_per_node: each, machine, ..self.place })
    }

    /// Most power of a rank's device.
    pub(crate) fn watts(&self) -> Option<f64> {
        self.gpu?.watts.map(|watts| watts.value)
    }
}

/// The place that the command line or the run file names.
pub(crate) fn find(site: Option<&str>, nodes: Option<u64>, run: &Run) -> Result<Found, Failure> {
    let own = site.is_none_or(|name| name == run.site.profile);
    let found = find::site(site.unwrap_or(&run.site.profile))?;
    let (site, nodes) = (found.site, nodes.unwrap_or(run.site.nodes));
    let named = run.site.partition.as_deref().filter(|_| own).or(site.default_partition.as_deref());
    let partition = match named {
        None => None,
        Some(name) => Some(site.partition(name).ok_or_else(|| no_partition(&site, name))?),
    };
    let most_nodes = site.most_nodes(named, run.site.qos.as_deref().filter(|_| own));
    let found = match partition.filter(|partition| partition.gpus.as_ref().is_some_and(|gpus| gpus.count > 0)) {
        Some(partition) => on_gpus(&site, partition, run, nodes)?,
        None => on_hosts(&site, partition, run, nodes)?,
    };
    Ok(Found { most_nodes, ..found })
}

fn no_partition(site: &Site, name: &str) -> Failure {
    let names: Vec<&str> = site.partitions.iter().map(|known| known.facts.name.as_str()).collect();
    let message =
        format!("[site] partition = {name:?}: {} has none of that name: expected one of {}", site.title, names.join(", "));
    Failure::usage(message).help(format_args!("sirocco site show {} says what each has", site.name))
}

/// A rank on each GPU.
fn on_gpus(site: &Site, partition: &Partition, run: &Run, nodes: u64) -> Result<Found, Failure> {
    let needs = Needs { partition: Some(partition.name.clone()), runs: Runs::Cuda, nodes, ..Needs::default() };
    if let Some(reason) = site.refuses(&needs) {
        return Err(Failure::usage(format_args!("{}: {reason}", site.title)).help("sirocco site list shows the others"));
    }
    let gpus = partition.gpus.as_ref();
    let count = gpus.map_or(1, |gpus| gpus.count);
    let gpu = gpus.and_then(|gpus| device(gpus.kind.as_deref()?, gpus.memory_gb));
    let network = site.network.as_ref().map(|known| &known.facts);
    let supposed = network.and_then(|network| gbit_of(network.fabric.as_deref()?));
    let ports = network.and_then(|network| network.ports.zip(network.port_gbit.or(supposed)));
    let between = match (nodes, ports) {
        (_, Some((ports, gbit))) => Some(Device::between(ports, gbit)),
        // On one node nothing passes between nodes.
        (1, None) => gpu.map(Device::within),
        (_, None) => None,
    };
    let machine = gpu.zip(between).map(|(gpu, between)| Machine {
        kind: Kind::Gpu,
        rates: gpu.rates(run.model.dtype),
        ranks_per_node: count,
        within: gpu.within(),
        between,
    });
    let speed = match (gpu, machine) {
        (None, _) => "not known: there are no figures of this GPU".to_owned(),
        (Some(_), None) => format!("not known: the profile of {} does not say how fast its network is", site.title),
        (Some(gpu), Some(_)) => {
            let port = match (network.and_then(|network| network.port_gbit), ports) {
                (None, Some((_, gbit))) => format!("; {gbit} Gbit/s a port supposed, as its kind of network has"),
                _ => String::new(),
            };
            format!("of {:.0} TFLOP/s ({}) what docs/plan.md says{port}", gpu.peak_tflops.value, gpu.peak_tflops.source)
        }
    };
    let memory_gb = gpus.and_then(|gpus| gpus.memory_gb);
    let room = memory_gb.map(|gb| (gb as f64 * 1e9 * ROOM) as u64);
    let around = Surroundings { kind: Kind::Gpu, base_bytes: BASE_BYTES };
    let peak = gpu.map(|gpu| gpu.peak(run.model.dtype));
    Ok(Found {
        site: site.name.clone(),
        title: site.title.clone(),
        partition: Some(partition.name.clone()),
        nodes,
        ranks_per_node: count,
        most_nodes: None,
        node: show::node(partition),
        speed,
        scales: ports.is_some() && gpu.is_some(),
        gpu,
        calibration: None,
        room_bytes: room,
        disk: None,
        place: Place { ranks_per_node: count, machine, around, room, peak },
    })
}

/// Gigabits per second of a port of this kind of network, as its maker defines the name: for a profile that does not say.
fn gbit_of(fabric: &str) -> Option<u64> {
    let kinds = [("HDR100", 100), ("NDR200", 200), ("HDR", 200), ("NDR", 400), ("Slingshot-11", 200)];
    kinds.into_iter().find(|(name, _)| fabric.contains(name)).map(|(_, gbit)| gbit)
}

/// Ranks on the cores of hosts, as many as the run file's mesh has.
fn on_hosts(site: &Site, partition: Option<&Partition>, run: &Run, nodes: u64) -> Result<Found, Failure> {
    if run.model.device == Wanted::Cuda && partition.is_some() {
        let message = format!("[model] device = \"cuda\": {} has no GPUs in this partition", site.title);
        return Err(Failure::new(Fault::Usage, message).help("set model.device=cpu, or site.partition to one with GPUs"));
    }
    let ranks = run.ranks();
    if !ranks.is_multiple_of(nodes) {
        let message =
            format!("{}: found {nodes} nodes for {ranks} ranks, expected a number that divides them", run.parallel.product());
        return Err(Failure::usage(message).help("--ranks N sets parallel.dp to what pp × fsdp × tp leave of N"));
    }
    let here = site.scheduler == Scheduler::None;
    let per_node = ranks / nodes;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let measured = match here && nodes == 1 {
        true => calibration(cores),
        false => Err("not known: make bench measures the machine on which it runs".to_owned()),
    };
    let machine = measured.as_ref().ok().map(|(calibration, _)| Machine {
        kind: Kind::Cpu,
        // Threads are spread over the cores that there are; more ranks than cores share them.
        rates: calibration.rates(run.model.dtype, per_node),
        ranks_per_node: per_node,
        within: calibration.link(),
        between: calibration.link(),
    });
    let memory =
        if here { host_memory() } else { partition.and_then(|partition| partition.memory_gb).map(|gb| gb * 1_000_000_000) };
    let room = memory.map(|bytes| (bytes as f64 * HOST_ROOM) as u64 / per_node);
    let base_bytes = measured.as_ref().map_or(HOST_BASE, |(calibration, _)| calibration.base_bytes);
    let around = Surroundings { kind: Kind::Cpu, base_bytes };
    let speed = match &measured {
        Ok((calibration, path)) => format!("measured by make bench on {}: {path}", calibration.measured),
        Err(reason) => reason.clone(),
    };
    let memory_words =
        memory.map_or_else(|| "memory not known".to_owned(), |bytes| format!("{} of memory", crate::output::bytes(bytes)));
    let node = if here { format!("{cores} cores, {memory_words}") } else { partition.map_or(memory_words, show::node) };
    let calibration = measured.ok().map(|(calibration, _)| calibration);
    Ok(Found {
        site: site.name.clone(),
        title: site.title.clone(),
        partition: partition.map(|partition| partition.name.clone()),
        nodes,
        ranks_per_node: per_node,
        most_nodes: None,
        node,
        speed,
        scales: false,
        gpu: None,
        disk: calibration.as_ref().and_then(|calibration| calibration.disk_gb_s).map(|rate| rate * 1e9),
        calibration,
        room_bytes: room,
        place: Place { ranks_per_node: per_node, machine, around, room, peak: None },
    })
}

/// Memory of this host, if it tells.
fn host_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
