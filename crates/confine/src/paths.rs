//! Lists of files: made absolute, looked at, and refused where they would hand over the machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Refused;

/// The files that a process may use. Everything else is closed to it, where the kernel has Landlock; what is open already stays
/// open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Read, listed and executed; of directories everything below.
    pub readable: Vec<PathBuf>,
    /// The same, and written, created, removed. A device that is asked by `ioctl`, as a GPU is, belongs here by its own name:
    /// `/dev` whole, `/proc`, `/sys` and what holds them are refused.
    pub writable: Vec<PathBuf>,
}

/// File systems through which the kernel is told what to do (proc(5), sysfs(5) and their relatives).
const OF_THE_KERNEL: [&str; 8] = ["proc", "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "efivarfs"];

/// A file system where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
}

impl Paths {
    /// The same lists with every link followed, so that what is recorded is what is opened.
    ///
    /// # Errors
    /// When a path is not there, or when one that may be written is, holds, or lies within, a file system of the kernel or all
    /// devices.
    pub(crate) fn resolved(&self) -> Result<Self, Refused> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Refused::at("reading /proc/self/mountinfo"))?;
        let mounts = mounts_of(&mounts);
        let resolve = |path: &PathBuf| {
            fs::canonicalize(path).map_err(|error| Refused::Path { path: path.clone(), message: error.to_string() })
        };
        let resolved = Self {
            readable: self.readable.iter().map(resolve).collect::<Result<_, _>>()?,
            writable: self.writable.iter().map(resolve).collect::<Result<_, _>>()?,
        };
        match resolved.writable.iter().find_map(|path| Some((path, too_much(path, &mounts)?))) {
            Some((path, what)) => Err(Refused::Writable { path: path.clone(), what }),
            None => Ok(resolved),
        }
    }

    /// Whether the lists leave anything out: the root of all files does not.
    pub(crate) fn confine(&self) -> bool {
        !self.all().any(|path| path == Path::new("/"))
    }

    /// Whether a path is named, or lies below one that is.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.all().any(|listed| path.starts_with(listed))
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.readable.iter().chain(&self.writable)
    }
}

/// Why a path may not be written.
fn too_much(path: &Path, mounts: &[Mount]) -> Option<String> {
    let of_the_kernel = |mount: &&Mount| OF_THE_KERNEL.contains(&mount.kind.as_str());
    let inside = mounts.iter().filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.components().count());
    if let Some(mount) = inside.filter(of_the_kernel) {
        return Some(format!("within {}, a file system of the kernel", mount.at.display()));
    }
    let held = mounts.iter().filter(of_the_kernel).map(|mount| mount.at.as_path());
    let held = held.chain(mounts.iter().filter(|mount| mount.kind == "devtmpfs").map(|mount| mount.at.as_path()));
    let mut held = held.chain(["/dev", "/proc", "/sys"].map(Path::new));
    held.find(|held| held.starts_with(path)).map(|held| format!("or holds, {}", held.display()))
}

/// proc_pid_mountinfo(5): the fifth column is where, and the first after a lone hyphen is of what kind. Spaces and the like in
/// names are octal.
fn mounts_of(table: &str) -> Vec<Mount> {
    let row = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        Some(Mount { at: before.split(' ').nth(4)?.replace("\\040", " ").into(), kind: after.split(' ').next()?.to_owned() })
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writable(path: &str) -> Result<Paths, Refused> {
        Paths { readable: vec![], writable: vec![path.into()] }.resolved()
    }

    #[test]
    fn what_hands_over_the_machine_may_not_be_written() {
        for path in ["/", "/dev", "/proc", "/sys", "/proc/self", "/proc/sys/kernel", "/dev/../dev"] {
            assert!(matches!(writable(path), Err(Refused::Writable { .. })), "{path}: {:?}", writable(path));
        }
        assert_eq!(writable("/dev/null").unwrap().writable, [PathBuf::from("/dev/null")]);
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev", place.path().join("harmless")).unwrap();
        assert!(matches!(writable(place.path().join("harmless").to_str().unwrap()), Err(Refused::Writable { .. })));
        assert!(writable(place.path().to_str().unwrap()).is_ok());
    }

    #[test]
    fn a_second_mount_of_the_kernel_is_found_wherever_it_is() {
        let table = "21 26 0:20 / / rw - ext4 /dev/vda rw\n\
                     22 21 0:21 / /host/my\\040proc rw,nosuid shared:5 - proc proc rw\n\
                     23 21 0:22 / /host/devices rw - devtmpfs dev rw\n\
                     24 23 0:23 / /host/devices/shm rw - tmpfs tmpfs rw\n";
        let mounts = mounts_of(table);
        assert_eq!(mounts[1], Mount { at: "/host/my proc".into(), kind: "proc".into() });
        for path in ["/host", "/host/my proc/sys/kernel", "/host/devices"] {
            assert!(too_much(Path::new(path), &mounts).is_some(), "{path}");
        }
        for path in ["/host/devices/shm", "/host/devices/nvidia0", "/hostile", "/data"] {
            assert_eq!(too_much(Path::new(path), &mounts), None, "{path}");
        }
    }

    #[test]
    fn the_root_of_all_files_confines_nothing() {
        let lists = |readable: &str| Paths { readable: vec![readable.into()], writable: vec![] };
        assert!(!lists("/").confine() && lists("/usr").confine() && Paths::default().confine());
        assert!(!lists("/usr/..").resolved().unwrap().confine());
        assert!(lists("/dev").covers(Path::new("/dev/infiniband/uverbs0")) && !lists("/dev/shm").covers(Path::new("/dev/null")));
    }
}
