//! One step laid out in time: a rank computes on one line and communicates on another, and stages of a pipeline wait for each other.
//!
//! The order is the engine's. While a unit computes, the next one is gathered; gradients of a unit are scattered behind its backward, and in
//! the last backward summed over replicas (`fsdp/residence.rs`, `data/reduction.rs`); one forward, one backward between stages
//! (`pipeline/schedule.rs`). The exchanges of a tp axis stand between products, where nothing hides them. On the host nothing is hidden at all: the
//! cores that compute are those that move the bytes.

use serde::Serialize;
use sirocco_config::{Parallel, Recompute};

use crate::flops::Counter;
use crate::held::{Held, Unit, held};
use crate::machine::{Kind, Machine, Ring};
use crate::mesh::{PlanError, expect_legal};
use crate::model::Model;
use crate::work::Work;

/// Where the seconds of a step go, on the stage that is busiest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Step {
    /// Of the whole step.
    pub seconds: f64,
    /// Forward and backward, with the exchanges between ranks that share products.
    pub computing: f64,
    /// Those exchanges.
    pub exchanging: f64,
    /// Waiting for weights, for sums of gradients, and for other stages.
    pub waiting: f64,
    /// The optimizer.
    pub optimizer: f64,
    /// All seconds that the rank's line to others is busy, hidden or not.
    pub communicating: f64,
}

/// Simulates one step.
///
/// # Errors
/// A mesh that does not fit model or batch.
pub fn step(model: &Model, work: &Work, parallel: &Parallel, machine: &Machine) -> Result<Step, PlanError> {
    expect_legal(model, work, parallel)?;
    let stages: Vec<Stage> =
        held(model, work, parallel).iter().map(|held| Stage::new(held, (model, work, parallel), machine)).collect();
    let micro_batches = (work.global_batch / (work.micro_batch * parallel.data_ranks())) as usize;
    let messages = machine.ring(parallel.tp * parallel.fsdp * parallel.dp, parallel.pp);
    let bytes = (work.micro_batch_tokens() * model.hidden * work.element() / parallel.tp) as f64;
    let passes = pipeline(&stages, micro_batches, messages.message(bytes));
    let tied = if model.tied && work.is_full() { messages.twice((model.vocabulary * model.hidden * 4) as f64) } else { 0.0 };
    let optimizer = stages.iter().map(|stage| stage.optimizer).fold(0.0, f64::max);
    let seconds = passes + tied + optimizer;
    let busiest = stages.iter().max_by(|a, b| a.busy().total_cmp(&b.busy()));
    let turns = micro_batches as f64;
    let of = |value: fn(&Stage) -> f64| busiest.map_or(0.0, value) * turns;
    let computing = of(|stage| stage.computing);
    Ok(Step {
        seconds,
        computing,
        exchanging: of(|stage| stage.exchanging),
        waiting: seconds - computing - optimizer,
        optimizer,
        communicating: of(|stage| stage.wire) + busiest.map_or(0.0, |stage| stage.reduction) + tied,
    })
}

/// Seconds of one stage.
#[derive(Default)]
struct Stage {
    forward: f64,
    backward: f64,
    /// The backward after which gradients are summed over replicas.
    last_backward: f64,
    optimizer: f64,
    /// Of one micro-batch: computing (exchanges included), exchanges, and the line to others.
    computing: f64,
    exchanging: f64,
    wire: f64,
    /// Sums over replicas, once a step.
    reduction: f64,
}

/// One unit on both lines.
#[derive(Clone, Copy, Default)]
struct Times {
    compute: f64,
    gather: f64,
    /// Sending gradients away.
    leave: f64,
}

