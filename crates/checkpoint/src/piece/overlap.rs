//! What two pieces of one tensor have in common: the copies that turn one layout into another.

use super::Piece;

/// Elements to copy from a source piece into a target piece. Offsets and length count elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Offset of the first in the source piece.
    pub from: usize,
    /// Offset of the first in the target piece.
    pub to: usize,
    /// How many.
    pub length: usize,
}

/// What to copy from a source piece into a target piece of the same tensor, in order of both. Nothing where they share no
/// element, where they belong to tensors of different shapes, or where [`Piece::check`] refuses one of them.
pub(crate) fn overlaps(source: &Piece, target: &Piece) -> Vec<Copy> {
    let (Ok(from), Ok(to)) = (source.layout(), target.layout()) else {
        return Vec::new();
    };
    let mut copies: Vec<Copy> = Vec::new();
    if source.shape != target.shape {
        return copies;
    }
    let mut at = 0;
    while let (Some(a), Some(b)) = (from.run_from(at), to.run_from(at)) {
        let begin = a.whole.max(b.whole);
        let end = (a.whole + a.length).min(b.whole + b.length);
        if begin >= end {
            // One of the two ends before the other begins: go on where the later one begins.
            at = begin;
            continue;
        }
        let copy = Copy { from: a.piece + (begin - a.whole), to: b.piece + (begin - b.whole), length: end - begin };
        match copies.last_mut() {
            Some(last) if last.from + last.length == copy.from && last.to + last.length == copy.to => last.length += copy.length,
            _ => copies.push(copy),
        }
        at = end;
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_rows_are_picked() {
        let shape = [3, 4];
        let (rows, columns) = (Piece::slice(&shape, 0, 1, 2), Piece::slice(&shape, 1, 2, 2));
        let expected = [Copy { from: 2, to: 2, length: 2 }, Copy { from: 6, to: 4, length: 2 }];
        assert_eq!(overlaps(&rows, &columns), expected);
        assert_eq!(overlaps(&Piece::whole(&shape), &Piece::whole(&shape)), [Copy { from: 0, to: 0, length: 12 }]);
    }

    #[test]
    fn rows_that_follow_each_other_in_both_are_one_copy() {
        let columns = Piece::slice(&[3, 4], 1, 2, 2);
        assert_eq!(overlaps(&columns, &columns), [Copy { from: 0, to: 0, length: 6 }]);
    }

    #[test]
    fn other_tensors_share_nothing() {
        assert_eq!(overlaps(&Piece::whole(&[12]), &Piece::whole(&[3, 4])), []);
        let unsound = Piece { to: 13, ..Piece::whole(&[12]) };
        assert_eq!(overlaps(&unsound, &Piece::whole(&[12])), []);
        assert_eq!(overlaps(&Piece::whole(&[0, 4]), &Piece::whole(&[0, 4])), []);
    }
}
