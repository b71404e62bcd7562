//! Collectives on tensors of a device beside those of the host, under mpirun without a GPU: the driver and NCCL are stood in for by the two
//! small libraries of the tests of `sirocco-comm`, whose device memory is the process's own, so tensors stay on the CPU. What is shown is
//! how tensors are cut, padded, grouped and put together; that a GPU does it is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use sirocco_comm::{Communicator, Mpi, Options};
use tch::{Device, Kind, Tensor};

use super::device::Joined;
use super::{Host, OnDevice, TensorGroup, rows_of};
use crate::{ParallelError, layout};

/// The libraries that stand in, with their sources. A rank is started in their directory, and knows by them that it is one.
const STAND_INS: [(&str, &str); 2] = [("cuda.c", "libcuda.so.1"), ("nccl.c", "libnccl.so.2")];
/// Elements of weights: with and without a remainder over the ranks, and fewer than there are ranks.
const WHOLES: [usize; 3] = [1003, 12, 1];
/// Rows, which two and three ranks share unevenly, of this width.
const ROWS: (usize, i64) = (7, 6);

/// Their directory; nothing where there is no C compiler.
fn stand_ins() -> Option<PathBuf> {
    let directory = env::temp_dir().join(format!("sirocco-tensors-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../comm/tests/nccl/fakes");
    for (source, name) in STAND_INS {
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(directory.join(name))
            .arg(sources.join(source))
            .args(["-ldl", "-lrt"]);
        match compiler.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("skipped: cc: {error}");
                return None;
            }
        }
    }
    Some(directory)
}

/// Whole numbers, whose sums are exact in any order.
fn numbers(elements: i64, factor: usize) -> Tensor {
    Tensor::arange(elements, (Kind::Float, Device::Cpu)) * factor as i64
}

/// Every collective; what it gives.
fn work(group: &dyn TensorGroup) -> Result<Vec<Tensor>, ParallelError> {
    let (rank, ranks) = (group.rank(), group.size());
    let (tokens, width) = ROWS;
    let mut results = Vec::new();
    for kind in [Kind::Float, Kind::BFloat16] {
        let piece = |&elements: &usize| {
            let piece = layout::piece(elements, rank, ranks);
            numbers(elements as i64, 1).to_kind(kind).narrow(0, piece.start as i64, piece.len() as i64)
        };
        let own: Vec<Tensor> = WHOLES.iter().map(piece).collect();
        results.extend(group.gather("gather", &own, &WHOLES).wait()?);
        let own = numbers(rows_of(tokens, rank, ranks) as i64 * width, rank + 1).view([-1, width]).to_kind(kind);
        results.push(group.gather_rows("rows", &own, tokens)?);
    }
    let own = WHOLES.map(|elements| numbers(elements as i64, rank + 1));
    results.extend(group.scatter("scatter", &own).wait()?);
    results.extend(group.sum("sum", &own).wait()?);
    results.push(group.sum_rows("sum rows", &numbers(tokens as i64 * width, rank + 1).view([-1, width]))?);
    results.extend(group.gather_tensors("tensors", &numbers(6, rank + 1).view([2, 3]))?);
    group.health()?;
    Ok(results)
}

/// Not a test of its own: what a rank does when mpirun started this program.
#[test]
fn rank_program() {
    if !STAND_INS.iter().all(|(_, library)| Path::new(library).exists()) {
        return;
    }
    let options = Options { timeout: Duration::from_secs(20) };
    let world = Mpi::start(options).unwrap();
    let members: Vec<usize> = (0..world.size()).collect();
    let host = Host::new(world.group("host", &members).unwrap());
    let opened = OnDevice::open(0, options).unwrap();
    let joined = opened.join("device", world.group("device", &members).unwrap().as_ref()).unwrap();
    let device = Joined { device: Device::Cpu, ..joined };
    let (expected, found) = (work(&host).unwrap(), work(&device).unwrap());
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(found.kind() == expected.kind() && found.equal(expected), "result {at}: {found} {expected}");
    }
}

#[test]
fn a_device_gives_what_the_host_gives() {
    let Some(libraries) = stand_ins() else { return };
    for ranks in ["2", "3"] {
        let output = Command::new("mpirun")
            .args(["-n", ranks, "--oversubscribe", "--bind-to", "none"])
            .arg(env::current_exe().unwrap())
            .args(["tensors::twin::rank_program", "--exact", "--nocapture", "--test-threads=1"])
            .current_dir(&libraries)
            .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("OMP_NUM_THREADS", "1")])
            .env("LD_LIBRARY_PATH", &libraries)
            .stdin(Stdio::null())
            .output()
            .expect("mpirun runs");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("fake nccl: destroy").count().to_string(), ranks, "{text}");
    }
    let _ = fs::remove_dir_all(libraries);
}
