//! From rows of tokens to heads of documents and back, with the rotary embedding applied on the way.
//!
//! Attention reads each key/value head of each document as one contiguous matrix. The order of elements, the *head layout*, is
//! document, key/value head, token, query head of the group, dim: a flat tensor in which document `d` with L tokens from token `o` on
//! starts at `o · H · E` and is `[K, L · G, E]`. For keys and values G is 1.

use rayon::prelude::*;
use tch::Tensor;

use super::rope::RopeTable;
use super::{by_element, cuda, empty, on_device};
use crate::batch::Documents;
use crate::raw::{Element, elements, elements_mut, vectorised};

/// Tokens that one task takes.
const TOKENS: usize = 32;

/// How the columns of a projection divide into heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// K.
    pub kv_heads: usize,
    /// G: query heads per key/value head; 1 for keys and values themselves.
    pub group: usize,
    /// E.
    pub head_dim: usize,
}

impl HeadShape {
    /// Elements of one token, K · G · E.
    pub fn width(&self) -> usize {
        self.kv_heads * self.group * self.head_dim
    }
}

/// A rotary embedding and the position of each document's first token (0, except when a cache holds what came before).
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// The angles.
    pub table: &'a RopeTable,
    /// Position of the first token.
    pub first: usize,
}

/// `x [T, K · G · E]` → flat in head layout, each head turned to its position.
///
/// On a device there is no head layout: `x` itself is turned, in place, and returned flat.
pub fn split(x: &Tensor, documents: &Documents, shape: HeadShape, rotation: Option<Rotation<'_>>) -> Tensor {
    if on_device(x) {
        return turned(x, documents, rotation, 1.0).view([-1]);
    }
    let mut out = empty(&[x.numel() as i64], x.kind());
    by_element!(x.kind(), A => {
        let source = elements::<A>(x);
        let mut tasks = Vec::new();
        let mut rest = elements_mut::<A>(&mut out);
        for (start, length) in documents.iter() {
            let (document, after) = rest.split_at_mut(length * shape.width());
            rest = after;
            for (kv_head, head) in document.chunks_mut(length * shape.group * shape.head_dim).enumerate() {
                let blocks = head.chunks_mut(TOKENS * shape.group * shape.head_dim);
                tasks.extend(blocks.enumerate().map(|(block, out)| (start, kv_head, block * TOKENS, out)));
            }
        }
        tasks.into_par_iter().for_each(|(start, kv_head, token, out)| {
            vectorised(#[inline(always)] || split_block(Block { start, kv_head, token, shape, rotation }, source, out));
        });
    });
    out
}

#[derive(Clone, Copy)]
struct Block<'a> {
    start: usize,
    kv_head: usize,
    token: usize,
    shape: HeadShape,
    rotation: Option<Rotation<'a>>,
}

#[inline(always)]
fn split_block<A: Element>(block: Block<'_>, source: &[A], out: &mut [A]) {
    let (group, head_dim) = (block.shape.group, block.shape.head_dim);
    let mut head = vec![0.0f32; head_dim];
    for (row, out) in out.chunks_mut(head_dim).enumerate() {
        let (token, query) = (block.token + row / group, row % group);
        let from = (block.start + token) * block.shape.width() + (block.kv_head * group + query) * head_dim;
        head.iter_mut().zip(&source[from..from + head_dim]).for_each(|(head, x)| *head = x.widen());
        if let Some(rotation) = block.rotation {
            rotation.table.turn(&mut head, rotation.first + token, 1.0);
        }
        out.iter_mut().zip(&head).for_each(|(out, &head)| *out = A::narrow(head));
    }
}

