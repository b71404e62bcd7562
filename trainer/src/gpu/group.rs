//! NCCL on one device: a group of one, whose collectives move what they are given through the device.

use sirocco_comm::nccl::{Device as NcclDevice, DeviceGroup, Region};
use sirocco_comm::{CommError, Options, Solo};
use sirocco_parallel::region;
use tch::{Device, Kind, Tensor};

use super::compare::{Finding, difference, random};
use super::tolerance;
use crate::failure::Failure;

/// Every collective. Needs no second GPU, and so shows that libraries, streams and events work, not that ranks agree.
pub(super) fn check(ordinal: usize, device: Device) -> Result<Vec<Finding>, Failure> {
    let fail = |error: CommError| Failure::machine(error).help("NCCL (libnccl.so.2) must be on LD_LIBRARY_PATH");
    let opened = NcclDevice::open(ordinal).map_err(fail)?;
    let group = DeviceGroup::join("check", &Solo::new(), opened, Options::default()).map_err(fail)?;
    let collectives: [Collective; 4] = [
        ("all-reduce", Kind::Float, |group, from, _, keep| group.all_reduce("check", from, keep)?.wait().map(drop)),
        ("reduce-scatter", Kind::BFloat16, |group, from, to, keep| {
            group.reduce_scatter("check", &[(from, to)], keep)?.wait().map(drop)
        }),
        ("all-gather", Kind::BFloat16, |group, from, to, keep| group.all_gather("check", &[(from, to)], keep)?.wait().map(drop)),
        ("send and receive", Kind::Float, |group, from, to, keep| {
            group.exchange("check", &[(0, from)], &[(0, to)], keep)?.finish().map(drop)
        }),
    ];
    let mut findings = Vec::new();
    for (name, kind, collective) in collectives {
        let expected = random(&[100_003], 1, kind);
        // Made on libtorch's stream just before, and read there just after: the order of the two streams is part of the check.
        let from = expected.to_device(device) * 1.0;
        let to = if name == "all-reduce" { from.shallow_clone() } else { from.zeros_like() };
        let keep = [from.shallow_clone(), to.shallow_clone()];
        let (source, target) = (region(&from).map_err(Failure::parallel)?, region(&to).map_err(Failure::parallel)?);
        collective(&group, source, target, keep).map_err(Failure::collective)?;
        let difference = difference(&(&to * 1.0), &expected);
        findings.push(Finding { name: format!("NCCL: {name}"), kind, difference, allowed: tolerance::EXACT });
    }
    group.health().map_err(Failure::collective)?;
    Ok(findings)
}

/// Name, element type, and the call.
type Collective = (&'static str, Kind, fn(&DeviceGroup, Region, Region, [Tensor; 2]) -> Result<(), CommError>);
