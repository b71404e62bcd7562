//! Meshes beside each other: those that fit first, the fastest of them first; and the same run on more and more nodes.

use serde::Serialize;
use sirocco_config::{Parallel, Recompute};

use crate::flops::model_flops_per_token;
use crate::machine::Machine;
use crate::memory::{Memory, Surroundings, memory};
use crate::mesh::{PlanError, legal};
use crate::model::Model;
use crate::timeline::{Step, step};
use crate::work::Work;

/// What a run meets: the machine, if its speed is known, and the memory of a rank, if that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Ranks on a node.
    pub ranks_per_node: u64,
    /// Speeds, where they are known.
    pub machine: Option<Machine>,
    /// Where a rank lives.
    pub around: Surroundings,
    /// Bytes that a rank may take.
    pub room: Option<u64>,
    /// Operations per second of a rank on paper, for shares of peak.
    pub peak: Option<f64>,
}

/// A mesh with what it needs and takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The mesh and what it recomputes.
    pub parallel: Parallel,
    /// Of the rank that needs most.
    pub memory: Memory,
    /// The sum of it.
    pub memory_bytes: u64,
    /// Whether that is no more than there is; unknown where the room is.
    pub fits: Option<bool>,
    /// One step, where speeds are known.
    pub step: Option<Step>,
    /// Tokens per second of the whole run.
    pub tokens_per_s: Option<f64>,
    /// Of the peak on paper, by [`model_flops_per_token`].
    pub share_of_peak: Option<f64>,
}

/// Memory and seconds of one mesh.
///
/// # Errors
/// A mesh that does not fit model or batch.
pub fn evaluate(model: &Model, work: &Work, parallel: &Parallel, place: &Place) -> Result<Candidate, PlanError> {
    let memory = memory(model, work, parallel, place.around)?;
    let step = place.machine.as_ref().map(|machine| step(model, work, parallel, machine)).transpose()?;
    let tokens_per_s = step.map(|step| work.tokens() / step.seconds);
    let share_of_peak = tokens_per_s
        .zip(place.peak)
        .map(|(tokens_per_s, peak)| tokens_per_s * model_flops_per_token(model, work) / (peak * parallel.ranks() as f64));
    let memory_bytes = memory.total();
    let fits = place.room.map(|room| memory_bytes <= room);
    Ok(Candidate { parallel: parallel.clone(), memory, memory_bytes, fits, step, tokens_per_s, share_of_peak })
}

/// Every legal mesh of so many ranks: what fits before what does not, the faster first; where speeds are not known, what recomputes less
/// and needs less memory first.
pub fn candidates(model: &Model, work: &Work, like: &Parallel, place: &Place, ranks: u64) -> Vec<Candidate> {
    let meshes = legal(model, work, like, (ranks, place.ranks_per_node));
    let mut found: Vec<Candidate> = meshes.iter().filter_map(|mesh| evaluate(model, work, mesh, place).ok()).collect();
    let again = |candidate: &Candidate| match candidate.parallel.recompute {
        Recompute::None => 0,
        Recompute::Attention => 1,
        Recompute::Full => 2,
    };
    found.sort_by(|a, b| {
        let late = |candidate: &Candidate| candidate.fits == Some(false);
        let seconds = |candidate: &Candidate| candidate.step.map_or(0.0, |step| step.seconds);
        // What does not fit at all is sorted by how little is missing.
        if late(a) && late(b) {
            return a.memory_bytes.cmp(&b.memory_bytes);
        }
        let order = late(a).cmp(&late(b)).then(seconds(a).total_cmp(&seconds(b)));
        order.then(again(a).cmp(&again(b))).then(a.memory_bytes.cmp(&b.memory_bytes))
    });
    found
}

/// The best mesh on so many nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaled {
    /// Nodes.
    pub nodes: u64,
    /// Ranks on them.
    pub ranks: u64,
    /// Sequences of a step: in proportion to the nodes.
    pub global_batch: u64,
    /// The fastest mesh that fits, if any does.
    pub best: Option<Candidate>,
    /// Tokens per second and node, beside those of the fewest nodes on which the run fits.
    pub efficiency: Option<f64>,
}

