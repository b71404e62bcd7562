//! The network, or the part of it that is held here: its weights by name, how they are loaded, adapted and chosen for training.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::batch::Documents;
use crate::block::{Block, Context};
use crate::linear::Linear;
use crate::lora::{self, Lora, LoraConfig, Projection};
use crate::ops::heads::{HeadShape, Rotation};
use crate::ops::rope::RopeTable;
use crate::placement::{Placement, Whole};
use crate::seams::{Exchange, Unit};
use crate::weight::{Dtype, FileTensor, Origin, Weight, from_file};
use crate::{ModelConfig, ModelError};

/// Where weights come from: gives a tensor by its full name, or says why it cannot.
pub type Source<'a> = &'a mut dyn FnMut(&str) -> Result<FileTensor, Box<dyn Error + Send + Sync>>;

/// The embedding's name.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Which weights a run trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Trained {
    /// All of them.
    Full,
    /// LoRA factors; the base stays as it is.
    Lora(LoraConfig),
}

/// The dense Mistral network, or consecutive blocks of it.
#[derive(Debug)]
pub struct Network {
    pub(crate) config: ModelConfig,
    pub(crate) dtype: Dtype,
    /// `[V, D]`, where the first block is held.
    pub(crate) embedding: Option<Weight>,
    pub(crate) blocks: Vec<Block>,
    /// Where the last block is held.
    pub(crate) last: Option<Last>,
    rope: Mutex<Arc<RopeTable>>,
}

/// What follows the last block.
#[derive(Debug)]
pub(crate) struct Last {
    /// `[D]`.
    pub(crate) norm: Weight,
    /// `[V, D]`; none where the head is tied to an embedding that is held here, too.
    pub(crate) head: Option<Weight>,
}

impl Network {
    /// The part that `placement` chooses, its weights named and measured but not here yet.
    pub fn absent(config: &ModelConfig, dtype: Dtype, placement: &dyn Placement) -> Self {
        let (d, v) = (config.hidden, config.vocabulary);
        let weight = |name: String, full: &[i64]| {
            let slice = placement.slice(&name, full);
            Weight::absent(name, slice, Origin::File)
        };
        let layers = placement.layers(config.layers);
        let (first, last) = (layers.start == 0, layers.end == config.layers);
        let blocks = layers.map(|layer| {
            let norm = |name: &str| weight(format!("model.layers.{layer}.{name}.weight"), &[d]);
            let linears = Projection::ALL.map(|projection| {
                let (outputs, inputs) = projection_shape(config, projection);
                Linear { weight: weight(format!("{}.weight", projection.module(layer)), &[outputs, inputs]), lora: None }
            });
            let [attention_norm, feed_forward_norm] = ["input_layernorm", "post_attention_layernorm"].map(norm);
            Block { layer, attention_norm, feed_forward_norm, linears, eps: config.rms_norm_eps }
        });
        let head = match (config.tied, first) {
            (true, true) => None,
            (true, false) => Some(weight(EMBEDDING.to_string(), &[v, d])),
            (false, _) => Some(weight("lm_head.weight".to_string(), &[v, d])),
        };
        let rope = RopeTable::new(config.head_dim as usize, config.rope_theta, config.context.min(2048));
        Self {
            config: config.clone(),
            dtype,
            embedding: first.then(|| weight(EMBEDDING.to_string(), &[v, d])),
            blocks: blocks.collect(),
            last: last.then(|| Last { norm: weight("model.norm.weight".to_string(), &[d]), head }),
            rope: Mutex::new(Arc::new(rope)),
        }
    }

    /// Reads every weight that `config` implies, in `dtype`.
    ///
    /// # Errors
    /// A weight that the source cannot give, or one of another shape or element type.
    pub fn load(config: &ModelConfig, dtype: Dtype, source: Source<'_>) -> Result<Self, ModelError> {
        let mut network = Self::absent(config, dtype, &Whole);
        for weight in network.weights_mut() {
            bring(weight, dtype, source)?;
        }
        Ok(network)
    }

