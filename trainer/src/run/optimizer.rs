//! AdamW where the pieces lie: on slices on the host, by a kernel on a device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sirocco_model::memory::floats;
use sirocco_model::ops::cuda::adamw;
use sirocco_optim::{AdamW, AdamWConfig, Moments, Parameter, sum_of_squares};
use sirocco_parallel::{Engine, Shard};
use tch::{Device, Kind, Tensor};

use crate::failure::Failure;
use crate::gpu::optimizer::{Rates, update};

/// The optimizer of one rank's pieces.
pub(crate) enum Optimizer {
    Host(AdamW),
    /// Not run on a GPU yet.
    Device(DeviceAdamW),
}

/// Moments beside the pieces, on their device.
pub(crate) struct DeviceAdamW {
    config: AdamWConfig,
    steps: u64,
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

impl Optimizer {
    /// One that goes on after `steps` steps with saved moments; a new one has neither.
    pub(crate) fn resume(config: AdamWConfig, steps: u64, moments: BTreeMap<String, Moments>, device: Device) -> Self {
        match device {
            Device::Cpu => Self::Host(AdamW::resume(config, steps, moments)),
            device => {
                let there = |elements: Vec<f32>| Tensor::from_slice(&elements).to_device(device);
                let moments = moments.into_iter().map(|(name, of)| (name, (there(of.first), there(of.second))));
                Self::Device(DeviceAdamW { config, steps, moments: moments.collect() })
            }
        }
    }

    /// Updates the master copies with gradients multiplied by `gradient_scale`, brings the values up to date and clears the gradients.
    pub(crate) fn step(&mut self, engine: &mut Engine, learning_rate: f64, gradient_scale: f64) -> Result<(), Failure> {
        match self {
            Self::Host(optimizer) => {
                let names: Vec<String> = engine.trained_mut().map(|shard| shard.name().to_string()).collect();
                let parameters = engine.trained_mut().zip(&names).map(|(shard, name)| {
                    let (values, gradient) = shard.master_and_gradient();
                    Parameter { name, values, gradient }
                });
                optimizer.step(learning_rate, gradient_scale, parameters).map_err(Failure::data)?;
            }
            Self::Device(optimizer) => optimizer.step(engine, learning_rate, gradient_scale)?,
        }
        engine.refresh();
        Ok(())
    }

    /// A step in which nothing changes.
    pub(crate) fn skip(&mut self) {
        match self {
            Self::Host(optimizer) => optimizer.skip(),
            Self::Device(optimizer) => optimizer.steps += 1,
        }
    }

    /// A weight's first and second moments, on the host; none before its first step.
    pub(crate) fn moments(&self, name: &str) -> Option<[Cow<'_, [f32]>; 2]> {
        match self {
            Self::Host(optimizer) => {
                let Moments { first, second } = optimizer.moments().get(name)?;
                Some([first, second].map(|moments| Cow::Borrowed(moments.as_slice())))
            }
            Self::Device(optimizer) => {
                let (first, second) = optimizer.moments.get(name)?;
                Some([first, second].map(|tensor| Cow::Owned(floats(&tensor.to_device(Device::Cpu)).to_vec())))
            }
        }
    }
}

impl DeviceAdamW {
    fn step(&mut self, engine: &mut Engine, learning_rate: f64, gradient_scale: f64) -> Result<(), Failure> {
        self.steps += 1;
        let step = i32::try_from(self.steps).map_err(Failure::failed)?;
        let constants = update(self.config, Rates { step, learning_rate, gradient_scale });
        for shard in engine.trained_mut() {
            let name = shard.name().to_string();
            let Some((values, gradient)) = shard.tensors_mut() else { continue };
            let (first, second) = self.moments.entry(name).or_insert_with(|| (values.zeros_like(), values.zeros_like()));
            adamw::step(values, gradient, (first, second), constants);
        }
        Ok(())
    }
}

/// This rank's part of Σ gradient²: each element of each weight counts once over all ranks.
pub(crate) fn squares(engine: &Engine) -> f64 {
    match engine.device() {
        Device::Cpu => engine.led().map(|shard| sum_of_squares(shard.gradient())).sum(),
        _ => {
            let of = |gradient: &Tensor| gradient.square().sum(Kind::Double);
            let sums: Vec<Tensor> = engine.led().filter_map(|shard| shard.gradient_tensor().map(of)).collect();
            if sums.is_empty() {
                // A rank that counts nothing waits for its gradients, too: then it can say whether they arrived well.
                let any = engine.shards().iter().find_map(Shard::gradient_tensor);
                let _ = any.map(|gradient| of(gradient).double_value(&[]));
                return 0.0;
            }
            Tensor::stack(&sums, 0).sum(Kind::Double).double_value(&[])
        }
    }
}
