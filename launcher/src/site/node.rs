//! What of a profile this host can be compared with, if it is a compute node: interfaces, GPUs, the disk, modules, where energy is read.
use std::path::Path;

use sirocco_config::environment;
use sirocco_site::{Disk, DiskKind, Known, Network, Site};

use super::host;
use super::lines::{Line, Seen};
use super::show;
use super::slurm::Slurm;

/// This host, or why it does not count.
pub(super) struct Host<'a> {
    pub(super) root: &'a Path,
    pub(super) away: Option<String>,
}

impl Host<'_> {
    /// What `look` finds, if this host counts.
    fn see<T>(&self, look: impl FnOnce() -> Seen<T>) -> Seen<T> {
        self.away.clone().map_or_else(look, Seen::Unseen)
    }

    pub(super) fn interfaces(&self, network: Option<&Network>) -> Vec<Line> {
        let all = host::interfaces(self.root);
        let words =
            |all: &[&(String, String)]| all.iter().map(|(name, state)| format!("{name} {state}")).collect::<Vec<_>>().join(", ");
        let expected = network.map_or(&[][..], |network| &network.interfaces);
        if expected.is_empty() {
            let beside_loopback: Vec<_> = all.iter().filter(|(name, _)| name != "lo").collect();
            let seen = self.see(|| if beside_loopback.is_empty() { Seen::Nothing } else { Seen::Here(words(&beside_loopback)) });
            return vec![Line::compare("interfaces", None::<String>, seen, |_, _| true)];
        }
        let line = |expected: &String| {
            let meant: Vec<_> = all.iter().filter(|(name, _)| host::is_meant(expected, name)).collect();
            let up = meant.iter().all(|(_, state)| state != "down");
            let seen = self.see(|| if meant.is_empty() { Seen::Nothing } else { Seen::Here(words(&meant)) });
            Line::compare("interface", Some(format!("{expected} up")), seen, |_, _| up).needed(true)
        };
        expected.iter().map(line).collect()
    }

    pub(super) fn gpus(&self, site: &Site) -> Line {
        let partition = site.default_partition.as_deref().and_then(|name| site.partition(name));
        let expected = partition.and_then(|partition| partition.gpus.as_ref());
        let found = host::gpus(self.root);
        let fits = |expected: &sirocco_site::Gpus| match &found {
            Some(found) => expected.vendor == Some(found.vendor) && expected.count == found.count,
            None => expected.count == 0,
        };
        let fits = expected.is_none_or(fits);
        let words = |found: &host::Gpus| {
            let kind = found.kind.as_ref().map_or_else(String::new, |kind| format!(" {kind}"));
            format!("{} × {}{kind}", found.count, found.vendor.name())
        };
        let none_meant = expected.is_some_and(|gpus| gpus.count == 0);
        let seen = self.see(|| match &found {
            Some(found) => Seen::Here(words(found)),
            None if none_meant => Seen::Here("none".to_owned()),
            None => Seen::Nothing,
        });
        Line::compare("GPUs", expected.map(show::gpus), seen, |_, _| fits)
    }

    pub(super) fn disk(&self, disk: Option<&Disk>) -> Line {
        let expected = disk.map(show::disk);
        let Some(path) = disk.and_then(|disk| disk.path.as_deref()) else {
            let seen = self.see(|| Seen::<String>::Unseen("the profile does not say where it is".to_owned()));
            return Line::compare("disk of a node", expected, seen, |_, _| true);
        };
        let seen = self.see(|| host::disk(path));
        let memory = disk.is_some_and(|disk| disk.kind == DiskKind::Memory);
        let gb = disk.and_then(|disk| disk.gb);
        let fits = match &seen {
            Seen::Here(found) => found.in_memory == memory && gb.is_none_or(|gb| found.gb * 10 >= gb * 8),
            _ => false,
        };
        let words = |found: host::Disk| format!("{}, {} GB", if found.in_memory { "memory" } else { "a disk" }, found.gb);
        Line::compare("disk of a node", expected, seen.map(words), |_, _| fits)
    }

    pub(super) fn modules(&self, site: &Site) -> Vec<Line> {
        let search = std::env::var_os(environment::MODULE_PATH.name);
        let modules = site.modules.iter().flat_map(|known| &known.facts.load);
        // Loading the first shows where the others are: only it can be looked for.
        let seen = |module: &String| match &search {
            None => Seen::Unseen("there are no modules on this host".to_owned()),
            Some(search) if host::has_module(search, module) => Seen::Here(module.clone()),
            Some(_) => Seen::Nothing,
        };
        modules.take(1).map(|module| Line::compare("module", Some(module), self.see(|| seen(module)), |_, _| true)).collect()
    }

    pub(super) fn energy(&self, site: &Site, slurm: Option<&Slurm>) -> Vec<Line> {
        let places = site.energy.iter().flat_map(|Known { facts, .. }| &facts.read_at);
        let line = |place: &String| {
            let seen = match (place.as_str(), slurm) {
                ("sacct", Some(slurm)) => slurm.energy.clone(),
                ("sacct", None) => Seen::Nothing,
                ("nvml", _) => self.see(|| Seen::Unseen("the driver is not asked".to_owned())),
                (path, _) => self.see(|| if Path::new(path).exists() { Seen::Here(path.to_owned()) } else { Seen::Nothing }),
            };
            Line::compare("energy", Some(place), seen, |_, found| !found.is_empty() && !found.ends_with("/none"))
        };
        places.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::find;

    #[test]
    fn a_host_that_is_no_compute_node_is_not_compared() {
        let site = find::site("meluxina").unwrap().site;
        let away = Host { root: Path::new("/"), away: Some("elsewhere".to_owned()) };
        assert_eq!(away.gpus(&site).found.as_deref(), Some("elsewhere"));
        let empty = tempfile::tempdir().unwrap();
        let node = Host { root: empty.path(), away: None };
        let interface = &node.interfaces(site.network.as_ref().map(|known| &known.facts))[0];
        assert!(interface.stops(), "{interface:?}");
        assert_eq!(node.gpus(&site).words().split_whitespace().nth(1), Some("missing"));
    }
}
