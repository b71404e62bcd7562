//! Memory of the rank that needs most: what it holds between steps, and what is there for a moment in the middle of one.
//!
//! Each part is what the code of `crates/model` and `crates/parallel` keeps, counted from sizes: `Saved` of `block.rs` for activations,
//! `fsdp/residence.rs` for gathered units, `data/reduction.rs` for buckets, `run/saved.rs` of the trainer for the snapshot.

use serde::Serialize;
use sirocco_config::{Parallel, Recompute};

use crate::held::{Held, held};
use crate::machine::Kind;
use crate::mesh::{PlanError, expect_legal};
use crate::model::Model;
use crate::work::Work;

/// Rows of logits that exist at one time, on the CPU and on a GPU (`ROWS` in `crates/model/src/ops/`).
const ROWS: [u64; 2] = [256, 4096];
/// Queries of a long document that attention takes at one time on the CPU (`QUERIES` in `ops/attention.rs`).
const QUERIES: u64 = 128;
/// The host's allocator (mimalloc) has sizes up to an eighth apart: on the way a twelfth is lost.
const ROUNDING: u64 = 12;
/// Working memory of a rank of the host without a head: the allocator touches whole pages of two megabytes for each size of buffer. Seen on the
/// first of two stages of a pipeline (`benches/reports/2026-11-22-planning.md`); a head's own working memory is larger and covers it.
const FLOOR: u64 = 60_000_000;
/// Sums of gradients that may be under way (`UNDER_WAY` in `crates/parallel/src/data/reduction.rs`).
const UNDER_WAY: u64 = 3;

/// What a rank lives in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surroundings {
    /// Where it computes.
    pub kind: Kind,
    /// Bytes that a rank has before it loads a model: libraries, their kernels, MPI.
    pub base_bytes: u64,
}

/// Bytes of each part. On a GPU the snapshot is in the memory of the host, and not in the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights as products use them: pieces of the base, and a copy in its type of what is trained.
    pub weights: u64,
    /// fp32 master copies of what is trained.
    pub master: u64,
    /// fp32 gradients.
    pub gradients: u64,
    /// The optimizer's two moments, fp32.
    pub moments: u64,
    /// Units that FSDP brings together: values of two, gradients of the one in use and the one that leaves.
    pub gathered: u64,
    /// What blocks keep for their backward.
    pub activations: u64,
    /// What one block or the head needs while it works.
    pub workspace: u64,
    /// Sums of gradients on their way, and rows exchanged with ranks that share products.
    pub communication: u64,
    /// The copy that a checkpoint is written from: 12 bytes for each trained element of which the rank is the first holder.
    pub snapshot: u64,
    /// What the process has before it loads the model.
    pub base: u64,
    /// Whether the snapshot counts.
    #[serde(skip)]
    snapshot_elsewhere: bool,
}

/// A line of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub bytes: u64,
    /// What is in it.
    pub words: &'static str,
}

impl Memory {
    /// All that has to fit the device.
    pub fn total(&self) -> u64 {
        let snapshot = if self.snapshot_elsewhere { 0 } else { self.snapshot };
        let state = self.weights + self.master + self.gradients + self.moments;
        state + self.gathered + self.activations + self.workspace + self.communication + snapshot + self.base
    }

    /// Line by line.
    pub fn parts(&self) -> [Part; 10] {
        let snapshot = match self.snapshot_elsewhere {
            true => "in the host's memory, not counted here: what a checkpoint is written from",
            false => "what a checkpoint is written from: master copies and moments, 12 bytes an element",
        };
        let part = |name, bytes, words| Part { name, bytes, words };
        [
            part("weights", self.weights, "what products use"),
            part("master copies", self.master, "of what is trained, fp32"),
            part("gradients", self.gradients, "fp32"),
            part("moments", self.moments, "two of AdamW, fp32"),
            part("gathered units", self.gathered, "values of two, gradients of the one in use and the one that leaves"),
            part("activations", self.activations, "what blocks keep for their backward"),
            part("workspace", self.workspace, "one block or the head at work; logits are never whole"),
            part("communication", self.communication, "buckets of gradients, exchanged rows"),
            part("snapshot", self.snapshot, snapshot),
            part("process", self.base, "libraries and their kernels, before the model is loaded"),
        ]
    }
}

/// Memory of the rank that needs most.
///
/// # Errors
/// A mesh that does not fit model or batch.
pub fn memory(model: &Model, work: &Work, parallel: &Parallel, around: Surroundings) -> Result<Memory, PlanError> {
    expect_legal(model, work, parallel)?;
    let stages = held(model, work, parallel);
    let of_stage = |(stage, held): (usize, &Held)| Account { model, work, parallel, around, held, stage: stage as u64 }.memory();
    Ok(stages.iter().enumerate().map(of_stage).max_by_key(Memory::total).unwrap_or_default())
}

/// The rank of a stage with the largest pieces.
struct Account<'a> {
    model: &'a Model,
    work: &'a Work,
    parallel: &'a Parallel,
    around: Surroundings,
    held: &'a Held,
    stage: u64,
}

