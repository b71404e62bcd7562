//! Where a unit's weights are at each moment of a step: gathered before use, the next unit's on their way, let go after; gradients
//! scattered behind the backward.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sirocco_model::{Dtype, Hooks, Network, Pass, SeamError, Unit, Weight};
use tch::{Device, Kind, Tensor};

use crate::ParallelError;
use crate::data::Reduction;
use crate::fsdp::Shard;
use crate::tensors::{Coming, TensorGroup};

/// Which shards each unit is made of, and over which ranks its pieces are spread. Fixed for a run.
pub(crate) struct Residence {
    group: Arc<dyn TensorGroup>,
    dtype: Dtype,
    device: Device,
    units: Vec<Unit>,
    /// Numbers of shards, in the order of the unit's weights.
    shards_of: HashMap<Unit, Vec<usize>>,
}

impl Residence {
    /// `shards` in the order of [`Network::weights`]; `group` is the fsdp axis.
    pub(crate) fn new(network: &mut Network, shards: &[Shard], group: Arc<dyn TensorGroup>, device: Device) -> Self {
        let number = |weight: &Weight| shards.iter().position(|shard| shard.name() == weight.name());
        let units = network.units();
        let mut shards_of = HashMap::new();
        for &unit in &units {
            shards_of.insert(unit, network.unit_mut(unit).iter().filter_map(|weight| number(weight)).collect());
        }
        Self { group, dtype: network.dtype(), device, units, shards_of }
    }

    /// Bytes of the largest unit while it is in use: gathered values, and gradients of what is trained.
    pub(crate) fn largest_unit(&self, shards: &[Shard]) -> usize {
        let bytes = |shard: &Shard| {
            shard.slice_elements()
                * (self.dtype.kind().elt_size_in_bytes() + if shard.is_trained() { size_of::<f32>() } else { 0 })
        };
        let unit = |numbers: &Vec<usize>| numbers.iter().map(|&number| bytes(&shards[number])).sum();
        self.shards_of.values().map(unit).max().unwrap_or(0)
    }

    /// The pieces of a unit that must be brought from other ranks.
    fn spread<'s>(&'s self, unit: Unit, shards: &'s [Shard]) -> impl Iterator<Item = usize> + 's {
        self.shards_of.get(&unit).into_iter().flatten().copied().filter(|&number| !shards[number].is_all())
    }

    /// The unit that follows in a pass: a forward ends before the head, a backward before an embedding that is not trained.
    fn next(&self, unit: Unit, pass: Pass, shards: &[Shard]) -> Option<Unit> {
        let at = self.units.iter().position(|&other| other == unit)?;
        match pass {
            Pass::Forward => self.units.get(at + 1).copied().filter(|&unit| unit != Unit::Head),
            Pass::Backward => {
                let next = self.units[at.checked_sub(1)?];
                let trained = || self.shards_of[&next].iter().any(|&number| shards[number].is_trained());
                (next != Unit::Embedding || trained()).then_some(next)
            }
        }
    }
}

/// The hooks of one pass of one micro-batch or several.
pub(crate) struct Residents<'a> {
    residence: &'a Residence,
    shards: &'a mut [Shard],
    /// Where gradients go once they are final.
    reduction: &'a mut Reduction,
    /// Whether this micro-batch's gradients are the last of the step.
    last: bool,
    coming: Option<(Unit, Coming<Vec<Tensor>>)>,
    leaving: VecDeque<(Vec<usize>, Coming<Vec<Tensor>>, bool)>,
}

impl<'a> Residents<'a> {
    pub(crate) fn new(residence: &'a Residence, shards: &'a mut [Shard], reduction: &'a mut Reduction, last: bool) -> Self {
        Self { residence, shards, reduction, last, coming: None, leaving: VecDeque::new() }
    }

    /// Starts to gather a unit's pieces: those of all its weights in one message.
    fn call(&mut self, unit: Unit) {
        let kind = self.residence.dtype.kind();
        let spread = || self.residence.spread(unit, self.shards).map(|number| &self.shards[number]);
        let own: Vec<Tensor> = spread().map(|shard| shard.values_as(kind)).collect();
        let wholes: Vec<usize> = spread().map(Shard::slice_elements).collect();
        if !own.is_empty() {
            self.coming = Some((unit, self.residence.group.gather("gather weights", &own, &wholes)));
        }
    }

