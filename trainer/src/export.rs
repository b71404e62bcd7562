//! `sirocco export`: a run's newest checkpoint as a PEFT adapter or as a whole model.

use std::path::Path;

use serde_json::json;
use sirocco_checkpoint::{
    AdapterConfig, Checkpoint, Checkpoints, Dtype as FileType, ModelDir, ModelExport, OwnedTensor, TensorSpec, TensorView,
    write_adapter,
};
use sirocco_config::{Method, Run};
use sirocco_model::Dtype;
use tch::Kind;

use crate::args::{self, ExportJob};
use crate::failure::{Failure, print_line};
use crate::run::saved::{Identity, MASTER, names};
use crate::run::settings::{read_run, trained};
use crate::{models, threads};

pub(crate) fn run(job: &ExportJob) -> Result<(), Failure> {
    threads::use_threads(None)?;
    let run = read_run(&job.run)?;
    let checkpoint = open(&job.run, job.step)?;
    let base = ModelDir::open(&run.model.path).map_err(Failure::file)?;
    Identity::new(&run, &base, None)?.verify(checkpoint.state())?;
    if job.adapter {
        adapter(job, &run, &checkpoint)?;
    } else {
        merged(job, &run, &checkpoint, &base)?;
    }
    let step = checkpoint.state().step;
    let form = if job.adapter { "adapter" } else { "merged" };
    if job.json {
        print_line(&json!({"run": job.run, "step": step, "form": form, "to": job.to}).to_string());
    } else {
        print_line(&format!("wrote the {form} model of step {step} to {}", job.to.display()).replace("adapter model", "adapter"));
    }
    Ok(())
}

fn open(directory: &Path, step: Option<u64>) -> Result<Checkpoint, Failure> {
    let checkpoints = Checkpoints::new(directory);
    let found = match step {
        Some(step) => checkpoints.load(step).map(Some),
        None => checkpoints.load_latest(),
    };
    found.map_err(Failure::file)?.ok_or_else(|| {
        Failure::data(format!("{} has no checkpoint yet", directory.display()))
            .help(format!("sirocco train {} goes on with the run", directory.display()))
    })
}

/// Writes what the checkpoint holds of the adapter; the base is not needed.
fn adapter(job: &ExportJob, run: &Run, checkpoint: &Checkpoint) -> Result<(), Failure> {
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
    write_adapter(&job.to, &config, &views.map_err(Failure::data)?).map_err(Failure::file)?;
    Ok(())
}

/// Writes the base with what was learnt put in, tensor by tensor.
fn merged(job: &ExportJob, run: &Run, checkpoint: &Checkpoint, base: &ModelDir) -> Result<(), Failure> {
    let mut network = models::network(base, Dtype::Fp32)?;
    network.train(&trained(run));
    for weight in network.trained_mut() {
        let [master, ..] = names(weight.name());
        weight.restore_from(&checkpoint.tensor_bytes(&master).map_err(Failure::file)?).map_err(Failure::model)?;
    }
    let (file_type, kind) = match job.dtype {
        args::Dtype::Bf16 => (FileType::BF16, Kind::BFloat16),
        args::Dtype::Fp32 => (FileType::F32, Kind::Float),
    };
    let shape = |name: &str| base.spec(name).map(|spec| spec.shape.clone()).unwrap_or_default();
    let specs = network.names().map(|name| TensorSpec::new(name, file_type, shape(name))).collect();
    let mut export = ModelExport::start(base, &job.to, specs).map_err(Failure::file)?;
    for (name, tensor) in network.merged() {
        export.write(name, &models::bytes(&tensor.to_kind(kind))).map_err(Failure::file)?;
    }
    export.finish().map_err(Failure::file)?;
    Ok(())
}
