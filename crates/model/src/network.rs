//! The whole network: embedding, blocks, norm, head; loss and gradients of a batch.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};

use crate::batch::{Batch, Documents};
use crate::block::{Block, Context, norm_backward};
use crate::linear::Linear;
use crate::lora::{Lora, LoraConfig, Projection};
use crate::ops::heads::{HeadShape, Rotation};
use crate::ops::rope::RopeTable;
use crate::ops::{cross_entropy, embedding, rmsnorm};
use crate::weight::{Dtype, FileTensor, Weight, from_file};
use crate::{ModelConfig, ModelError};

/// Where weights come from: gives a tensor by its full name, or says why it cannot.
pub type Source<'a> = &'a mut dyn FnMut(&str) -> Result<FileTensor, Box<dyn Error + Send + Sync>>;

/// What each block keeps for its backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// Every activation: fastest, most memory.
    None,
    /// Its input alone; the forward is run again: a third more work, least memory.
    Full,
}

/// Told when gradients can no longer change, in the order of [`Network::trained`]. A batch's caller decides whether they are final.
pub trait Hooks {
    /// The gradients of these weights are final.
    fn gradients_final(&mut self, weights: &mut dyn Iterator<Item = &Weight>);
}

/// For the micro-batches whose gradients are not final yet.
impl Hooks for () {
    fn gradients_final(&mut self, _: &mut dyn Iterator<Item = &Weight>) {}
}

/// Which weights a run trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Trained {
    /// All of them.
    Full,
    /// Fresh LoRA factors drawn from this seed; the base stays as it is.
    Lora(LoraConfig, u64),
}

/// A loss before division.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSum {
    /// Σ −log p(target), natural logarithm.
    pub sum: f64,
    /// Target tokens in the sum.
    pub targets: usize,
}

/// The dense Mistral network.
#[derive(Debug)]
pub struct Network {
    pub(crate) config: ModelConfig,
    pub(crate) dtype: Dtype,
    /// `[V, D]`; also the head where that is tied.
    pub(crate) embedding: Weight,
    pub(crate) blocks: Vec<Block>,
    /// `[D]`.
    pub(crate) norm: Weight,
    /// `[V, D]`; none where tied.
    pub(crate) head: Option<Weight>,
    rope: Mutex<Arc<RopeTable>>,
}

impl Network {
    /// Reads every weight that `config` implies, in `dtype`.
    ///
    /// # Errors
    /// A weight that the source cannot give, or one of another shape or element type.
    pub fn load(config: &ModelConfig, dtype: Dtype, source: Source<'_>) -> Result<Self, ModelError> {
        let mut weight = |name: String, shape: &[i64]| {
            let stored = source(&name).map_err(|reason| ModelError::Source { name: name.clone(), reason: reason.to_string() })?;
            let value = from_file(&name, &stored, shape, dtype.kind())?;
            Ok::<_, ModelError>(Weight::frozen(name, value))
        };
        let (d, v) = (config.hidden, config.vocabulary);
        let embedding = weight("model.embed_tokens.weight".to_string(), &[v, d])?;
        let mut blocks = Vec::new();
        for layer in 0..config.layers {
            let norm = |name: &str| format!("model.layers.{layer}.{name}.weight");
            let attention_norm = weight(norm("input_layernorm"), &[d])?;
            let feed_forward_norm = weight(norm("post_attention_layernorm"), &[d])?;
            let mut linears = Vec::with_capacity(Projection::ALL.len());
            for projection in Projection::ALL {
                let (outputs, inputs) = projection_shape(config, projection);
                let weight = weight(format!("{}.weight", projection.module(layer)), &[outputs, inputs])?;
                linears.push(Linear { weight, lora: None });
            }
            let Ok(linears) = linears.try_into() else { unreachable!("one linear was pushed for each of the seven projections") };
            blocks.push(Block { layer, attention_norm, feed_forward_norm, linears, eps: config.rms_norm_eps });
        }
        let norm = weight("model.norm.weight".to_string(), &[d])?;
        let head = if config.tied { None } else { Some(weight("lm_head.weight".to_string(), &[v, d])?) };
        let rope = RopeTable::new(config.head_dim as usize, config.rope_theta, config.context.min(2048));
        Ok(Self { config: config.clone(), dtype, embedding, blocks, norm, head, rope: Mutex::new(Arc::new(rope)) })
    }

