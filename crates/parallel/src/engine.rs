//! The composition: a network laid out on a mesh, with every axis attached at its seam. In this order, from the inside out:
//!
//! 1. pp: which layers are held here ([`Layout`]); the schedule of micro-batches.
//! 2. tp: which slice of each of their weights; rows between products ([`Rows`]).
//! 3. fsdp: which piece of each slice; gathered and scattered around each unit ([`Residence`]).
//! 4. dp: whose pieces are the same; their gradients are summed ([`crate::data::Reduction`]).

use std::cell::RefCell;
use std::sync::Arc;

use sirocco_comm::Communicator;
use sirocco_model::{Batch, Dtype, ModelConfig, Network, Recompute, Trained};
use tch::Device;

use crate::ParallelError;
use crate::data::{Groups, Reduction};
use crate::fsdp::{Residence, Shard, Source};
use crate::layout::Layout;
use crate::mesh::{Axis, Mesh};
use crate::pipeline::schedule::{Neighbours, forward_only, one_forward_one_backward};
use crate::pipeline::{Links, Stage};
use crate::tensor::Rows;
use crate::tensors::{Maker, OnDevice, TensorGroup};

/// What is trained, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The model's sizes.
    pub config: ModelConfig,
    /// Element type of base weights and products.
    pub dtype: Dtype,
    /// Which weights are trained.
    pub trained: Trained,
    /// Draws fresh LoRA factors.
    pub seed: u64,
    /// The arrangement of the ranks.
    pub mesh: Mesh,
    /// What blocks keep for their backward.
    pub recompute: Recompute,
    /// Gradients are summed in buckets of about this size.
    pub bucket_bytes: usize,
    /// Where this rank computes.
    pub device: Device,
}

/// The ranks of a run, and how their tensors reach each other.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// All ranks.
    pub ranks: &'a dyn Communicator,
    /// This rank's device, open for collectives; none on the host.
    pub device: Option<&'a OnDevice>,
}

impl<'a> World<'a> {
    /// Ranks that compute on the host.
    pub fn on_host(ranks: &'a dyn Communicator) -> Self {
        Self { ranks, device: None }
    }
}

/// One rank's part of a training run: network, pieces of weights, and the groups of ranks it works with.
pub struct Engine {
    layout: Layout,
    rank: usize,
    network: Network,
    shards: Vec<Shard>,
    residence: Residence,
    rows: Rows,
    links: Links,
    reductions: Arc<Groups>,
    /// Every group of the above.
    groups: Vec<Arc<dyn TensorGroup>>,
    recompute: Recompute,
    bucket_bytes: usize,
    device: Device,
}

