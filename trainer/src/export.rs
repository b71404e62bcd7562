//! `sirocco export`: a run's newest checkpoint as a PEFT adapter or as a whole model.

mod leave;

use std::path::Path;

use serde_json::json;
use sirocco_checkpoint::{
    AdapterConfig, Checkpoint, CheckpointError, Checkpoints, Dtype as FileType, FileDigest, ModelDir, ModelExport, OwnedTensor,
    SealError, TensorSpec, TensorView, digest_of, write_adapter_sealed,
};
use sirocco_config::{Method, Run, shell_word};
use sirocco_custody::Origin;
use sirocco_model::weight::from_file;
use sirocco_model::{Dtype, ModelConfig, ModelError, Network, Whole, lora};
use tch::{Kind, Tensor};

use crate::args::{self, ExportJob};
use crate::custody::{self, Keeper};
use crate::failure::{Failure, print_line};
use crate::run::identity::Identity;
use crate::run::newest::{Vouched, named, vouched};
use crate::run::saved::{MASTER, names};
use crate::run::settings::read_run;
use crate::{models, threads};

pub(crate) fn run(job: &ExportJob) -> Result<(), Failure> {
    threads::use_threads(None)?;
    let run = read_run(&job.run)?;
    let custody = custody::open(&job.run, &run)?;
    let keeper = Keeper::open(&job.run, &run, &custody)?;
    let (checkpoint, origin) = vouched_for(job, &keeper)?;
    let base = ModelDir::open(&run.model.path).map_err(Failure::file)?;
    let files = base.digests().map_err(Failure::file)?;
    Identity::new(&run, digest_of(&files), None).verify(checkpoint.state())?;
    if !job.adapter {
        keeper.expect_base(&base, &files, &origin)?;
    }
    let permit = leave::ask(&keeper, (&custody, &run), (job, &checkpoint), origin)?;
    let seal = &permit.seal();
    if job.adapter {
        adapter(job, &run, &checkpoint, seal)?;
    } else {
        merged(job, &run, (&checkpoint, &base), seal)?;
    }
    permit.done()?;
    let step = checkpoint.state().step;
    let form = if job.adapter { "adapter" } else { "merged" };
    if job.json {
        print_line(&json!({"run": job.run, "step": step, "form": form, "to": job.to}).to_string());
    } else {
        print_line(&format!("wrote the {form} model of step {step} to {}", job.to.display()).replace("adapter model", "adapter"));
    }
    Ok(())
}

/// The checkpoint that was typed, or else the newest, which has to be the newest that the ledger names, as for a run that goes on.
fn vouched_for(job: &ExportJob, keeper: &Keeper) -> Result<(Checkpoint, Origin), Failure> {
    loop {
        let checkpoint = open(&job.run, job.step, keeper)?;
        if job.step.is_some() {
            let origin = named(&checkpoint, keeper)?;
            return Ok((checkpoint, origin));
        }
        if let Vouched::By(origin) = vouched(&checkpoint, &Checkpoints::new(&job.run), keeper)? {
            return Ok((checkpoint, *origin));
        }
    }
}

/// What may be added to a directory before it gets its name: its signature.
type Seal<'a> = &'a dyn Fn(&Path, &[FileDigest]) -> Result<(), SealError>;

fn open(directory: &Path, step: Option<u64>, keeper: &Keeper) -> Result<Checkpoint, Failure> {
    let checkpoints = Checkpoints::new(directory);
    let found = match step {
        Some(step) => checkpoints.load(step).map(Some),
        None => checkpoints.load_latest(),
    };
    let unusable = |error| match error {
        CheckpointError::BadLatest { good: Some(step), .. } => {
            Failure::file(error).help(format!("--step {step} exports the newest one that is whole"))
        }
        error => Failure::file(error),
    };
    let found = found.map_err(|error| keeper.found(checkpoints.path(), unusable(error)))?;
    found.ok_or_else(|| {
        Failure::data(format!("{} has no checkpoint yet", directory.display()))
            .help(format!("sirocco train {} goes on with the run", shell_word(&directory.to_string_lossy())))
    })
}

