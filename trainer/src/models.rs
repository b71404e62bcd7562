//! From model and adapter directories to networks, and from tensors to bytes.

use std::path::Path;

use sirocco_checkpoint::{AdapterDir, ModelDir};
use sirocco_model::{Dtype, LoraConfig, ModelConfig, Network, Projection};
use tch::Tensor;

use crate::failure::Failure;

/// Loads a base model from its directory.
pub(crate) fn base(path: &Path, dtype: Dtype) -> Result<Network, Failure> {
    let directory = ModelDir::open(path).map_err(Failure::file)?;
    let in_file = |error| Failure::data(format!("{}: {error}", path.display()));
    let config = ModelConfig::from_json(directory.config_text()).map_err(in_file)?;
    let mut source = |name: &str| directory.tensor_bytes(name).map_err(Into::into);
    Network::load(&config, dtype, &mut source)
        .map_err(|error| in_file(error).help(format!("sirocco model verify {} checks every tensor", path.display())))
}

/// Loads a base model with an adapter on it, or without.
pub(crate) fn with_adapter(path: &Path, adapter: Option<&Path>, dtype: Dtype) -> Result<Network, Failure> {
    let network = base(path, dtype)?;
    let Some(adapter) = adapter else { return Ok(network) };
    let directory = AdapterDir::open(adapter).map_err(Failure::file)?;
    let in_adapter = |words: String| Failure::data(format!("{}: {words}", adapter.display()));
    let mut targets = Vec::new();
    for name in &directory.config().target_modules {
        let target = Projection::from_name(name)
            .ok_or_else(|| in_adapter(format!("target module {name}, expected one of the seven projections of a block")))?;
        targets.push(target);
    }
    let lora = LoraConfig { rank: directory.config().r, scale: directory.config().scaling(), targets };
    let mut source = |name: &str| directory.tensor_bytes(name).map_err(Into::into);
    network.with_adapter(&lora, &mut source).map_err(|error| {
        in_adapter(error.to_string()).help(format!("is {} the model that the adapter was trained on?", path.display()))
    })
}

/// A tensor's elements as little-endian bytes, row-major.
pub(crate) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    let elements = tensor.numel();
    tensor.copy_data_u8(&mut bytes, elements);
    bytes
}

/// The highest resident memory of this process so far, in bytes; 0 where the system does not tell.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