impl Stage {
    fn new(held: &Held, (model, work, parallel): (&Model, &Work, &Parallel), machine: &Machine) -> Stage {
        let counter = Counter { model, work, parallel, kind: machine.kind };
        let seconds = |flops| machine.rates.seconds(&flops);
        let rings = Rings::new(parallel, machine);
        let exchange = rings.exchange((work.micro_batch_tokens() * model.hidden * work.element()) as f64);
        let again = if parallel.recompute == Recompute::Full { 3.0 } else { 0.0 };
        let (ahead, back) = (4.0 * exchange, (4.0 + again) * exchange);
        let (forward, backward) = (seconds(counter.block_forward()) + ahead, seconds(counter.block_backward()) + back);

        let element = work.element() as f64;
        let gather = |unit: Unit| rings.fsdp.once(unit.elements as f64 * element);
        let scatter = |unit: Unit| rings.fsdp.once(unit.trained as f64 * 4.0);
        let reduce = |unit: Unit| rings.dp.twice(unit.trained as f64 * 4.0 / parallel.fsdp as f64);
        let block = |compute, leave| Times { compute, gather: gather(held.block), leave };
        let blocks = |times: Times| (0..held.layers).map(move |_| times);

        let table = held.embedding.unwrap_or_default();
        let lookup = Times { gather: gather(table), ..Times::default() };
        let ahead: Vec<Times> = held.embedding.map(|_| lookup).into_iter().chain(blocks(block(forward, 0.0))).collect();
        let head = held.head.map(|unit| Times { compute: seconds(counter.head()), gather: gather(unit), leave: scatter(unit) });
        let back = |last: bool| -> Vec<Times> {
            let sums = |unit: Unit| if last { reduce(unit) } else { 0.0 };
            let leave = scatter(held.block) + sums(held.block);
            // A tied table is final only with the embedding, which a frozen one never reaches.
            let end = held.embedding.filter(|unit| unit.trained > 0);
            let end = end.map(|unit| Times { compute: 0.0, gather: gather(unit), leave: scatter(unit) + sums(unit) });
            let head = head.map(|head| {
                if model.tied { head } else { Times { leave: head.leave + sums(held.head.unwrap_or_default()), ..head } }
            });
            head.into_iter().chain(blocks(block(backward, leave))).chain(end).collect()
        };
        let (usual, last) = (back(false), back(true));
        let pass = match machine.kind {
            Kind::Cpu => one_after_the_other,
            Kind::Gpu => lay_out,
        };
        let over = |times: &[Times], of: fn(&Times) -> f64| times.iter().map(of).sum::<f64>();
        let wire = |times: &[Times]| over(times, |times| times.gather + times.leave);
        Stage {
            forward: pass(&ahead),
            backward: pass(&usual),
            last_backward: pass(&last),
            optimizer: seconds(counter.optimizer(held.trained)),
            computing: over(&ahead, |times| times.compute) + over(&usual, |times| times.compute),
            exchanging: held.layers as f64 * (8.0 + again) * exchange,
            wire: wire(&ahead) + wire(&usual),
            reduction: wire(&last) - wire(&usual),
        }
    }

    fn busy(&self) -> f64 {
        self.forward + self.backward
    }
}

/// The groups of a mesh; tp varies fastest from rank to rank, then fsdp, dp and pp.
struct Rings {
    tp: Ring,
    fsdp: Ring,
    dp: Ring,
}

impl Rings {
    fn new(parallel: &Parallel, machine: &Machine) -> Rings {
        let Parallel { dp, fsdp, tp, .. } = *parallel;
        Rings { tp: machine.ring(1, tp), fsdp: machine.ring(tp, fsdp), dp: machine.ring(tp * fsdp, dp) }
    }

    /// Rows of all to each, or sums of rows.
    fn exchange(&self, bytes: f64) -> f64 {
        self.tp.once(bytes)
    }
}

/// Seconds until the last unit of a pass is done on both lines.
fn lay_out(units: &[Times]) -> f64 {
    let (mut computed, mut line) = (0.0_f64, 0.0_f64);
    let mut arrived = units.first().map_or(0.0, |first| first.gather);
    line = line.max(arrived);
    for (index, unit) in units.iter().enumerate() {
        let begun = computed.max(arrived);
        if let Some(next) = units.get(index + 1) {
            line = line.max(begun) + next.gather;
            // What need not be brought is there.
            arrived = if next.gather > 0.0 { line } else { 0.0 };
        }
        computed = begun + unit.compute;
        if unit.leave > 0.0 {
            line = line.max(computed) + unit.leave;
        }
    }
    computed.max(line)
}

/// The same where one line does both.
fn one_after_the_other(units: &[Times]) -> f64 {
    units.iter().map(|unit| unit.compute + unit.gather + unit.leave).sum()
}

/// Micro-batches beyond these per stage change nothing but the length of the steady part.
const ENOUGH: usize = 3;

