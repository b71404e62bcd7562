//! A small network on a device against the same one on the CPU: the loss and every gradient, with full fine-tuning and with LoRA.

use sirocco_model::{Dtype, LossSum, Network, Recompute, Trained};
use tch::Device;

use super::compare::{Finding, difference};
use super::shapes::{self, Draw};
use super::tolerance;
use crate::failure::Failure;
use crate::random_batch::random_batch;

/// In both element types.
pub(super) fn check(device: Device) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for dtype in [Dtype::Fp32, Dtype::Bf16] {
        for (name, trained, recompute) in
            [("network, full", Trained::Full, Recompute::None), ("network, LoRA", shapes::lora(4), Recompute::Full)]
        {
            findings.extend(compare(name, dtype, (&trained, recompute), device)?);
        }
    }
    Ok(findings)
}

fn compare(
    name: &str,
    dtype: Dtype,
    (trained, recompute): (&Trained, Recompute),
    device: Device,
) -> Result<[Finding; 2], Failure> {
    let config = shapes::small();
    let batch = random_batch(3, (211, 83), config.vocabulary)?;
    let run = |device: Device| -> Result<(Network, LossSum), Failure> {
        let mut network = shapes::network(&config, dtype, trained, Draw { device, drawn_on: Device::Cpu })?;
        let loss = network.loss_and_gradients(&batch, 1.0 / 211.0, recompute).map_err(Failure::model)?;
        Ok((network, loss))
    };
    let ((expected, expected_loss), (found, found_loss)) = (run(Device::Cpu)?, run(device)?);
    let pairs = expected.weights().zip(found.weights());
    let worst = pairs.filter_map(|(expected, found)| Some(difference(found.gradient()?, expected.gradient()?)));
    let kind = dtype.kind();
    let loss = Finding {
        name: format!("{name}: loss"),
        kind,
        difference: ((found_loss.sum - expected_loss.sum) / expected_loss.sum).abs(),
        allowed: tolerance::loss(kind),
    };
    // `max` would lose a NaN.
    let worst = worst.fold(0.0, |worst: f64, next| if next > worst || next.is_nan() { next } else { worst });
    let gradients = Finding { name: format!("{name}: gradients"), kind, difference: worst, allowed: tolerance::gradients(kind) };
    Ok([loss, gradients])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself() {
        let findings = check(Device::Cpu).unwrap();
        assert_eq!(findings.len(), 8);
        assert!(findings.iter().all(|finding| finding.difference == 0.0), "{findings:?}");
    }
}
