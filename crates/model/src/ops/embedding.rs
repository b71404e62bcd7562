//! The embedding: a row of the table for each token id; its backward adds each row's gradient back, in a fixed order.
//!
//! The table may be a slice of the vocabulary: ids outside of it give zeros, so that the sum over all slices is the whole's.

use tch::{Kind, Tensor};

use super::{by_element, cuda, on_device};
use crate::raw::{Element, elements, elements_mut};

/// `ids [T]`, `table [v, D]` holding the rows from id `first` on → `[T, D]`.
pub fn forward(ids: &[i64], table: &Tensor, first: i64) -> Tensor {
    if on_device(table) {
        return cuda::embedding::forward(ids, table, first);
    }
    let rows = table.size()[0];
    let inside = |id: &i64| (first..first + rows).contains(id);
    if ids.iter().all(inside) {
        let ids: Vec<i64> = ids.iter().map(|id| id - first).collect();
        return table.index_select(0, &Tensor::from_slice(&ids));
    }
    let nearest: Vec<i64> = ids.iter().map(|id| (id - first).clamp(0, rows - 1)).collect();
    let here: Vec<f32> = ids.iter().map(|id| f32::from(u8::from(inside(id)))).collect();
    table.index_select(0, &Tensor::from_slice(&nearest)) * Tensor::from_slice(&here).to_kind(table.kind()).unsqueeze(1)
}

/// Adds `dy [T, D]` to the rows of `dtable [v, D]` (fp32, the rows from id `first` on) that `ids` name.
pub fn backward(ids: &[i64], dy: &Tensor, dtable: &mut Tensor, first: i64) {
    if on_device(dtable) {
        return cuda::embedding::backward(ids, dy, dtable, first);
    }
    debug_assert_eq!(dtable.kind(), Kind::Float);
    by_element!(dy.kind(), A => add_rows::<A>(ids, dy, dtable, first));
}

fn add_rows<A: Element>(ids: &[i64], dy: &Tensor, dtable: &mut Tensor, first: i64) {
    let width = dy.size()[1] as usize;
    let dtable = elements_mut::<f32>(dtable);
    for (&id, dy) in ids.iter().zip(elements::<A>(dy).chunks(width)) {
        let row = usize::try_from(id - first).ok().and_then(|row| dtable.get_mut(row * width..(row + 1) * width));
        row.into_iter().flatten().zip(dy).for_each(|(row, dy)| *row += dy.widen());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{assert_close, random, zeros};

    #[test]
    fn gradients_agree_with_autograd() {
        let (table, dy) = (random(&[11, 6], 1), random(&[5, 6], 2));
        let ids = [3i64, 10, 3, 0, 3];
        let leaf = table.copy().set_requires_grad(true);
        (leaf.index_select(0, &Tensor::from_slice(&ids)) * &dy).sum(Kind::Float).backward();
        let mut dtable = zeros(&[11, 6]);
        backward(&ids, &dy, &mut dtable, 0);
        assert_close("dtable", &dtable, &leaf.grad());
        assert_close("rows", &forward(&ids, &table, 0), &table.index_select(0, &Tensor::from_slice(&ids)));
    }

    #[test]
    fn slices_of_the_vocabulary_add_up_to_the_whole() {
        let (table, dy) = (random(&[11, 6], 1), random(&[5, 6], 2));
        let ids = [3i64, 10, 3, 0, 4];
        let (mut whole, mut sum, mut parts) = (zeros(&[11, 6]), zeros(&[5, 6]), Vec::new());
        backward(&ids, &dy, &mut whole, 0);
        for (first, rows) in [(0, 4), (4, 4), (8, 3)] {
            sum += forward(&ids, &table.narrow(0, first, rows), first);
            let mut part = zeros(&[rows, 6]);
            backward(&ids, &dy, &mut part, first);
            parts.push(part);
        }
        assert_close("rows", &sum, &forward(&ids, &table, 0));
        assert_close("dtable", &Tensor::cat(&parts, 0), &whole);
    }
}
