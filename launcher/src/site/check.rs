//! `sirocco site check`: what of a profile holds here, line by line.
use std::path::Path;

use serde_json::json;
use sirocco_config::environment;
use sirocco_site::{Arch, MpiStart, Needs, Partition, Scheduler, Site, WallTime};

use super::find::{self, Found};
use super::host::limit;
use super::lines::{Line, Seen};
use super::node::Host;
use super::show;
use super::slurm::{self, Slurm};
use crate::cli::SiteCheck;
use crate::failure::{Failure, Kind};
use crate::output;
use crate::programs::{Mpirun, is_on_path};

pub(crate) fn run(arguments: &SiteCheck) -> Result<(), Failure> {
    let found = find::site(arguments.site.as_deref().unwrap_or_else(|| nearest_profile()))?;
    let lines = lines(&found.site);
    let stops: Vec<_> = lines.iter().filter(|line| line.stops()).map(|line| line.fact.as_str()).collect();
    if arguments.json {
        let object = json!({
            "name": found.site.name, "from": found.from, "holds": stops.is_empty(), "missing": stops, "lines": lines,
        });
        output::json(&object)?;
    } else {
        output::line(format_args!("{} ({})", found.site.title, found.from))?;
        lines.iter().try_for_each(|line| output::line(line.words()))?;
    }
    if stops.is_empty() { Ok(()) } else { Err(lacking(&found, &stops)) }
}

/// Without a name: the generic Slurm where there is one, else this machine alone.
fn nearest_profile() -> &'static str {
    if is_on_path("sinfo") { "slurm" } else { "local" }
}

fn lacking(found: &Found, stops: &[&str]) -> Failure {
    let message = format!("a run for {} cannot work from here: {}", found.site.name, stops.join(", "));
    let help = match found.site.scheduler {
        Scheduler::Slurm => {
            "type it on a login node or a compute node of that cluster; if it was typed there, the profile is out of date"
        }
        Scheduler::None => "sirocco doctor says how this machine gets what it lacks",
    };
    Failure::new(Kind::Machine, message).help(help)
}

/// Every fact that can be looked at, in the order of the profile.
fn lines(site: &Site) -> Vec<Line> {
    let mut lines = Vec::new();
    let slurm = (site.scheduler == Scheduler::Slurm).then(Slurm::look);
    if let Some(slurm) = &slurm {
        lines.extend(of_slurm(site, slurm));
        let partitions = site.partitions.iter().map(|known| &known.facts);
        lines.extend(partitions.flat_map(|partition| of_partition(site, partition, slurm)));
        lines.extend(others(site, slurm));
        lines.extend(qualities(site, slurm));
    }
    lines.push(mpi(site, slurm.as_ref()));
    lines.push(hosts(site));
    let here = Host { root: Path::new("/"), away: away(site) };
    lines.extend(here.interfaces(site.network.as_ref().map(|known| &known.facts)));
    lines.push(here.gpus(site));
    lines.push(here.disk(site.disk.as_ref().map(|known| &known.facts)));
    lines.extend(here.modules(site));
    lines.extend(here.energy(site, slurm.as_ref()));
    if let Some(internet) = &site.internet {
        let expected = show::outbound(internet.facts.compute_nodes);
        let seen = Seen::<String>::Unseen("not tried: this command sends nothing".to_owned());
        lines.push(Line::compare("internet from compute nodes", Some(expected), seen, |_, _| true));
    }
    lines
}

fn of_slurm(site: &Site, slurm: &Slurm) -> Vec<Line> {
    let commands = match slurm.lacking.as_slice() {
        [] => Seen::Here("all".to_owned()),
        all if all.len() == slurm::COMMANDS.len() => Seen::Nothing,
        some => Seen::Here(format!("no {}", some.join(", no "))),
    };
    let expected = Some(slurm::COMMANDS.join(", "));
    let version = site.software.as_ref().and_then(|known| known.facts.slurm.clone());
    // A site moves on by patches; what a run asks of Slurm changes with the release, 23.11.
    let release = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    let answers = match &slurm.controller {
        Seen::Unseen(why) if slurm.lacking.is_empty() => Seen::Here(why.clone()),
        seen => seen.clone(),
    };
    vec![
        Line::compare("slurm commands", expected, commands, |_, found| found == "all").needed(true),
        Line::compare("slurm version", version, slurm.version.clone(), |expected, found| release(expected) == release(found)),
        Line::compare("slurm controller", Some("an answer"), answers, |_, _| matches!(slurm.controller, Seen::Here(_)))
            .needed(true),
    ]
}

/// What Slurm knows of a partition; one line if it knows none of that name.
fn of_partition(site: &Site, partition: &Partition, slurm: &Slurm) -> Vec<Line> {
    let name = &partition.name;
    let fact = |what: &str| if what.is_empty() { format!("partition {name}") } else { format!("partition {name}: {what}") };
    let seen = match &slurm.partitions {
        Seen::Here(all) => all.iter().find(|other| other.name == *name).map_or(Seen::Nothing, |one| Seen::Here(one.clone())),
        Seen::Nothing => Seen::Nothing,
        Seen::Unseen(why) => Seen::Unseen(why.clone()),
    };
    let needed = site.default_partition.as_deref() == Some(name);
    let there = Line::compare(fact(""), Some("there"), seen.clone().map(|_| "there".to_owned()), |_, _| true).needed(needed);
    let Seen::Here(one) = seen else { return vec![there] };
    let gpus = partition.gpus.as_ref().map(|gpus| gpus.count);
    let time = |time: Option<WallTime>| limit(time);
    vec![
        there,
        Line::compare(fact("nodes"), partition.nodes, Seen::Here(one.nodes), |expected, found| expected == found),
        // Slurm may count cores or hardware threads, and the site may keep some back.
        Line::compare(fact("cores"), partition.cores, Seen::Here(one.cpus), |expected, found| expected <= found),
        Line::compare(
            fact("memory"),
            partition.memory_gb.map(|gb| format!("{gb} GB")),
            Seen::Here(format!("{} GB", one.memory_mb * 1_048_576 / 1_000_000_000)),
            |_, _| is_near(partition.memory_gb.unwrap_or(0), one.memory_mb),
        ),
        Line::compare(fact("GPUs"), gpus, Seen::Here(one.gpus), |expected, found| expected == found),
        Line::compare(fact("longest job"), partition.max_time.map(Some).map(time), Seen::Here(limit(one.max_time)), |a, b| {
            a == b
        }),
    ]
}

