//! Checkpoints across meshes, versions and threads: what one mesh saved, any other loads.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::Dtype;

use super::tests::{listing, state};
use super::*;
use crate::pace::Pace;
use crate::piece::Piece;
use crate::piece::tests::{Cut, pick, two_cuts};
use crate::tensor_file::{TensorFileWriter, TensorSpec};

const STEP: u64 = 40;

/// The elements of tensor `index`: no two tensors of a test have an element in common.
fn elements(index: usize, cut: &Cut) -> Vec<[u8; 4]> {
    (0..cut.shape.iter().product()).map(|i: usize| ((index << 20 | i) as u32).to_le_bytes()).collect()
}

fn name(index: usize) -> String {
    format!("master/weight.{index}")
}

/// Saves each tensor cut as told: rank r holds piece r of every tensor that has so many.
fn save(all: &Checkpoints, tensors: &[&Cut]) -> Result<PathBuf> {
    let first = all.begin(STEP)?;
    let ranks = tensors.iter().map(|cut| cut.pieces().len()).max().unwrap_or(0);
    let records = (0..ranks).map(|rank| save_rank(&all.join(STEP)?, rank, tensors)).collect::<Result<Vec<_>>>()?;
    all.publish(first, records, state(STEP))
}

fn save_rank(writer: &CheckpointWriter, rank: usize, tensors: &[&Cut]) -> Result<ShardRecord> {
    let held = |(index, cut): (usize, &&Cut)| {
        let piece = cut.pieces().into_iter().nth(rank)?;
        let data = pick(&elements(index, cut), &piece).concat();
        Some((name(index), piece, data))
    };
    let held: Vec<_> = tensors.iter().enumerate().filter_map(held).collect();
    let fragments = held.iter().map(|(name, piece, data)| {
        let (name, piece) = (name.clone(), piece.clone());
        Fragment { name, dtype: Dtype::F32, piece, data }
    });
    writer.write_shard(rank, &fragments.collect::<Vec<_>>(), &Pace::full())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_mesh_loads_what_another_saved(tensors in proptest::collection::vec(two_cuts(), 1..4)) {
        let run = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(run.path());
        save(&all, &tensors.iter().map(|(saved, _)| saved).collect::<Vec<_>>()).unwrap();
        let loaded = all.load_latest().unwrap().unwrap();
        prop_assert_eq!(loaded.names().count(), tensors.len());
        for (index, (saved, wanted)) in tensors.iter().enumerate() {
            let whole = elements(index, saved);
            for piece in wanted.pieces() {
                prop_assert_eq!(loaded.piece(&name(index), &piece).unwrap(), (Dtype::F32, pick(&whole, &piece).concat()));
            }
            prop_assert_eq!(loaded.tensor(&name(index)).unwrap().into_parts(), (Dtype::F32, saved.shape.clone(), whole.concat()));
        }
    }

    #[test]
    fn a_manifest_with_any_byte_changed_never_panics(at in any::<proptest::sample::Index>(), value in 32u8..127) {
        let run = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(run.path());
        let cut = Cut { shape: vec![4, 6], dim: 1, tp: 2, fsdp: 2 };
        let dir = save(&all, &[&cut, &cut]).unwrap();
        let mut text = fs::read(dir.join("manifest.json")).unwrap();
        let at = at.index(text.len());
        text[at] = value;
        rewrite_manifest(&dir, std::str::from_utf8(&text).unwrap());
        if let Ok(opened) = all.open(STEP) {
            for name in opened.names() {
                let _ = opened.tensor(name);
            }
        }
    }
}

/// Replaces the manifest together with its digest, as nobody but a future version would.
fn rewrite_manifest(dir: &Path, text: &str) {
    use sha2::Digest;
    let sha256 = files::hex(&sha2::Sha256::digest(text));
    fs::write(dir.join("manifest.json"), text).unwrap();
    fs::write(dir.join("manifest.sha256"), format!("{sha256}  manifest.json\n")).unwrap();
}

fn quarters() -> Cut {
    Cut { shape: vec![4, 6], dim: 1, tp: 2, fsdp: 2 }
}

#[test]
fn a_missing_or_doubled_piece_is_not_published() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, &[&quarters()]).unwrap();
    let data = elements(0, &quarters());
    let shard = |writer: &CheckpointWriter, rank: usize, piece: usize| {
        let piece = quarters().pieces().swap_remove(piece);
        let data = pick(&data, &piece).concat();
        writer.write_shard(rank, &[Fragment { name: name(0), dtype: Dtype::F32, piece, data: &data }], &Pace::full()).unwrap()
    };
    let publish = |pieces: &[usize]| {
        let writer = all.begin(60).unwrap();
        let records = pieces.iter().enumerate().map(|(rank, piece)| shard(&writer, rank, *piece)).collect();
        all.publish(writer, records, state(60)).unwrap_err().to_string()
    };
    let message = publish(&[0, 1, 2]);
    assert!(message.contains("tensor master/weight.0: found elements 15..18 of 24 in no shard"), "{message}");
    let message = publish(&[0, 1, 2, 3, 2]);
    assert!(message.contains("elements 3..6 of 24 in the shards of ranks 2 and 4"), "{message}");
    assert_eq!(listing(all.path()), ["LATEST", "step-00000040"]);
    assert_eq!(all.load_latest().unwrap().unwrap().state().step, STEP);
}