impl Engine {
    /// Lays the network out and brings this rank's pieces. All ranks of `world` do this together.
    ///
    /// # Errors
    /// A mesh that does not fit the ranks or the layers; weights that the source cannot give.
    pub fn new(setup: &Setup, world: World<'_>, source: Source<'_>) -> Result<Self, ParallelError> {
        let (mesh, rank) = (setup.mesh, world.ranks.rank());
        let made = RefCell::default();
        let groups = Maker { world: world.ranks, device: world.device, made: &made };
        mesh.check_ranks(world.ranks.size())?;
        let layout = Layout::new(mesh, &setup.config)?;
        let held = layout.of_rank(rank);
        let mut network = Network::absent(&setup.config, setup.dtype, &held);
        network.choose(&setup.trained, &held);
        let shard = |weight| Shard::new(weight, &held, (setup.dtype, setup.seed, setup.device), &mut *source);
        let shards: Vec<Shard> = network.weights().map(shard).collect::<Result<_, _>>()?;
        for (shard, weight) in shards.iter().zip(network.weights_mut()).filter(|(shard, _)| shard.is_all()) {
            shard.settle(weight, setup.dtype)?;
        }
        let along = |axis| mesh.group(rank, &[axis]);
        let fsdp = groups.of("fsdp", &along(Axis::Fsdp))?;
        let residence = Residence::new(&mut network, &shards, fsdp, setup.device);
        let stage = mesh.coordinate(rank).pp;
        Ok(Self {
            residence,
            rows: Rows::new(groups.of("tp", &along(Axis::Tp))?),
            links: Links { group: groups.of_messages("pp", &along(Axis::Pp))?, neighbours: Neighbours::of(stage, mesh.pp) },
            reductions: Arc::new(Groups::new(&shards, groups, |rank| mesh.coordinate(rank).pp)?),
            groups: made.take(),
            recompute: setup.recompute,
            bucket_bytes: setup.bucket_bytes,
            device: setup.device,
            layout,
            rank,
            network,
            shards,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &ModelConfig {
        self.network.config()
    }

    /// What this rank holds of which tensors.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// This rank's share of the global batch, and of how many: ranks along pp and tp work on the same.
    pub fn data_share(&self) -> (usize, usize) {
        self.layout.mesh().data_share(self.rank)
    }

    /// Leaves the gradient of `scale · Σ loss`, summed over all micro-batches of all ranks, in the shards. Returns this rank's part of
    /// Σ loss: the parts of all ranks add up to it.
    ///
    /// # Errors
    /// What ended a collective; input that the network refuses.
    pub fn gradients(&mut self, batches: &[Batch], scale: f64) -> Result<f64, ParallelError> {
        let mesh = self.layout.mesh();
        let actions = one_forward_one_backward(mesh.coordinate(self.rank).pp, mesh.pp, batches.len());
        let mut reduction = Reduction::new(Arc::clone(&self.reductions), self.bucket_bytes);
        let sum = self.stage().train(&actions, batches, scale, &mut reduction)?;
        reduction.finish(&mut self.shards)?;
        Ok(self.counted(sum))
    }

    /// This rank's part of Σ loss, no gradients. Every rank of a group is given equally many batches. Sends do not wait, so a stage that is
    /// faster than the next is held back only here, at the end: a caller with many batches passes a few at a time.
    ///
    /// # Errors
    /// As [`Engine::gradients`].
    pub fn loss(&mut self, batches: &[Batch]) -> Result<f64, ParallelError> {
        let mesh = self.layout.mesh();
        let actions = forward_only(mesh.coordinate(self.rank).pp, mesh.pp, batches.len());
        let mut reduction = Reduction::new(Arc::clone(&self.reductions), self.bucket_bytes);
        let sum = self.stage().evaluate(&actions, batches, &mut reduction)?;
        self.links.group.meet("evaluated")?;
        Ok(self.counted(sum))
    }

    /// Whether all collectives so far have ended well: on a device one may fail after its caller has gone on. What was computed is good if
    /// this is asked after a result of the device was read on the host, and says so.
    ///
    /// # Errors
    /// The first error of a group.
    pub fn health(&self) -> Result<(), ParallelError> {
        self.groups.iter().try_for_each(|group| group.health())
    }

    /// The ranks of a tp group compute the same loss; the first of them counts it.
    fn counted(&self, sum: f64) -> f64 {
        if self.layout.mesh().coordinate(self.rank).tp == 0 { sum } else { 0.0 }
    }

    fn stage(&mut self) -> Stage<'_> {
        Stage {
            network: &mut self.network,
            shards: &mut self.shards,
            residence: &self.residence,
            rows: &self.rows,
            links: &self.links,
            recompute: self.recompute,
            device: self.device,
        }
    }

    /// Where this rank computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// This rank's pieces of all weights.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The pieces that are trained, to write to. [`Engine::refresh`] afterwards.
    pub fn trained_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().filter(|shard| shard.is_trained())
    }

    /// The trained pieces of which this rank is the first replica: over all ranks, each element of each weight once.
    pub fn led(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| shard.is_trained() && shard.replicas().first() == Some(&self.rank))
    }

    /// Brings what products use up to date with the master copies, and clears gradients.
    pub fn refresh(&mut self) {
        for (shard, weight) in self.shards.iter_mut().zip(self.network.weights_mut()) {
            if let Some((_, gradient)) = shard.tensors_mut() {
                let _ = gradient.zero_();
            }
            if shard.is_all() {
                shard.refresh(weight);
            }
        }
    }

    /// Bytes of values and gradients that this rank holds between steps, and of the largest unit while it is in use.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.shards.iter().map(Shard::bytes).sum(), self.residence.largest_unit(&self.shards))
    }
}
