//! Every mesh gives the single rank's loss and gradients, over ten steps, under a real mpirun: this program starts mpirun on itself, and
//! `rank_program` is what each rank then runs, one mesh after the other.
#![expect(clippy::unwrap_used, reason = "what ranks run stands outside the test functions")]

mod material;
mod training;

use std::env;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sirocco_comm::{Communicator, Mpi, Options};
use sirocco_model::Recompute;
use sirocco_parallel::Mesh;

use crate::material::{Material, Method};
use crate::training::{Way, assert_same, train};

/// The variable that tells a rank which program to run.
const CASE: &str = "SIROCCO_MESHES_CASE";

/// (pp, dp, fsdp, tp) for four ranks. The tiny model has 3 layers, 4 heads and 2 key/value heads: tp = 4 repeats each of these.
const FOUR: [[usize; 4]; 9] = [
    [1, 4, 1, 1],
    [1, 1, 4, 1],
    [1, 1, 1, 4],
    [1, 2, 2, 1],
    [1, 2, 1, 2],
    [1, 1, 2, 2],
    [2, 2, 1, 1],
    [2, 1, 2, 1],
    [2, 1, 1, 2],
];

/// For three ranks: one layer each, and shares of the batch that are not equal.
const THREE: [[usize; 4]; 2] = [[3, 1, 1, 1], [1, 1, 3, 1]];

/// For eight ranks.
const EIGHT: [[usize; 4]; 12] = [
    [1, 8, 1, 1],
    [1, 1, 8, 1],
    [1, 2, 1, 4],
    [1, 1, 2, 4],
    [2, 1, 1, 4],
    [1, 2, 4, 1],
    [1, 4, 1, 2],
    [2, 4, 1, 1],
    [2, 1, 4, 1],
    [1, 2, 2, 2],
    [2, 2, 1, 2],
    [2, 1, 2, 2],
];

/// Not a test of its own: what a rank does when mpirun started this program.
#[test]
fn rank_program() {
    let Ok(case) = env::var(CASE) else { return };
    // Many ranks share few cores.
    tch::set_num_threads(1);
    let mpi = Mpi::start(Options { timeout: Duration::from_secs(60) }).unwrap();
    let table: &[[usize; 4]] = match mpi.size() {
        3 => &THREE,
        4 => &FOUR,
        _ => &EIGHT,
    };
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match case.as_str() {
        "meshes" => meshes(&mpi, table),
        _ => ways(&mpi),
    }));
    // The other ranks are in the middle of a step; they must not wait for one that has failed.
    if ran.is_err() {
        mpi.abort(1);
    }
}

fn mesh([pp, dp, fsdp, tp]: [usize; 4]) -> Mesh {
    Mesh::new(pp, dp, fsdp, tp).unwrap()
}

fn meshes(mpi: &Mpi, table: &[[usize; 4]]) {
    for name in ["tiny-mistral", "tiny-mistral-tied"] {
        let material = Material::open(name);
        for method in [Method::Full, Method::Lora] {
            let alone = train(&material, method, Way::alone(), &sirocco_comm::Solo::new());
            // The tied model has two layers.
            for &axes in table.iter().filter(|[pp, ..]| *pp <= material.config.layers) {
                let way = Way { mesh: mesh(axes), micro_batch: 1, ..Way::alone() };
                assert_same(&alone, &train(&material, method, way, mpi), &format!("{name}, {method:?}, {}", way.mesh));
            }
        }
    }
}

/// The same mesh, worked through in other ways.
fn ways(mpi: &Mpi) {
    let material = Material::open("tiny-mistral");
    let alone = train(&material, Method::Full, Way::alone(), &sirocco_comm::Solo::new());
    let usual = Way { mesh: mesh([2, 1, 1, 2]), micro_batch: 2, ..Way::alone() };
    let ways = [
        usual,
        Way { micro_batch: 4, ..usual },
        Way { recompute: Recompute::Attention, ..usual },
        Way { recompute: Recompute::Full, ..usual },
        Way { recompute: Recompute::Full, mesh: mesh([1, 2, 2, 1]), ..usual },
        Way { recompute: Recompute::Attention, mesh: mesh([1, 1, 2, 2]), ..usual },
        Way { bucket_bytes: 4, ..usual },
        Way { bucket_bytes: 4, mesh: mesh([1, 2, 2, 1]), ..usual },
        Way { together: true, mesh: mesh([1, 2, 1, 2]), ..usual },
    ];
    for way in ways {
        assert_same(&alone, &train(&material, Method::Full, way, mpi), &format!("{way:?}"));
    }
}

/// Jobs run one at a time: their ranks share the cores, and two jobs take longer side by side than one after the other.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn under_mpirun(case: &str, ranks: usize) {
    let _turn = turn();
    let output = Command::new("mpirun")
        .args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none"])
        .arg(env::current_exe().unwrap())
        .args(["rank_program", "--exact", "--nocapture", "--test-threads=1"])
        .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
        .envs([("OMP_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "1"), (CASE, case)])
        .stdin(Stdio::null())
        .output()
        .expect("mpirun runs");
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, told(&output.stdout), told(&output.stderr));
}

#[test]
fn every_mesh_of_three_ranks_gives_what_one_rank_gives() {
    under_mpirun("meshes", 3);
}

#[test]
fn every_mesh_of_four_ranks_gives_what_one_rank_gives() {
    under_mpirun("meshes", 4);
}

#[test]
fn every_mesh_of_eight_ranks_gives_what_one_rank_gives() {
    under_mpirun("meshes", 8);
}

#[test]
fn micro_batches_accumulation_packing_buckets_and_recomputation_change_nothing() {
    under_mpirun("ways", 4);
}
