//! Groups: rows and columns of a mesh, interleaved with collectives of all ranks, and parts of sums within them.

use std::sync::Arc;

use half::bf16;
use rstest::rstest;
use sirocco_comm::{CommError, Communicator, Mpi, Options};

use crate::{
    job::{self, Report},
    sums::{bits, numbers},
};

/// The sum over `members`, in rank order.
fn sum_over(members: &[usize], length: usize) -> Vec<f32> {
    let mut parts = members.iter().map(|&rank| numbers(rank, length));
    let mut total = parts.next().unwrap();
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    total
}

/// The rows and columns of a mesh of `columns` columns, as rank `rank` sees them.
fn mesh(mpi: &Mpi, columns: usize) -> [Arc<dyn Communicator>; 2] {
    let (rank, size) = (mpi.rank(), mpi.size());
    let row: Vec<usize> = (0..size).filter(|other| other / columns == rank / columns).collect();
    let column: Vec<usize> = (0..size).filter(|other| other % columns == rank % columns).collect();
    [mpi.group("row", &row).unwrap(), mpi.group("column", &column).unwrap()]
}

pub(crate) fn rank_mesh(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    let [row, column] = mesh(&mpi, 2);
    assert_eq!((row.rank(), row.size(), column.rank(), column.size()), (rank % 2, 2, rank / 2, size / 2));
    for length in [3, 1000, 400_001] {
        // All submitted before any is waited for, in one order on all ranks.
        let in_row = row.all_reduce_f32("sum", numbers(rank, length));
        let in_column = column.all_reduce_f32("sum", numbers(rank, length));
        let in_world = mpi.all_reduce_f32("sum", numbers(rank, length));
        let told = column.broadcast_bytes("tell", size / 2 - 1, vec![rank as u8; length]);
        let gathered = row.all_gather_bytes("gather", vec![rank as u8; length * (rank % 2)]);
        let barrier = row.barrier("here");
        assert_eq!(bits(&in_world.wait().unwrap()), bits(&sum_over(mpi.members(), length)));
        assert_eq!(bits(&in_column.wait().unwrap()), bits(&sum_over(column.members(), length)));
        assert_eq!(bits(&in_row.wait().unwrap()), bits(&sum_over(row.members(), length)));
        assert_eq!(told.wait().unwrap(), vec![*column.members().last().unwrap() as u8; length]);
        assert_eq!(gathered.wait().unwrap(), [Vec::new(), vec![row.members()[1] as u8; length]]);
        barrier.wait().unwrap();
    }
    let alone = row.group("self", &[rank]).unwrap();
    assert_eq!((alone.rank(), alone.size(), alone.members()), (0, 1, &[rank][..]));
    assert_eq!(alone.all_reduce_f32("sum", vec![2.0]).wait().unwrap(), [2.0]);
    assert_eq!(alone.peers().len(), size);
    let traffic = alone.traffic();
    assert_eq!([&traffic["sum"], &traffic["row/sum"], &traffic["column/sum"]].map(|sum| sum.calls), [3; 3]);
    assert_eq!(traffic["self/sum"].calls, 1);
    assert_eq!(traffic["sum"].bytes, 4 * (3 + 1000 + 400_001));
    let history = mpi.history();
    let of_rows: Vec<_> = history.iter().filter(|event| event.group == "row").map(|event| event.sequence).collect();
    assert_eq!(of_rows, (0..9).collect::<Vec<_>>());
    assert!(history.iter().all(|event| event.done.is_some() && !event.failed), "{history:?}");
    assert!(matches!(mpi.group("no", &[(rank + 1) % size]), Err(CommError::NoSuchGroup { .. })));
    // The job ends with its last group, in whichever order they go.
    drop(mpi);
    assert_eq!(row.all_reduce_f64("after", vec![1.0]).wait().unwrap(), [2.0]);
    report.write(rank, "right");
}

#[rstest]
fn groups_that_overlap_work_side_by_side(#[values(4, 8)] ranks: usize) {
    let ended = job::run("mesh", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}

/// Lengths of the parts: equal, uneven, some empty, all but one empty, all empty; small, one segment, several segments.
fn cuts(size: usize) -> Vec<Vec<usize>> {
    let with = |length: &dyn Fn(usize) -> usize| (0..size).map(length).collect();
    vec![
        with(&|_| 10),
        with(&|rank| 70_000 * rank + 3),
        with(&|rank| if rank % 2 == 0 { 0 } else { 300_001 }),
        with(&|rank| if rank == 0 { 500_000 } else { 0 }),
        with(&|rank| if rank + 1 == size { 20 } else { 0 }),
        with(&|_| 0),
        with(&|rank| 131_072 * (1 + rank % 2)),
    ]
}

pub(crate) fn rank_parts(report: &Report) {
    let mpi = Mpi::start(Options::default()).unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    for lengths in cuts(size) {
        let length = lengths.iter().sum();
        let start = lengths[..rank].iter().sum::<usize>();
        let own = start..start + lengths[rank];
        let whole = mpi.all_reduce_f32("whole", numbers(rank, length));
        let part = mpi.reduce_scatter_f32("part", numbers(rank, length), &lengths);
        let half = numbers(rank, length).into_iter().map(bf16::from_f32).collect();
        let half = mpi.reduce_scatter_bf16("half", half, &lengths).wait().unwrap();
        let whole = whole.wait().unwrap();
        assert_eq!(bits(&part.wait().unwrap()), bits(&whole[own.clone()]), "{lengths:?}");
        let mut exact = vec![0.0_f32; length];
        for peer in 0..size {
            // The first one is not added to zero: -0.0 must survive.
            let given = numbers(peer, length).into_iter().map(|value| bf16::from_f32(value).to_f32());
            exact.iter_mut().zip(given).for_each(|(sum, value)| *sum = if peer == 0 { value } else { *sum + value });
        }
        let rounded: Vec<bf16> = exact[own].iter().map(|&sum| bf16::from_f32(sum)).collect();
        assert!(half.iter().zip(&rounded).all(|(one, other)| one.to_bits() == other.to_bits()) && half.len() == rounded.len());
    }
    let error = mpi.reduce_scatter_f32("part", vec![0.0; 3], &vec![2; size]).wait().unwrap_err();
    assert!(matches!(error, CommError::Parts { found: 3, .. }), "{error}");
    report.write(rank, "right");
}

#[rstest]
fn parts_of_a_sum_are_those_of_the_whole_sum(#[values(1, 2, 3, 4)] ranks: usize) {
    let ended = job::run("parts", ranks).well();
    assert!((0..ranks).all(|rank| ended.report(rank) == "right"), "{}", ended.told());
}
