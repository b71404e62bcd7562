//! How long other ranks take to read what some ranks saved.
//!
//! `reshard_speed DIR MEGABYTES FROM TO [--columns]` saves a checkpoint of so many MB (10⁶ bytes) cut into FROM pieces of every
//! tensor, reads it back as TO pieces, one after another, and prints one line: bytes, seconds to open, to verify and to read.
//! Pieces are ranges of elements, as FSDP makes them; with `--columns` slices of the inner dim, as tensor parallelism makes them.
#![expect(clippy::print_stdout, reason = "an example is a program")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use sirocco_checkpoint::{Checkpoints, Cursor, Dtype, Fragment, Mesh, Pace, Piece, RunState};

/// A weight of a model of 7 billion parameters in fp32: 64 MiB.
const SHAPE: [usize; 2] = [4096, 4096];
const STEP: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let columns = arguments.pop_if(|last| last == "--columns").is_some();
    let [dir, megabytes, from, to] = arguments.as_slice() else {
        return Err("usage: reshard_speed DIR MEGABYTES FROM TO [--columns]".into());
    };
    let (from, to): (usize, usize) = (from.parse()?, to.parse()?);
    let tensors = (megabytes.parse::<usize>()? * 1_000_000).div_ceil(SHAPE[0] * SHAPE[1] * 4);
    let cut = |index: usize, of: usize| {
        let edge = |i: usize| SHAPE[1] * i / of;
        let slice = Piece::slice(&SHAPE, 1, edge(index), edge(index + 1) - edge(index));
        if columns { slice } else { Piece::whole(&SHAPE).chunk(index, of) }
    };
    let all = Checkpoints::new(Path::new(dir));
    save(&all, tensors, &(0..from).map(|index| cut(index, from)).collect::<Vec<_>>())?;
    let start = Instant::now();
    let checkpoint = all.open(STEP)?;
    let opened = start.elapsed().as_secs_f64();
    let start = Instant::now();
    checkpoint.verify(0, 1)?;
    let verified = start.elapsed().as_secs_f64();
    let (mut bytes, start) = (0, Instant::now());
    for piece in (0..to).map(|index| cut(index, to)) {
        for tensor in 0..tensors {
            bytes += checkpoint.piece(&name(tensor), &piece)?.1.len();
        }
    }
    let read = start.elapsed().as_secs_f64();
    std::fs::remove_dir_all(all.path())?;
    println!(r#"{{"bytes":{bytes},"open_s":{opened:.4},"verify_s":{verified:.3},"read_s":{read:.3}}}"#);
    Ok(())
}

fn name(tensor: usize) -> String {
    format!("master/weight.{tensor}")
}

fn save(all: &Checkpoints, tensors: usize, pieces: &[Piece]) -> Result<(), Box<dyn Error>> {
    let writer = all.begin(STEP)?;
    let mut records = Vec::new();
    for (rank, piece) in pieces.iter().enumerate() {
        let data = vec![rank as u8; piece.elements() * 4];
        let fragment = |tensor| Fragment { name: name(tensor), dtype: Dtype::F32, piece: piece.clone(), data: &data };
        records.push(writer.write_shard(rank, &(0..tensors).map(fragment).collect::<Vec<_>>(), &Pace::full())?);
    }
    let mesh = Mesh { pp: 1, dp: 1, fsdp: pieces.len(), tp: 1 };
    let cursor = Cursor { seed: 1, epoch: 0, sample: 0 };
    let [config_digest, model_digest, data_digest] = [const { String::new() }; 3];
    all.publish(writer, records, RunState { step: STEP, cursor, mesh, config_digest, model_digest, data_digest })?;
    Ok(())
}
