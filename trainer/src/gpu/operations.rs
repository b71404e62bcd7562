//! Each operation on a device against its twin on the CPU.

use sirocco_model::Documents;
use sirocco_model::Whole;
use sirocco_model::ops::attention::{self, Inputs};
use sirocco_model::ops::cross_entropy::{self, Head};
use sirocco_model::ops::heads::{self, HeadShape, Rotation};
use sirocco_model::ops::rope::RopeTable;
use sirocco_model::ops::{embedding, rmsnorm, swiglu};
use tch::{Device, Kind, Tensor};

use super::compare::{Finding, compare, random};
use super::tolerance;
use crate::failure::Failure;

/// All of them, in both element types.
pub(super) fn check(device: Device) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for kind in [Kind::Float, Kind::BFloat16] {
        for work in [norms, gates, attentions, losses, embeddings] {
            findings.extend(work(device, kind)?);
        }
    }
    Ok(findings)
}

/// Widths that are a multiple of what a thread loads, and one that is not.
fn norms(device: Device, kind: Kind) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for (tokens, width) in [(3, 50), (257, 4096)] {
        let shape = [tokens, width];
        let mut inputs: Vec<Tensor> = (1..=4).map(|seed| random(&shape, seed, kind)).collect();
        inputs.extend([random(&[width], 5, kind), random(&[width], 6, Kind::Float)]);
        let name = format!("RMSNorm [{tokens}, {width}]");
        findings.extend(compare((&name, kind, tolerance::operation(kind)), &inputs, device, |inputs| {
            let [x, delta, dy, dx, w, dw] = handles(inputs)?;
            let (mut x, mut dx, mut dw) = (x, dx, dw);
            let (y, saved) = rmsnorm::forward_residual(&mut x, &delta, &w, 1e-5);
            rmsnorm::backward(&dy, (&x, &saved), &w, &mut dx, Some(&mut dw));
            let (alone, _) = rmsnorm::forward(&dy, &w, 1e-5);
            Ok(vec![("sum", x), ("y", y), ("dx", dx), ("dw", dw), ("without residual", alone)])
        })?);
    }
    Ok(findings)
}

fn gates(device: Device, kind: Kind) -> Result<Vec<Finding>, Failure> {
    let inputs: Vec<Tensor> = (1..=3).map(|seed| random(&[33, 1001], seed, kind)).collect();
    compare(("SwiGLU", kind, tolerance::operation(kind)), &inputs, device, |inputs| {
        let [gate, up, dy] = handles(inputs)?;
        let out = swiglu::forward(&gate, &up);
        let (dgate, dup) = swiglu::backward(&dy, gate, up);
        Ok(vec![("a", out), ("dgate", dgate), ("dup", dup)])
    })
}

/// Attention with its rotary embedding, from projections to projections, so that the layout between them may differ. Documents of one
/// token, of fewer and of more than the kernels' blocks.
fn attentions(device: Device, kind: Kind) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for (kv_heads, group, head_dim) in [(2, 3, 64), (2, 4, 128), (3, 1, 24)] {
        let shape = HeadShape { kv_heads, group, head_dim };
        let keys = HeadShape { group: 1, ..shape };
        let documents = Documents::new(&[0, 1, 40, 173, 700], 700).map_err(Failure::model)?;
        let table = RopeTable::new(head_dim, 1e6, 600);
        let rotation = Some(Rotation { table: &table, first: 0 });
        let columns = [shape.width(), keys.width(), keys.width(), shape.width()];
        let inputs: Vec<Tensor> =
            columns.iter().zip(1..).map(|(&columns, seed)| random(&[700, columns as i64], seed, kind)).collect();
        let name = format!("attention {}×{kv_heads}×{head_dim}", kv_heads * group);
        findings.extend(compare((&name, kind, tolerance::operation(kind)), &inputs, device, |inputs| {
            let [q, k, v, dmixed] = handles(inputs)?;
            let heads = Inputs {
                q: heads::split(&q, &documents, shape, rotation),
                k: heads::split(&k, &documents, keys, rotation),
                v: heads::split(&v, &documents, keys, None),
            };
            let saved = attention::forward(&heads, &documents, shape);
            let mixed = heads::merge(&saved.out, &documents, shape, None).copy();
            let dout = heads::split(&dmixed, &documents, shape, None);
            let gradients = attention::backward(&dout, &heads, &saved, &documents, shape);
            let dq = heads::merge(&gradients.q, &documents, shape, rotation);
            let dk = heads::merge(&gradients.k, &documents, keys, rotation);
            let dv = heads::merge(&gradients.v, &documents, keys, None);
            Ok(vec![("out", mixed), ("dq", dq), ("dk", dk), ("dv", dv)])
        })?);
    }
    Ok(findings)
}

fn losses(device: Device, kind: Kind) -> Result<Vec<Finding>, Failure> {
    let (tokens, width, vocabulary) = (300, 64, 32_000);
    let targets: Vec<i64> = (0..tokens).map(|row| if row % 3 == 0 { -1 } else { row * 97 % vocabulary }).collect();
    let inputs =
        [random(&[tokens, width], 1, kind), random(&[vocabulary, width], 2, kind), random(&[vocabulary, width], 3, Kind::Float)];
    compare(("cross-entropy", kind, tolerance::operation(kind)), &inputs, device, |inputs| {
        let [h, weight, mut dhead] = handles(inputs)?;
        let head = Head { weight: &weight, first: 0, exchange: &Whole };
        let loss = cross_entropy::forward_backward(&h, head, &targets, 0.01, Some(&mut dhead)).map_err(Failure::failed)?;
        let alone = cross_entropy::forward(&h, head, &targets).map_err(Failure::failed)?;
        let sums = Tensor::from_slice(&[loss.sum, alone]);
        Ok(vec![("sum", sums), ("dh", loss.dh), ("dhead", dhead)])
    })
}

fn embeddings(device: Device, kind: Kind) -> Result<Vec<Finding>, Failure> {
    let ids: Vec<i64> = (0..900).map(|token| token * token % 211).collect();
    let inputs = [random(&[211, 72], 1, kind), random(&[900, 72], 2, kind), random(&[211, 72], 3, Kind::Float)];
    compare(("embedding", kind, tolerance::operation(kind)), &inputs, device, |inputs| {
        let [table, dy, mut dtable] = handles(inputs)?;
        let rows = embedding::forward(&ids, &table, 0);
        embedding::backward(&ids, &dy, &mut dtable, 0);
        Ok(vec![("rows", rows), ("dtable", dtable)])
    })
}

/// Handles on the inputs, one name for each.
fn handles<const N: usize>(inputs: &[Tensor]) -> Result<[Tensor; N], Failure> {
    let handles: Vec<Tensor> = inputs.iter().map(Tensor::shallow_clone).collect();
    handles.try_into().map_err(|_| Failure::failed("a comparison was given another number of inputs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself() {
        let findings = check(Device::Cpu).unwrap_or_default();
        assert!(findings.len() > 40, "{}", findings.len());
        let wrong: Vec<String> = findings.iter().filter(|finding| !finding.holds()).map(ToString::to_string).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
