//! The one step from what was typed to what will happen: every value in its range, every default, every cross-check.
use std::path::Path;

use crate::OPEN_POLICY;
use crate::error::ConfigError;
use crate::parallel::{MOST_RANKS, Parallel, Recompute};
use crate::reader::{Range, Reader};
use crate::run::{
    CheckpointPlan, Data, Device, Dtype, EvalPlan, Format, Length, Method, Model, OnBad, Policy, Projection, Run, Schedule,
    Targets, Train,
};
use crate::run_file::RunFile;
use crate::site::site;

/// No more than TOML can hold.
pub(crate) const ANY: u64 = i64::MAX as u64;
/// More than any machine has or any model uses; keeps sums and products of settings far from overflow.
const MANY: u64 = 1 << 24;

impl RunFile {
    /// Checks every setting and fills in the defaults. Relative paths start at `base`, the directory of the command.
    ///
    /// # Errors
    /// The first fault, in the order of the settings: every variant of [`ConfigError`] about values.
    pub fn check(&self, base: &Path) -> Result<Run, ConfigError> {
        let run = Run {
            name: name(&Reader::new(self, ""))?,
            seed: Reader::new(self, "").whole("seed", 0, ANY)?.unwrap_or(1),
            model: model(&Reader::new(self, "model"), base)?,
            data: data(&Reader::new(self, "data"), base)?,
            method: method(&Reader::new(self, "method"))?,
            train: train(
                &Reader::new(self, "train"),
                self.get("method.kind").is_some_and(|kind| kind.value.as_str() == Some("full")),
            )?,
            parallel: parallel(&Reader::new(self, "parallel"))?,
            checkpoint: checkpoint(&Reader::new(self, "checkpoint"), base)?,
            eval: EvalPlan { every_steps: Reader::new(self, "eval").whole("every_steps", 0, ANY)?.unwrap_or(100) },
            site: site(&Reader::new(self, "site"), base)?,
            policy: policy(&Reader::new(self, "policy"), base)?,
        };
        cross_check(self, &run)?;
        Ok(run)
    }
}

fn name(reader: &Reader<'_>) -> Result<String, ConfigError> {
    let expected = "letters, digits, dots, dashes and underscores, starting with a letter or digit: it names the run directory";
    let valid = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.len() <= 128
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
    };
    let name = reader.map("name", expected, |value| value.as_str().filter(|name| valid(name)).map(str::to_owned))?;
    name.ok_or_else(|| reader.missing("name", expected))
}