    /// The sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Chooses what is trained.
    pub fn train(&mut self, trained: &Trained) {
        match trained {
            Trained::Full => self.every_weight_mut().for_each(Weight::train),
            Trained::Lora(lora, seed) => {
                let (config, dtype) = (self.config.clone(), self.dtype);
                for block in &mut self.blocks {
                    for &projection in &lora.targets {
                        let (module, shape) = (projection.module(block.layer), projection_shape(&config, projection));
                        block.linears[projection as usize].lora = Some(Lora::fresh(&module, shape, lora, (*seed, dtype)));
                    }
                }
            }
        }
    }

    /// The same base with an adapter on it. The base's memory is shared, so that many adapters cost little.
    ///
    /// # Errors
    /// A factor that the source cannot give, or one of another shape.
    pub fn with_adapter(&self, lora: &LoraConfig, source: Source<'_>) -> Result<Self, ModelError> {
        let mut network = self.share();
        for block in &mut network.blocks {
            for &projection in &lora.targets {
                let (module, shape) = (projection.module(block.layer), projection_shape(&self.config, projection));
                let factors = Lora::load(&module, shape, lora, (&mut *source, self.dtype))?;
                block.linears[projection as usize].lora = Some(factors);
            }
        }
        Ok(network)
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
        Self {
            config: self.config.clone(),
            dtype: self.dtype,
            embedding: self.embedding.share(),
            blocks: blocks.collect(),
            norm: self.norm.share(),
            head: self.head.as_ref().map(Weight::share),
            rope: Mutex::new(self.rope_table(0)),
        }
    }

