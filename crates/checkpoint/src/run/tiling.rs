//! Whether the pieces that a manifest lists make up whole tensors.

use std::collections::BTreeMap;
use std::path::Path;

use super::manifest::{PieceRecord, ShardRecord};
use crate::error::{CheckpointError, Result};
use crate::piece::{Fault, Piece, cover};
use crate::tensor_file::{TensorSpec, element_bytes};

/// All pieces of one tensor, each with the rank that saved it.
type Held<'a> = Vec<(usize, &'a PieceRecord)>;

/// Checks that the pieces of each tensor are sound, agree on dtype and shape, and hold each element exactly once. `path` is the
/// manifest's.
pub(super) fn check(path: &Path, shards: &[ShardRecord]) -> Result<()> {
    let mut tensors: BTreeMap<&str, Held<'_>> = BTreeMap::new();
    for shard in shards {
        for record in &shard.tensors {
            tensors.entry(&record.name).or_default().push((shard.rank, record));
        }
    }
    tensors.into_iter().try_for_each(|(name, held)| check_tensor(path, name, &held))
}

fn check_tensor(path: &Path, name: &str, held: &Held<'_>) -> Result<()> {
    let wrong = |found: String, expected: &str| CheckpointError::malformed(path, format!("tensor {name}"), found, expected);
    let (owner, first) = held[0];
    for (rank, record) in held {
        record.piece.check().map_err(|e| wrong(format!("on rank {rank} a piece whose {e}"), "a part of the tensor"))?;
        let (dtype, shape) = (record.dtype, &record.piece.shape);
        if (dtype, shape) != (first.dtype, &first.piece.shape) {
            let found = format!("{} {:?} on rank {owner} and {dtype} {shape:?} on rank {rank}", first.dtype, first.piece.shape);
            return Err(wrong(found, "one dtype and shape"));
        }
    }
    element_bytes(path, name, first.dtype)?;
    let spec = TensorSpec::new(name, first.dtype, first.piece.shape.as_slice());
    let Some(elements) = spec.bytes().and(spec.elements()) else {
        return Err(wrong(format!("shape {:?}", spec.shape), "a size that fits in memory"));
    };
    let pieces: Vec<&Piece> = held.iter().map(|(_, record)| &record.piece).collect();
    let found = match cover(elements, &pieces) {
        Ok(()) => return Ok(()),
        Err(Fault::Missing { from, to }) => format!("elements {from}..{to} of {elements} in no shard"),
        Err(Fault::Doubled { from, to, first, second }) => {
            format!("elements {from}..{to} of {elements} in the shards of ranks {} and {}", held[first].0, held[second].0)
        }
        Err(Fault::Scattered { runs }) => format!("{elements} elements in {runs} runs that are no slices side by side"),
    };
    Err(wrong(found, "each element in exactly one shard"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_writer::FileDigest;
    use safetensors::Dtype;

    fn error(pieces: &[(Dtype, Piece)]) -> String {
        let shard = |(rank, (dtype, piece)): (usize, &(Dtype, Piece))| ShardRecord {
            rank,
            file: FileDigest { name: "f".into(), bytes: 0, sha256: String::new() },
            tensors: vec![PieceRecord { name: "w".into(), dtype: *dtype, piece: piece.clone() }],
        };
        let shards: Vec<_> = pieces.iter().enumerate().map(shard).collect();
        check(Path::new("m"), &shards).map_or_else(|e| e.to_string(), |()| "good".into())
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let half = |i| (Dtype::F32, Piece::whole(&[4, 4]).chunk(i, 2));
        assert_eq!(error(&[half(0), half(1)]), "good");
        assert_eq!(
            error(&[half(1)]),
            "m: tensor w: found elements 0..8 of 16 in no shard, expected each element in exactly one shard"
        );
        assert!(error(&[half(0), half(1), half(0)]).contains("found elements 0..8 of 16 in the shards of ranks 0 and 2"));
        let other = (Dtype::BF16, half(1).1);
        assert!(
            error(&[half(0), other]).contains("F32 [4, 4] on rank 0 and BF16 [4, 4] on rank 1, expected one dtype and shape")
        );
        let other = (Dtype::F32, Piece::whole(&[2, 4]));
        assert!(error(&[half(0), other]).contains("F32 [2, 4] on rank 1"));
        let other = (Dtype::F32, Piece { to: 17, ..half(1).1 });
        assert!(error(&[half(0), other]).contains("on rank 1 a piece whose elements 8..17 are no range"));
        assert!(error(&[(Dtype::F32, Piece::whole(&[1 << 62]))]).contains("fits in memory"));
    }
}
