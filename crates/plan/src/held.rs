//! What a rank of each stage holds of a model: the same arithmetic as `crates/parallel/src/layout.rs`, without the tensors.

use sirocco_config::Parallel;

use crate::mesh::layers_of_stages;
use crate::model::Model;
use crate::work::Work;

/// What the rank with the largest pieces of a stage holds, and what it brings together for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Blocks of the stage.
    pub layers: u64,
    /// Elements of its pieces of weights that are not trained.
    pub frozen: u64,
    /// Elements of its pieces of weights that are.
    pub trained: u64,
    /// Whether its pieces are whole slices, so that nothing is gathered and products use them where they lie.
    pub whole: bool,
    /// Of one block, over the ranks of the fsdp axis.
    pub block: Unit,
    /// Of the embedding, where the stage has it.
    pub embedding: Option<Unit>,
    /// Of the last norm and the head, where the stage has them.
    pub head: Option<Unit>,
}

/// Weights that are gathered together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Elements of all its slices.
    pub elements: u64,
    /// Those of them that are trained.
    pub trained: u64,
    /// Those of its pieces that this rank holds; the trained ones.
    pieces: (u64, u64),
}

impl Unit {
    fn add(&mut self, elements: u64, trained: bool, fsdp: u64) {
        let piece = elements.div_ceil(fsdp);
        self.elements += elements;
        self.pieces.0 += piece;
        if trained {
            self.trained += elements;
            self.pieces.1 += piece;
        }
    }
}

impl Held {
    /// Every unit of the stage, in the order of a forward.
    pub(crate) fn units(&self) -> impl Iterator<Item = Unit> {
        let blocks = (0..self.layers).map(|_| self.block);
        self.embedding.into_iter().chain(blocks).chain(self.head)
    }

    /// Bytes of the largest unit in use: values of `element` bytes, and gradients of what is trained.
    pub fn largest_unit(&self, element: u64) -> (u64, u64) {
        let bytes = |unit: Unit| (unit.elements * element, unit.trained * 4);
        self.units().map(bytes).max_by_key(|(values, gradients)| values + gradients).unwrap_or((0, 0))
    }

    /// Bytes of values, gradients and moments between steps, as `sirocco-train bench` counts them under `held_bytes`.
    pub fn bytes(&self, element: u64) -> u64 {
        self.frozen * element + self.trained * 16
    }
}

/// What the first rank of each stage holds; no other holds more. The mesh fits the model.
pub fn held(model: &Model, work: &Work, parallel: &Parallel) -> Vec<Held> {
    let stages = layers_of_stages(model, parallel.pp);
    let last = stages.len() - 1;
    let (block, norm) = (block(model, work, parallel), norm(model, work, parallel));
    let table = table(model, work, parallel);
    let of_stage = |(stage, layers): (usize, &u64)| {
        let mut held = Held { layers: *layers, whole: parallel.fsdp == 1, block, ..Held::default() };
        let mut pieces = (layers * block.pieces.0, layers * block.pieces.1);
        let mut hold = |unit: Unit| pieces = (pieces.0 + unit.pieces.0, pieces.1 + unit.pieces.1);
        if stage == 0 {
            held.embedding = Some(table);
            hold(table);
        }
        if stage == last {
            held.head =
                Some(Unit { elements: table.elements + norm.elements, trained: table.trained + norm.trained, pieces: (0, 0) });
            hold(norm);
            // A tied head is the embedding; only on another stage is it there a second time.
            if !(model.tied && stage == 0) {
                hold(table);
            }
        }
        (held.trained, held.frozen) = (pieces.1, pieces.0 - pieces.1);
        held
    };
    stages.iter().enumerate().map(of_stage).collect()
}

fn block(model: &Model, work: &Work, parallel: &Parallel) -> Unit {
    let mut unit = Unit::default();
    let mut add = |elements, trained| unit.add(elements, trained, parallel.fsdp);
    (0..2).for_each(|_| add(model.hidden, work.is_full()));
    for linear in model.linears(parallel.tp) {
        add(linear.elements(), work.is_full());
        let rank = work.rank_on(linear.projection);
        if rank > 0 {
            add(rank * linear.inputs, true);
            add(rank * linear.outputs, true);
        }
    }
    unit
}

fn norm(model: &Model, work: &Work, parallel: &Parallel) -> Unit {
    let mut unit = Unit::default();
    unit.add(model.hidden, work.is_full(), parallel.fsdp);
    unit
}

fn table(model: &Model, work: &Work, parallel: &Parallel) -> Unit {
    let mut unit = Unit::default();
    unit.add(model.vocabulary / parallel.tp * model.hidden, work.is_full(), parallel.fsdp);
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::mesh;
    use crate::model::tests::{SEVEN, SMALL};
    use crate::work::tests::{full, lora};

    #[test]
    fn a_rank_alone_holds_everything() {
        let held = &held(&SMALL, &full(), &mesh(1, 1, 1, 1))[0];
        assert_eq!((held.trained, held.frozen), (SMALL.parameters(), 0));
        // Measured by `make bench` (benches/reports/2026-11-22-scaling.md): 2152 MB held, and two units of 340 MB together.
        assert_eq!(held.bytes(2) / 1_000_000, 2152);
        let (values, gradients) = held.largest_unit(2);
        assert_eq!((2 * (values + gradients) + 500_000) / 1_000_000, 340);
    }

    #[test]
    fn a_rank_of_four_holds_a_quarter_of_base_and_adapter() {
        let held = &held(&SMALL, &lora(), &mesh(1, 1, 4, 1))[0];
        assert_eq!((held.bytes(2) + 500_000) / 1_000_000, 87, "as measured");
        assert_eq!(4 * held.frozen, SMALL.parameters());
        // Rank 16 on seven projections of 30 layers: 16 × (in + out) each.
        assert_eq!(4 * held.trained, 30 * 16 * (4992 + 5184));
    }

    #[test]
    fn stages_and_tensor_ranks_cover_the_model_once_but_for_norms_and_a_tied_table() {
        let over =
            |model: &Model, pp, tp| -> u64 { held(model, &full(), &mesh(pp, 1, 1, tp)).iter().map(|held| held.trained).sum() };
        assert_eq!(over(&SEVEN, 4, 1), SEVEN.parameters());
        assert_eq!(over(&SMALL, 2, 1), SMALL.parameters() + 49152 * 576);
        let norms = (2 * 32 + 1) * 4096;
        assert_eq!(2 * over(&SEVEN, 1, 2), SEVEN.parameters() + norms);
    }
}
