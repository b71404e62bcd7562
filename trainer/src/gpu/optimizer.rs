//! AdamW and clipping on a device, for networks that are whole on it: master copies and moments as flat fp32 tensors.

use sirocco_model::Network;
use sirocco_model::ops::cuda::adamw::{self, Update};
use sirocco_optim::{AdamW, AdamWConfig, Parameter, Update as Constants, clip};
use tch::{Device, Kind, Tensor};

use super::compare::{Finding, difference, random};
use super::tolerance;
use crate::failure::Failure;

/// What changes from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// From 1.
    pub(crate) step: i32,
    pub(crate) learning_rate: f64,
    /// Clipping's factor.
    pub(crate) gradient_scale: f64,
}

/// The constants of a step in the words of the device: the very numbers of the optimizer on the host.
pub(crate) fn update(config: AdamWConfig, rates: Rates) -> Update {
    let Rates { step, learning_rate, gradient_scale } = rates;
    let Constants { decay, beta1, beta2, step_size, root_correction, epsilon, gradient_scale } =
        Constants::new(&config, u64::from(step.unsigned_abs()), learning_rate, gradient_scale);
    Update { gradient_scale, beta1, beta2, decay, step_size, root_correction, epsilon }
}

/// A trained weight's master copy and moments.
struct Master {
    values: Tensor,
    first: Tensor,
    second: Tensor,
}

/// The optimizer of a whole network on one device.
pub(super) struct Optimizer {
    config: AdamWConfig,
    masters: Vec<Master>,
    steps: i32,
}

impl Optimizer {
    /// For the trained weights of `network`, in their order.
    pub(super) fn new(network: &Network, config: AdamWConfig) -> Self {
        let trained = network.weights().filter(|weight| weight.is_trained());
        let masters = trained.map(|weight| {
            let values = weight.value().to_kind(Kind::Float).reshape([-1]).copy();
            Master { first: values.zeros_like(), second: values.zeros_like(), values }
        });
        Self { config, masters: masters.collect(), steps: 0 }
    }

    /// One step, with gradients clipped to a global norm of 1, which is the one number that the host waits for; gradients are zero after it.
    pub(super) fn step(&mut self, network: &mut Network, learning_rate: f64) -> Result<f64, Failure> {
        let norms: Vec<Tensor> = network.weights().filter_map(|weight| Some(weight.gradient()?.norm())).collect();
        let norm = if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) };
        self.steps += 1;
        let rates = Rates { step: self.steps, learning_rate, gradient_scale: clip(norm, 1.0) };
        let update = update(self.config, rates);
        let kind = network.dtype().kind();
        let trained = network.weights_mut().filter(|weight| weight.is_trained());
        for (weight, master) in trained.zip(&mut self.masters) {
            let shape = weight.shape();
            let Some(gradient) = weight.gradient_mut() else { continue };
            let flat = gradient.view([-1]);
            adamw::step(&mut master.values, &flat, (&mut master.first, &mut master.second), update);
            let _ = gradient.zero_();
            weight.set_value(master.values.to_kind(kind).view(&shape[..])).map_err(Failure::model)?;
        }
        Ok(norm)
    }
}

/// Two steps on a device against those of the optimizer on the CPU.
pub(super) fn check(device: Device) -> Result<Finding, Failure> {
    let (learning_rate, gradient_scale) = (1e-3, 0.5);
    let [start, gradient] = [1, 2].map(|seed| random(&[10_001], seed, Kind::Float));
    let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor).map_err(Failure::failed);
    let (mut expected, flat) = (numbers(&start)?, numbers(&gradient)?);
    let (mut found, gradient) = (start.to_device(device), gradient.to_device(device));
    let (mut first, mut second) = (found.zeros_like(), found.zeros_like());
    let mut cpu = AdamW::new(CONFIG);
    for step in 1..=2 {
        let parameter = Parameter { name: "w", values: &mut expected, gradient: &flat };
        cpu.step(learning_rate, gradient_scale, std::iter::once(parameter)).map_err(Failure::failed)?;
        let update = update(CONFIG, Rates { step, learning_rate, gradient_scale });
        adamw::step(&mut found, &gradient, (&mut first, &mut second), update);
    }
    let difference = difference(&found, &Tensor::from_slice(&expected));
    let allowed = tolerance::operation(Kind::Float);
    Ok(Finding { name: "AdamW: weights".to_owned(), kind: Kind::Float, difference, allowed })
}

const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_those_of_the_optimizer_on_the_cpu() {
        let (mut values, gradient) = ([0.5f32, -2.0], [0.25f32, 0.125]);
        let (mut w, mut m, mut v) = (values, [0.0f32; 2], [0.0f32; 2]);
        let mut cpu = AdamW::new(CONFIG);
        for step in 1..=3 {
            let parameter = Parameter { name: "w", values: &mut values, gradient: &gradient };
            cpu.step(1e-2, 0.5, std::iter::once(parameter)).unwrap();
            let u = update(CONFIG, Rates { step, learning_rate: 1e-2, gradient_scale: 0.5 });
            for at in 0..2 {
                let g = gradient[at] * u.gradient_scale;
                m[at] += (g - m[at]) * (1.0 - u.beta1);
                v[at] = v[at] * u.beta2 + g * g * (1.0 - u.beta2);
                w[at] = w[at] * u.decay - u.step_size * m[at] / (v[at].sqrt() / u.root_correction + u.epsilon);
            }
        }
        assert_eq!(values.map(f32::to_bits), w.map(f32::to_bits), "{values:?} {w:?}");
    }
}
