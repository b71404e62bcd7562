//! `sirocco plan`: on every site, with and without figures of this machine, and when nothing fits.

use std::time::Instant;

use serde_json::{Value, json};
use sirocco_tests::material::workplace;

use crate::bench::{Bench, Finished};

/// The sizes of Mistral-7B v0.3 and of Mistral Large 2, as their config.json says them.
const MODELS: [(&str, [u64; 6]); 2] = [("7b", [4096, 14336, 32, 32, 8, 32768]), ("large", [12288, 28672, 96, 88, 8, 32768])];

fn bench() -> Bench {
    let bench = Bench::new();
    workplace(&bench.path(""));
    for (name, [hidden, intermediate, heads, layers, kv_heads, vocabulary]) in MODELS {
        let config = json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": hidden, "head_dim": 128,
            "intermediate_size": intermediate, "num_attention_heads": heads, "num_hidden_layers": layers,
            "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
            "max_position_embeddings": 32768, "tie_word_embeddings": false});
        bench.write(&format!("{name}.json"), &config.to_string());
    }
    bench
}

/// The command, with the caches of nobody.
fn plan(bench: &Bench, words: &str) -> Finished {
    let arguments: Vec<&str> = ["plan", "run.toml"].into_iter().chain(words.split_whitespace()).collect();
    let mut command = bench.command(&arguments);
    Finished::new(&command.env("XDG_CACHE_HOME", bench.path("caches")).output().unwrap(), &bench.path(""))
}

/// A run of a real model: 16 sequences of 4096 tokens a node.
const REAL: &str = "--set model.dtype=bf16 --set data.sequence_length=4096 --set train.micro_batch=1 --set train.global_batch=64";

#[test]
fn a_model_without_weights_is_planned_for_every_site_within_a_second() {
    let bench = bench();
    for site in ["meluxina", "leonardo", "marenostrum5", "jupiter"] {
        for model in ["7b", "large"] {
            let start = Instant::now();
            let found = plan(&bench, &format!("--site {site} --nodes 4 --model-config {model}.json {REAL} --json")).json();
            assert!(start.elapsed().as_secs_f64() < 1.0, "{site}, {model}: {:?}", start.elapsed());
            let chosen = &found["chosen"];
            assert_eq!((&chosen["fits"], found["place"]["ranks_per_node"].as_u64()), (&true.into(), Some(4)), "{site}: {chosen}");
            assert!(chosen["tokens_per_s"].as_f64().unwrap() > 1000.0 && chosen["share_of_peak"].as_f64().unwrap() < 0.8);
            let scaling = found["scaling"].as_array().unwrap();
            assert_eq!((scaling.len(), scaling[9]["nodes"].as_u64()), (10, Some(500)));
            assert!(scaling[9]["best"].is_object(), "{site}, {model}");
        }
    }
}

#[test]
fn the_page_explains_the_chosen_mesh_and_more_nodes() {
    let finished =
        plan(&bench(), &format!("--site meluxina --nodes 2 --model-config 7b.json {REAL} --set site.time=\"01:00:00\""));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for words in [
        "model      7 248 023 552 parameters, 32 layers",
        "LoRA of rank 4 on 7 projections",
        "MeluXina, partition gpu: 2 nodes with 4 ranks each; 4 × NVIDIA A100, 40 GB each",
        "mesh of 8 ranks",
        "  weights ",
        "  activations ",
        "GPU-hours",
        "of the GPUs alone at 400 W, the most they take",
        "time to write it: not known",
        "200 Gbit/s a port supposed, as its kind of network has",
        "jobs       1 of at most 1:00 h",
        "  500   2000 ",
    ] {
        assert!(finished.out.contains(words), "{words:?} is not in\n{}", finished.out);
    }
}

#[test]
fn what_was_typed_stands_among_the_meshes_and_what_no_job_gets_is_marked() {
    let bench = bench();
    let words = format!("--site meluxina --nodes 2 --model-config 7b.json {REAL} --set parallel.recompute=full");
    // The mesh of the run file has one rank; four of eight GPUs, and all of them.
    for (mesh, ranks, mark) in [("dp=1", 1, "as typed, 1 rank"), ("fsdp=4", 4, "as typed, 4 ranks"), ("dp=8", 8, "as typed")] {
        let page = plan(&bench, &format!("{words} --set parallel.{mesh}")).out;
        let (table, _) = page.split_once("\n\n7").or_else(|| page.split_once(" more were compared")).unwrap();
        let marked: Vec<&str> = table.lines().filter(|line| line.contains("  as typed")).collect();
        assert!(marked.len() == 1 && marked[0].ends_with(mark), "{mesh}: {marked:?} in\n{page}");
        let object = plan(&bench, &format!("{words} --set parallel.{mesh} --json")).json();
        assert_eq!(object["as_typed"]["parallel"]["recompute"], "full");
        let axes = ["pp", "dp", "fsdp", "tp"].map(|axis| object["as_typed"]["parallel"][axis].as_u64().unwrap());
        assert_eq!(axes.iter().product::<u64>(), ranks);
        assert_eq!(object["place"]["most_nodes"], json!({"nodes": 200, "limit_of": "partition gpu"}));
        let beyond = page.split("more than partition gpu gives a job, 200 nodes:\n").nth(1).unwrap();
        let nodes: Vec<&str> = beyond.lines().filter_map(|line| line.split_whitespace().next()).take(2).collect();
        assert_eq!(nodes, ["256", "500"]);
    }
    let wide = plan(&bench, &format!("{words} --set parallel.dp=16 --json")).json();
    assert!(wide["as_typed"].is_null(), "two nodes have eight GPUs");
}