    /// The sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Element type of weights and activations.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Chooses what is trained; for LoRA, adds the factors, whose values are not here yet.
    pub fn choose(&mut self, trained: &Trained, placement: &dyn Placement) {
        match trained {
            Trained::Full => self.weights_mut().for_each(Weight::mark_trained),
            Trained::Lora(config) => {
                self.adapt(config, placement);
                self.factors_mut().for_each(Weight::mark_trained);
            }
        }
    }

    /// Makes a whole network ready to be trained: fresh LoRA factors drawn from `seed`, gradients at zero.
    ///
    /// # Errors
    /// None for a whole network.
    pub fn train(&mut self, trained: &Trained, seed: u64) -> Result<(), ModelError> {
        self.choose(trained, &Whole);
        let kind = self.dtype.kind();
        for weight in self.weights_mut().filter(|weight| weight.is_trained()) {
            let shape = weight.shape();
            let zeros = Tensor::zeros(&shape, (Kind::Float, Device::Cpu));
            match weight.origin() {
                Origin::File => {}
                Origin::Zero => weight.set_value(zeros.to_kind(kind).copy())?,
                Origin::Uniform(bound) => {
                    let values = lora::uniform(seed, weight.name(), zeros.numel(), bound);
                    weight.set_value(Tensor::from_slice(&values).view(&shape[..]).to_kind(kind))?;
                }
            }
            weight.set_gradient(zeros)?;
        }
        Ok(())
    }

    /// The same base with an adapter on it. The base's memory is shared, so that many adapters cost little.
    ///
    /// # Errors
    /// A factor that the source cannot give, or one of another shape.
    pub fn with_adapter(&self, lora: &LoraConfig, source: Source<'_>) -> Result<Self, ModelError> {
        let mut network = self.share();
        network.adapt(lora, &Whole);
        for factor in network.factors_mut() {
            bring(factor, self.dtype, source)?;
        }
        Ok(network)
    }

    fn adapt(&mut self, lora: &LoraConfig, placement: &dyn Placement) {
        for block in &mut self.blocks {
            for &projection in &lora.targets {
                let (module, shape) = (projection.module(block.layer), projection_shape(&self.config, projection));
                block.linears[projection as usize].lora = Some(Lora::absent(&module, shape, lora, placement));
            }
        }
    }