/// Flat in head layout → `[T, K · G · E]`, each head turned back: the inverse of [`split`], and, turns being orthogonal, its backward.
///
/// On a device `x` itself is turned back, in place.
pub fn merge(x: &Tensor, documents: &Documents, shape: HeadShape, rotation: Option<Rotation<'_>>) -> Tensor {
    if on_device(x) {
        return turned(x, documents, rotation, -1.0).view([documents.tokens() as i64, shape.width() as i64]);
    }
    let mut out = empty(&[documents.tokens() as i64, shape.width() as i64], x.kind());
    by_element!(x.kind(), A => {
        let source = elements::<A>(x);
        let mut tasks = Vec::new();
        let mut rest = elements_mut::<A>(&mut out);
        for (start, length) in documents.iter() {
            let (document, after) = rest.split_at_mut(length * shape.width());
            rest = after;
            let heads = &source[start * shape.width()..(start + length) * shape.width()];
            let blocks = document.chunks_mut(TOKENS * shape.width());
            tasks.extend(blocks.enumerate().map(|(block, out)| (heads, length, block * TOKENS, out)));
        }
        tasks.into_par_iter().for_each(|(heads, length, first, out)| {
            vectorised(#[inline(always)] || {
                for (row, out) in out.chunks_mut(shape.width()).enumerate() {
                    merge_token(heads, length, first + row, out, (shape, rotation));
                }
            });
        });
    });
    out
}

/// Another handle on `x`, whose heads are turned in place.
fn turned(x: &Tensor, documents: &Documents, rotation: Option<Rotation<'_>>, sign: f32) -> Tensor {
    let mut x = x.shallow_clone();
    if let Some(rotation) = rotation {
        cuda::rope::turn(&mut x, documents, rotation, sign);
    }
    x
}

#[inline(always)]
fn merge_token<A: Element>(heads: &[A], length: usize, token: usize, out: &mut [A], how: (HeadShape, Option<Rotation<'_>>)) {
    let (shape, rotation) = how;
    let head_dim = shape.head_dim;
    let mut head = vec![0.0f32; head_dim];
    for (index, out) in out.chunks_mut(head_dim).enumerate() {
        let (kv_head, query) = (index / shape.group, index % shape.group);
        let from = ((kv_head * length + token) * shape.group + query) * head_dim;
        head.iter_mut().zip(&heads[from..from + head_dim]).for_each(|(head, x)| *head = x.widen());
        if let Some(rotation) = rotation {
            rotation.table.turn(&mut head, rotation.first + token, -1.0);
        }
        out.iter_mut().zip(&head).for_each(|(out, &head)| *out = A::narrow(head));
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::ops::oracle::{assert_close, random};

    const SHAPE: HeadShape = HeadShape { kv_heads: 2, group: 3, head_dim: 8 };

    #[test]
    fn merging_undoes_splitting() {
        let documents = Documents::new(&[0, 1, 40, 47], 47).unwrap();
        let x = random(&[47, SHAPE.width() as i64], 1);
        let table = RopeTable::new(8, 1e4, 64);
        for rotation in [None, Some(Rotation { table: &table, first: 5 })] {
            let flat = split(&x, &documents, SHAPE, rotation);
            assert_close("x", &merge(&flat, &documents, SHAPE, rotation), &x);
        }
    }

    #[test]
    fn the_layout_is_document_head_token_query() {
        let documents = Documents::single(4);
        let x = random(&[4, SHAPE.width() as i64], 1);
        let flat = split(&x, &documents, SHAPE, None);
        let expected = x.view([4, 2, 3, 8]).permute([1, 0, 2, 3]).contiguous().view([-1]);
        assert!(flat.equal(&expected));
    }

    #[test]
    fn turning_agrees_with_the_rotate_half_formula() {
        let (length, head_dim) = (6i64, 8i64);
        let shape = HeadShape { kv_heads: 1, group: 1, head_dim: 8 };
        let x = random(&[length, head_dim], 4);
        let exponent = Tensor::arange_start_step(0, head_dim, 2, (Kind::Float, Device::Cpu)) / head_dim as f64;
        let angles = Tensor::arange(length, (Kind::Float, Device::Cpu))
            .outer(&Tensor::full([1], 1e4, (Kind::Float, Device::Cpu)).pow(&(-exponent)));
        let angles = Tensor::cat(&[&angles, &angles], 1);
        let rotated = Tensor::cat(&[-x.narrow(1, 4, 4), x.narrow(1, 0, 4)], 1);
        let expected = &x * angles.cos() + rotated * angles.sin();
        let table = RopeTable::new(8, 1e4, 6);
        let found = split(&x, &Documents::single(6), shape, Some(Rotation { table: &table, first: 0 }));
        assert_close("turned", &found.view([length, head_dim]), &expected);
    }
}
