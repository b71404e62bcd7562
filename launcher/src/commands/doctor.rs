//! `sirocco doctor`: what this machine has and lacks, and how it gets what it lacks.
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sirocco_config::environment::{self, Variable};

use crate::cli::Doctor;
use crate::failure::{Failure, Kind};
use crate::machine;
use crate::output::{self, bytes};
use crate::programs::{MPI_ADVICE, Mpirun, SERVER, beside};

/// One thing that was looked for.
struct Finding {
    name: &'static str,
    /// Whether training on the CPU needs it.
    required: bool,
    present: bool,
    /// What was found, or what is missing and how to get it.
    words: String,
    details: Value,
}

pub(crate) fn run(arguments: &Doctor) -> Result<(), Failure> {
    let findings = [cpu(), memory(), disk(), mpi(), container(value), trainer(), server(), gpu()];
    let missing: Vec<_> =
        findings.iter().filter(|finding| finding.required && !finding.present).map(|finding| finding.name).collect();
    if arguments.json {
        let object: serde_json::Map<String, Value> =
            findings.iter().map(|finding| (finding.name.to_owned(), finding.to_json())).collect();
        output::json(&json!({ "ready": missing.is_empty(), "missing": missing, "findings": object }))?;
    } else {
        findings.iter().try_for_each(|finding| {
            let mark = match finding {
                Finding { present: true, .. } => "ok",
                Finding { required: true, .. } => "missing",
                Finding { .. } => "none",
            };
            output::line(format_args!("{:10}{mark:9}{}", finding.name, finding.words))
        })?;
    }
    match missing.as_slice() {
        [] => Ok(()),
        missing => {
            Err(Failure::new(Kind::Machine, format_args!("this machine cannot train yet: {} missing", missing.join(", ")))
                .help("the lines above say how to get each"))
        }
    }
}