    /// Gives a unit's weights their gathered values.
    fn place(&mut self, unit: Unit, values: Vec<Tensor>, weights: &mut [&mut Weight]) -> Result<(), SeamError> {
        for (number, value) in self.residence.spread(unit, self.shards).zip(values) {
            let name = self.shards[number].name();
            if let Some(weight) = weights.iter_mut().find(|weight| weight.name() == name) {
                weight.set_value(value.view(&weight.shape()[..]))?;
            }
        }
        Ok(())
    }

    /// Starts to scatter the gradients of a unit's spread weights; each rank gets the sum of its pieces.
    fn scatter(&mut self, numbers: Vec<usize>, gradients: &[Tensor], done: bool) {
        let flat: Vec<Tensor> = gradients.iter().map(|gradient| gradient.view([-1])).collect();
        self.leaving.push_back((numbers, self.residence.group.scatter("scatter gradients", &flat), done));
    }

    /// Adds what came back from scattering to this rank's pieces.
    fn collect(&mut self) -> Result<(), ParallelError> {
        while let Some((numbers, sums, done)) = self.leaving.pop_front() {
            for (number, sum) in numbers.into_iter().zip(sums.wait()?) {
                if let Some((_, gradient)) = self.shards[number].tensors_mut() {
                    let _ = gradient.g_add_(&sum);
                }
                if done {
                    self.reduction.add(number, self.shards)?;
                }
            }
        }
        Ok(())
    }

    /// The end of a pass: nothing is under way any more.
    pub(crate) fn finish(mut self) -> Result<(), ParallelError> {
        self.collect()
    }

    /// Whether a weight's gradient cannot change any more after `unit`'s backward: a tied embedding is met twice.
    fn is_final(&self, number: usize, unit: Unit) -> bool {
        let first = self.residence.units.iter().find(|unit| self.residence.shards_of[unit].contains(&number));
        self.last && first == Some(&unit)
    }
}

impl Hooks for Residents<'_> {
    fn before(&mut self, unit: Unit, pass: Pass, mut weights: Vec<&mut Weight>) -> Result<(), SeamError> {
        match self.coming.take() {
            Some(coming) if coming.0 == unit => self.coming = Some(coming),
            _ => self.call(unit),
        }
        if let Some((_, values)) = self.coming.take() {
            let values = values.wait()?;
            self.place(unit, values, &mut weights)?;
        }
        if let Some(next) = self.residence.next(unit, pass, self.shards) {
            self.call(next);
        }
        for weight in weights.into_iter().filter(|weight| pass == Pass::Backward && weight.is_trained()) {
            if weight.gradient().is_none() {
                weight.set_gradient(Tensor::zeros(weight.shape(), (Kind::Float, self.residence.device)))?;
            }
        }
        Ok(())
    }

    fn after(&mut self, unit: Unit, pass: Pass, weights: Vec<&mut Weight>) -> Result<(), SeamError> {
        let numbers = self.residence.shards_of.get(&unit).cloned().unwrap_or_default();
        let (mut spread, mut gradients) = (Vec::new(), Vec::new());
        for (number, weight) in numbers.into_iter().zip(weights) {
            let done = self.is_final(number, unit);
            if self.shards[number].is_all() {
                if pass == Pass::Backward && done && weight.is_trained() {
                    self.reduction.add(number, self.shards)?;
                }
                continue;
            }
            weight.release();
            if let Some(gradient) = weight.take_gradient() {
                spread.push((number, done));
                gradients.push(gradient);
            }
        }
        // A tied embedding stands beside the last norm, whose gradient is final when its own is not: each kind in a message of its own.
        // That of the unit before had a whole unit's time to arrive; waiting for it now keeps one message of gradients at a time.
        self.collect()?;
        for done in [true, false] {
            let (numbers, gradients): (Vec<usize>, Vec<Tensor>) = spread
                .iter()
                .zip(&gradients)
                .filter(|((_, is_done), _)| *is_done == done)
                .map(|((number, _), gradient)| (*number, gradient.shallow_clone()))
                .unzip();
            if !numbers.is_empty() {
                self.scatter(numbers, &gradients, done);
            }
        }
        Ok(())
    }
}
