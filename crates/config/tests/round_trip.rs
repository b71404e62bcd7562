//! `Run::to_toml` reads back equal for every run, and no text makes the parser panic.
#![expect(clippy::unwrap_used, reason = "a test")]
use std::path::Path;

use proptest::prelude::*;
use sirocco_config::{Run, RunFile};

const LEAST: &str = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a.jsonl']\n";

fn run(overrides: &[String]) -> Run {
    let mut file = RunFile::parse(LEAST, Path::new("run.toml")).unwrap();
    for text in overrides {
        file.set(text).unwrap();
    }
    file.check(Path::new("/base")).unwrap()
}

fn again(run: &Run) -> Run {
    let text = run.to_toml().unwrap();
    RunFile::parse(&text, Path::new("again.toml")).unwrap().check(Path::new("/elsewhere")).unwrap()
}

prop_compose! {
    fn overrides()(
        seed in 0..i64::MAX as u64,
        length in prop_oneof![(100u64..1 << 40).prop_map(|n| format!("train.steps={n}")), (1e-3..1e6f64).prop_map(|x| format!("train.epochs={x:?}"))],
        (micro, times, dp, fsdp, tp, pp) in (1u64..64, 1u64..64, 1u64..16, 1u64..16, 1u64..16, 1u64..16),
        (timeout, skipped, staging) in (1u64..86_400, 0u64..1000, proptest::option::of("[a-z/ ]{1,12}")),
        (rate, norm, decay, epsilon) in (1e-12..1e3f64, 1e-6..1e6f64, 0.0..1.0f64, 1e-12..1e-3f64),
        betas in (0.0..1.0f64, 0.0..1.0f64),
        method in prop_oneof![
            Just(vec!["method.kind=full".to_owned()]),
            (1u64..512, 1e-3..1e3f64).prop_map(|(rank, alpha)| vec![format!("method.rank={rank}"), format!("method.alpha={alpha:?}")]),
            Just(vec!["method.targets=[v_proj, q_proj]".to_owned()]),
        ],
        valid in proptest::collection::vec("[^\\x00\n\r]{1,12}", 0..3),
        words in (
            proptest::sample::select(vec!["bf16", "fp32"]), proptest::sample::select(vec!["chat", "text"]),
            proptest::sample::select(vec!["fail", "skip"]), proptest::sample::select(vec!["cosine", "constant"]),
            proptest::sample::select(vec!["none", "attention", "full"]), any::<bool>(),
        ),
    ) -> Vec<String> {
        let quoted: Vec<_> = valid.iter().map(|path| toml::Value::String(path.clone()).to_string()).collect();
        let mut all = vec![
            format!("seed={seed}"), length, format!("train.global_batch={}", micro * dp * fsdp * times), format!("train.micro_batch={micro}"),
            format!("parallel.dp={dp}"), format!("parallel.fsdp={fsdp}"), format!("parallel.tp={tp}"), format!("parallel.pp={pp}"),
            format!("parallel.timeout_s={timeout}"), format!("train.max_skipped_steps={skipped}"), format!("train.learning_rate={rate:?}"), format!("train.max_grad_norm={norm:?}"),
            format!("train.weight_decay={decay:?}"), format!("train.epsilon={epsilon:?}"), format!("train.betas=[{:?}, {:?}]", betas.0, betas.1),
            format!("data.valid=[{}]", quoted.join(", ")), format!("model.dtype={}", words.0), format!("data.format={}", words.1),
            format!("data.on_bad={}", words.2), format!("train.schedule={}", words.3), format!("parallel.recompute={}", words.4),
            format!("data.packing={}", words.5),
        ];
        all.extend(method);
        all.extend(staging.map(|path| format!("checkpoint.staging='/{path}'")));
        all
    }
}

proptest! {
    #[test]
    fn the_complete_run_file_reads_back_equal(overrides in overrides()) {
        let run = run(&overrides);
        prop_assert_eq!(&again(&run), &run);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[?(train|data|x)\\]?(\\.steps)? ?=? ?[0-9a-z\"'\\[\\]{}.\n]{0,8}\n?){0,6}", set in "\\PC{0,24}") {
        let file = RunFile::parse(&text, Path::new("run.toml"));
        let mut file = file.or_else(|_| RunFile::parse("", Path::new("run.toml"))).unwrap();
        let _ = file.set(&set);
        let _ = file.check(Path::new("/base"));
    }
}

#[test]
fn the_complete_run_file_is_readable() {
    let text = run(&["train.steps=60".to_owned()]).to_toml().unwrap();
    for line in ["name = \"x\"", "path = \"/base/m\"", "targets = \"all-linear\"", "steps = 60", "learning_rate = 0.0002"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("\nepochs"));
    for (section, words) in [("site", "a machine without a scheduler."), ("policy", "allows everything.")] {
        let above = text.lines().zip(text.lines().skip(1)).find(|(_, line)| *line == format!("[{section}]")).unwrap().0;
        assert!(above.starts_with("# ") && above.contains(words), "[{section}] stands under {above:?}");
    }
    assert!(text.lines().take(3).any(|line| line.contains("[checkpoint], [eval] and [site]")), "{text}");
}
