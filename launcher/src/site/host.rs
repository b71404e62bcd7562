//! What this host has: interfaces, GPUs, the disk of a node, modules. Read under a root, so that tests can bring their own.
use std::fs;
use std::path::Path;

use sirocco_site::{Vendor, WallTime};

use super::lines::Seen;

/// The type that Linux gives to file systems in memory (`TMPFS_MAGIC` of linux/magic.h).
const IN_MEMORY: u64 = 0x0102_1994;

/// Interfaces of the network, with their state as Linux calls it (`up`, `down`, `unknown`).
pub(crate) fn interfaces(root: &Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = names(&root.join("sys/class/net"))
        .into_iter()
        .map(|name| {
            let state = fs::read_to_string(root.join("sys/class/net").join(&name).join("operstate"));
            (name, state.map_or_else(|_| "unknown".to_owned(), |state| state.trim().to_owned()))
        })
        .collect();
    all.sort();
    all
}

/// Whether an interface is what the profile calls `hsn*` or `ib0`.
pub(crate) fn is_meant(expected: &str, name: &str) -> bool {
    expected.strip_suffix('*').map_or(expected == name, |beginning| name.starts_with(beginning))
}

/// GPUs of this host: who made them, how many, and what the driver calls the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpus {
    pub(crate) vendor: Vendor,
    pub(crate) count: u64,
    pub(crate) kind: Option<String>,
}

/// The GPUs that a driver of this host knows.
pub(crate) fn gpus(root: &Path) -> Option<Gpus> {
    let nvidia = root.join("proc/driver/nvidia/gpus");
    let boards = names(&nvidia);
    if let Some(first) = boards.first() {
        let about = fs::read_to_string(nvidia.join(first).join("information")).unwrap_or_default();
        let model = about.lines().find_map(|line| line.strip_prefix("Model:"));
        let kind = model.map(|model| model.trim().trim_start_matches("NVIDIA ").to_owned());
        return Some(Gpus { vendor: Vendor::Nvidia, count: boards.len() as u64, kind });
    }
    // AMD's driver has a node for every host and every GPU; only GPUs have vector units.
    let nodes = root.join("sys/class/kfd/kfd/topology/nodes");
    let is_gpu = |name: &String| {
        let about = fs::read_to_string(nodes.join(name).join("properties")).unwrap_or_default();
        let units = about.lines().find_map(|line| line.strip_prefix("simd_count "));
        units.and_then(|units| units.trim().parse::<u64>().ok()).is_some_and(|units| units > 0)
    };
    let count = names(&nodes).iter().filter(|name| is_gpu(name)).count() as u64;
    (count > 0).then_some(Gpus { vendor: Vendor::Amd, count, kind: None })
}

/// A file system of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) in_memory: bool,
    pub(crate) gb: u64,
}

/// The file system at `path`.
pub(crate) fn disk(path: &str) -> Seen<Disk> {
    let (kind, sizes) = match (rustix::fs::statfs(path), rustix::fs::statvfs(path)) {
        (Ok(kind), Ok(sizes)) => (kind, sizes),
        (Err(error), _) | (_, Err(error)) if error == rustix::io::Errno::NOENT => return Seen::Nothing,
        (Err(error), _) | (_, Err(error)) => return Seen::Unseen(format!("{path}: {error}")),
    };
    let gb = sizes.f_blocks.saturating_mul(sizes.f_frsize) / 1_000_000_000;
    Seen::Here(Disk { in_memory: kind.f_type.cast_unsigned() == IN_MEMORY, gb })
}

/// Whether a module can be loaded: a file of its name, with or without `.lua`, in one of the folders of `search`.
pub(crate) fn has_module(search: &std::ffi::OsStr, module: &str) -> bool {
    std::env::split_paths(search).any(|folder| {
        let plain = folder.join(module);
        plain.exists() || folder.join(format!("{module}.lua")).exists()
    })
}

/// Words for a limit of Slurm, where no time is no limit.
pub(crate) fn limit(time: Option<WallTime>) -> String {
    time.map_or_else(|| "no limit".to_owned(), |time| time.to_string())
}

/// What is in a folder, in order; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn gpus_of_both_makers_are_counted() {
        let information = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 1\n";
        let nvidia = root(&[
            ("proc/driver/nvidia/gpus/0000:03:00.0/information", information),
            ("proc/driver/nvidia/gpus/0000:44:00.0/information", information),
        ]);
        let found = gpus(nvidia.path()).unwrap();
        assert_eq!((found.vendor, found.count, found.kind.as_deref()), (Vendor::Nvidia, 2, Some("A100-SXM4-40GB")));
        let nodes = "sys/class/kfd/kfd/topology/nodes";
        let amd = root(&[
            (&format!("{nodes}/0/properties"), "cpu_cores_count 64\nsimd_count 0\n"),
            (&format!("{nodes}/1/properties"), "cpu_cores_count 0\nsimd_count 440\n"),
        ]);
        assert_eq!(gpus(amd.path()), Some(Gpus { vendor: Vendor::Amd, count: 1, kind: None }));
        assert_eq!(gpus(root(&[]).path()), None);
    }

    #[test]
    fn interfaces_are_named_whole_or_by_their_beginning() {
        let host = root(&[("sys/class/net/hsn0/operstate", "up\n"), ("sys/class/net/eth0/operstate", "down\n")]);
        let found = interfaces(host.path());
        assert_eq!(found, [("eth0".to_owned(), "down".to_owned()), ("hsn0".to_owned(), "up".to_owned())]);
        assert!(is_meant("hsn*", "hsn0") && is_meant("ib0", "ib0") && !is_meant("ib0", "ib01") && !is_meant("hsn*", "eth0"));
    }

    #[test]
    fn disks_and_modules_are_found() {
        assert!(matches!(disk("/"), Seen::Here(_)));
        assert_eq!(disk("/no/such/place"), Seen::Nothing);
        let modules = root(&[("env/release/2025.1.lua", ""), ("OpenMPI/5", "")]);
        let search = modules.path().as_os_str();
        assert!(has_module(search, "env/release/2025.1") && has_module(search, "OpenMPI/5") && !has_module(search, "CUDA"));
    }
}
