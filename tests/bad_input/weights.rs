//! Weight files that are missing, cut short, altered, or that lie: exit code 4, with the file and the tensor by its full name.

use std::fs;
use std::path::Path;

use crate::{place, refused, train};
use serde_json::{Value, json};
use sirocco_tests::material::conversation;
use sirocco_tests::program::run;

const WEIGHTS: &str = "model/model.safetensors";
const TENSOR: &str = "model.layers.1.self_attn.q_proj.weight";

/// Changes the header of a safetensors file and leaves the data as they are.
fn edit_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).expect("a weight file");
    let (length, rest) = bytes.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(length.try_into().expect("eight bytes"))).expect("a length");
    let (header, data) = rest.split_at(length);
    let mut header: Value = serde_json::from_slice(header).expect("a header");
    change(&mut header);
    let header = header.to_string();
    let length = u64::try_from(header.len()).expect("a length").to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), data].concat()).expect("a weight file");
}

#[test]
fn a_missing_weight_file() {
    let place = place();
    fs::remove_file(place.path().join(WEIGHTS)).expect("the weight file");
    refused(train(place.path(), &[]), 4, &["model.safetensors"]);
}

#[test]
fn a_weight_file_that_is_cut_short() {
    let place = place();
    let path = place.path().join(WEIGHTS);
    let bytes = fs::read(&path).expect("the weight file");
    fs::write(&path, &bytes[..bytes.len() - 1000]).expect("the weight file");
    refused(train(place.path(), &[]), 4, &["model.safetensors", "found", "expected"]);
}

#[test]
fn a_header_that_lies_about_its_own_size() {
    let place = place();
    let path = place.path().join(WEIGHTS);
    let mut bytes = fs::read(&path).expect("the weight file");
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, bytes).expect("the weight file");
    refused(train(place.path(), &[]), 4, &["model.safetensors", "header", "found", "expected"]);
}

#[test]
fn a_header_that_lies_about_a_tensor_s_bytes() {
    let place = place();
    edit_header(&place.path().join(WEIGHTS), |header| header[TENSOR]["shape"] = json!([640, 640]));
    refused(train(place.path(), &[]), 4, &["model.safetensors", TENSOR, "found", "expected"]);
}

#[test]
fn a_header_whose_tensors_overlap() {
    let place = place();
    edit_header(&place.path().join(WEIGHTS), |header| {
        let other = header["model.layers.0.self_attn.q_proj.weight"]["data_offsets"].clone();
        header[TENSOR]["data_offsets"] = other;
    });
    refused(train(place.path(), &[]), 4, &["model.safetensors", "found", "expected"]);
}

#[test]
fn a_tensor_of_the_wrong_shape() {
    let place = place();
    // 96 × 64 as 64 × 96: the same bytes.
    edit_header(&place.path().join(WEIGHTS), |header| header[TENSOR]["shape"] = json!([64, 96]));
    refused(train(place.path(), &[]), 4, &[TENSOR, "[64, 96]", "[96, 64]"]);
    let served = run("sirocco", &["serve", "model", "--listen", "127.0.0.1:0"], place.path());
    refused(served, 4, &[TENSOR, "[64, 96]", "[96, 64]"]);
}

#[test]
fn a_tensor_that_is_not_there() {
    let place = place();
    edit_header(&place.path().join(WEIGHTS), |header| {
        let tensor = header.as_object_mut().expect("an object").remove(TENSOR).expect("the tensor");
        header["model.layers.1.self_attn.other.weight"] = tensor;
    });
    refused(train(place.path(), &[]), 4, &[TENSOR]);
}

#[test]
fn a_setting_that_the_model_s_config_lacks() {
    let place = place();
    let path = place.path().join("model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
    config.as_object_mut().expect("an object").remove("rope_parameters");
    fs::write(&path, config.to_string()).expect("config.json");
    refused(train(place.path(), &[]), 4, &["config.json", "rope_theta"]);
}

#[test]
fn base_weights_that_were_altered_between_two_jobs() {
    let place = place();
    train(place.path(), &["--until", "2"]).expect_code(75);
    let path = place.path().join(WEIGHTS);
    let mut bytes = fs::read(&path).expect("the weight file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&path, bytes).expect("the weight file");
    let words = ["the checkpoint of step 2", "base weights with SHA-256", "found"];
    refused(run("sirocco", &["train", "runs/tiny"], place.path()), 4, &words);
    refused(run("sirocco", &["export", "runs/tiny", "--to", "adapter", "--adapter"], place.path()), 4, &words);
}

#[test]
fn data_that_was_altered_between_two_jobs() {
    let place = place();
    train(place.path(), &["--until", "2"]).expect_code(75);
    let (data, tokens) = (place.path().join("train.jsonl"), place.path().join("runs/tiny/tokens"));
    fs::remove_dir_all(&tokens).expect("the token caches");
    run("sirocco", &["check", "runs/tiny"], place.path()).expect_code(0);
    let more = fs::read_to_string(&data).expect("the data") + &conversation("1 plus 1", "makes 3") + "\n";
    fs::write(&data, more).expect("the data");
    for command in ["check", "train"] {
        assert!(!tokens.exists(), "a check writes nothing");
        let resumed = run("sirocco", &[command, "runs/tiny"], place.path());
        refused(resumed, 4, &["the checkpoint of step 2", "training tokens with SHA-256", "found"]);
    }
}

#[test]
fn a_checkpoint_that_was_altered_after_it_was_written() {
    let place = place();
    train(place.path(), &["--until", "5"]).expect_code(75);
    let checkpoint = place.path().join("runs/tiny/checkpoints/step-00000005");
    let shard = fs::read_dir(&checkpoint).expect("the checkpoint").filter_map(|entry| Some(entry.ok()?.path()));
    let shard = shard.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).min().expect("a shard");
    let mut bytes = fs::read(&shard).expect("the shard");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).expect("the shard");
    refused(run("sirocco", &["train", "runs/tiny"], place.path()), 4, &["step-00000005", "sha256", "found", "expected"]);
}