#[test]
fn what_cannot_fit_is_said_with_what_is_missing() {
    let finished = plan(&bench(), &format!("--site meluxina --nodes 1 --model-config large.json {REAL}"));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("Nothing fits (!): a rank has 37.60 GB, and the least that one needs is "), "{}", finished.out);
    assert!(finished.out.contains("    1      4       64  does not fit\n"), "{}", finished.out);
}

#[test]
fn a_site_that_cannot_run_it_and_a_mesh_that_cannot_be_are_refused() {
    let bench = bench();
    let lumi = plan(&bench, "--site lumi --model-config 7b.json");
    assert_eq!(lumi.code, Some(2), "{lumi:?}");
    assert!(lumi.err.starts_with("error: LUMI: partition standard-g has GPUs of AMD"), "{lumi:?}");
    let many = plan(&bench, "--site meluxina --nodes 127 --model-config 7b.json");
    assert_eq!(many.code, Some(2), "{many:?}");
    assert!(many.err.contains("no mesh of 508 ranks fits this model and a global_batch of 4 sequences"), "{many:?}");
    let nowhere = plan(&bench, "--site meluxina --set site.profile=meluxina --set site.partition=fpgas");
    assert!(nowhere.err.contains("partition = \"fpgas\": MeluXina has none of that name: expected one of gpu, "), "{nowhere:?}");
    let missing = plan(&bench, "--set model.path=nothing");
    assert_eq!(missing.code, Some(4), "{missing:?}");
    assert!(missing.err.contains("help: --model-config FILE plans from a config.json alone"), "{missing:?}");
    assert_eq!(plan(&bench, "--model-config run.toml").code, Some(4));
}

/// Its own mesh may be one that no site with whole nodes would have.
#[test]
fn a_mesh_that_was_not_compared_is_shown_all_the_same() {
    let bench = bench();
    let words =
        "--site slurm --nodes 2 --model-config 7b.json --set parallel.tp=2 --set train.global_batch=1 --set train.micro_batch=1";
    let found = plan(&bench, words);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.out.contains("as typed") && !found.out.contains("more were compared"), "{found:?}");
}

fn calibration(cores: usize) -> Value {
    let products = json!({"products_gflops": 100.0, "gradients_gflops": 80.0});
    json!({"format": 2, "measured": "2026-11-22 12:00 UTC", "processor": "one", "cores": cores, "bf16": products, "fp32": products,
        "attention_gflops": 50.0, "factors_gb_s": 20.0, "memory_gb_s": 10.0, "step_share": 0.8, "thread_share": 0.9,
        "link_gb_s": 5.0, "disk_gb_s": 1.0, "base_bytes": 200_000_000})
}

#[test]
fn figures_of_this_machine_are_used_where_they_are_and_missed_where_they_are_not() {
    let bench = bench();
    let without = plan(&bench, "--json").json();
    assert_eq!(without["place"]["speed"], "not calibrated: run make bench");
    assert!(without["chosen"]["memory_bytes"].as_u64().unwrap() > 0 && without["chosen"]["step"].is_null(), "{without}");

    let cores = std::thread::available_parallelism().unwrap().get();
    let path = "caches/sirocco/calibration.json";
    bench.write(path, &calibration(cores).to_string());
    let with = plan(&bench, "--json").json();
    let speed = with["place"]["speed"].as_str().unwrap();
    assert!(speed.starts_with("measured by make bench on 2026-11-22 12:00 UTC: BENCH"), "{speed}");
    assert!(speed.ends_with("caches/sirocco/calibration.json"), "{speed}");
    assert!(with["chosen"]["step"]["seconds"].as_f64().unwrap() > 0.0 && with["cost"]["hours"].as_f64().unwrap() > 0.0);
    assert!(with["data"]["records"].as_u64().unwrap() > 0 && with["data"]["targets"].as_f64().unwrap() < 1.0, "{}", with["data"]);

    for (text, words) in [
        (calibration(cores + 1).to_string(), "and there are"),
        ("{".to_owned(), "EOF"),
        (calibration(cores).to_string().replace("10.0", "-1.0"), "has a rate that is not above zero"),
        (calibration(cores).to_string().replace("\"format\":2", "\"format\":1"), "has format 1, expected 2"),
    ] {
        bench.write(path, &text);
        let found = plan(&bench, "--json").json();
        let speed = found["place"]["speed"].as_str().unwrap();
        assert!(speed.starts_with("not calibrated: run make bench again: ") && speed.contains(words), "{speed}");
        assert!(found["chosen"]["step"].is_null());
    }
}