impl Finding {
    fn to_json(&self) -> Value {
        let mut object = json!({ "present": self.present, "required": self.required, "words": self.words });
        if let (Value::Object(object), Value::Object(details)) = (&mut object, &self.details) {
            object.extend(details.clone());
        }
        object
    }
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |names: &[&str]| {
        let line = info.lines().find(|line| names.iter().any(|name| line.starts_with(name)))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&["model name", "CPU part"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let flags = field(&["flags", "Features"]).unwrap_or_default();
    let known = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16", "i8mm"];
    let features: Vec<_> = known.into_iter().filter(|name| flags.split_whitespace().any(|flag| flag == *name)).collect();
    let words = format!(
        "{cores} cores, {model}, {}",
        if features.is_empty() { "no vector units".to_owned() } else { features.join(" ") }
    );
    let details = json!({ "cores": cores, "model": model, "architecture": std::env::consts::ARCH, "features": features });
    Finding { name: "cpu", required: true, present: true, words, details }
}

fn memory() -> Finding {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let (total, available) = (field("MemTotal:").unwrap_or(0), field("MemAvailable:").unwrap_or(0));
    let details = json!({ "total_bytes": total, "available_bytes": available });
    let words = format!("{} available of {}", bytes(available), bytes(total));
    Finding { name: "memory", required: true, present: true, words, details }
}

fn disk() -> Finding {
    let here = rustix::fs::statvfs(".");
    let (free, total) = here.map_or((0, 0), |stat| (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize));
    let words = format!("{} free of {} here", bytes(free), bytes(total));
    Finding { name: "disk", required: true, present: true, words, details: json!({ "free_bytes": free, "total_bytes": total }) }
}

fn mpi() -> Finding {
    let (present, words, details) = match Mpirun::find() {
        Ok(mpirun) => {
            let words = format!("{}, {}", mpirun.version, mpirun.path.display());
            (true, words, json!({ "version": mpirun.version, "mpirun": mpirun.path }))
        }
        Err(failure) => (false, format!("{}; {MPI_ADVICE}", failure.message), Value::Null),
    };
    Finding { name: "mpi", required: true, present, words, details }
}

/// What a variable of the environment holds.
fn value(variable: Variable) -> Option<String> {
    std::env::var(variable.name).ok()
}

/// The image around this program, and whether what started it lets the MPI inside join the one outside. Without that each rank of a run
/// is alone, or ends when MPI starts.
fn container(value: impl Fn(Variable) -> Option<String>) -> Finding {
    let name = "container";
    let Some(image) = value(environment::CONTAINER) else {
        return Finding {
            name,
            required: false,
            present: false,
            words: "this is the host itself".to_owned(),
            details: Value::Null,
        };
    };
    let given = |variable| value(variable).is_some();
    let start = match (given(environment::PMIX), given(environment::PMI)) {
        (true, _) => Some("pmix"),
        (false, true) => Some("pmi"),
        (false, false) => None,
    };
    let alone = start.is_none() && given(environment::STEP);
    let words = match start {
        Some(start) => format!("{image}, its ranks joined through {}", if start == "pmix" { "PMIx" } else { "PMI" }),
        None if alone => {
            format!("{image}, started by srun without PMIx or PMI, so that no rank would find another; srun --mpi=pmix")
        }
        None => {
            format!("{image}; srun --mpi=pmix apptainer exec {image} sirocco doctor tells whether ranks in it find each other")
        }
    };
    Finding { name, required: true, present: !alone, words, details: json!({ "image": image, "start": start }) }
}

/// The trainer knows which libtorch it found; whether it starts at all says whether the libraries are there.
fn trainer() -> Finding {
    let (path, details) = match machine::libraries() {
        Ok(found) => found,
        Err(words) => return Finding { name: "libtorch", required: true, present: false, words, details: Value::Null },
    };
    let version = ["libtorch", "libtorch_version"].iter().find_map(|name| details.get(name)).map(plain);
    let reason = details.get("cuda_error").and_then(Value::as_str).map(|reason| format!("; no CUDA: {reason}"));
    let version = version.unwrap_or_else(|| "present".to_owned());
    let words = format!("{version}, found by {}{}", path.display(), reason.unwrap_or_default());
    Finding { name: "libtorch", required: true, present: true, words, details }
}

/// A value without the quotes of a string.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn server() -> Finding {
    let (present, words) = match beside(SERVER) {
        Ok(path) => (true, path.display().to_string()),
        Err(failure) => (false, format!("{}; make build makes it", failure.message)),
    };
    Finding { name: "server", required: false, present, words, details: Value::Null }
}

fn gpu() -> Finding {
    let driver = fs::read_to_string("/proc/driver/nvidia/version").ok();
    let count = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    let count =
        if count > 0 { count } else { (0..16).filter(|index| Path::new(&format!("/dev/nvidia{index}")).exists()).count() };
    let words = match count {
        0 => "no NVIDIA GPU; none is needed to train on the CPU".to_owned(),
        count => format!("{count} NVIDIA; model.device = \"cuda\" uses one for each rank (written, not run on a GPU yet)"),
    };
    let driver = driver.and_then(|text| text.lines().next().map(str::to_owned));
    Finding { name: "gpu", required: false, present: count > 0, words, details: json!({ "count": count, "driver": driver }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_container(given: &[&str]) -> Finding {
        container(|variable| given.contains(&variable.name).then(|| "/i/sirocco.sif".to_owned()))
    }

    #[test]
    fn ranks_in_a_container_that_srun_started_without_pmi_are_a_fault() {
        let state = |finding: &Finding| (finding.required, finding.present, finding.to_json()["start"].clone());
        let host = in_container(&["SLURM_STEP_ID"]);
        assert_eq!(state(&host), (false, false, Value::Null), "on the host the MPI of the host is asked for");
        assert_eq!(state(&in_container(&["SINGULARITY_CONTAINER"])), (true, true, Value::Null), "a login node");
        let joined = in_container(&["SINGULARITY_CONTAINER", "SLURM_STEP_ID", "PMIX_NAMESPACE"]);
        assert_eq!(state(&joined), (true, true, "pmix".into()));
        assert_eq!(state(&in_container(&["SINGULARITY_CONTAINER", "SLURM_STEP_ID", "PMI_RANK"])), (true, true, "pmi".into()));
        let alone = in_container(&["SINGULARITY_CONTAINER", "SLURM_STEP_ID"]);
        assert_eq!(state(&alone), (true, false, Value::Null));
        assert!(alone.words.contains("srun --mpi=pmix"), "{}", alone.words);
    }

    #[test]
    fn every_finding_has_words_and_json_with_the_same_truth() {
        for finding in [cpu(), memory(), disk(), container(|_| None), gpu()] {
            assert!(!finding.words.is_empty());
            assert_eq!(finding.to_json()["present"], finding.present, "{}", finding.name);
        }
    }
}
