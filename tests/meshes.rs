//! The same run on one rank and on meshes of many, through the command line: the same losses and gradient norms, whatever is
//! trained, however the data is packed, whatever the micro-batch. Every weight's gradient on a longer table of meshes is held by
//! crates/parallel/tests/meshes.

use sirocco_tests::steps::{RELATIVE, assert_near};
use sirocco_tests::workplace::Workplace;

/// Eight sequences a step, so that eight ranks have one each. The rates are as people train with: see `Method::learning_rate` in
/// crates/parallel/tests/meshes/material.rs.
const COMMON: &str = "train.global_batch=8 checkpoint.every_steps=10 eval.every_steps=5";
const LORA: &str = "train.learning_rate=1e-3";
const FULL: &str = "method.kind=full train.learning_rate=1e-4";
const PACKED: &str = "data.packing=true";
const SINGLE: &str = "data.packing=false data.sequence_length=128";

/// Ten steps on one rank, then on each mesh.
fn every_mesh_gives_what_one_rank_gives(place: &Workplace, kind: &str, meshes: &[&str]) {
    let alone = place.trained("alone", &format!("{COMMON} {kind} train.micro_batch=4"));
    assert_eq!(alone.len(), 10);
    assert!(alone[9].loss < 0.99 * alone[0].loss, "ten steps should teach something: {} to {}", alone[0].loss, alone[9].loss);
    for (number, mesh) in meshes.iter().enumerate() {
        let meshed = place.trained(&format!("mesh-{number}"), &format!("{COMMON} {kind} {mesh}"));
        assert_near(mesh, &alone, &meshed);
        let (expected, found) = (place.held_out_losses("alone"), place.held_out_losses(&format!("mesh-{number}")));
        assert_eq!((expected.len(), found.len()), (3, 3), "{mesh}: evaluations");
        for (a, b) in expected.iter().zip(&found) {
            assert!((a - b).abs() <= RELATIVE * a, "{mesh}: held-out loss {b} against {a}");
        }
    }
}

#[test]
fn lora_on_packed_sequences() {
    let meshes = [
        "train.micro_batch=2 parallel.dp=2",
        "train.micro_batch=2 parallel.tp=4",
        "train.micro_batch=1 parallel.fsdp=2 parallel.tp=2 parallel.recompute=full",
        "train.micro_batch=1 parallel.dp=2 parallel.fsdp=2 parallel.tp=2 parallel.bucket_mb=1",
    ];
    every_mesh_gives_what_one_rank_gives(&Workplace::new(), &format!("{LORA} {PACKED}"), &meshes);
}

#[test]
fn lora_on_one_conversation_a_sequence() {
    let meshes = ["train.micro_batch=2 parallel.pp=2 parallel.dp=2", "train.micro_batch=1 parallel.fsdp=8"];
    every_mesh_gives_what_one_rank_gives(&Workplace::new().with_lengths(), &format!("{LORA} {SINGLE}"), &meshes);
}

#[test]
fn full_fine_tuning_on_packed_sequences() {
    let meshes = [
        "train.micro_batch=4 parallel.pp=2 parallel.tp=2",
        "train.micro_batch=1 parallel.pp=2 parallel.fsdp=2 parallel.tp=2 parallel.recompute=attention",
    ];
    every_mesh_gives_what_one_rank_gives(&Workplace::new(), &format!("{FULL} {PACKED}"), &meshes);
}

#[test]
fn full_fine_tuning_on_one_conversation_a_sequence() {
    let meshes = ["train.micro_batch=2 parallel.dp=2 parallel.fsdp=2", "train.micro_batch=1 parallel.pp=3"];
    every_mesh_gives_what_one_rank_gives(&Workplace::new().with_lengths(), &format!("{FULL} {SINGLE}"), &meshes);
}

#[test]
fn full_fine_tuning_of_a_tied_embedding() {
    let meshes =
        ["train.micro_batch=2 parallel.pp=2 parallel.tp=2", "train.micro_batch=1 parallel.pp=2 parallel.dp=2 parallel.fsdp=2"];
    every_mesh_gives_what_one_rank_gives(&Workplace::tied(), &format!("{FULL} {PACKED}"), &meshes);
}
