//! What `make gpu-check` runs on a machine with a GPU: every operation against its twin on the CPU, then the table of speeds.
//!
//! **None of this has been run on a GPU yet.** The checks themselves are tested with the CPU in both places.

mod bench;
mod compare;
mod group;
mod measure;
mod operations;
pub(crate) mod optimizer;
mod shapes;
mod tolerance;
mod whole;

use serde_json::json;
use sirocco_model::ops::cuda::{self, Gpu};
use tch::Device;

use self::compare::Finding;
use crate::caught::caught;
use crate::failure::{Failure, print_line};
use crate::threads;

/// Both jobs' command line.
#[derive(Debug, clap::Args)]
pub(crate) struct GpuJob {
    /// Number of the device, as libtorch counts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: u16,
    /// Tokens in a sequence, which is one document.
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, value_parser = clap::value_parser!(u16).range(64..))]
    pub(crate) length: u16,
    /// Steps to measure, after two to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) steps: u16,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl GpuJob {
    /// Makes the device ready; nothing may ask libtorch for CUDA before.
    fn prepare(&self) -> Result<(Device, Gpu), Failure> {
        threads::use_threads(None)?;
        let ordinal = usize::from(self.device);
        let gpu = cuda::prepare(ordinal).map_err(|error| {
            Failure::machine(error).help(
                "this needs an NVIDIA GPU with its driver, and libtorch 2.11.0 for CUDA, NVRTC and NCCL on LD_LIBRARY_PATH; \
                 `make gpu-check` finds those that belong to python3's torch",
            )
        })?;
        Ok((Device::Cuda(ordinal), gpu))
    }
}

/// Every operation, a small network and the collectives, each against the CPU.
pub(crate) fn check(job: &GpuJob) -> Result<(), Failure> {
    let (device, gpu) = job.prepare()?;
    let findings = caught(|| {
        let mut findings = operations::check(device)?;
        findings.push(optimizer::check(device)?);
        findings.extend(whole::check(device)?);
        findings.extend(group::check(usize::from(job.device), device)?);
        Ok(findings)
    })?;
    report(&findings, &gpu, job.json);
    let wrong: Vec<&str> = findings.iter().filter(|finding| !finding.holds()).map(|finding| finding.name.as_str()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!("{} of {} comparisons are beyond their tolerance: {}", wrong.len(), findings.len(), wrong.join(", "));
    Err(Failure::failed(message).help("do not train on this GPU with this build"))
}

fn report(findings: &[Finding], gpu: &Gpu, as_json: bool) {
    if as_json {
        let rows: Vec<_> = findings.iter().map(Finding::json).collect();
        return print_line(&json!({"gpu": gpu.name, "bytes": gpu.bytes, "comparisons": rows}).to_string());
    }
    print_line(&format!("{}: largest difference ÷ largest magnitude, beside the CPU", gpu.name));
    findings.iter().for_each(|finding| print_line(&finding.to_string()));
}

/// The table of speeds.
pub(crate) fn bench(job: &GpuJob) -> Result<(), Failure> {
    let (device, gpu) = job.prepare()?;
    caught(|| bench::run(job, device, &gpu))
}
