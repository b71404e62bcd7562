//! Whether pieces hold every element of a tensor exactly once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Piece, Run};

/// Elements (offsets in the whole tensor) that are not held exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No piece holds them.
    Missing { from: usize, to: usize },
    /// Two pieces do; `first` and `second` count in the given list.
    Doubled { from: usize, to: usize, first: usize, second: usize },
    /// The pieces are none that a mesh makes, and of more runs than anybody would wait for.
    Scattered { runs: usize },
}

/// Most runs that are walked: a few seconds' worth. A large table sliced in its innermost dim has a million.
const MOST_RUNS: usize = 1 << 26;

/// Checks that `pieces`, all sound and of one shape, hold each of the tensor's `elements` once. Gives the first fault.
pub(crate) fn cover(elements: usize, pieces: &[&Piece]) -> Result<(), Fault> {
    if tile_by_slices(pieces) {
        return Ok(());
    }
    let runs = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.run_count()));
    if runs > MOST_RUNS { Err(Fault::Scattered { runs }) } else { sweep(elements, pieces) }
}

/// The layout that every mesh makes: slices of one dim side by side, each cut into ranges of its elements. A proof without
/// walking runs, of which a large weight sliced in its innermost dim has one for every row of every piece.
fn tile_by_slices(pieces: &[&Piece]) -> bool {
    let mut held: Vec<&Piece> = pieces.iter().copied().filter(|piece| piece.elements() > 0).collect();
    held.sort_unstable_by_key(|piece| (piece.start, piece.length, piece.from));
    let Some(first) = held.first() else {
        return false;
    };
    if held.iter().any(|piece| piece.dim != first.dim) {
        return false;
    }
    let mut end = 0;
    for slice in held.chunk_by(|a, b| (a.start, a.length) == (b.start, b.length)) {
        let whole_slice = Piece::slice(&first.shape, first.dim, slice[0].start, slice[0].length);
        let mut filled = 0;
        for piece in slice {
            if piece.from != filled {
                return false;
            }
            filled = piece.to;
        }
        if slice[0].start != end || filled != whole_slice.to {
            return false;
        }
        end += slice[0].length;
    }
    end == first.shape.get(first.dim).copied().unwrap_or(1)
}

/// Merges the runs of all pieces in the order of the whole tensor.
fn sweep(elements: usize, pieces: &[&Piece]) -> Result<(), Fault> {
    let mut runs: Vec<_> = pieces.iter().map(|piece| piece.runs()).collect();
    let entry = |run: Run, piece: usize| Reverse((run.whole, run.length, piece));
    let mut heap: BinaryHeap<_> =
        runs.iter_mut().enumerate().filter_map(|(piece, runs)| runs.next().map(|run| entry(run, piece))).collect();
    let (mut held, mut holder) = (0, 0);
    while let Some(Reverse((whole, length, piece))) = heap.pop() {
        if whole > held {
            return Err(Fault::Missing { from: held, to: whole });
        }
        if whole < held {
            return Err(Fault::Doubled { from: whole, to: held.min(whole + length), first: holder, second: piece });
        }
        (held, holder) = (whole + length, piece);
        heap.extend(runs[piece].next().map(|run| entry(run, piece)));
    }
    if held < elements { Err(Fault::Missing { from: held, to: elements }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::two_cuts;
    use super::*;
    use proptest::prelude::*;

    fn columns(start: usize, length: usize) -> Piece {
        Piece::slice(&[3, 4], 1, start, length)
    }

    #[test]
    fn a_missing_part_is_found() {
        let (left, right) = (columns(0, 2), columns(2, 2));
        assert_eq!(cover(12, &[&left, &right]), Ok(()));
        assert_eq!(cover(12, &[&left]), Err(Fault::Missing { from: 2, to: 4 }));
        assert_eq!(cover(12, &[&left, &right.chunk(0, 2)]), Err(Fault::Missing { from: 7, to: 8 }));
        assert_eq!(cover(12, &[]), Err(Fault::Missing { from: 0, to: 12 }));
        assert_eq!(cover(0, &[]), Ok(()));
    }

    #[test]
    fn a_doubled_part_is_found() {
        let (left, right) = (columns(0, 3), columns(2, 2));
        assert_eq!(cover(12, &[&left, &right]), Err(Fault::Doubled { from: 2, to: 3, first: 0, second: 1 }));
        assert_eq!(cover(1, &[&Piece::whole(&[]); 2]), Err(Fault::Doubled { from: 0, to: 1, first: 0, second: 1 }));
    }

    #[test]
    fn slices_of_different_dims_may_tile_together() {
        let (top, bottom) = (Piece::slice(&[2, 4], 0, 0, 1), Piece::slice(&[2, 4], 0, 1, 1));
        let (left, right) =
            (Piece { from: 2, ..Piece::slice(&[2, 4], 1, 0, 2) }, Piece { from: 2, ..Piece::slice(&[2, 4], 1, 2, 2) });
        assert_eq!(cover(8, &[&top, &left, &right]), Ok(()));
        assert!(matches!(cover(8, &[&bottom, &left, &right]), Err(Fault::Missing { from: 0, to: 4 })));
    }

    #[test]
    fn nobody_waits_for_a_lie_of_a_thousand_billion_runs() {
        let column = |start| Piece::slice(&[1 << 40, 2], 1, start, 1);
        assert_eq!(cover(1 << 41, &[&column(0), &column(1)]), Ok(()));
        assert_eq!(cover(1 << 41, &[&column(1), &column(1)]), Err(Fault::Scattered { runs: 1 << 41 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_mesh_tiles_and_a_missing_or_doubled_piece_is_found((cut, _) in two_cuts(), which in any::<proptest::sample::Index>()) {
            let pieces = cut.pieces();
            let all: Vec<&Piece> = pieces.iter().collect();
            let elements = cut.shape.iter().product();
            prop_assert_eq!(cover(elements, &all), Ok(()));
            prop_assert_eq!(sweep(elements, &all), Ok(()));
            let index = which.index(pieces.len());
            let Some(run) = pieces[index].runs().next() else {
                return Ok(());
            };
            let without: Vec<&Piece> = all.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, p)| *p).collect();
            let Err(Fault::Missing { from, to }) = cover(elements, &without) else {
                return Err(TestCaseError::fail("a missing piece was not found"));
            };
            prop_assert!(from == run.whole && to >= run.whole + run.length);
            let mut twice = all.clone();
            twice.push(all[index]);
            let fault = Fault::Doubled { from: run.whole, to: run.whole + run.length, first: index, second: pieces.len() };
            prop_assert_eq!(cover(elements, &twice), Err(fault));
        }
    }
}