#[test]
fn a_shard_that_vanished_is_not_published() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let writer = all.begin(STEP).unwrap();
    let record = writer.write_shard(0, &[], &Pace::full()).unwrap();
    fs::remove_file(all.path().join(".step-00000040.partial/rank-00000.safetensors")).unwrap();
    let message = all.publish(writer, vec![record], state(STEP)).unwrap_err().to_string();
    assert!(message.contains("cannot open") && message.contains("rank-00000.safetensors"), "{message}");
    assert!(listing(all.path()).is_empty());
}

#[test]
fn what_cannot_be_saved_or_asked_for_is_refused() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let writer = all.begin(STEP).unwrap();
    let error = |piece: Piece, data: &[u8]| {
        let fragment = Fragment { name: "w".into(), dtype: Dtype::F32, piece, data };
        writer.write_shard(0, &[fragment], &Pace::full()).unwrap_err().to_string()
    };
    assert!(error(Piece::whole(&[2]), &[0; 7]).contains("tensor w: found 7 bytes, expected 8 bytes"));
    assert!(error(Piece { to: 3, ..Piece::whole(&[2]) }, &[0; 12]).contains("elements 0..3 are no range"));
    drop(writer);
    save(&all, &[&quarters()]).unwrap();
    let loaded = all.open(STEP).unwrap();
    let error = |name: &str, piece: Piece| loaded.piece(name, &piece).unwrap_err();
    assert!(matches!(error("other", Piece::whole(&[4, 6])), CheckpointError::MissingTensor { .. }));
    let shape = error(&name(0), Piece::whole(&[6, 4]));
    assert!(
        matches!(shape, CheckpointError::TensorMismatch { .. })
            && shape.to_string().contains("found shape [4, 6], expected shape [6, 4]")
    );
    assert!(error(&name(0), Piece { to: 25, ..Piece::whole(&[4, 6]) }).to_string().contains("elements 0..25 are no range"));
}

#[test]
fn ranks_share_the_verification() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let dir = save(&all, &[&quarters()]).unwrap();
    let path = dir.join("rank-00003.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let opened = all.open_latest().unwrap().unwrap();
    opened.verify(0, 2).unwrap();
    let error = opened.verify(1, 2).unwrap_err();
    assert!(matches!(error, CheckpointError::Altered { what: "sha256", .. }), "{error}");
    let error = all.bad_latest(STEP, error).to_string();
    assert!(error.contains("rank-00003.safetensors: sha256") && error.contains("there is no good one beside it"), "{error}");
    assert!(all.load(STEP).is_err());
    assert!(opened.verify(2, 2).unwrap_err().to_string().contains("part 2 of 2"));
    fs::remove_file(dir.join("rank-00002.safetensors")).unwrap();
    assert!(matches!(all.open_latest().unwrap_err(), CheckpointError::BadLatest { good: None, .. }));
}

#[test]
fn version_1_is_read() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let dir = all.step_path(STEP);
    fs::create_dir_all(&dir).unwrap();
    let cut = quarters();
    let path = dir.join("rank-00000.safetensors");
    let mut writer = TensorFileWriter::create(&path, vec![TensorSpec::new(name(0), Dtype::F32, [4, 6])], &[]).unwrap();
    writer.write(&name(0), &elements(0, &cut).concat()).unwrap();
    let (bytes, sha256) = writer.finish().unwrap();
    let manifest = serde_json::json!({
        "format": "sirocco-checkpoint", "version": 1, "state": state(STEP),
        "shards": [{
            "rank": 0, "file": {"name": "rank-00000.safetensors", "bytes": bytes, "sha256": sha256},
            "tensors": [{"name": name(0), "dtype": "F32", "shape": [4, 6]}],
        }],
    });
    rewrite_manifest(&dir, &manifest.to_string());
    let loaded = all.load(STEP).unwrap();
    assert_eq!(loaded.spec(&name(0)).unwrap().shape, [4, 6]);
    for piece in cut.pieces() {
        assert_eq!(loaded.piece(&name(0), &piece).unwrap().1, pick(&elements(0, &cut), &piece).concat());
    }
}

#[test]
fn a_manifest_from_the_future_is_refused_by_name() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let dir = save(&all, &[&quarters()]).unwrap();
    let text = fs::read_to_string(dir.join("manifest.json")).unwrap();
    rewrite_manifest(&dir, &text.replace("\"version\": 2", "\"version\": 3"));
    let error = all.open(STEP).unwrap_err();
    assert!(matches!(error, CheckpointError::Unsupported { .. }));
    assert!(error.to_string().contains("found sirocco-checkpoint version 3"), "{error}");
    assert!(error.to_string().contains("expected sirocco-checkpoint version 1 or 2"), "{error}");
}

#[test]
fn a_shard_is_written_from_another_thread() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let writer = all.begin(STEP).unwrap();
    let saving = std::thread::spawn(move || {
        let data = vec![7u8; 20 << 20];
        let piece = Piece::whole(&[5 << 20]);
        let record =
            writer.write_shard(0, &[Fragment { name: "w".into(), dtype: Dtype::F32, piece, data: &data }], &Pace::full())?;
        Ok::<_, CheckpointError>((writer, record))
    });
    let (writer, record) = saving.join().unwrap().unwrap();
    all.publish(writer, vec![record], state(STEP)).unwrap();
    assert!(all.load(STEP).unwrap().tensor("w").unwrap().data.iter().all(|byte| *byte == 7));
}

#[test]
fn a_checkpoint_that_latest_names_can_be_saved_again() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    save(&all, &[&quarters()]).unwrap();
    save(&all, &[&quarters(), &quarters()]).unwrap();
    assert_eq!(all.load_latest().unwrap().unwrap().names().count(), 2);
    assert_eq!(listing(all.path()), ["LATEST", "step-00000040"]);
}
