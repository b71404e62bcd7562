//! What a checkpoint of a run holds: of each trained weight the master copy and the optimizer's moments, in pieces; how they get there
//! and back.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sirocco_checkpoint::{Checkpoint, CheckpointWriter, Dtype, Fragment, Pace, Piece, ShardRecord};
use sirocco_optim::{AdamWConfig, Moments};
use sirocco_parallel::{Engine, Shard};

use super::optimizer::Optimizer;
use super::setup::piece;
use crate::failure::Failure;

/// What the names of master copies begin with in a checkpoint.
pub(crate) const MASTER: &str = "master/";

/// Names of a weight's three tensors in a checkpoint.
pub(crate) fn names(weight: &str) -> [String; 3] {
    [format!("{MASTER}{weight}"), format!("first_moment/{weight}"), format!("second_moment/{weight}")]
}

/// A copy of what this rank saves, for a thread that writes while training goes on. The next save uses its memory again: to fault in
/// memory that is new costs more than to copy.
#[derive(Default)]
pub(crate) struct Snapshot(Vec<(String, Piece, Vec<f32>)>);

/// Elements that one task of the thread pool copies.
const CHUNK: usize = 1 << 16;

impl Snapshot {
    /// Copies the pieces of which this rank is the first replica (over all ranks, each element once), over those of before.
    pub(super) fn take(&mut self, engine: &Engine, optimizer: &Optimizer) {
        if self.0.is_empty() {
            self.0 = engine.led().flat_map(room).collect();
        }
        for (shard, room) in engine.led().zip(self.0.chunks_exact_mut(3)) {
            let [first, second] = optimizer.moments(shard.name()).map_or([None, None], |moments| moments.map(Some));
            for ((_, _, room), values) in room.iter_mut().zip([Some(shard.master()), first, second]) {
                match values {
                    Some(values) => {
                        room.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from))
                    }
                    // Before the first step that was not skipped there are none: they begin at zero.
                    None => room.par_chunks_mut(CHUNK).for_each(|room| room.fill(0.0)),
                }
            }
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, _, elements)| size_of_val(elements.as_slice())).sum()
    }

    /// Writes the copy as the shard of `rank`.
    pub(super) fn write(&self, writer: &CheckpointWriter, rank: usize, pace: &Pace) -> Result<ShardRecord, Failure> {
        let fragments = self.0.iter().map(|(name, piece, elements)| Fragment {
            name: name.clone(),
            dtype: Dtype::F32,
            piece: piece.clone(),
            data: bytemuck::cast_slice(elements),
        });
        let fragments: Vec<Fragment<'_>> = fragments.collect();
        writer.write_shard(rank, &fragments, pace).map_err(Failure::file)
    }
}

/// Name, place and memory of the three tensors of a shard, in the order of [`names`].
fn room(shard: &Shard) -> [(String, Piece, Vec<f32>); 3] {
    let piece = piece(shard.slice(), shard.piece());
    names(shard.name()).map(|name| (name, piece.clone(), vec![0.0; shard.piece().len()]))
}

/// Puts a checkpoint's values into this rank's pieces, whatever mesh they were saved under, and gives the optimizer that goes on from
/// there.
pub(crate) fn restore(checkpoint: &Checkpoint, engine: &mut Engine, config: AdamWConfig) -> Result<Optimizer, Failure> {
    let mut moments = BTreeMap::new();
    for shard in engine.trained_mut() {
        let [master, first, second] = names(shard.name());
        let piece = piece(shard.slice(), shard.piece());
        let read = |name: &str| read_elements(checkpoint, name, &piece);
        shard.set_master(&read(&master)?).map_err(Failure::parallel)?;
        moments.insert(shard.name().to_string(), Moments { first: read(&first)?, second: read(&second)? });
    }
    engine.refresh();
    Ok(Optimizer::resume(config, checkpoint.state().step, moments, engine.device()))
}

/// The elements of a piece; as many as the piece has.
fn read_elements(checkpoint: &Checkpoint, name: &str, piece: &Piece) -> Result<Vec<f32>, Failure> {
    let (dtype, bytes) = checkpoint.piece(name, piece).map_err(Failure::file)?;
    if dtype != Dtype::F32 {
        return Err(Failure::data(format!("tensor {name} is {dtype:?}, expected F32")));
    }
    Ok(bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
}