    /// Hugging Face's names of every weight of the base, in the order of [`Network::merged`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let ends = std::iter::once(&self.embedding).chain(std::iter::once(&self.norm)).chain(self.head.as_ref());
        let norms = self.blocks.iter().flat_map(|block| [&block.attention_norm, &block.feed_forward_norm]);
        let linears = self.blocks.iter().flat_map(|block| block.linears.iter().map(|linear| &linear.weight));
        ends.chain(norms).chain(linears).map(Weight::name)
    }

    /// Every weight of the base by its Hugging Face name with adapters merged in, fp32: what an export writes, one at a time.
    pub fn merged(&self) -> impl Iterator<Item = (&str, Tensor)> {
        let plain = |weight: &Weight| weight.master().unwrap_or_else(|| weight.value()).to_kind(Kind::Float);
        let ends = std::iter::once(&self.embedding).chain(std::iter::once(&self.norm)).chain(self.head.as_ref());
        let norms = self.blocks.iter().flat_map(|block| [&block.attention_norm, &block.feed_forward_norm]);
        let linears = self.blocks.iter().flat_map(|block| block.linears.iter());
        let linears = linears.map(move |linear| match &linear.lora {
            Some(_) => (linear.weight.name(), linear.merged()),
            None => (linear.weight.name(), plain(&linear.weight)),
        });
        ends.chain(norms).map(move |weight| (weight.name(), plain(weight))).chain(linears)
    }

    fn every_weight_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        let blocks = self.blocks.iter_mut().flat_map(|block| {
            let linears = block.linears.iter_mut().map(|linear| &mut linear.weight);
            [&mut block.attention_norm, &mut block.feed_forward_norm].into_iter().chain(linears)
        });
        std::iter::once(&mut self.norm).chain(self.head.as_mut()).chain(blocks).chain(std::iter::once(&mut self.embedding))
    }

    /// What is trained, in the order in which a backward finishes with it: norm and head, blocks from the last to the first, embedding.
    pub fn trained(&self) -> Vec<&Weight> {
        let last = self.last_weights();
        let blocks = self.blocks.iter().rev().flat_map(Block::trained);
        last.chain(blocks).chain(trained_only(&self.embedding)).collect()
    }

    /// As [`Network::trained`], to write to.
    pub fn trained_mut(&mut self) -> Vec<&mut Weight> {
        let is_trained = |weight: &&mut Weight| weight.master().is_some();
        let last = std::iter::once(&mut self.norm).chain(self.head.as_mut()).filter(is_trained);
        let blocks = self.blocks.iter_mut().rev().flat_map(Block::trained_mut);
        last.chain(blocks).chain(std::iter::once(&mut self.embedding).filter(is_trained)).collect()
    }

    fn last_weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.norm).chain(self.head.as_ref()).flat_map(trained_only)
    }

    /// Loss of a batch; adds the gradients of `scale · Σ loss` to those of the trained weights and tells `hooks` as they become final.
    ///
    /// # Errors
    /// A document longer than the model's context or attention window.
    pub fn loss_and_gradients(
        &mut self,
        batch: &Batch,
        scale: f64,
        recompute: Recompute,
        hooks: &mut dyn Hooks,
    ) -> Result<LossSum, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let table = self.table_for(&batch.documents)?;
        let context = self.context(&batch.documents, &table, 0);
        let mut x = embedding::forward(&batch.ids, self.embedding.value());
        let mut kept = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, saved) = block.forward(x, context);
            kept.push(match recompute {
                Recompute::None => saved,
                Recompute::Full => saved.input_only(),
            });
            x = y;
        }
        let (sum, mut dx) = self.head_backward(&x, batch, scale);
        hooks.gradients_final(&mut self.last_weights());
        drop(x);
        for index in (0..self.blocks.len()).rev() {
            if let Some(saved) = kept.pop() {
                dx = self.blocks[index].backward(saved, dx, context);
            }
            hooks.gradients_final(&mut self.blocks[index].trained());
        }
        if let Some(gradient) = self.embedding.gradient_mut() {
            embedding::backward(&batch.ids, &dx, gradient);
        }
        hooks.gradients_final(&mut trained_only(&self.embedding));
        Ok(LossSum { sum, targets: batch.target_count() })
    }

    /// Norm, head and loss, forward and backward: `x [T, D]` → Σ loss and `dx [T, D]`.
    fn head_backward(&mut self, x: &Tensor, batch: &Batch, scale: f64) -> (f64, Tensor) {
        let (h, saved) = rmsnorm::forward(x, self.norm.value(), self.config.rms_norm_eps);
        let head = self.head.as_mut().unwrap_or(&mut self.embedding);
        let value = head.value().shallow_clone();
        let loss = cross_entropy::forward_backward(&h, &value, &batch.targets, scale, head.gradient_mut());
        let mut dx = x.zeros_like();
        norm_backward(&mut self.norm, &loss.dh, (x, &saved), &mut dx);
        (loss.sum, dx)
    }

    /// Loss of a batch, no gradients.
    ///
    /// # Errors
    /// As [`Network::loss_and_gradients`].
    pub fn loss(&self, batch: &Batch) -> Result<LossSum, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let h = self.last_hidden(&batch.ids, &batch.documents)?;
        Ok(LossSum { sum: cross_entropy::forward(&h, self.head_value(), &batch.targets), targets: batch.target_count() })
    }

    /// Logits of every position, `[T, V]` fp32: for comparisons on small inputs.
    ///
    /// # Errors
    /// As [`Network::loss_and_gradients`].
    pub fn logits(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let h = self.last_hidden(&batch.ids, &batch.documents)?;
        Ok(h.matmul(&self.head_value().tr()).to_kind(Kind::Float))
    }

    fn last_hidden(&self, ids: &[i64], documents: &Documents) -> Result<Tensor, ModelError> {
        let table = self.table_for(documents)?;
        let context = self.context(documents, &table, 0);
        let mut x = embedding::forward(ids, self.embedding.value());
        for block in &self.blocks {
            x = block.forward(x, context).0;
        }
        Ok(rmsnorm::forward(&x, self.norm.value(), self.config.rms_norm_eps).0)
    }

    pub(crate) fn head_value(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding).value()
    }

    pub(crate) fn context<'a>(&self, documents: &'a Documents, table: &'a RopeTable, first: usize) -> Context<'a> {
        let [kv_heads, group, head_dim] =
            [self.config.kv_heads, self.config.group(), self.config.head_dim].map(|size| size as usize);
        Context { documents, shape: HeadShape { kv_heads, group, head_dim }, rotation: Rotation { table, first } }
    }

    fn table_for(&self, documents: &Documents) -> Result<Arc<RopeTable>, ModelError> {
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

fn trained_only(weight: &Weight) -> impl Iterator<Item = &Weight> {
    std::iter::once(weight).filter(|weight| weight.master().is_some())
}

/// `[out, in]` of a projection's weight.
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
