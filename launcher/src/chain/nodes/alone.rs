//! What a node says that makes it unfit whatever the others say.

use sirocco_config::{DeviceReport, NodeReport};

use super::{Asked, Needs};
use crate::output::{bytes, count};

/// Seconds that a node's clock may be away from the launcher's, beyond the time that asking took.
const CLOCK: f64 = 2.0;

/// Of a GPU's memory, what must be free before a run: the rest of it somebody else holds.
const FREE_MEMORY: f64 = 0.8;

/// Every reason, in words.
pub(super) fn faults(asked: &Asked<'_>, answer: &NodeReport) -> Vec<String> {
    let mut faults = directory(answer);
    faults.extend(clock(asked, answer));
    faults.extend(devices(asked.needs, answer));
    faults.extend(disk(asked.needs, answer));
    faults
}

/// Whether the node sees what the run is made of. Without the run directory the rest of it is no wonder.
fn directory(answer: &NodeReport) -> Vec<String> {
    let reason = |name: &str| answer.reasons.get(name).map_or("it did not say why", String::as_str);
    if answer.stamp != Some(true) {
        return vec![format!(
            "does not see the run directory of this job ({}): put it on a file system that all nodes share",
            reason("stamp")
        )];
    }
    let mut faults = Vec::new();
    if answer.write_s.is_none() {
        faults.push(format!("cannot write in the run directory: {}", reason("write_s")));
    }
    let closed = answer.files.iter().filter_map(|file| file.error.as_ref().map(|error| (&file.path, error)));
    faults.extend(closed.map(|(path, error)| {
        // A library's error may begin with the place already.
        if error.contains(path.as_str()) { format!("cannot read {error}") } else { format!("cannot read {path}: {error}") }
    }));
    faults
}

/// The launcher's clock went from `began` to `ended` while the node looked at its own.
fn clock(asked: &Asked<'_>, answer: &NodeReport) -> Option<String> {
    let (behind, ahead) = (asked.began - answer.clock, answer.clock - asked.ended);
    let (apart, where_to) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
    (apart > CLOCK).then(|| {
        format!(
            "its clock is {apart:.1} s {where_to} that of the first node: expected at most {CLOCK:.0} s; synchronise it with NTP"
        )
    })
}

fn devices(needs: Needs, answer: &NodeReport) -> Vec<String> {
    let Some(devices) = &answer.devices else {
        let reason = answer.reasons.get("devices").map_or("it did not say why", String::as_str);
        // Nobody can say what to test where the run directory is not seen, and that is said already.
        return if answer.stamp == Some(true) { vec![format!("could not be tested: {reason}")] } else { Vec::new() };
    };
    let gpus = devices.iter().filter(|device| device.name.starts_with("cuda")).count() as u64;
    let mut faults = Vec::new();
    if gpus < needs.gpus {
        faults.push(format!("has {} that can be seen: expected {}", count(gpus, "GPU"), needs.gpus));
    }
    faults.extend(devices.iter().flat_map(device));
    faults
}

fn device(device: &DeviceReport) -> Vec<String> {
    let name = &device.name;
    let mut faults: Vec<String> = device.failed.iter().map(|reason| format!("{name} cannot be used: {reason}")).collect();
    for product in device.products.iter().filter(|product| product.wrong_rows > 0) {
        let (dtype, wrong, rows) = (&product.dtype, product.wrong_rows, product.rows);
        faults.push(format!("{name} computes wrong numbers: {wrong} of {rows} rows of a matrix product in {dtype}, expected 0"));
    }
    if let Some(memory) = &device.memory {
        if memory.wrong_words > 0 {
            let (wrong, tested) = (memory.wrong_words, bytes(memory.tested_bytes));
            faults.push(format!("{name} has bad memory: {wrong} words of {tested} came back wrong, expected 0"));
        }
        if (memory.free_bytes as f64) < FREE_MEMORY * memory.bytes as f64 {
            let (free, all) = (bytes(memory.free_bytes), bytes(memory.bytes));
            let least = FREE_MEMORY * 100.0;
            faults.push(format!(
                "{name} has {free} of {all} of its memory free: expected {least:.0} %; nvidia-smi says who holds it"
            ));
        }
    }
    faults
}

/// Room for one checkpoint where it is written.
fn disk(needs: Needs, answer: &NodeReport) -> Vec<String> {
    let wanted = [("run", needs.checkpoint_bytes), ("staging", needs.staged_bytes)];
    let room = wanted.into_iter().filter_map(|(name, least)| {
        let space = answer.space.get(name)?;
        let free = space.free_bytes.filter(|free| *free < least)?;
        Some(format!("{} has {} free: expected {} for one checkpoint", space.path, bytes(free), bytes(least)))
    });
    room.collect()
}