impl Account<'_> {
    fn memory(&self) -> Memory {
        let (held, element) = (self.held, self.work.element());
        // In fp32 the master copy is the weight.
        let copies = if held.whole && element < 4 { held.trained * element } else { 0 };
        let trained = held.trained * 4;
        Memory {
            weights: held.frozen * element + copies,
            master: trained,
            gradients: trained,
            moments: 2 * trained,
            gathered: self.gathered(),
            activations: self.activations(),
            workspace: self.workspace(),
            communication: self.communication(),
            snapshot: 3 * trained,
            base: self.around.base_bytes,
            snapshot_elsewhere: self.around.kind == Kind::Gpu,
        }
    }

    fn gathered(&self) -> u64 {
        if self.held.whole {
            return 0;
        }
        // What arrives is one message, and each weight of it is then given its own memory: twice the values while a unit comes.
        let (values, gradients) = self.held.largest_unit(self.work.element());
        let units = 2 * values + gradients + self.held.block.trained * 4;
        // `sirocco train` lets the allocator keep freed memory; on the host the gaps between buffers of other sizes come to a unit more.
        let gaps = if self.around.kind == Kind::Cpu { values + gradients } else { 0 };
        units + gaps
    }

    /// Micro-batches whose activations are kept at one time: those that this stage is ahead of the last.
    fn in_flight(&self) -> u64 {
        let micro_batches = self.work.global_batch / (self.work.micro_batch * self.parallel.data_ranks());
        (self.parallel.pp - self.stage).min(micro_batches.max(1))
    }

    fn activations(&self) -> u64 {
        let kept = self.kept(self.parallel.recompute);
        // The stage's output waits for its own backward, too.
        let output = self.work.micro_batch_tokens() * self.model.hidden * self.work.element() / self.parallel.tp;
        let exact = self.in_flight() * (self.held.layers * kept + output);
        if self.around.kind == Kind::Cpu { exact + exact / ROUNDING } else { exact }
    }

    /// Bytes that a block keeps of a micro-batch.
    fn kept(&self, recompute: Recompute) -> u64 {
        let (model, tp, tokens, element) = (self.model, self.parallel.tp, self.work.micro_batch_tokens(), self.work.element());
        let input = tokens * model.hidden * element / tp;
        if recompute == Recompute::Full {
            return input;
        }
        // Before and after the middle, normalised (all rows, for the products read them), and the middle itself (rows held here).
        let stream = input + tokens * model.hidden * 2 * element;
        let feed_forward = tokens * 3 * model.intermediate / tp * element;
        let norms = 2 * tokens * 4 / tp;
        let factors: u64 = model.linears(tp).iter().map(|linear| tokens * self.work.rank_on(linear.projection) * element).sum();
        let core = tokens * (2 * self.query_width() + 2 * self.key_width()) * element + tokens * model.heads / tp * 4;
        let core = if recompute == Recompute::Attention { 0 } else { core };
        input + stream + feed_forward + norms + factors + core
    }

    fn query_width(&self) -> u64 {
        self.model.heads * self.model.head_dim / self.parallel.tp
    }

    fn key_width(&self) -> u64 {
        self.model.kv_heads_of(self.parallel.tp) * self.model.head_dim
    }

    /// A block at work in its backward, and the head at work. On the host what one has freed does not serve the other.
    fn workspace(&self) -> u64 {
        let (block, head) = (self.block_at_work(), self.head_at_work());
        match self.around.kind {
            Kind::Cpu => block + head.max(FLOOR),
            Kind::Gpu => block.max(head),
        }
    }

    fn block_at_work(&self) -> u64 {
        let (model, tp, tokens, element) = (self.model, self.parallel.tp, self.work.micro_batch_tokens(), self.work.element());
        let feed_forward = 3 * model.hidden + 2 * model.intermediate / tp;
        let attention = 3 * model.hidden + 5 * self.query_width() + 4 * self.key_width();
        let scores = match self.around.kind {
            Kind::Cpu => 4 * QUERIES * model.heads / tp * self.work.texture.document.ceil() as u64 * element,
            Kind::Gpu => 0,
        };
        // What was forgotten is made again for one block at a time.
        let again = self.kept(Recompute::None) - self.kept(self.parallel.recompute);
        let product =
            if self.work.is_full() { model.linears(tp).iter().map(|linear| linear.elements() * element).max() } else { None };
        tokens * feed_forward.max(attention) * element + scores + again + product.unwrap_or(0)
    }

    fn head_at_work(&self) -> u64 {
        let Some(head) = self.held.head else { return 0 };
        let (model, tokens, element) = (self.model, self.work.micro_batch_tokens(), self.work.element());
        let [on_cpu, on_gpu] = ROWS.map(|rows| rows.min(tokens) * model.vocabulary / self.parallel.tp);
        let rows = 4 * tokens * model.hidden * element;
        match self.around.kind {
            // In bf16 libtorch's products put the head into another order first, one ahead and one back, and freed memory of this size does
            // not serve again (where units are gathered that is counted there). A trained one was seen to cost its fp32 size once more
            // (working memory in `benches/reports/2026-11-22-scaling.md`: 221 MB where LoRA needs 107); why, was not found out.
            Kind::Cpu => {
                let copies = if self.held.whole { 2 } else { 1 };
                let packed = if element < 4 { copies * head.elements * element } else { 0 };
                rows + on_cpu * element + packed + head.trained * 4
            }
            // Logits, and their gradient in fp32 before it is rounded.
            Kind::Gpu => rows + on_gpu * (element + 4),
        }
    }

    fn communication(&self) -> u64 {
        let (tokens, element) = (self.work.micro_batch_tokens(), self.work.element());
        let rows = if self.parallel.tp > 1 { 2 * tokens * self.model.hidden * element } else { 0 };
        let letters = if self.parallel.pp > 1 { 2 * tokens * self.model.hidden * element / self.parallel.tp } else { 0 };
        let buckets = if self.parallel.dp > 1 {
            // A bucket is full with the weight that fills it, however large that is.
            let largest = self.held.largest_unit(element).1 / self.parallel.fsdp;
            (UNDER_WAY * self.work.bucket_bytes + largest).min(2 * self.held.trained * 4)
        } else {
            0
        };
        rows + letters + buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::mesh;
    use crate::model::tests::{LARGE, SEVEN, SMALL};
    use crate::work::Texture;
    use crate::work::tests::{full, lora};

    const HOST: Surroundings = Surroundings { kind: Kind::Cpu, base_bytes: 0 };
    const GPU: Surroundings = Surroundings { kind: Kind::Gpu, base_bytes: 0 };

    fn with(recompute: Recompute) -> Parallel {
        Parallel { recompute, ..mesh(1, 1, 1, 1) }
    }

    #[test]
    fn activations_are_what_saved_keeps() {
        let of = |recompute| memory(&SMALL, &lora(), &with(recompute), GPU).unwrap().activations;
        // Counted by hand from block.rs, bytes a token and block: 4 × 576 rows of the stream, q and the result 576 each, k and v 192
        // each, gate, up and their product 1536 each, seven times rank 16, in bf16; two norms and nine normalisers in fp32.
        let each = 2 * (4 * 576 + 2 * 576 + 2 * 192 + 3 * 1536 + 7 * 16) + 4 * (2 + 9);
        let output = 1024 * 576 * 2;
        assert_eq!(of(Recompute::None), 30 * 1024 * each + output);
        assert_eq!(of(Recompute::None) - of(Recompute::Attention), 30 * 1024 * (2 * (2 * 576 + 2 * 192) + 4 * 9));
        assert_eq!(of(Recompute::Full), 30 * 1024 * 2 * 576 + output);
    }

    #[test]
    fn full_fine_tuning_has_sixteen_bytes_a_weight_and_lora_two() {
        let found = memory(&SEVEN, &full(), &mesh(1, 1, 1, 1), GPU).unwrap();
        let n = SEVEN.parameters();
        assert_eq!((found.weights, found.master, found.gradients, found.moments), (2 * n, 4 * n, 4 * n, 8 * n));
        let adapter = memory(&SEVEN, &lora(), &mesh(1, 1, 1, 1), GPU).unwrap();
        assert!(adapter.weights > 2 * n && adapter.weights < 2 * n + n / 50);
        assert_eq!(found.snapshot, 12 * n);
        assert!(found.total() < 19 * n, "a GPU does not hold the snapshot");
    }

    #[test]
    fn every_axis_lowers_what_it_is_there_to_lower() {
        let work = Work { global_batch: 64, micro_batch: 1, sequence_length: 4096, texture: Texture::whole(4096), ..full() };
        let of = |parallel: &Parallel| memory(&LARGE, &work, parallel, GPU).unwrap();
        let alone = of(&mesh(1, 1, 1, 1));
        assert!(of(&mesh(1, 1, 8, 1)).moments * 8 <= alone.moments + 8000);
        assert!(of(&mesh(1, 1, 1, 8)).moments < alone.moments / 7 && of(&mesh(1, 1, 1, 8)).activations < alone.activations / 3);
        assert!(of(&mesh(8, 1, 1, 1)).moments < alone.moments / 6);
        // The first stage keeps as many micro-batches as there are stages: a pipeline lowers weights, not activations.
        assert!(of(&mesh(8, 1, 1, 1)).activations >= alone.activations);
        assert_eq!(of(&mesh(1, 8, 1, 1)).moments, alone.moments);
    }

    #[test]
    fn parts_add_up() {
        for around in [HOST, GPU] {
            let found = memory(&SMALL, &full(), &mesh(1, 2, 2, 1), Surroundings { base_bytes: 7, ..around }).unwrap();
            let sum: u64 = found.parts().iter().map(|part| part.bytes).sum();
            assert_eq!(sum - found.total(), if around.kind == Kind::Gpu { found.snapshot } else { 0 });
        }
    }

    #[test]
    fn a_mesh_that_cannot_be_is_refused() {
        assert!(memory(&SMALL, &lora(), &mesh(1, 1, 1, 2), HOST).is_err());
        assert!(memory(&SMALL, &lora(), &mesh(31, 1, 1, 1), HOST).is_err());
    }
}
