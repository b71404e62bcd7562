//! What this machine has for computing. The trainer links the libraries, so it is the one to ask: `sirocco-train doctor`.
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use sirocco_config::{Place, environment};

use crate::failure::{Failure, Kind};
use crate::output::count;
use crate::programs::{TRAINER, beside};

/// The trainer, and what it found of libtorch and of GPUs. The error is in words, without advice.
pub(crate) fn libraries() -> Result<(PathBuf, Value), String> {
    let path = beside(TRAINER).map_err(|failure| format!("{}; make build makes it", failure.message))?;
    let output = Command::new(&path).args(["doctor", "--json"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: cannot be started: {error}", path.display()))?;
    match serde_json::from_slice(&output.stdout) {
        Ok(found) if output.status.success() => Ok((path, found)),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            let status = output.status;
            Err(format!("{TRAINER} does not start ({status}): {first}; make setup unpacks libtorch, make build links it"))
        }
    }
}

/// Refuses a run on GPUs that this machine cannot have: no device that works, or fewer than ranks. `at` is where the device was
/// typed.
pub(crate) fn expect_devices(ranks: u64, at: &Place) -> Result<(), Failure> {
    const ADVICE: &str = "sirocco doctor says what this machine has; model.device = \"cpu\" needs no GPU";
    let lacks =
        |message: String| Failure::new(Kind::Machine, format_args!("{at}: [model] device = \"cuda\": {message}")).help(ADVICE);
    let (_, found) = libraries().map_err(lacks)?;
    if !found["cuda"].as_bool().unwrap_or(false) {
        let reason = found["cuda_error"].as_str().unwrap_or("the trainer does not say why");
        return Err(lacks(format!("no GPU of this machine can be used: {reason}")));
    }
    match found["cuda_devices"].as_u64() {
        // Ranks of other nodes take the devices there, which this program does not see.
        Some(devices) if ranks > devices && !spreads_over_nodes() => {
            let (ranks, devices) = (count(ranks, "rank"), count(devices, "device"));
            Err(lacks(format!("{ranks}, and this machine has {devices}: expected one for each rank")))
        }
        _ => Ok(()),
    }
}

/// Whether mpirun has more nodes than this one, as far as Slurm says.
fn spreads_over_nodes() -> bool {
    let nodes = std::env::var(environment::NODES.name).ok().and_then(|nodes| nodes.parse::<u64>().ok());
    nodes.is_some_and(|nodes| nodes > 1)
}
