//! Parts of tensors: which elements of a tensor a rank holds, and where they lie in the whole.
//!
//! Two steps cut a tensor: tensor parallelism takes a *slice* of one dim, sharded data parallelism a range of that slice's
//! elements in row-major order. Everything here is arithmetic on sizes; no data moves.

mod cover;
mod overlap;

use serde::{Deserialize, Serialize};

pub(crate) use cover::{Fault, cover};
pub(crate) use overlap::{Copy, overlaps};

/// The part of a tensor that one rank holds: elements `from..to` (flat, row-major) of the slice `start..start + length` of dim
/// `dim` of a tensor of shape `shape`. A scalar (shape `[]`) counts as having one dim of size 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Sizes of the whole tensor's dims, outermost first.
    pub shape: Vec<usize>,
    /// The dim that is sliced.
    pub dim: usize,
    /// First index of the slice along `dim`.
    pub start: usize,
    /// Indices of the slice along `dim`.
    pub length: usize,
    /// First element, counted in the slice.
    pub from: usize,
    /// One past the last element, counted in the slice.
    pub to: usize,
}

/// Why a piece is no part of any tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PieceError {
    /// The tensor cannot be addressed.
    #[error("shape {shape:?} has more elements than fit in memory")]
    TooLarge {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// The sliced dim does not exist.
    #[error("dim {dim} is none of shape {shape:?}")]
    Dim {
        /// The dim that was named.
        dim: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// The slice reaches beyond its dim.
    #[error("slice {start}..{start}+{length} of dim {dim} reaches beyond 0..{size}")]
    Slice {
        /// The sliced dim.
        dim: usize,
        /// First index.
        start: usize,
        /// Indices.
        length: usize,
        /// The dim's size.
        size: usize,
    },
    /// The range of elements is backwards or reaches beyond the slice.
    #[error("elements {from}..{to} are no range within the slice's 0..{elements}")]
    Range {
        /// First element.
        from: usize,
        /// One past the last.
        to: usize,
        /// Elements of the slice.
        elements: usize,
    },
}

/// Elements that follow each other in the whole tensor and in a piece of it. Offsets and length count elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Offset of the first in the whole tensor.
    pub whole: usize,
    /// Offset of the first in the piece.
    pub piece: usize,
    /// How many.
    pub length: usize,
}

/// How a sound piece lies in its tensor: rows of `row` elements, `stride` apart in the whole, the first at `base`.
#[derive(Clone, Copy, Debug)]
struct Layout {
    row: usize,
    stride: usize,
    base: usize,
    from: usize,
    to: usize,
}

impl Layout {
    /// The run that begins at element `at` of the slice; `at` is within the piece.
    fn run_at(&self, at: usize) -> Run {
        let (row, column) = (at / self.row, at % self.row);
        let length = (self.row - column).min(self.to - at);
        Run { whole: row * self.stride + self.base + column, piece: at - self.from, length }
    }

    /// The first run, or rest of one, at or after offset `whole` of the tensor.
    fn run_from(&self, whole: usize) -> Option<Run> {
        if self.from == self.to {
            return None;
        }
        let column = (whole % self.stride).saturating_sub(self.base).min(self.row);
        let at = (whole / self.stride * self.row + column).max(self.from);
        (at < self.to).then(|| self.run_at(at))
    }
}

impl Piece {
    /// All of a tensor.
    pub fn whole(shape: &[usize]) -> Self {
        let length = shape.first().copied().unwrap_or(1);
        Self::slice(shape, 0, 0, length)
    }