    fn factors_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        let linears = self.blocks.iter_mut().flat_map(|block| block.linears.iter_mut());
        linears.flat_map(|linear| linear.lora.iter_mut()).flat_map(|lora| [&mut lora.a, &mut lora.b])
    }

    /// Another handle on the same base weights, without adapters.
    pub fn share(&self) -> Self {
        let blocks = self.blocks.iter().map(|block| Block {
            layer: block.layer,
            attention_norm: block.attention_norm.share(),
            feed_forward_norm: block.feed_forward_norm.share(),
            linears: block.linears.each_ref().map(|linear| Linear { weight: linear.weight.share(), lora: None }),
            eps: block.eps,
        });
        let last = |last: &Last| Last { norm: last.norm.share(), head: last.head.as_ref().map(Weight::share) };
        Self {
            config: self.config.clone(),
            dtype: self.dtype,
            embedding: self.embedding.as_ref().map(Weight::share),
            blocks: blocks.collect(),
            last: self.last.as_ref().map(last),
            rope: Mutex::new(self.rope_table(0)),
        }
    }

    /// The units that are held here, in the order of a forward.
    pub fn units(&self) -> Vec<Unit> {
        let first = self.embedding.iter().map(|_| Unit::Embedding);
        let blocks = self.blocks.iter().map(|block| Unit::Block(block.layer));
        first.chain(blocks).chain(self.last.iter().map(|_| Unit::Head)).collect()
    }

    /// The weights of a unit, in a fixed order; none if it is not held here.
    pub fn unit_mut(&mut self, unit: Unit) -> Vec<&mut Weight> {
        match unit {
            Unit::Embedding => self.embedding.iter_mut().collect(),
            Unit::Block(layer) => {
                self.blocks.iter_mut().find(|block| block.layer == layer).into_iter().flat_map(Block::weights_mut).collect()
            }
            Unit::Head => match &mut self.last {
                Some(Last { norm, head: Some(head) }) => vec![norm, head],
                Some(Last { norm, head: None }) => std::iter::once(norm).chain(&mut self.embedding).collect(),
                None => Vec::new(),
            },
        }
    }

    /// Every weight that is held here, each once: embedding, blocks, last norm, head.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        let last = self.last.iter().flat_map(|last| std::iter::once(&last.norm).chain(&last.head));
        self.embedding.iter().chain(self.blocks.iter().flat_map(Block::weights)).chain(last)
    }

    /// As [`Network::weights`], to write to.
    pub fn weights_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        let last = self.last.iter_mut().flat_map(|last| std::iter::once(&mut last.norm).chain(&mut last.head));
        self.embedding.iter_mut().chain(self.blocks.iter_mut().flat_map(Block::weights_mut)).chain(last)
    }

    /// Embedding, last norm and head of a whole network; an error for a part of one.
    pub(crate) fn ends(&self) -> Result<(&Weight, &Weight, &Weight), ModelError> {
        let (Some(embedding), Some(last)) = (&self.embedding, &self.last) else { return Err(ModelError::Part) };
        Ok((embedding, &last.norm, last.head.as_ref().unwrap_or(embedding)))
    }

    pub(crate) fn context<'a>(
        &self,
        documents: &'a Documents,
        table: &'a RopeTable,
        first: usize,
        exchange: &'a dyn Exchange,
    ) -> Context<'a> {
        let head_dim = self.config.head_dim;
        let heads_of = |projection: Projection, all: i64| {
            self.blocks.first().map_or(all, |block| block.linear(projection).weight.slice().length / head_dim)
        };
        let (heads, kv_heads) = (heads_of(Projection::Q, self.config.heads), heads_of(Projection::K, self.config.kv_heads));
        let [kv_heads, group, head_dim] = [kv_heads, heads / kv_heads, head_dim].map(|size| size as usize);
        let shape = HeadShape { kv_heads, group, head_dim };
        Context { documents, shape, rotation: Rotation { table, first }, exchange }
    }

    pub(crate) fn table_for(&self, documents: &Documents) -> Result<Arc<RopeTable>, ModelError> {
        let (found, limit) = (documents.longest(), self.config.longest_document());
        if found > limit {
            return Err(ModelError::ContextFull { found, limit });
        }
        Ok(self.rope_table(found))
    }

    /// A table of at least `positions` positions; a long context is not paid for before it is used.
    pub(crate) fn rope_table(&self, positions: usize) -> Arc<RopeTable> {
        let mut table = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions() < positions {
            let grown = positions.max(2 * table.positions()).min(self.config.context.max(positions));
            *table = Arc::new(RopeTable::new(self.config.head_dim as usize, self.config.rope_theta, grown));
        }
        Arc::clone(&table)
    }
}

/// Reads a whole weight.
fn bring(weight: &mut Weight, dtype: Dtype, source: Source<'_>) -> Result<(), ModelError> {
    let name = weight.name().to_string();
    let stored = source(&name).map_err(|reason| ModelError::Source { name: name.clone(), reason: reason.to_string() })?;
    weight.set_value(from_file(&name, &stored, &weight.shape(), dtype.kind())?)
}

/// `[out, in]` of a projection's whole weight.
fn projection_shape(config: &ModelConfig, projection: Projection) -> (i64, i64) {
    let (d, f) = (config.hidden, config.intermediate);
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    match projection {
        Projection::Q => (queries, d),
        Projection::K | Projection::V => (keys, d),
        Projection::O => (d, queries),
        Projection::Gate | Projection::Up => (f, d),
        Projection::Down => (d, f),
    }
}
