//! Meshes that fit neither the ranks nor the model: exit code 2 with the product or the sizes, and no run directory.

use std::fs;
use std::path::Path;

use crate::{edit, place, refused, train};
use sirocco_tests::safetensors;
use tempfile::TempDir;

#[track_caller]
fn refused_mesh(place: &TempDir, more: &[&str], words: &[&str]) {
    refused(train(place.path(), more), 2, words);
    assert!(!place.path().join("runs").exists());
}

#[test]
fn ranks_that_the_mesh_does_not_divide() {
    let place = place();
    let words = ["--ranks: 4 ranks", "pp × fsdp × tp = 3 × 1 × 1 = 3"];
    refused_mesh(&place, &["--ranks", "4", "--set", "parallel.pp=3"], &words);
    refused_mesh(&place, &["--ranks", "2", "--set", "parallel.dp=2"], &["--ranks", "parallel.dp", "both set"]);
}

#[test]
fn heads_that_the_tensor_axis_does_not_divide() {
    let place = place();
    let words = ["[parallel] tp = 3", "4 heads", "1, 2 or 4"];
    refused_mesh(&place, &["--set", "parallel.tp=3"], &words);
    refused_mesh(&place, &["--set", "parallel.tp=8", "--ranks", "8"], &["[parallel] tp = 8", "4 heads"]);
}

#[test]
fn fewer_layers_than_stages() {
    let place = place();
    refused_mesh(&place, &["--set", "parallel.pp=4"], &["--set parallel.pp", "[parallel] pp = 4", "3 layers", "1 to 3"]);
}

#[test]
fn a_vocabulary_that_the_tensor_axis_does_not_divide() {
    let place = place();
    cut_vocabulary(&place.path().join("model"), 318);
    refused_mesh(&place, &["--set", "parallel.tp=4"], &["[parallel] tp = 4", "vocabulary 318", "1 or 2"]);
    // The model itself is sound.
    train(place.path(), &["--set", "parallel.tp=2", "--until", "1"]).expect_code(75);
}

#[test]
fn a_batch_that_the_data_axes_do_not_divide() {
    let place = place();
    let settings = ["--set", "parallel.dp=2", "--set", "parallel.fsdp=2", "--set", "train.micro_batch=2"];
    refused_mesh(&place, &settings, &["global_batch = 4", "dp × fsdp × micro_batch = 2 × 2 × 2 = 8"]);
}

#[test]
fn an_axis_of_no_length() {
    let place = place();
    edit(&place, "run.toml", "dp = 1", "dp = 0");
    refused_mesh(&place, &[], &["run.toml:24", "[parallel] dp = 0", "from 1"]);
}

/// Leaves the first `rows` tokens of the tiny model.
fn cut_vocabulary(model: &Path, rows: usize) {
    let (weights, config) = (model.join("model.safetensors"), model.join("config.json"));
    let mut tensors = safetensors::read(&fs::read(&weights).expect("the weights"));
    for tensor in tensors.iter_mut().filter(|tensor| ["model.embed_tokens.weight", "lm_head.weight"].contains(&&*tensor.name)) {
        tensor.data.truncate(tensor.data.len() / tensor.shape[0] * rows);
        tensor.shape[0] = rows;
    }
    fs::write(&weights, safetensors::write(&tensors)).expect("the weights");
    let text = fs::read_to_string(&config).expect("config.json");
    fs::write(&config, text.replace("\"vocab_size\": 320", &format!("\"vocab_size\": {rows}"))).expect("config.json");
}