    /// All elements of the slice `start..start + length` of `dim`.
    pub fn slice(shape: &[usize], dim: usize, start: usize, length: usize) -> Self {
        let others = shape.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, size)| size);
        let to = others.fold(length, |n, size| n.saturating_mul(*size));
        Self { shape: shape.to_vec(), dim, start, length, from: 0, to }
    }

    /// Chunk `index` of `of` of this piece: ⌈n / of⌉ elements each, the last ones fewer or none.
    #[must_use]
    pub fn chunk(&self, index: usize, of: usize) -> Self {
        let each = self.elements().div_ceil(of.max(1));
        let at = |i: usize| self.from.saturating_add(each.saturating_mul(i)).min(self.to);
        Self { from: at(index), to: at(index.saturating_add(1)), ..self.clone() }
    }

    /// Elements of the piece.
    pub fn elements(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    /// Whether the fields describe a part of a tensor.
    ///
    /// # Errors
    /// The field that does not, and what it may be.
    pub(crate) fn check(&self) -> Result<(), PieceError> {
        self.layout().map(|_| ())
    }

    /// Runs of elements that are contiguous in the whole tensor, in order. None for a piece that [`Piece::check`] refuses.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let layout = self.layout().ok();
        let mut at = self.from;
        std::iter::from_fn(move || {
            let run = layout.filter(|layout| at < layout.to)?.run_at(at);
            at += run.length;
            Some(run)
        })
    }

    /// How many runs there are, without walking them.
    pub(crate) fn run_count(&self) -> usize {
        let rows = |layout: Layout| (layout.to - 1) / layout.row - layout.from / layout.row + 1;
        self.layout().ok().filter(|layout| layout.from < layout.to).map_or(0, rows)
    }

    fn layout(&self) -> Result<Layout, PieceError> {
        let (dim, shape) = (self.dim, || self.shape.clone());
        let sizes: &[usize] = if self.shape.is_empty() { &[1] } else { &self.shape };
        let size = *sizes.get(dim).ok_or_else(|| PieceError::Dim { dim, shape: shape() })?;
        let too_large = || PieceError::TooLarge { shape: shape() };
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(too_large);
        let (outer, inner) = (product(&sizes[..dim])?, product(&sizes[dim + 1..])?);
        let stride = inner.checked_mul(size).ok_or_else(too_large)?;
        let whole = outer.checked_mul(stride).ok_or_else(too_large)?;
        if self.start.checked_add(self.length).is_none_or(|end| end > size) {
            return Err(PieceError::Slice { dim, start: self.start, length: self.length, size });
        }
        let (row, base) = (self.length * inner, self.start * inner);
        let elements = outer * row;
        if self.from > self.to || self.to > elements {
            return Err(PieceError::Range { from: self.from, to: self.to, elements });
        }
        // A slice that is all of its dim is one row, whichever dim that is.
        let (row, stride) = if self.length == size { (whole, whole) } else { (row, stride) };
        Ok(Layout { row, stride, base, from: self.from, to: self.to })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tensor's shape and how a mesh cuts it: `tp` slices of `dim`, as even as they can be, each in `fsdp` chunks.
    #[derive(Clone, Debug)]
    pub(crate) struct Cut {
        pub(crate) shape: Vec<usize>,
        pub(crate) dim: usize,
        pub(crate) tp: usize,
        pub(crate) fsdp: usize,
    }

    impl Cut {
        pub(crate) fn pieces(&self) -> Vec<Piece> {
            let size = self.shape.get(self.dim).copied().unwrap_or(1);
            let edge = |slice: usize| slice * size / self.tp;
            let slices = (0..self.tp).map(|i| Piece::slice(&self.shape, self.dim, edge(i), edge(i + 1) - edge(i)));
            slices.flat_map(|slice| (0..self.fsdp).map(move |chunk| slice.chunk(chunk, self.fsdp))).collect()
        }
    }

    /// Two ways to cut one tensor of up to three dims.
    pub(crate) fn two_cuts() -> impl Strategy<Value = (Cut, Cut)> {
        let cut = |shape: Vec<usize>| {
            (0..shape.len().max(1), 1..5usize, 1..6usize).prop_map(move |(dim, tp, fsdp)| Cut {
                shape: shape.clone(),
                dim,
                tp,
                fsdp,
            })
        };
        proptest::collection::vec(0..7usize, 0..4).prop_flat_map(move |shape| (cut(shape.clone()), cut(shape)))
    }

    /// The elements of a piece, picked one index at a time: the slow, plain meaning of the six fields.
    pub(crate) fn pick<T: Clone>(whole: &[T], piece: &Piece) -> Vec<T> {
        let size = piece.shape.get(piece.dim).copied().unwrap_or(1);
        let inner: usize = piece.shape.iter().skip(piece.dim + 1).product();
        let slice =
            whole.iter().enumerate().filter(|(at, _)| (piece.start..piece.start + piece.length).contains(&(at / inner % size)));
        slice.map(|(_, element)| element.clone()).skip(piece.from).take(piece.to - piece.from).collect()
    }

    fn assemble(parts: &[(Piece, Vec<usize>)], target: &Piece) -> Vec<usize> {
        let mut data = vec![usize::MAX; target.elements()];
        for (piece, elements) in parts {
            for copy in overlaps(piece, target) {
                data[copy.to..copy.to + copy.length].copy_from_slice(&elements[copy.from..copy.from + copy.length]);
            }
        }
        data
    }

    #[test]
    fn fields_that_lie_are_named() {
        let good = Piece::whole(&[3, 4]);
        good.check().unwrap();
        let error = |piece: Piece| piece.check().unwrap_err().to_string();
        assert!(error(Piece { dim: 2, ..good.clone() }).contains("dim 2 is none of shape [3, 4]"));
        assert!(error(Piece { start: 1, ..good.clone() }).contains("slice 1..1+3 of dim 0 reaches beyond 0..3"));
        assert!(error(Piece { start: usize::MAX, ..good.clone() }).contains("reaches beyond 0..3"));
        assert!(error(Piece { to: 13, ..good.clone() }).contains("elements 0..13 are no range within the slice's 0..12"));
        assert!(error(Piece { from: 12, to: 11, ..good.clone() }).contains("elements 12..11"));
        assert!(error(Piece::whole(&[usize::MAX, 2])).contains("fit in memory"));
        assert_eq!(Piece { to: 13, ..good }.runs().count(), 0);
    }

    #[test]
    fn a_scalar_is_a_piece_too() {
        let scalar = Piece::whole(&[]);
        scalar.check().unwrap();
        assert_eq!(scalar.runs().collect::<Vec<_>>(), [Run { whole: 0, piece: 0, length: 1 }]);
    }

    #[test]
    fn a_slice_of_the_first_dim_is_one_run() {
        let rows = Piece::slice(&[5, 4], 0, 2, 2);
        assert_eq!(rows.runs().collect::<Vec<_>>(), [Run { whole: 8, piece: 0, length: 8 }]);
        let columns = Piece { from: 1, ..Piece::slice(&[2, 4], 1, 1, 2) };
        let expected = [Run { whole: 2, piece: 0, length: 1 }, Run { whole: 5, piece: 1, length: 2 }];
        assert_eq!(columns.runs().collect::<Vec<_>>(), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn runs_are_what_the_fields_say((cut, _) in two_cuts()) {
            let whole: Vec<usize> = (0..cut.shape.iter().product()).collect();
            for piece in cut.pieces() {
                piece.check().unwrap();
                let picked: Vec<usize> = piece.runs().flat_map(|run| run.whole..run.whole + run.length).collect();
                prop_assert_eq!(&picked, &pick(&whole, &piece));
                let offsets: Vec<usize> = piece.runs().flat_map(|run| run.piece..run.piece + run.length).collect();
                prop_assert_eq!(offsets, (0..piece.elements()).collect::<Vec<_>>());
                prop_assert_eq!(piece.run_count(), piece.runs().count());
            }
        }

        #[test]
        fn resharding_there_and_back_is_the_identity((a, b) in two_cuts()) {
            let whole: Vec<usize> = (0..a.shape.iter().product()).collect();
            let cut = |pieces: Vec<Piece>| pieces.into_iter().map(|p| (p.clone(), pick(&whole, &p))).collect::<Vec<_>>();
            let (in_a, in_b) = (cut(a.pieces()), cut(b.pieces()));
            let moved: Vec<_> = b.pieces().into_iter().map(|p| (p.clone(), assemble(&in_a, &p))).collect();
            prop_assert_eq!(&moved, &in_b);
            let back: Vec<_> = a.pieces().into_iter().map(|p| (p.clone(), assemble(&moved, &p))).collect();
            prop_assert_eq!(&back, &in_a);
            prop_assert_eq!(assemble(&in_b, &Piece::whole(&a.shape)), whole);
        }

        #[test]
        fn copies_are_in_order_and_as_long_as_they_can_be((a, b) in two_cuts()) {
            for (source, target) in a.pieces().iter().flat_map(|s| b.pieces().into_iter().map(move |t| (s, t))) {
                let copies = overlaps(source, &target);
                for pair in copies.windows(2) {
                    let (from, to) = (pair[0].from + pair[0].length, pair[0].to + pair[0].length);
                    prop_assert!(pair[1].from >= from && pair[1].to >= to);
                    prop_assert!((pair[1].from, pair[1].to) != (from, to));
                }
            }
        }
    }
}
