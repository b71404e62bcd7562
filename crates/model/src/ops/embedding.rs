//! The embedding: a row of the table for each token id; its backward adds each row's gradient back, in a fixed order.

use tch::{Kind, Tensor};

use super::by_element;
use crate::raw::{Element, elements, elements_mut};

/// `ids [T]`, `table [V, D]` → `[T, D]`. Every id is below V (a [`crate::Batch`] has checked that).
pub fn forward(ids: &[i64], table: &Tensor) -> Tensor {
    table.index_select(0, &Tensor::from_slice(ids))
}

/// Adds `dy [T, D]` to the rows of `dtable [V, D]` (fp32) that `ids` name.
pub fn backward(ids: &[i64], dy: &Tensor, dtable: &mut Tensor) {
    debug_assert_eq!(dtable.kind(), Kind::Float);
    by_element!(dy.kind(), A => add_rows::<A>(ids, dy, dtable));
}

fn add_rows<A: Element>(ids: &[i64], dy: &Tensor, dtable: &mut Tensor) {
    let width = dy.size()[1] as usize;
    let dtable = elements_mut::<f32>(dtable);
    for (&id, dy) in ids.iter().zip(elements::<A>(dy).chunks(width)) {
        let start = id as usize * width;
        dtable[start..start + width].iter_mut().zip(dy).for_each(|(row, dy)| *row += dy.widen());
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
        backward(&ids, &dy, &mut dtable);
        assert_close("dtable", &dtable, &leaf.grad());
        assert_close("rows", &forward(&ids, &table), &table.index_select(0, &Tensor::from_slice(&ids)));
    }
}
