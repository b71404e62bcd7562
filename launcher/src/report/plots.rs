//! Which curves a page shows: those of one run, and those of several over each other.
use crate::report::curves::{Chart, Curve, Event, Plot};
use crate::report::facts::Facts;
use crate::train::metrics::Step;

/// The charts of one run; those without a point are left out.
pub(crate) fn of_run(facts: &Facts) -> Vec<Chart> {
    let steps = &facts.series.steps;
    let mut events: Vec<(u64, Event)> = facts.restarts().into_iter().map(|step| (step, Event::Restart)).collect();
    events.extend(steps.iter().filter(|step| step.skipped).map(|step| (step.step, Event::Skipped)));
    events.extend(steps.iter().filter(|step| step.loss_spike).map(|step| (step.step, Event::Spike)));
    let restarts: Vec<_> = events.iter().copied().filter(|(_, event)| *event == Event::Restart).collect();
    let of = |name: &str, value: fn(&Step) -> Option<f64>| vec![curve(name, steps, value)];
    // In thousands of millions: a rank has gigabytes, and a tiny one's chart still has a scale.
    let memory = |step: &Step| Some(step.peak_memory_bytes as f64 / 1e9).filter(|bytes| *bytes > 0.0);
    let losses = vec![curve("training loss", steps, |step| step.loss), held_out("held-out loss", facts)];
    let plots = [
        Plot { id: "loss", title: "Loss", unit: "", from_zero: false, curves: losses, events: &events },
        Plot {
            id: "learning-rate",
            title: "Learning rate",
            unit: "",
            from_zero: true,
            curves: of("learning rate", |step| step.learning_rate),
            events: &restarts,
        },
        Plot {
            id: "gradient-norm",
            title: "Gradient norm, before clipping",
            unit: "",
            from_zero: true,
            curves: of("gradient norm", |step| step.grad_norm),
            events: &events,
        },
        Plot {
            id: "throughput",
            title: "Throughput, over all ranks",
            unit: "tokens/s",
            from_zero: true,
            curves: of("tokens/s", |step| Some(step.tokens_per_s)),
            events: &restarts,
        },
        Plot {
            id: "memory",
            title: "Peak memory of the rank that has most",
            unit: "GB",
            from_zero: true,
            curves: of("GB", memory),
            events: &restarts,
        },
    ];
    plots.iter().filter_map(Plot::chart).collect()
}

/// Held-out and training losses of several runs, each run with the same look in both.
pub(crate) fn of_runs(runs: &[(&str, &Facts)]) -> Vec<Chart> {
    let held_out = runs.iter().map(|(label, facts)| held_out(label, facts)).collect();
    let losses = runs.iter().map(|(label, facts)| curve(label, &facts.series.steps, |step| step.loss)).collect();
    let plots = [
        Plot { id: "held-out", title: "Held-out loss", unit: "", from_zero: false, curves: held_out, events: &[] },
        Plot { id: "loss", title: "Training loss", unit: "", from_zero: false, curves: losses, events: &[] },
    ];
    plots.iter().filter_map(Plot::chart).collect()
}

fn curve(name: &str, steps: &[Step], value: impl Fn(&Step) -> Option<f64>) -> Curve {
    let points = steps.iter().filter_map(|step| Some((step.step, value(step).filter(|value| value.is_finite())?)));
    Curve { name: name.to_owned(), points: points.collect() }
}

fn held_out(name: &str, facts: &Facts) -> Curve {
    let evaluations = facts.series.evaluations.iter().filter(|evaluation| evaluation.loss.is_finite());
    Curve { name: name.to_owned(), points: evaluations.map(|evaluation| (evaluation.step, evaluation.loss)).collect() }
}
