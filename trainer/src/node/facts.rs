//! What a node says of itself: names, times, versions, cores, memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use sirocco_config::{NodeReport, environment};
use sirocco_corpus::sha256_file;

use super::Fill as _;
use crate::doctor;

/// Everything but what needs a GPU or takes a while.
pub(super) fn look(report: &mut NodeReport) {
    report.host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    report.node = name(&report.host);
    report.finds("boot", field("/proc/stat", "btime "), |report, found| report.boot = found.map(|seconds| seconds as f64));
    let cores = std::thread::available_parallelism().map(|cores| cores.get() as u64).map_err(|error| error.to_string());
    report.finds("cores", cores, |report, found| report.cores = found);
    let memory = |name| field("/proc/meminfo", name).map(|kib| kib * 1024);
    report.finds("memory_bytes", memory("MemTotal:"), |report, found| report.memory_bytes = found);
    report.finds("memory_available_bytes", memory("MemAvailable:"), |report, found| report.memory_available_bytes = found);
    version(report, "libtorch", Ok(doctor::LIBTORCH.to_owned()));
    version(report, "kernel", first_line("/proc/sys/kernel/osrelease"));
    version(report, "libc", libc());
}

/// As Slurm calls this node; where it has not started this program, the host name.
pub(super) fn name(host: &str) -> String {
    std::env::var(environment::NODE_NAME.name).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| host.to_owned())
}

/// What belongs to GPUs. The CUDA of libtorch is known only once that part of it is loaded.
pub(super) fn of_gpus(report: &mut NodeReport) {
    version(report, "driver", first_line("/sys/module/nvidia/version"));
    let loaded = sirocco_model::ops::cuda::devices().map_err(|error| error.to_string());
    version(report, "cuda", loaded.map(|_| cuda_version(tch::utils::version_cudart())));
    version(report, "nccl", sirocco_comm::nccl::version().map_err(|error| error.to_string()));
}

/// 13000 is 13.0.
fn cuda_version(number: i64) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

fn version(report: &mut NodeReport, name: &str, found: Result<String, String>) {
    report.finds(&format!("versions.{name}"), found, |report, found| {
        report.versions.insert(name.to_owned(), found);
    });
}

/// This program: its version, and enough of its digest to tell two builds apart.
pub(super) fn program() -> Result<String, String> {
    let digest = sha256_file(Path::new("/proc/self/exe")).map_err(|error| error.to_string())?;
    Ok(format!("{} (SHA-256 {})", env!("CARGO_PKG_VERSION"), digest.get(..12).unwrap_or(&digest)))
}

/// The number behind `name` in a file of /proc.
fn field(path: &str, name: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let number = |line: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(number).ok_or_else(|| format!("{path}: no number behind {name}"))
}

fn first_line(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// glibc's version has no file and no system call: its own program says it.
fn libc() -> Result<String, String> {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output().map_err(|error| format!("getconf: {error}"))?;
    let said = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if asked.status.success() && !said.is_empty() { Ok(said) } else { Err("getconf knows no GNU_LIBC_VERSION".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        assert!(field("/proc/meminfo", "MemTotal:").unwrap() > 0);
        assert!(field("/proc/stat", "btime ").unwrap() > 1_000_000_000);
        assert_eq!(field("/proc/meminfo", "Nothing:").unwrap_err(), "/proc/meminfo: no number behind Nothing:");
        assert!(field("/proc/nothing", "x").unwrap_err().starts_with("/proc/nothing: "));
        assert_eq!([12060, 13000].map(cuda_version), ["12.6", "13.0"]);
    }
}
