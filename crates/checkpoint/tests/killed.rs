//! A process that saves one checkpoint after another is killed at random moments: LATEST always names a whole one.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sirocco_checkpoint::{CheckpointError, Checkpoints, Cursor, Dtype, Fragment, Mesh, Pace, Piece, RunState};

const MOMENTS: u64 = 30;
/// Where the child saves; set by the parent only.
const DIRECTORY: &str = "SIROCCO_TEST_KILLED_DIR";
const ELEMENTS: usize = 200_000;

fn state(step: u64) -> RunState {
    RunState {
        step,
        cursor: Cursor { seed: 1, epoch: 0, sample: step },
        mesh: Mesh { pp: 1, dp: 1, fsdp: 2, tp: 1 },
        config_digest: String::new(),
        model_digest: String::new(),
        data_digest: String::new(),
    }
}

fn save(all: &Checkpoints, step: u64) -> Result<(), CheckpointError> {
    let first = all.begin(step)?;
    let data = vec![step as u8; ELEMENTS * 4 / 2];
    let write = |rank| {
        let piece = Piece::whole(&[ELEMENTS]).chunk(rank, 2);
        all.join(step)?.write_shard(rank, &[Fragment { name: "w".into(), dtype: Dtype::F32, piece, data: &data }], &Pace::full())
    };
    let records = std::thread::scope(|scope| {
        let ranks = [0, 1].map(|rank| scope.spawn(move || write(rank)));
        ranks.map(|rank| rank.join().expect("a rank panicked"))
    });
    let [zero, one] = records;
    all.publish(first, vec![zero?, one?], state(step))?;
    all.prune(2)?;
    Ok(())
}

/// Not a test of its own: what the test below starts and kills. Without its directory it does nothing.
#[test]
fn saves_for_ever() {
    let Ok(dir) = std::env::var(DIRECTORY) else {
        return;
    };
    let all = Checkpoints::new(Path::new(&dir));
    let begun = all.latest().unwrap().unwrap_or(0);
    // The first is that which it goes on from, saved again: it takes the place of itself.
    for step in begun.max(1).. {
        save(&all, step).unwrap();
        println!("saved {step};");
    }
}

#[test]
fn the_newest_published_checkpoint_always_loads() {
    let run = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(run.path());
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let (mut random, mut published) = (u64::from(seed) | 1, 0);
    let mut moment = 0;
    // On a machine that is busy with other work no child may live long enough: then more are started.
    while moment < MOMENTS || (published == 0 && moment < 10 * MOMENTS) {
        moment += 1;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "saves_for_ever", "--nocapture"])
            .env(DIRECTORY, run.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(3_000 + random % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let last = said.split("saved ").filter_map(|rest| rest.split_once(';')?.0.parse::<u64>().ok()).max();
        let loaded = all.load_latest().unwrap();
        let step = loaded.as_ref().map_or(0, |loaded| loaded.state().step);
        published = published.max(last.unwrap_or(0));
        assert!(step >= published, "moment {moment}: LATEST names step {step}, but {published} was published");
        if let Some(loaded) = loaded {
            let data = loaded.tensor("w").unwrap().data;
            assert!(data.len() == ELEMENTS * 4 && data.iter().all(|byte| *byte == step as u8), "moment {moment}");
        }
    }
    assert!(published > 0, "no child lived long enough to save anything");
}
