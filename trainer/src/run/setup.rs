//! From settings and files to a rank's engine: the mesh, the base's pieces, the newest checkpoint.

use std::path::Path;
use std::time::Duration;

use sirocco_checkpoint::{ModelDir, Piece};
use sirocco_comm::{Communicator, Options};
use sirocco_config::{Device as Wanted, ModelSizes, Place, Run};
use sirocco_model::ops::cuda;
use sirocco_model::weight::FileTensor;
use sirocco_model::{ModelConfig, SeamError, Slice};
use sirocco_parallel::{Engine, Mesh, OnDevice, ParallelError, Setup, World};
use tch::Device;

use super::settings;
use super::together::{Round, everyone};
use crate::failure::Failure;

/// The mesh of the settings.
pub(crate) fn mesh(run: &Run) -> Result<Mesh, Failure> {
    let [pp, dp, fsdp, tp] = [run.parallel.pp, run.parallel.dp, run.parallel.fsdp, run.parallel.tp].map(|size| size as usize);
    Mesh::new(pp, dp, fsdp, tp).map_err(Failure::usage)
}

/// Lays the base out on the mesh and brings this rank's pieces of it.
pub(crate) fn engine(directory: &Path, run: &Run, base: &ModelDir, world: &dyn Communicator) -> Result<Engine, Failure> {
    let in_file = |error| Failure::data(format!("{}: {error}", base.path().display()));
    let config = ModelConfig::from_json(base.config_text()).map_err(in_file)?;
    let at = |_: &str| Place::File(directory.join("run.toml"));
    run.parallel.check_model(&sizes(&config), at).map_err(Failure::usage)?;
    let setup = Setup {
        config,
        dtype: settings::dtype(run),
        trained: settings::trained(run),
        seed: run.seed,
        mesh: mesh(run)?,
        recompute: settings::recompute(run),
        bucket_bytes: (run.parallel.bucket_mb as usize) << 20,
        device: device(run, world)?,
    };
    let options = Options { timeout: Duration::from_secs(run.parallel.timeout_s) };
    let on_device = match setup.device {
        Device::Cuda(ordinal) => Some(OnDevice::open(ordinal, options).map_err(Failure::parallel)?),
        _ => None,
    };
    let world = World { ranks: world, device: on_device.as_ref() };
    Engine::new(&setup, world, &mut |name, slice, range| piece_of(base, name, slice, range)).map_err(|error| match error {
        ParallelError::Source { .. } | ParallelError::Model(_) => {
            Failure::parallel(error).help(format!("sirocco model verify {} checks every tensor", base.path().display()))
        }
        other => Failure::parallel(other),
    })
}

/// Where this rank computes. Ranks of one host take its devices in their order.
fn device(run: &Run, world: &dyn Communicator) -> Result<Device, Failure> {
    match run.model.device {
        Wanted::Auto | Wanted::Cpu => Ok(Device::Cpu),
        Wanted::Cuda => {
            let own = cuda::devices().and_then(|devices| {
                let ordinal = cuda::ordinal_of(world.place().local_rank, devices)?;
                let gpu = cuda::prepare(ordinal)?;
                tracing::info!(ordinal, name = gpu.name, bytes = gpu.bytes, "computes on a GPU");
                Ok(ordinal)
            });
            let own = own.map_err(|error| {
                Failure::machine(error).help("sirocco doctor says what this machine has; model.device = \"cpu\" needs no GPU")
            });
            let ordinals = everyone(world, Round { name: "devices", failed: "cannot compute on a GPU" }, own)?;
            Ok(Device::Cuda(ordinals[world.rank()]))
        }
    }
}

fn sizes(config: &ModelConfig) -> ModelSizes {
    let [heads, kv_heads, intermediate, vocabulary] =
        [config.heads, config.kv_heads, config.intermediate, config.vocabulary].map(i64::unsigned_abs);
    ModelSizes { layers: config.layers as u64, heads, kv_heads, intermediate, vocabulary }
}

/// Reads a piece of a tensor of the base.
pub(crate) fn piece_of(
    base: &ModelDir,
    name: &str,
    slice: &Slice,
    range: std::ops::Range<usize>,
) -> Result<FileTensor, SeamError> {
    let length = range.len();
    let (dtype, bytes) = base.piece(name, &piece(slice, range))?;
    Ok((dtype, vec![length], bytes))
}

/// A piece in the words of checkpoints.
pub(crate) fn piece(slice: &Slice, range: std::ops::Range<usize>) -> Piece {
    Piece {
        shape: slice.full.iter().map(|&size| size as usize).collect(),
        dim: slice.dim,
        start: slice.start as usize,
        length: slice.length as usize,
        from: range.start,
        to: range.end,
    }
}
