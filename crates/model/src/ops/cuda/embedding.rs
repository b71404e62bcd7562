//! The embedding on a device. For the backward tokens are grouped by id on the host, so that each row of the table is summed by one block,
//! in the tokens' order.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{one_a_row, typed, upload};
use crate::raw::cuda::{Argument, launch};

/// `ids [T]`, `table [v, D]` holding the rows from id `first` on → `[T, D]`; zeros for ids outside.
pub fn forward(ids: &[i64], table: &Tensor, first: i64) -> Tensor {
    let rows = table.size()[0];
    let inside = |id: &i64| (first..first + rows).contains(id);
    let nearest: Vec<i64> = ids.iter().map(|id| (id - first).clamp(0, rows - 1)).collect();
    let picked = table.index_select(0, &upload(&nearest, table.device()));
    if ids.iter().all(inside) {
        return picked;
    }
    let here: Vec<f32> = ids.iter().map(|id| f32::from(u8::from(inside(id)))).collect();
    picked * upload(&here, table.device()).to_kind(table.kind()).unsqueeze(1)
}

/// Adds `dy [T, D]` to the rows of `dtable [v, D]` (fp32, the rows from id `first` on) that `ids` name.
///
/// # Panics
/// If `ids` are not T, or the widths differ.
pub fn backward(ids: &[i64], dy: &Tensor, dtable: &mut Tensor, first: i64) {
    // The kernel finds its way by these ids alone.
    assert!(
        ids.len() as i64 == dy.size()[0] && dtable.size()[1] == dy.size()[1],
        "{} ids, {:?}, {:?}",
        ids.len(),
        dy.size(),
        dtable.size()
    );
    let groups = Groups::new(ids, first..first + dtable.size()[0]);
    let device = dy.device();
    let [rows, starts, order] = [&groups.rows, &groups.starts, &groups.order].map(|numbers| upload(numbers, device));
    launch(
        &typed("embedding_backward", dy),
        one_a_row(groups.rows.len()),
        &mut [
            Argument::Out(dtable),
            Argument::In(dy),
            Argument::In(&rows),
            Argument::In(&starts),
            Argument::In(&order),
            Argument::Int(dy.size()[1] as usize),
        ],
    );
}

/// Tokens by row of the table.
struct Groups {
    /// Rows that have tokens, rising.
    rows: Vec<i32>,
    /// Where each row's tokens begin in `order`, and the end.
    starts: Vec<i32>,
    /// Tokens, by row, in their order within a row.
    order: Vec<i32>,
}

impl Groups {
    fn new(ids: &[i64], here: std::ops::Range<i64>) -> Self {
        let mut tokens: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
        for (token, id) in ids.iter().enumerate().filter(|(_, id)| here.contains(id)) {
            tokens.entry(id - here.start).or_default().push(i32::try_from(token).unwrap_or(i32::MAX));
        }
        let rows = tokens.keys().map(|&row| i32::try_from(row).unwrap_or(i32::MAX)).collect();
        let lengths = tokens.values().map(|tokens| tokens.len() as i32);
        let ends = lengths.scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        Self { rows, starts, order: tokens.into_values().flatten().collect() }
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::ops::embedding as cpu;
    use crate::ops::oracle::{RELATIVE, difference, random};
    use crate::raw::emulated;

    #[test]
    fn it_agrees_with_the_cpu_for_slices_of_the_vocabulary_too() {
        if !emulated::available() {
            return;
        }
        let ids = [3i64, 10, 3, 0, 3, 4, 10];
        for kind in [Kind::Float, Kind::BFloat16] {
            let dy = random(&[7, 24], 2).to_kind(kind);
            for (first, rows) in [(0, 11), (4, 4), (8, 3), (5, 2)] {
                let (mut found, mut expected) = (random(&[rows, 24], 3), random(&[rows, 24], 3));
                backward(&ids, &dy, &mut found, first);
                cpu::backward(&ids, &dy, &mut expected, first);
                assert!(difference(&found, &expected) <= RELATIVE, "{kind:?} from {first}");
                let table = random(&[rows, 24], 4).to_kind(kind);
                assert!(forward(&ids, &table, first).equal(&cpu::forward(&ids, &table, first)));
            }
        }
    }

    #[test]
    fn tokens_are_grouped_in_their_order() {
        let groups = Groups::new(&[5, 9, 5, 2, 6], 5..8);
        assert_eq!((groups.rows, groups.starts, groups.order), (vec![0, 1], vec![0, 2, 3], vec![0, 2, 4]));
    }
}
