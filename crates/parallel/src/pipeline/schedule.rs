//! Who does what in which order in a pipeline: pure lists of actions, one per stage; nothing is computed or sent here.
//!
//! One forward, one backward (1F1B; PipeDream-flush in Narayanan et al. 2021, "Efficient large-scale language model training on GPU
//! clusters using Megatron-LM", section 2.2). Of p stages and m micro-batches, stage s first runs p − 1 − s forwards ahead, then one
//! backward after each forward, then the backwards that are left. It keeps the activations of at most min(p − s, m) micro-batches,
//! whatever m is; the weights change once, after the last backward. With equal stages each stage is idle for (p − 1)/(m + p − 1) of
//! the step.
//!
//! The lists hold where a send never waits for its receiver and a receive waits for its message. Between two neighbours messages
//! arrive in the order in which they were sent, and that is the order in which they are received here.

/// One thing that a stage does. Micro-batches are counted from 0 within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Waits for the activations that the stage before sent.
    Receive {
        /// Whose activations.
        micro_batch: usize,
    },
    /// Runs the stage's layers, and keeps what their backward needs (in evaluation: nothing).
    Forward {
        /// Of which micro-batch.
        micro_batch: usize,
    },
    /// Sends the activations to the stage after.
    Send {
        /// Whose activations.
        micro_batch: usize,
    },
    /// Waits for the gradient of what [`Action::Send`] sent.
    ReceiveGradient {
        /// Of which micro-batch.
        micro_batch: usize,
    },
    /// Runs the backward of the stage's layers and frees what the forward kept.
    Backward {
        /// Of which micro-batch.
        micro_batch: usize,
        /// Whether this is the stage's last backward of the step: gradients become final in it.
        last: bool,
    },
    /// Sends the gradient of what [`Action::Receive`] received to the stage before.
    SendGradient {
        /// Of which micro-batch.
        micro_batch: usize,
    },
}

/// The stages that one stage talks to; the ends of the pipeline have one neighbour, a pipeline of one stage has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbours {
    /// The stage that sends activations here.
    pub before: Option<usize>,
    /// The stage that activations are sent to.
    pub after: Option<usize>,
}

impl Neighbours {
    /// The neighbours of `stage` among `stages`.
    pub(crate) fn of(stage: usize, stages: usize) -> Neighbours {
        Neighbours { before: stage.checked_sub(1), after: (stage + 1..stages).next() }
    }

    fn forward(self, micro_batch: usize) -> impl Iterator<Item = Action> {
        let receive = self.before.map(|_| Action::Receive { micro_batch });
        let send = self.after.map(|_| Action::Send { micro_batch });
        receive.into_iter().chain([Action::Forward { micro_batch }]).chain(send)
    }

    fn backward(self, micro_batch: usize, last: bool) -> impl Iterator<Item = Action> {
        let receive = self.after.map(|_| Action::ReceiveGradient { micro_batch });
        let send = self.before.map(|_| Action::SendGradient { micro_batch });
        receive.into_iter().chain([Action::Backward { micro_batch, last }]).chain(send)
    }
}

/// What `stage` of `stages` does in one training step. A stage outside the pipeline does nothing.
pub(crate) fn one_forward_one_backward(stage: usize, stages: usize, micro_batches: usize) -> Vec<Action> {
    let Some(stages_after) = stages.checked_sub(stage + 1) else { return Vec::new() };
    let neighbours = Neighbours::of(stage, stages);
    let ahead = stages_after.min(micro_batches);
    let turns = 0..micro_batches + ahead;
    let of_turn = |turn: usize| {
        let forward = (turn < micro_batches).then(|| neighbours.forward(turn));
        let backward = turn.checked_sub(ahead).map(|done| neighbours.backward(done, done + 1 == micro_batches));
        forward.into_iter().flatten().chain(backward.into_iter().flatten())
    };
    turns.flat_map(of_turn).collect()
}