fn model(reader: &Reader<'_>, base: &Path) -> Result<Model, ConfigError> {
    let expected = "the path of a Hugging Face model directory";
    let devices = [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda", Device::Cuda)];
    let says_gpu = |typed: &str| {
        let typed = typed.to_lowercase();
        ["gpu", "nvidia", "cuda"].iter().any(|word| typed.starts_with(word)).then_some("cuda")
    };
    let device = reader.word_or_alias("device", &devices, says_gpu)?;
    Ok(Model {
        path: reader.path("path", base, expected)?.ok_or_else(|| reader.missing("path", expected))?,
        dtype: reader.word("dtype", &[("bf16", Dtype::Bf16), ("fp32", Dtype::Fp32)])?.unwrap_or(Dtype::Bf16),
        device: device.unwrap_or(Device::Auto),
    })
}

fn data(reader: &Reader<'_>, base: &Path) -> Result<Data, ConfigError> {
    let expected = "a list of at least one path, such as [\"data/train.jsonl\"]";
    let train = reader.paths("train", base, expected)?.ok_or_else(|| reader.missing("train", expected))?;
    if train.is_empty() {
        return Err(reader.refuse("train", expected));
    }
    Ok(Data {
        train,
        valid: reader.paths("valid", base, "a list of paths, such as [\"data/valid.jsonl\"] or []")?.unwrap_or_default(),
        format: reader.word("format", &[("chat", Format::Chat), ("text", Format::Text)])?.unwrap_or(Format::Chat),
        sequence_length: reader.whole("sequence_length", 2, MANY)?.unwrap_or(512),
        packing: reader.truth("packing")?.unwrap_or(true),
        on_bad: reader.word("on_bad", &[("fail", OnBad::Fail), ("skip", OnBad::Skip)])?.unwrap_or(OnBad::Fail),
    })
}

fn method(reader: &Reader<'_>) -> Result<Method, ConfigError> {
    // Read even when the method is "full": a nonsense value is nonsense wherever it stands.
    let rank = reader.whole("rank", 1, 1 << 16)?.unwrap_or(16);
    let alpha = reader.number("alpha", Range::Positive)?.unwrap_or(2.0 * rank as f64);
    let targets = targets(reader)?;
    let full = reader.word("kind", &[("lora", false), ("full", true)])?.unwrap_or(false);
    Ok(if full { Method::Full } else { Method::Lora { rank, alpha, targets } })
}

fn targets(reader: &Reader<'_>) -> Result<Targets, ConfigError> {
    let names = Projection::ALL.map(Projection::name).join(", ");
    let expected = format!("\"all-linear\" or a list of some of {names}, each once");
    let targets = reader.map("targets", &expected, |value| {
        if value.as_str() == Some("all-linear") {
            return Some(Projection::ALL.to_vec());
        }
        let named = |name: &str| Projection::ALL.into_iter().find(|projection| projection.name() == name);
        let mut list: Vec<_> = value.as_array()?.iter().map(|item| item.as_str().and_then(named)).collect::<Option<_>>()?;
        let typed = list.len();
        list.sort_unstable();
        list.dedup();
        (!list.is_empty() && list.len() == typed).then_some(list)
    })?;
    Ok(Targets(targets.unwrap_or_else(|| Projection::ALL.to_vec())))
}

fn train(reader: &Reader<'_>, full: bool) -> Result<Train, ConfigError> {
    Ok(Train {
        length: length(reader)?,
        global_batch: reader.whole("global_batch", 1, MANY)?.unwrap_or(8),
        micro_batch: reader.whole("micro_batch", 1, MANY)?.unwrap_or(1),
        learning_rate: reader.number("learning_rate", Range::Positive)?.unwrap_or(if full { 2e-5 } else { 2e-4 }),
        schedule: reader
            .word("schedule", &[("cosine", Schedule::Cosine), ("constant", Schedule::Constant)])?
            .unwrap_or(Schedule::Cosine),
        warmup_steps: reader.whole("warmup_steps", 0, ANY)?.unwrap_or(0),
        weight_decay: reader.number("weight_decay", Range::NotNegative)?.unwrap_or(0.0),
        max_grad_norm: reader.number("max_grad_norm", Range::Positive)?.unwrap_or(1.0),
        betas: reader.pair("betas", Range::Fraction)?.unwrap_or((0.9, 0.999)),
        epsilon: reader.number("epsilon", Range::Positive)?.unwrap_or(1e-8),
        max_skipped_steps: reader.whole("max_skipped_steps", 0, ANY)?.unwrap_or(5),
    })
}

fn length(reader: &Reader<'_>) -> Result<Length, ConfigError> {
    match (reader.whole("steps", 1, ANY)?, reader.number("epochs", Range::Positive)?) {
        (Some(steps), None) => Ok(Length::Steps(steps)),
        (None, Some(epochs)) => Ok(Length::Epochs(epochs)),
        (None, None) => Err(reader.missing("steps", "a number of steps, or epochs in its place")),
        (Some(_), Some(_)) => Err(ConfigError::TwoLengths { at: reader.place("epochs"), other: reader.place("steps") }),
    }
}

fn parallel(reader: &Reader<'_>) -> Result<Parallel, ConfigError> {
    let axis = |key| Ok(reader.whole(key, 1, MOST_RANKS)?.unwrap_or(1));
    let words = [("none", Recompute::None), ("attention", Recompute::Attention), ("full", Recompute::Full)];
    Ok(Parallel {
        dp: axis("dp")?,
        fsdp: axis("fsdp")?,
        tp: axis("tp")?,
        pp: axis("pp")?,
        recompute: reader.word("recompute", &words)?.unwrap_or(Recompute::None),
        bucket_mb: reader.whole("bucket_mb", 1, 1 << 16)?.unwrap_or(25),
        timeout_s: reader.whole("timeout_s", 1, 86_400)?.unwrap_or(300),
    })
}

fn checkpoint(reader: &Reader<'_>, base: &Path) -> Result<CheckpointPlan, ConfigError> {
    Ok(CheckpointPlan {
        every_steps: reader.whole("every_steps", 1, ANY)?.unwrap_or(100),
        keep: reader.whole("keep", 1, MANY)?.unwrap_or(2),
        staging: reader.path("staging", base, "the path of a directory on node-local disk")?,
    })
}

fn policy(reader: &Reader<'_>, base: &Path) -> Result<Policy, ConfigError> {
    let expected = "the path of a directory with policy.cedar and facts.toml";
    let is_open = reader.text("set", expected)?.is_none_or(|set| set == OPEN_POLICY);
    let set = match reader.path("set", base, expected)? {
        Some(path) if !is_open => path.to_str().map(str::to_owned).ok_or_else(|| reader.refuse("set", "a path in UTF-8"))?,
        _ => OPEN_POLICY.to_owned(),
    };
    Ok(Policy {
        set,
        facts: reader.paths("facts", base, "a list of TOML files")?.unwrap_or_default(),
        purpose: reader.text("purpose", "the name of a purpose that the facts describe")?,
        confinement: reader.whole("confinement", 0, 5)?.map_or(0, |level| level as u8),
        keys: reader.path("keys", base, "the path of a directory with keys")?,
        trust: reader.path("trust", base, "the path of a directory with public keys")?,
    })
}

/// What no setting can tell alone.
fn cross_check(file: &RunFile, run: &Run) -> Result<(), ConfigError> {
    let Parallel { pp, dp, fsdp, tp, .. } = run.parallel;
    // Four axes of the largest size overflow 64 bits.
    if [pp, dp, fsdp, tp].iter().map(|axis| u128::from(*axis)).product::<u128>() > u128::from(MOST_RANKS) {
        let at = file.to_blame(&["parallel.dp", "parallel.fsdp", "parallel.tp", "parallel.pp"]);
        return Err(ConfigError::MeshTooLarge { at, axes: [pp, dp, fsdp, tp] });
    }
    let Train { global_batch, micro_batch, warmup_steps, length, .. } = run.train;
    if !global_batch.is_multiple_of(dp * fsdp * micro_batch) {
        let at = file.to_blame(&["train.global_batch", "parallel.dp", "parallel.fsdp", "train.micro_batch"]);
        let stands = file.get("train.global_batch").map(|typed| typed.at.clone());
        return Err(ConfigError::GlobalBatch { at, stands, global_batch, dp, fsdp, micro_batch });
    }
    let (ranks, nodes) = (run.ranks(), run.site.nodes);
    if !ranks.is_multiple_of(nodes) {
        return Err(ConfigError::Nodes {
            at: file.to_blame(&["site.nodes", "parallel.dp", "parallel.fsdp", "parallel.tp", "parallel.pp"]),
            ranks,
            nodes,
        });
    }
    match length {
        Length::Steps(steps) if warmup_steps >= steps => {
            Err(ConfigError::Warmup { at: file.to_blame(&["train.warmup_steps", "train.steps"]), warmup_steps, steps })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a.jsonl']\ntrain.steps = 10\n";

    fn check(text: &str, overrides: &[&str]) -> Result<Run, ConfigError> {
        let mut file = RunFile::parse(text, Path::new("run.toml"))?;
        overrides.iter().try_for_each(|text| file.set(text))?;
        file.check(Path::new("/base"))
    }

    fn message(overrides: &[&str]) -> String {
        check(LEAST, overrides).unwrap_err().to_string()
    }

    #[test]
    fn the_least_run_file_has_every_default_and_absolute_paths() {
        let run = check(LEAST, &[]).unwrap();
        assert_eq!(run.model.path, Path::new("/base/m"));
        assert_eq!(run.data.train, [Path::new("/base/a.jsonl")]);
        assert_eq!(run.method, Method::Lora { rank: 16, alpha: 32.0, targets: Targets(Projection::ALL.to_vec()) });
        assert_eq!((run.train.betas, run.train.epsilon, run.train.learning_rate), ((0.9, 0.999), 1e-8, 2e-4));
        assert_eq!(check(LEAST, &["method.kind=full"]).unwrap().train.learning_rate, 2e-5);
        assert_eq!(run.ranks(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |text: &str| check(text, &[]).unwrap_err().to_string();
        assert!(message("").starts_with("run.toml: name is missing: expected letters"));
        assert!(message("name = 'x'").starts_with("run.toml: [model] path is missing"));
        assert!(message("name = 'x'\nmodel.path = 'm'").starts_with("run.toml: [data] train is missing"));
        assert_eq!(
            message("name = 'x'\nmodel.path = 'm'\ndata.train = ['a']"),
            "run.toml: [train] steps is missing: expected a number of steps, or epochs in its place"
        );
        assert_eq!(
            message(&format!("{LEAST}train.epochs = 1")),
            "run.toml:5: [train] epochs and [train] steps (run.toml:4) are both set: expected exactly one of them"
        );
    }

    #[test]
    fn ranges_and_types_are_named() {
        assert_eq!(message(&["train.steps=0"]), "--set train.steps: [train] steps = 0: expected a whole number of at least 1");
        assert_eq!(
            message(&["train.steps=ten"]),
            "--set train.steps: [train] steps = \"ten\": expected a whole number of at least 1"
        );
        assert_eq!(
            message(&["train.steps=1.5"]),
            "--set train.steps: [train] steps = 1.5: expected a whole number of at least 1"
        );
        assert_eq!(
            message(&["train.learning_rate=inf"]),
            "--set train.learning_rate: [train] learning_rate = inf: expected a finite number above 0"
        );
        assert!(message(&["train.betas=[0.9, 1.0]"]).ends_with("expected two numbers from 0 to below 1, such as [0.9, 0.999]"));
        assert!(message(&["data.train=[]"]).contains("expected a list of at least one path"));
        assert!(message(&["data.packing=yes"]).ends_with("[data] packing = \"yes\": expected true or false"));
        assert!(message(&["name=../x"]).contains("it names the run directory"));
        assert!(message(&["method.rank=0"]).ends_with("expected a whole number from 1 to 65536"));
        assert!(
            message(&["method.targets=[qproj]"]).contains("[method] targets = [\"qproj\"]: expected \"all-linear\" or a list")
        );
        for device in ["gpu", "GPU:0", "cuda:1", "nvidia"] {
            assert!(message(&[&format!("model.device='{device}'")]).ends_with("; did you mean \"cuda\"?"), "{device}");
        }
        assert_eq!(
            message(&["train.schedule=consine"]),
            "--set train.schedule: [train] schedule = \"consine\": expected \"cosine\" or \"constant\"; did you mean \"cosine\"?"
        );
    }

    #[test]
    fn batches_and_warm_up_are_checked_against_each_other() {
        assert_eq!(
            message(&["train.micro_batch=3", "parallel.dp=2", "parallel.fsdp=2", "train.global_batch=8"]),
            "--set train.global_batch: [train] global_batch = 8: expected a multiple of dp × fsdp × micro_batch = 2 × 2 × 3 = 12"
        );
        let (places, start) = (["parallel.dp=16", "parallel.fsdp=16", "train.micro_batch=16"], "[train] global_batch = 8: ");
        for place in places {
            let name = place.trim_end_matches("=16");
            assert!(message(&[place]).starts_with(&format!("--set {name}: {start}")), "the default is not to blame");
        }
        assert!(check(LEAST, &["parallel.tp=16", "parallel.pp=16"]).is_ok(), "ranks of tp and pp see the same data");
        let text = format!("{LEAST}train.global_batch = 8\nparallel.dp = 2\ntrain.warmup_steps = 4\n");
        let blamed = |set: &str| check(&text, &[set]).unwrap_err().to_string();
        assert_eq!(
            blamed("parallel.dp=3"),
            "--set parallel.dp: [train] global_batch = 8 (run.toml:5): expected a multiple of dp × fsdp × micro_batch = 3 × 1 × 1 = 3",
            "what was typed on the command line is to blame, not the file"
        );
        assert!(blamed("train.steps=3").starts_with("--set train.steps: [train] warmup_steps = 4: "));
        assert_eq!(
            message(&["train.warmup_steps=10"]),
            "--set train.warmup_steps: [train] warmup_steps = 10: expected fewer than the 10 steps of the run"
        );
        let run = check(LEAST, &["train.epochs=2", "train.warmup_steps=4"]).unwrap();
        assert_eq!(run.steps(18).unwrap(), 5, "36 sequences in batches of 8");
        assert!(run.steps(16).is_err(), "4 steps are all warm-up");
    }

    #[test]
    fn the_mesh_is_the_product_of_its_axes() {
        let axes = ["parallel.pp=3", "parallel.dp=2", "parallel.fsdp=4", "parallel.tp=5"];
        let run = check(LEAST, &axes).unwrap();
        assert_eq!((run.ranks(), run.parallel.data_ranks()), (120, 8));
        assert_eq!(run.parallel.product(), "pp × dp × fsdp × tp = 3 × 2 × 4 × 5 = 120");
        assert_eq!(
            message(&["parallel.pp=65536", "parallel.dp=65536", "parallel.fsdp=65536", "parallel.tp=65536"]),
            "--set parallel.dp: the mesh has pp × dp × fsdp × tp = 65536 × 65536 × 65536 × 65536 = 18446744073709551616 ranks: \
             expected at most 65536"
        );
        for axis in ["dp", "fsdp", "tp", "pp"] {
            let expected = format!("--set parallel.{axis}: [parallel] {axis} = 0: expected a whole number from 1 to 65536");
            assert_eq!(message(&[&format!("parallel.{axis}=0")]), expected);
        }
    }

    #[test]
    fn what_watches_a_run_has_ranges_and_defaults() {
        let run = check(LEAST, &[]).unwrap();
        assert_eq!((run.parallel.timeout_s, run.train.max_skipped_steps, &run.checkpoint.staging), (300, 5, &None));
        let typed = ["parallel.timeout_s=20", "train.max_skipped_steps=0", "checkpoint.staging=local/nvme"];
        let run = check(LEAST, &typed).unwrap();
        assert_eq!((run.parallel.timeout_s, run.train.max_skipped_steps), (20, 0));
        assert_eq!(run.checkpoint.staging.as_deref(), Some(Path::new("/base/local/nvme")));
        assert!(message(&["parallel.timeout_s=0"]).ends_with("timeout_s = 0: expected a whole number from 1 to 86400"));
        assert!(message(&["train.max_skipped_steps=-1"]).ends_with("= -1: expected a whole number of at least 0"));
        assert!(message(&["checkpoint.staging=''"]).ends_with("expected the path of a directory on node-local disk"));
        assert_eq!(check(LEAST, &["parallel.recompute=attention"]).unwrap().parallel.recompute, Recompute::Attention);
        assert!(message(&["parallel.recompute=all"]).ends_with("expected \"none\" or \"attention\" or \"full\""));
    }

    #[test]
    fn what_a_job_asks_for_is_checked() {
        let site = |overrides: &[&str]| check(LEAST, overrides).map(|run| run.site);
        let found = site(&["site.profile=sites/ours.toml", "site.time=1-12", "site.account=p200"]).unwrap();
        assert_eq!((found.profile.as_str(), found.time.unwrap().seconds(), found.nodes), ("/base/sites/ours.toml", 129_600, 1));
        assert_eq!((found.account.as_deref(), found.restarts, found.spare_nodes), (Some("p200"), 3, 0));
        assert!(message(&["site.time=0:30"]).ends_with("\"06:00:00\", \"1-12:00:00\""), "less than a minute");
        let time = |text: &str| site(&[text]).unwrap().time.unwrap().to_string();
        assert_eq!(
            (time("site.time=90"), time("site.time=10:00"), time("site.time=06:00:00")),
            ("01:30:00".into(), "00:10:00".into(), "06:00:00".into())
        );
        for wrong in ["site.account=a b", "site.partition=--exclusive", "site.qos=a\nb", "site.keep_environment=['$(reboot)']"] {
            assert!(site(&[wrong]).is_err(), "{wrong}");
        }
        assert_eq!(site(&["site.nodes=2", "parallel.dp=4", "train.global_batch=8"]).unwrap().nodes, 2);
        assert_eq!(
            message(&["site.nodes=3", "parallel.dp=4", "train.global_batch=8"]),
            "--set site.nodes: the mesh has 4 ranks and [site] nodes is 3: expected a number of nodes that divides the ranks"
        );
    }

    #[test]
    fn a_policy_set_is_the_open_one_or_an_absolute_path() {
        let policy = |overrides: &[&str]| check(LEAST, overrides).unwrap().policy;
        assert_eq!(policy(&[]).set, OPEN_POLICY);
        assert_eq!(policy(&["policy.set='configs/policies/open'"]).set, OPEN_POLICY);
        let set = policy(&["policy.set=rules", "policy.facts=['mine.toml']", "policy.purpose=research"]);
        assert!(Path::new(&set.set).is_absolute() && set.set.ends_with("/rules"), "{}", set.set);
        assert!(set.facts[0].is_absolute(), "{:?}", set.facts);
        assert_eq!(set.purpose.as_deref(), Some("research"));
        assert!(message(&["policy.set=3"]).contains("policy.cedar and facts.toml"));
    }

    #[test]
    fn settings_without_effect_are_named_not_swallowed() {
        let text = "eval.every_steps = 3\nmethod.kind = 'full'\nmethod.rank = 4";
        let ignored = RunFile::parse(text, Path::new("run.toml")).unwrap().ignored();
        let seen: Vec<_> = ignored.iter().map(|ignored| format!("{} {}", ignored.at, ignored.setting)).collect();
        assert_eq!(seen, ["run.toml:3 [method] rank", "run.toml:1 [eval] every_steps"]);
    }
}