/// Whether Slurm's memory of a node is what the site calls so many GB: 1000 or 1024 to the step, and up to a sixth kept for the system.
fn is_near(gb: u64, mb: u64) -> bool {
    let (expected, found) = (gb as f64 * 1e9, mb as f64 * 1_048_576.0);
    found >= expected * 0.83 && found <= expected * 1.08
}

/// Partitions that the profile does not name, with what a profile could say of each.
fn others(site: &Site, slurm: &Slurm) -> Vec<Line> {
    let Seen::Here(all) = &slurm.partitions else { return Vec::new() };
    let line = |one: &slurm::Partition| {
        let memory = one.memory_mb * 1_048_576 / 1_000_000_000;
        let (nodes, gpus) = (output::count(one.nodes, "node"), output::count(one.gpus, "GPU"));
        let words = format!("{nodes} of {}, {memory} GB, {gpus}; {}", output::count(one.cpus, "CPU"), limit(one.max_time));
        Line::compare(format!("partition {}", one.name), None::<String>, Seen::Here(words), |_, _| true)
    };
    all.iter().filter(|one| site.partition(&one.name).is_none()).map(line).collect()
}

fn qualities(site: &Site, slurm: &Slurm) -> Vec<Line> {
    let line = |qos: &sirocco_site::Qos| {
        let seen = match &slurm.qos {
            Seen::Here(all) => {
                all.iter().find(|other| other.name == qos.name).map_or(Seen::Nothing, |one| Seen::Here(one.clone()))
            }
            Seen::Nothing => Seen::Unseen("there is no sacctmgr here to ask".to_owned()),
            Seen::Unseen(why) => Seen::Unseen(why.clone()),
        };
        let agrees = |one: &slurm::Qos| {
            qos.max_time.is_none_or(|time| one.max_time == Some(time))
                && qos.max_nodes.is_none_or(|nodes| one.max_nodes.is_none_or(|found| found == nodes))
        };
        let agrees = if let Seen::Here(one) = &seen { agrees(one) } else { false };
        let words = |time: Option<WallTime>, nodes: Option<u64>| {
            let nodes = nodes.map_or_else(String::new, |nodes| format!(", {}", output::count(nodes, "node")));
            format!("{}{nodes}", limit(time))
        };
        let expected = words(qos.max_time, qos.max_nodes);
        Line::compare(format!("qos {}", qos.name), Some(expected), seen.map(|one| words(one.max_time, one.max_nodes)), |_, _| {
            agrees
        })
    };
    site.qos.iter().map(|known| line(&known.facts)).collect()
}

fn mpi(site: &Site, slurm: Option<&Slurm>) -> Line {
    let start = site.mpi.as_ref().map(|known| known.facts.start);
    let has_srun = slurm.is_some_and(|slurm| !slurm.lacking.contains(&"srun"));
    let seen = match (start, slurm) {
        (Some(MpiStart::Srun), Some(_)) if has_srun => Seen::Here("srun".to_owned()),
        (Some(MpiStart::Pmix | MpiStart::Pmi2), Some(slurm)) => {
            slurm.mpi.clone().map(|types| format!("srun --mpi={}", types.join("|")))
        }
        (Some(MpiStart::Mpirun) | None, _) => Mpirun::find().map_or(Seen::Nothing, |mpirun| Seen::Here(mpirun.version)),
        _ => Seen::Nothing,
    };
    let types = slurm.map(|slurm| &slurm.mpi);
    let has = |plugin: &str| matches!(types, Some(Seen::Here(types)) if types.iter().any(|one| one == plugin));
    let fits = start.and_then(MpiStart::plugin).is_none_or(has);
    Line::compare("mpi", start.map(MpiStart::command), seen, |_, _| fits).needed(true)
}

/// Programs are built where they are typed: what runs here is what would run there.
fn hosts(site: &Site) -> Line {
    let expected = site.default_partition.as_deref().and_then(|name| site.partition(name)).and_then(|partition| partition.arch);
    let here = std::env::consts::ARCH;
    let programs = Arch::from_name(here);
    let refused = site.refuses(&Needs { programs, ..Needs::default() }).is_some();
    Line::compare("hosts", expected.map(Arch::name), Seen::Here(here), |_, _| !refused).needed(true)
}

/// Why this host is not one to compare with: it is no compute node of the site.
fn away(site: &Site) -> Option<String> {
    let in_job = std::env::var_os(environment::NODE_NAME.name).is_some();
    (site.scheduler == Scheduler::Slurm && !in_job).then(|| "this is not a compute node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_as_sites_count_it() {
        assert!(is_near(512, 491_520) && is_near(512, 515_000) && is_near(512, 440_000));
        assert!(!is_near(512, 256_000) && !is_near(512, 1_031_000));
    }
}