/// The run on 1 to 500 nodes, with a global batch in proportion: `work` is that of `nodes` nodes.
pub fn scaling(model: &Model, work: &Work, like: &Parallel, place: &Place, nodes: u64) -> Vec<Scaled> {
    let mut first = None;
    let counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 500];
    let one = |count: &u64| {
        let ranks = count * place.ranks_per_node;
        let global_batch = batch_of(work, nodes, *count);
        let work = Work { global_batch, ..work.clone() };
        let best = candidates(model, &work, like, place, ranks).into_iter().next().filter(|best| best.fits != Some(false));
        let each = best.as_ref().and_then(|best| best.tokens_per_s).map(|tokens| tokens / *count as f64);
        let efficiency = each.map(|each| each / *first.get_or_insert(each));
        Scaled { nodes: *count, ranks, global_batch, best, efficiency }
    };
    counts.iter().map(one).collect()
}

/// Sequences of a step on `count` nodes, of a run that has them on `nodes`: rounded up to whole micro-batches.
fn batch_of(work: &Work, nodes: u64, count: u64) -> u64 {
    (work.global_batch * count).div_ceil(nodes.max(1)).next_multiple_of(work.micro_batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Kind;
    use crate::machine::tests::MACHINE;
    use crate::mesh::tests::mesh;
    use crate::model::tests::{LARGE, SEVEN};
    use crate::work::Texture;
    use crate::work::tests::full;

    fn work() -> Work {
        Work { sequence_length: 4096, micro_batch: 1, global_batch: 16, texture: Texture::whole(4096), ..full() }
    }

    fn place(room: u64) -> Place {
        let around = Surroundings { kind: Kind::Gpu, base_bytes: 1_000_000_000 };
        Place { ranks_per_node: 4, machine: Some(MACHINE), around, room: Some(room), peak: Some(1.2e14) }
    }

    #[test]
    fn what_fits_comes_first_and_the_fastest_of_it_before_all() {
        let found = candidates(&SEVEN, &work(), &mesh(1, 1, 1, 1), &place(40_000_000_000), 8);
        let fitting = found.iter().take_while(|candidate| candidate.fits == Some(true)).count();
        assert!(fitting > 0 && fitting < found.len());
        assert!(found[fitting..].iter().all(|candidate| candidate.fits == Some(false)));
        let seconds: Vec<f64> = found[..fitting].iter().map(|candidate| candidate.step.unwrap().seconds).collect();
        assert!(seconds.is_sorted());
        assert!(found[0].share_of_peak.is_some_and(|share| share > 0.1 && share < 1.0));
    }

    #[test]
    fn without_speeds_memory_is_still_there() {
        let unknown = Place { machine: None, room: None, peak: None, ..place(0) };
        let found = candidates(&SEVEN, &work(), &mesh(1, 1, 1, 1), &unknown, 4);
        assert!(found.iter().all(|candidate| candidate.fits.is_none() && candidate.step.is_none() && candidate.memory_bytes > 0));
        assert_eq!(found[0].parallel.recompute, Recompute::None);
    }

    #[test]
    fn more_nodes_never_give_each_more_to_do_and_the_large_model_needs_several() {
        let scaled = scaling(&SEVEN, &work(), &mesh(1, 1, 1, 1), &place(60_000_000_000), 1);
        assert_eq!((scaled.len(), scaled[9].nodes, scaled[9].ranks, scaled[9].global_batch), (10, 500, 2000, 8000));
        let first = scaled.iter().find(|scaled| scaled.best.is_some()).unwrap();
        assert_eq!(first.efficiency, Some(1.0));
        assert!(scaled[9].efficiency.unwrap() <= 1.1);
        let large = scaling(&LARGE, &work(), &mesh(1, 1, 1, 1), &place(60_000_000_000), 1);
        assert!(large[0].best.is_none() && large[9].best.is_some());
    }

    #[test]
    fn a_batch_in_proportion_is_whole_micro_batches() {
        let work = Work { micro_batch: 2, global_batch: 8, ..work() };
        assert_eq!([batch_of(&work, 1, 3), batch_of(&work, 4, 1), batch_of(&work, 8, 1)], [24, 2, 2]);
    }
}
