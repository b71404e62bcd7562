//! Devices that send past the kernel's network: whoever may open one needs no socket.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Directories whose devices are all meant: InfiniBand, RoCE, iWARP and EFA (`uverbs`, `umad`, `rdma_cm`; the kernel's
/// Documentation/infiniband/user_verbs.rst).
const DIRECTORIES: [&str; 1] = ["infiniband"];

/// Beginnings of device names: HPE Slingshot, Intel and Cornelis Omni-Path, QLogic InfiniPath, Atos BXI, Cray Aries.
const BEGINNINGS: [&str; 5] = ["cxi", "hfi1_", "ipath", "bxi", "kgni"];

/// The device that is tried where none was found.
pub(crate) const USUAL: &str = "/dev/infiniband/uverbs0";

/// The devices of a `/dev`, sorted; none where it cannot be read.
pub(crate) fn devices(dev: &Path) -> Vec<PathBuf> {
    let below = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        DIRECTORIES.iter().flat_map(|name| below(dev.join(name))).filter(|path| !path.is_dir()).collect();
    found.extend(below(dev.to_owned()).filter(|path| is_device_name(path)));
    found.sort();
    found
}

fn is_device_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    BEGINNINGS.iter().any(|start| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
}

/// Whether a path is one of these devices, by its name: what an open file was opened as.
pub(crate) fn is_device(path: &Path) -> bool {
    let dev = Path::new("/dev");
    DIRECTORIES.iter().any(|name| path.starts_with(dev.join(name))) || path.parent() == Some(dev) && is_device_name(path)
}

/// Opens a device, for reading and writing or for reading alone, and closes it.
///
/// # Errors
/// When neither is granted: the first error.
pub(crate) fn open(device: &Path) -> io::Result<()> {
    // Not to wait for anybody, should the name be that of a pipe.
    let opens = |write| OpenOptions::new().read(true).write(write).custom_flags(libc::O_NONBLOCK).open(device).map(drop);
    opens(true).or_else(|error| opens(false).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_name() {
        let dev = tempfile::tempdir().unwrap();
        fs::create_dir(dev.path().join("infiniband")).unwrap();
        for name in ["infiniband/uverbs0", "infiniband/rdma_cm", "cxi0", "hfi1_0", "cxi", "null", "cxiX"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let names = ["cxi0", "hfi1_0", "infiniband/rdma_cm", "infiniband/uverbs0"].map(|name| dev.path().join(name));
        assert_eq!(devices(dev.path()), names);
        assert!(names.iter().all(|name| open(name).is_ok()) && open(&dev.path().join("cxi1")).is_err());
        assert!(is_device(Path::new(USUAL)) && is_device(Path::new("/dev/cxi0")) && !is_device(Path::new("/dev/null")));
        assert_eq!(devices(Path::new("no/such")), Vec::<PathBuf>::new());
    }
}
