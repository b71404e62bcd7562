//! The one place where the engine meets tensors: `sirocco_model` behind [`LanguageModel`].

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sirocco_checkpoint::{AdapterDir, ModelDir};
use sirocco_model::{Dtype, KvCache, LoraConfig, ModelConfig, ModelError, Network, Projection, Wanted};

use super::handle::Models;
use super::{Context, EngineError, LanguageModel, Rows};
use crate::args::Precision;
use crate::custody::Admission;

/// Open directories of a base and its adapters, ready to be loaded.
pub(crate) struct NetworkSource {
    base: ModelDir,
    config: ModelConfig,
    adapters: Vec<AdapterDir>,
    dtype: Dtype,
}

impl NetworkSource {
    /// Opens the directories that may be served and reads what does not need tensors.
    pub(crate) fn open(admission: &Admission, precision: Precision) -> Result<NetworkSource, EngineError> {
        let (model, adapters) = (admission.model(), admission.adapters());
        let base = ModelDir::open(model)?;
        let config = ModelConfig::from_json(base.config_text()).map_err(in_directory(model))?;
        let adapters = adapters.map(AdapterDir::open).collect::<Result<_, _>>()?;
        let dtype = match precision {
            Precision::Bf16 => Dtype::Bf16,
            Precision::Fp32 => Dtype::Fp32,
        };
        Ok(NetworkSource { base, config, adapters, dtype })
    }

    /// Tokens of a sequence at most.
    pub(crate) fn context(&self) -> usize {
        self.config.longest_document()
    }

    /// Token ids are less than this.
    pub(crate) fn vocabulary(&self) -> usize {
        usize::try_from(self.config.vocabulary).unwrap_or(0)
    }

    /// Tokens that end an answer, by config.json and by generation_config.json, which may name more of them.
    fn end_tokens(&self) -> Vec<u32> {
        let generation = std::fs::read(self.base.path().join("generation_config.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
            .unwrap_or_default();
        [self.base.config(), &generation].into_iter().flat_map(|config| ids(&config["eos_token_id"])).collect()
    }
}

/// Names the directory whose contents are wrong.
fn in_directory(path: &Path) -> impl FnOnce(ModelError) -> EngineError {
    move |source| EngineError::Load { path: path.to_owned(), source }
}

/// An id or an array of ids.
fn ids(value: &Value) -> Vec<u32> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// Reads the weights; called on the engine's thread. `end_of_text` is the tokenizer's own end token.
pub(crate) fn load(source: &NetworkSource, end_of_text: Option<u32>) -> Result<Models, EngineError> {
    let base = Network::load(&source.config, source.dtype, &mut |name| Ok(source.base.tensor_bytes(name)?))
        .map_err(in_directory(source.base.path()))?;
    let mut networks: Vec<Box<dyn LanguageModel>> = Vec::new();
    let mut adapted = Vec::new();
    for adapter in &source.adapters {
        let lora = lora_config(adapter, source.config.layers)?;
        let network = base.with_adapter(&lora, &mut |name| Ok(adapter.tensor_bytes(name)?));
        adapted.push(network.map_err(in_directory(adapter.path()))?);
    }
    networks.push(Box::new(base));
    networks.extend(adapted.into_iter().map(|network| Box::new(network) as Box<dyn LanguageModel>));
    let end_tokens = source.end_tokens().into_iter().chain(end_of_text).collect();
    Ok(Models { networks, end_tokens })
}

/// What an adapter adapts. Every module in its file must be one that the network has: none is passed over.
fn lora_config(adapter: &AdapterDir, layers: usize) -> Result<LoraConfig, EngineError> {
    let has = |module: &str, projection: &Projection| (0..layers).any(|layer| projection.module(layer) == module);
    let mut targets = BTreeSet::new();
    for module in adapter.modules() {
        let projection = Projection::ALL.into_iter().find(|projection| has(module, projection));
        targets.insert(projection.ok_or_else(|| EngineError::AdapterModule {
            path: adapter.path().to_owned(),
            module: module.to_owned(),
            layers,
        })?);
    }
    let config = adapter.config();
    Ok(LoraConfig { rank: config.r, scale: config.scaling(), targets: targets.into_iter().collect() })
}

impl LanguageModel for Network {
    fn context(&self, capacity: usize) -> Result<Box<dyn Context + '_>, EngineError> {
        Ok(Box::new(NetworkContext { network: self, cache: KvCache::new(self, capacity) }))
    }
}

struct NetworkContext<'a> {
    network: &'a Network,
    cache: KvCache,
}

impl Context for NetworkContext<'_> {
    fn extend(&mut self, ids: &[u32], rows: Rows) -> Result<Vec<f32>, EngineError> {
        let wanted = match rows {
            Rows::Last => Wanted::Last,
            Rows::All => Wanted::All,
        };
        let logits = self.network.decode(ids, &mut self.cache, wanted)?;
        Ok(Vec::try_from(logits.reshape([-1]))?)
    }
}