/// What `stage` of `stages` does to evaluate: forwards only. A stage outside the pipeline does nothing.
pub(crate) fn forward_only(stage: usize, stages: usize, micro_batches: usize) -> Vec<Action> {
    let own = (0..micro_batches).filter(|_| stage < stages);
    own.flat_map(|micro_batch| Neighbours::of(stage, stages).forward(micro_batch)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// What one stage went through.
    #[derive(Default)]
    struct Seen {
        next: usize,
        /// Units of time, counted from the start of the step.
        clock: usize,
        busy: usize,
        forwards: Vec<usize>,
        backwards: Vec<usize>,
        most_alive: usize,
        lasts: usize,
    }

    /// Runs all stages against each other. Messages take no time; a forward and a backward take what is given.
    struct Pipeline {
        lists: Vec<Vec<Action>>,
        seen: Vec<Seen>,
        /// Messages under way to each stage, as (micro-batch, time of sending).
        activations: Vec<VecDeque<(usize, usize)>>,
        gradients: Vec<VecDeque<(usize, usize)>>,
        forward: usize,
        backward: usize,
    }

    impl Pipeline {
        fn run(lists: Vec<Vec<Action>>, forward: usize, backward: usize) -> Pipeline {
            let queues = vec![VecDeque::new(); lists.len()];
            let seen = lists.iter().map(|_| Seen::default()).collect();
            let mut pipeline = Pipeline { lists, seen, activations: queues.clone(), gradients: queues, forward, backward };
            while (0..pipeline.lists.len()).any(|stage| pipeline.advance(stage)) {}
            for (stage, list) in pipeline.lists.iter().enumerate() {
                assert_eq!(
                    pipeline.seen[stage].next,
                    list.len(),
                    "stage {stage} waits for ever: {:?}",
                    list.get(pipeline.seen[stage].next)
                );
            }
            assert!(pipeline.activations.iter().chain(&pipeline.gradients).all(VecDeque::is_empty), "a message nobody received");
            pipeline
        }

        /// One action of one stage; whether it could be done.
        fn advance(&mut self, stage: usize) -> bool {
            let Some(action) = self.lists[stage].get(self.seen[stage].next).copied() else { return false };
            let seen = &mut self.seen[stage];
            match action {
                Action::Receive { micro_batch } | Action::ReceiveGradient { micro_batch } => {
                    let forward = matches!(action, Action::Receive { .. });
                    let queue = if forward { &mut self.activations } else { &mut self.gradients };
                    let Some((found, sent)) = queue[stage].pop_front() else { return false };
                    assert_eq!(found, micro_batch, "stage {stage} received another micro-batch than it expected");
                    seen.clock = seen.clock.max(sent);
                }
                Action::Forward { micro_batch } => {
                    seen.forwards.push(micro_batch);
                    seen.most_alive = seen.most_alive.max(seen.forwards.len() - seen.backwards.len());
                    (seen.clock, seen.busy) = (seen.clock + self.forward, seen.busy + self.forward);
                }
                Action::Backward { micro_batch, last } => {
                    seen.backwards.push(micro_batch);
                    assert!(seen.forwards.contains(&micro_batch), "stage {stage}: backward of what was not forwarded");
                    assert_eq!(seen.lasts, 0, "stage {stage}: a backward after the last");
                    seen.lasts += usize::from(last);
                    (seen.clock, seen.busy) = (seen.clock + self.backward, seen.busy + self.backward);
                }
                Action::Send { micro_batch } => self.activations[stage + 1].push_back((micro_batch, seen.clock)),
                Action::SendGradient { micro_batch } => self.gradients[stage - 1].push_back((micro_batch, seen.clock)),
            }
            self.seen[stage].next += 1;
            true
        }

        fn duration(&self) -> usize {
            self.seen.iter().map(|seen| seen.clock).max().unwrap_or(0)
        }
    }

    fn training(stages: usize, micro_batches: usize) -> Vec<Vec<Action>> {
        (0..stages).map(|stage| one_forward_one_backward(stage, stages, micro_batches)).collect()
    }

    #[test]
    fn two_stages_in_full() {
        use Action::*;
        let (a, b, c) = (0, 1, 2);
        let forward = |micro_batch| [Forward { micro_batch }, Send { micro_batch }];
        let backward = |micro_batch, last| [ReceiveGradient { micro_batch }, Backward { micro_batch, last }];
        let first = [forward(a), forward(b), backward(a, false), forward(c), backward(b, false), backward(c, true)];
        assert_eq!(one_forward_one_backward(0, 2, 3), first.concat());
        let turn = |micro_batch, last| {
            [Receive { micro_batch }, Forward { micro_batch }, Backward { micro_batch, last }, SendGradient { micro_batch }]
        };
        assert_eq!(one_forward_one_backward(1, 2, 3), [turn(a, false), turn(b, false), turn(c, true)].concat());
    }

    #[test]
    fn one_stage_only_computes() {
        use Action::*;
        let turn = |micro_batch, last| [Forward { micro_batch }, Backward { micro_batch, last }];
        assert_eq!(one_forward_one_backward(0, 1, 2), [turn(0, false), turn(1, true)].concat());
        assert_eq!(forward_only(0, 1, 2), [Forward { micro_batch: 0 }, Forward { micro_batch: 1 }]);
    }

    #[test]
    fn outside_the_pipeline_and_without_micro_batches_nothing_is_done() {
        assert_eq!(one_forward_one_backward(2, 2, 3), []);
        assert_eq!(one_forward_one_backward(0, 0, 3), []);
        assert_eq!(one_forward_one_backward(1, 4, 0), []);
        assert_eq!(forward_only(2, 2, 3), []);
    }

    #[test]
    fn the_idle_share_is_that_of_the_paper() {
        for (stages, micro_batches) in (1..9).flat_map(|stages| (1..20).map(move |count| (stages, count))) {
            let pipeline = Pipeline::run(training(stages, micro_batches), 1, 1);
            assert_eq!(pipeline.duration(), 2 * (micro_batches + stages - 1));
            for (stage, seen) in pipeline.seen.iter().enumerate() {
                let idle = pipeline.duration() - seen.busy;
                // idle / duration = (p − 1) / (m + p − 1), without a division.
                assert_eq!(idle * (micro_batches + stages - 1), (stages - 1) * pipeline.duration(), "stage {stage}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_micro_batch_goes_through_once_and_in_order(stages in 1..13_usize, micro_batches in 1..40_usize) {
            let pipeline = Pipeline::run(training(stages, micro_batches), 1, 1);
            let all: Vec<_> = (0..micro_batches).collect();
            for (stage, seen) in pipeline.seen.iter().enumerate() {
                prop_assert_eq!(&seen.forwards, &all);
                prop_assert_eq!(&seen.backwards, &all);
                prop_assert_eq!(seen.most_alive, (stages - stage).min(micro_batches));
                prop_assert_eq!(seen.lasts, 1);
            }
        }

        #[test]
        fn the_bubble_is_as_many_turns_as_there_are_stages_before_or_after(
            stages in 1..9_usize, micro_batches in 1..20_usize, forward in 1..5_usize, backward in 1..9_usize,
        ) {
            let pipeline = Pipeline::run(training(stages, micro_batches), forward, backward);
            prop_assert_eq!(pipeline.duration(), (micro_batches + stages - 1) * (forward + backward));
        }

        #[test]
        fn evaluation_goes_through_once_and_in_order(stages in 1..9_usize, micro_batches in 0..20_usize) {
            let lists = (0..stages).map(|stage| forward_only(stage, stages, micro_batches)).collect();
            let pipeline = Pipeline::run(lists, 1, 1);
            for seen in &pipeline.seen {
                prop_assert_eq!(&seen.forwards, &(0..micro_batches).collect::<Vec<_>>());
                prop_assert!(seen.backwards.is_empty());
            }
        }
    }
}
