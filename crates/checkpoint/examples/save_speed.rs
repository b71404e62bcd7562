//! How fast a checkpoint reaches the disk, to be compared with `dd bs=4M conv=fsync` on the same disk.
//!
//! `save_speed DIR MEGABYTES [--ranks N]` saves a checkpoint of so many MB (10⁶ bytes) from N threads, each with one shard, under
//! DIR/checkpoints, removes it and prints one line: bytes, seconds, bytes_per_s, cpu_seconds.
#![expect(clippy::print_stdout, reason = "an example is a program")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use sirocco_checkpoint::{CheckpointError, Checkpoints, Cursor, Dtype, Fragment, Mesh, Pace, Piece, RunState, ShardRecord};

/// A weight of a model of 7 billion parameters in fp32: 64 MiB.
const SHAPE: [usize; 2] = [4096, 4096];
const STEP: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: save_speed DIR MEGABYTES [--ranks N]";
    let (dir, megabytes, ranks) = match arguments.as_slice() {
        [dir, megabytes] => (dir, megabytes, 1),
        [dir, megabytes, flag, ranks] if flag == "--ranks" => (dir, megabytes, ranks.parse()?),
        _ => return Err(usage.into()),
    };
    let bytes = megabytes.parse::<usize>()?.checked_mul(1_000_000).ok_or(usage)?;
    let data: Vec<Vec<u8>> = (0..ranks).map(|rank| noise(bytes / ranks, rank as u64 + 1)).collect();
    let all = Checkpoints::new(Path::new(dir));
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    save(&all, &data)?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    std::fs::remove_dir_all(all.path())?;
    let rate = bytes as f64 / seconds;
    println!(r#"{{"bytes":{bytes},"seconds":{seconds:.3},"bytes_per_s":{rate:.0},"cpu_seconds":{cpu:.2}}}"#);
    Ok(())
}

fn save(all: &Checkpoints, data: &[Vec<u8>]) -> Result<(), Box<dyn Error>> {
    let first = all.begin(STEP)?;
    let write = |rank: usize, data: &[u8]| -> Result<ShardRecord, CheckpointError> {
        all.join(STEP)?.write_shard(rank, &fragments(rank, data), &Pace::full())
    };
    let records = std::thread::scope(|scope| {
        let threads: Vec<_> = data.iter().enumerate().map(|(rank, data)| scope.spawn(move || write(rank, data))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a rank panicked")).collect::<Result<Vec<_>, _>>()
    })?;
    let records = records.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mesh = Mesh { pp: 1, dp: 1, fsdp: data.len(), tp: 1 };
    let digest = String::new;
    let cursor = Cursor { seed: 1, epoch: 0, sample: 0 };
    let (config_digest, model_digest, data_digest) = (digest(), digest(), digest());
    all.publish(first, records, RunState { step: STEP, cursor, mesh, config_digest, model_digest, data_digest })?;
    Ok(())
}

/// The rank's data as weights of [`SHAPE`], and one that holds the rest.
fn fragments(rank: usize, data: &[u8]) -> Vec<Fragment<'_>> {
    let weights = data.chunks(SHAPE[0] * SHAPE[1] * 4).enumerate();
    weights
        .map(|(i, data)| {
            let elements = data.len() / 4;
            let piece = if elements == SHAPE[0] * SHAPE[1] { Piece::whole(&SHAPE) } else { Piece::whole(&[elements]) };
            Fragment { name: format!("master/rank.{rank}.weight.{i}"), dtype: Dtype::F32, piece, data: &data[..elements * 4] }
        })
        .collect()
}

/// Bytes that no disk can compress (xorshift64).
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}

/// Processor time of this process so far, user and system, from /proc/self/stat in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit_once(')').ok_or("an unknown form of /proc/self/stat")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
