//! The rotary embedding on a device, in place: heads stay `[T, H, E]`.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Tensor};

use super::{documents, spread, typed, upload};
use crate::batch::Documents;
use crate::ops::heads::Rotation;
use crate::ops::rope::RopeTable;
use crate::raw::cuda::{Argument, launch};

/// The angles of the newest tables, on their devices: cosines and sines, `[positions, E/2]`.
static ANGLES: Mutex<Vec<(u64, Device, [Tensor; 2])>> = Mutex::new(Vec::new());

/// Tables that are kept on devices: the one in use and the one that it outgrows.
const KEPT: usize = 2;

/// Turns each head of `x [T, heads · E]`, in place, to its token's position in its document; with `sign` −1 back.
///
/// # Panics
/// If a document reaches beyond the table.
pub(crate) fn turn(x: &mut Tensor, documents: &Documents, rotation: Rotation<'_>, sign: f32) {
    let half = rotation.table.half();
    let (tokens, heads) = (documents.tokens(), x.numel() / documents.tokens().max(1) / (2 * half).max(1));
    let reached = rotation.first + documents.longest();
    assert!(reached <= rotation.table.positions(), "position {reached} of a table of {}", rotation.table.positions());
    let [cosines, sines] = angles(rotation.table, x.device());
    let positions = documents::on(x.device(), documents, rotation.first).positions;
    let kernel = typed("rope", x);
    launch(
        &kernel,
        spread(tokens * heads * half.div_ceil(8)),
        &mut [
            Argument::Out(x),
            Argument::In(&cosines),
            Argument::In(&sines),
            Argument::In(&positions),
            Argument::Int(tokens),
            Argument::Int(heads),
            Argument::Int(half),
            Argument::Float(sign),
        ],
    );
}

fn angles(table: &RopeTable, device: Device) -> [Tensor; 2] {
    let mut kept = ANGLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, _, found)) = kept.iter().find(|(id, on, _)| *id == table.id() && *on == device) {
        return found.each_ref().map(Tensor::shallow_clone);
    }
    let made = [table.cosines(), table.sines()].map(|values| upload(values, device));
    kept.insert(0, (table.id(), device, made.each_ref().map(Tensor::shallow_clone)));
    kept.truncate(KEPT);
    made
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::ops::heads::{self, HeadShape};
    use crate::ops::oracle::{RELATIVE, RELATIVE_BF16, difference, random};
    use crate::raw::emulated;

    #[test]
    fn turning_agrees_with_the_cpu_whatever_the_layout() {
        if !emulated::available() {
            return;
        }
        let documents = Documents::new(&[0, 1, 18, 23], 23).unwrap();
        for head_dim in [6, 16, 64] {
            let shape = HeadShape { kv_heads: 2, group: 1, head_dim };
            let table = RopeTable::new(head_dim, 1e4, 40);
            let rotation = Rotation { table: &table, first: 5 };
            for (kind, tolerance) in [(Kind::Float, RELATIVE), (Kind::BFloat16, RELATIVE_BF16)] {
                let x = random(&[23, shape.width() as i64], 1).to_kind(kind);
                let mut turned = x.copy();
                turn(&mut turned, &documents, rotation, 1.0);
                // Through the head layout and back: what is left is the turn.
                let expected = heads::merge(&heads::split(&x, &documents, shape, Some(rotation)), &documents, shape, None);
                assert!(difference(&turned, &expected) <= tolerance, "{head_dim} {kind:?}");
                turn(&mut turned, &documents, rotation, -1.0);
                assert!(difference(&turned, &x) <= tolerance, "{head_dim} {kind:?} back");
            }
        }
    }
}
