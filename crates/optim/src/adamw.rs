//! AdamW (Loshchilov and Hutter 2017, algorithm 2): decoupled weight decay, bias correction, one pass over memory.

use std::collections::BTreeMap;

use rayon::prelude::*;
use thiserror::Error;

/// Elements that one task of the thread pool takes.
const BLOCK: usize = 1 << 14;

/// Constants of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Each step shrinks weights by rate · this.
    pub weight_decay: f64,
}

/// One weight, or the part of it that is held here, for one step.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Its name; the moments are kept under it.
    pub name: &'a str,
    /// The fp32 master copy.
    pub values: &'a mut [f32],
    /// The gradient; multiplied by the step's `gradient_scale` as it is read.
    pub gradient: &'a [f32],
}

/// Running averages of a weight's gradient and of its square.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// m.
    pub first: Vec<f32>,
    /// v.
    pub second: Vec<f32>,
}

/// What can be wrong with a saved optimizer state.
#[derive(Debug, Error)]
pub enum OptimError {
    /// The saved moments are of another size than the weight.
    #[error("optimizer state of {name} has {found} elements, expected {expected}")]
    Size {
        /// The weight.
        name: String,
        /// Elements in the state.
        found: usize,
        /// Elements of the weight.
        expected: usize,
    },
}

/// The optimizer and its state.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// One that goes on after `steps` steps with saved moments.
    pub fn resume(config: AdamWConfig, steps: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self { config, steps, moments }
    }

    /// The moments, by weight.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A step in which nothing changes: it counts, so that a resumed run corrects its moments alike.
    pub fn skip(&mut self) {
        self.steps += 1;
    }

    /// One step over all parameters, with gradients multiplied by `gradient_scale` (clipping's factor).
    ///
    /// # Errors
    /// A resumed state that does not fit its weight; nothing of that weight is changed.
    pub fn step<'a>(
        &mut self,
        learning_rate: f64,
        gradient_scale: f64,
        parameters: impl Iterator<Item = Parameter<'a>>,
    ) -> Result<(), OptimError> {
        self.steps += 1;
        let update = Update::new(&self.config, self.steps, learning_rate, gradient_scale);
        for Parameter { name, values, gradient } in parameters {
            let expected = values.len();
            if !self.moments.contains_key(name) {
                self.moments.insert(name.to_string(), Moments { first: vec![0.0; expected], second: vec![0.0; expected] });
            }
            let Some(moments) = self.moments.get_mut(name) else { continue };
            for found in [moments.first.len(), moments.second.len(), gradient.len()] {
                if found != expected {
                    return Err(OptimError::Size { name: name.to_string(), found, expected });
                }
            }
            update.apply(values, gradient, moments);
        }
        Ok(())
    }
}

/// A step's constants, worked out once in fp64: for every update of the step, wherever its weights lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Weights are multiplied by this: 1 − rate · weight decay.
    pub decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Rate ÷ (1 − beta1ⁿ) at step n.
    pub step_size: f32,
    /// √(1 − beta2ⁿ) at step n.
    pub root_correction: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Gradients are multiplied by this: clipping's factor.
    pub gradient_scale: f32,
}

impl Update {
    /// The constants of step `steps`, from 1.
    pub fn new(config: &AdamWConfig, steps: u64, learning_rate: f64, gradient_scale: f64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        Self {
            decay: (1.0 - learning_rate * config.weight_decay) as f32,
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            step_size: (learning_rate / correction(config.beta1)) as f32,
            root_correction: correction(config.beta2).sqrt() as f32,
            epsilon: config.epsilon as f32,
            gradient_scale: gradient_scale as f32,
        }
    }

    fn apply(&self, values: &mut [f32], gradient: &[f32], moments: &mut Moments) {
        let blocks = values.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
        let moments = moments.first.par_chunks_mut(BLOCK).zip(moments.second.par_chunks_mut(BLOCK));
        blocks.zip(moments).for_each(|((values, gradient), (first, second))| {
            for (((w, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
                let g = g * self.gradient_scale;
                *m += (g - *m) * (1.0 - self.beta1);
                *v = *v * self.beta2 + g * g * (1.0 - self.beta2);
                *w = *w * self.decay - self.step_size * *m / (v.sqrt() / self.root_correction + self.epsilon);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };

    fn step(optimizer: &mut AdamW, values: &mut [f32], gradient: &[f32]) {
        optimizer.step(0.01, 1.0, std::iter::once(Parameter { name: "w", values, gradient })).unwrap();
    }

    #[test]
    fn the_first_step_moves_by_the_rate_against_the_gradients_sign() {
        let mut values = [1.0, 1.0, 1.0];
        step(&mut AdamW::new(CONFIG), &mut values, &[5.0, -0.001, 0.0]);
        let decayed = 1.0 - 0.01 * 0.1;
        for (value, expected) in values.iter().zip([decayed - 0.01, decayed + 0.01, decayed]) {
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
    }

    #[test]
    fn a_resumed_optimizer_goes_on_bit_for_bit() {
        let (mut through, mut values) = (AdamW::new(CONFIG), [0.3f32, -0.7]);
        step(&mut through, &mut values, &[0.1, 0.2]);
        let mut resumed = AdamW::resume(CONFIG, through.steps(), through.moments().clone());
        let mut resumed_values = values;
        step(&mut through, &mut values, &[-0.3, 0.4]);
        step(&mut resumed, &mut resumed_values, &[-0.3, 0.4]);
        assert_eq!(values.map(f32::to_bits), resumed_values.map(f32::to_bits));
    }

    #[test]
    fn a_state_of_another_size_is_an_error() {
        let moments = BTreeMap::from([("w".to_string(), Moments { first: vec![0.0], second: vec![0.0] })]);
        let mut optimizer = AdamW::resume(CONFIG, 3, moments);
        let mut values = [1.0, 2.0];
        let parameter = Parameter { name: "w", values: &mut values, gradient: &[0.0, 0.0] };
        let error = optimizer.step(0.1, 1.0, std::iter::once(parameter)).unwrap_err().to_string();
        assert_eq!(error, "optimizer state of w has 1 elements, expected 2");
    }
}