/// Writes what the checkpoint holds of the adapter; the base is not needed.
fn adapter(job: &ExportJob, run: &Run, checkpoint: &Checkpoint, seal: Seal<'_>) -> Result<(), Failure> {
    let Method::Lora { rank, alpha, targets } = &run.method else {
        return Err(Failure::usage("the run trained every weight, so there is no adapter").help("--merge writes the whole model"));
    };
    let mut tensors: Vec<(String, OwnedTensor)> = Vec::new();
    for (master, name) in checkpoint.names().filter_map(|name| Some((name, name.strip_prefix(MASTER)?))) {
        tensors.push((name.to_string(), checkpoint.tensor(master).map_err(Failure::file)?));
    }
    let views: Result<Vec<(String, TensorView<'_>)>, _> =
        tensors.iter().map(|(name, tensor)| tensor.view().map(|view| (name.clone(), view))).collect();
    let config = AdapterConfig {
        base_model: run.model.path.display().to_string(),
        r: *rank as usize,
        lora_alpha: *alpha,
        use_rslora: false,
        target_modules: targets.projections().iter().map(|target| target.name().to_string()).collect(),
        lora_dropout: 0.0,
    };
    write_adapter_sealed(&job.to, &config, &views.map_err(Failure::data)?, seal).map_err(Failure::file)?;
    Ok(())
}

/// Writes the base with what was learnt put in. One tensor and its factors are in memory at a time, whatever the mesh it was trained on.
fn merged(job: &ExportJob, run: &Run, (checkpoint, base): (&Checkpoint, &ModelDir), seal: Seal<'_>) -> Result<(), Failure> {
    let (file_type, kind) = match job.dtype {
        args::Dtype::Bf16 => (FileType::BF16, Kind::BFloat16),
        args::Dtype::Fp32 => (FileType::F32, Kind::Float),
    };
    let config = ModelConfig::from_json(base.config_text()).map_err(Failure::model)?;
    let network = Network::absent(&config, Dtype::Fp32, &Whole);
    let specs = network.weights().map(|weight| {
        let shape: Vec<usize> = weight.shape().iter().map(|&size| size as usize).collect();
        TensorSpec::new(weight.name(), file_type, shape)
    });
    let mut export = ModelExport::start(base, &job.to, specs.collect()).map_err(Failure::file)?;
    for weight in network.weights() {
        let tensor = learnt(run, checkpoint, base, (weight.name(), &weight.shape()))?;
        export.write(weight.name(), &models::bytes(&tensor.to_kind(kind))).map_err(Failure::file)?;
    }
    export.finish_sealed(seal).map_err(Failure::file)?;
    Ok(())
}

/// A tensor of the base as the run has left it, fp32.
fn learnt(run: &Run, checkpoint: &Checkpoint, base: &ModelDir, (name, shape): (&str, &[i64])) -> Result<Tensor, Failure> {
    let read = |name: &str, stored: OwnedTensor| {
        let shape: Vec<i64> = stored.shape.iter().map(|&size| size as i64).collect();
        from_file(name, &stored.into_parts(), &shape, Kind::Float).map_err(Failure::model)
    };
    let trained = |weight: &str| {
        let [master, ..] = names(weight);
        read(weight, checkpoint.tensor(&master).map_err(Failure::file)?)
    };
    let Method::Lora { rank, alpha, .. } = &run.method else { return trained(name) };
    let tensor = read(name, base.tensor(name).map_err(Failure::file)?)?;
    if tensor.size() != shape {
        return Err(Failure::model(ModelError::Shape { name: name.to_string(), found: tensor.size(), expected: shape.to_vec() }));
    }
    let [a, b] = lora::factor_names(name.strip_suffix(".weight").unwrap_or(name));
    let [of_a, ..] = names(&a);
    if checkpoint.spec(&of_a).is_none() {
        return Ok(tensor);
    }
    Ok(lora::merge(&tensor, (&trained(&a)?, &trained(&b)?), alpha / *rank as f64))
}