/// Seconds from the first forward to the last backward, one forward, one backward.
fn pipeline(stages: &[Stage], micro_batches: usize, message: f64) -> f64 {
    let simulated = micro_batches.min(ENOUGH * stages.len() + 1);
    let slowest = stages.iter().map(Stage::busy).fold(0.0, f64::max);
    let steady = (micro_batches - simulated) as f64 * slowest;
    let count = stages.len();
    // When a stage has done a forward or backward of a micro-batch.
    let mut forwards = vec![vec![None::<f64>; simulated]; count];
    let mut backwards = forwards.clone();
    let mut done = vec![(0_usize, 0_usize, 0.0_f64); count];
    while done.iter().any(|(_, back, _)| *back < simulated) {
        for stage in 0..count {
            let (ahead, back, clock) = done[stage];
            let lead = (count - 1 - stage).min(simulated);
            let forward_next = ahead < simulated && ahead <= back + lead;
            if forward_next {
                let input = if stage == 0 { Some(0.0) } else { forwards[stage - 1][ahead].map(|at| at + message) };
                if let Some(input) = input {
                    let end = clock.max(input) + stages[stage].forward;
                    forwards[stage][ahead] = Some(end);
                    done[stage] = (ahead + 1, back, end);
                }
            } else if back < simulated {
                let input = if stage + 1 == count { Some(0.0) } else { backwards[stage + 1][back].map(|at| at + message) };
                if let Some(input) = input {
                    let own = if back + 1 == simulated { stages[stage].last_backward } else { stages[stage].backward };
                    let end = clock.max(input) + own;
                    backwards[stage][back] = Some(end);
                    done[stage] = (ahead, back + 1, end);
                }
            }
        }
    }
    steady + done.iter().map(|(.., clock)| *clock).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Link;
    use crate::machine::tests::MACHINE;
    use crate::mesh::tests::mesh;
    use crate::model::tests::SEVEN;
    use crate::work::Texture;
    use crate::work::tests::{full, lora};

    fn stage(forward: f64, backward: f64) -> Stage {
        Stage { forward, backward, last_backward: backward, ..Stage::default() }
    }

    #[test]
    fn a_pipeline_of_equal_stages_is_idle_for_the_known_part() {
        for (stages, micro_batches) in [(1, 5), (2, 4), (4, 4), (4, 16), (4, 200), (8, 3)] {
            let equal: Vec<Stage> = (0..stages).map(|_| stage(1.0, 2.0)).collect();
            let found = pipeline(&equal, micro_batches, 0.0);
            // Narayanan et al. 2021: m + p − 1 turns of a forward and a backward.
            let expected = (micro_batches + stages - 1) as f64 * 3.0;
            assert!((found - expected).abs() < 1e-9, "{stages} stages, {micro_batches} micro-batches: {found}, not {expected}");
        }
    }

    #[test]
    fn a_slow_stage_holds_up_all_others() {
        let found = pipeline(&[stage(1.0, 2.0), stage(2.0, 4.0)], 10, 0.0);
        assert!((found - (10.0 * 6.0 + 3.0)).abs() < 1e-9, "{found}");
    }

    #[test]
    fn what_is_on_its_way_while_a_unit_computes_costs_nothing_until_it_is_slower() {
        let of = |gather, leave| lay_out(&[Times { compute: 1.0, gather, leave }; 10]);
        assert_eq!(of(0.0, 0.0), 10.0);
        assert_eq!(of(0.5, 0.0), 10.5, "the first one is waited for");
        assert_eq!(of(0.0, 0.5), 10.5, "so is the last one");
        assert_eq!(of(2.0, 0.0), 2.0 * 10.0 + 1.0);
    }

    #[test]
    fn slower_links_make_slower_steps_and_no_mesh_beats_the_processors() {
        let work = Work { sequence_length: 4096, micro_batch: 1, global_batch: 32, texture: Texture::whole(4096), ..full() };
        let of = |parallel: &Parallel, machine: &Machine| step(&SEVEN, &work, parallel, machine).unwrap();
        let narrow = Machine { between: Link { bytes_per_s: 1e9, latency_s: 1e-5 }, ..MACHINE };
        let alone = of(&mesh(1, 1, 1, 1), &MACHINE);
        for parallel in [mesh(1, 8, 1, 1), mesh(1, 1, 8, 1), mesh(1, 2, 1, 4), mesh(8, 1, 1, 1), mesh(2, 2, 2, 1)] {
            let (wide, narrow) = (of(&parallel, &MACHINE), of(&parallel, &narrow));
            assert!(wide.seconds < narrow.seconds, "{parallel:?}");
            assert!(wide.seconds >= alone.seconds / 8.0 * 0.999, "{parallel:?}: {} of {}", wide.seconds, alone.seconds);
            assert!(wide.waiting >= -1e-9 && wide.exchanging <= wide.computing);
        }
    }

    #[test]
    fn the_parts_of_a_step_add_up() {
        let host = Machine { kind: Kind::Cpu, ..MACHINE };
        for machine in [MACHINE, host] {
            let found = step(&SEVEN, &lora(), &mesh(1, 1, 4, 1), &machine).unwrap();
            assert!((found.computing + found.waiting + found.optimizer - found.seconds).abs() < 1e-9);
            assert!(found.communicating > 0.0);
            let hidden = found.communicating - found.waiting;
            assert!(if machine.kind == Kind::Cpu { hidden.abs() < 1e-9 } else { hidden > 0.0 }, "{hidden} s");
        }
    }
}
