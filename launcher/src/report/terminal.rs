//! What `sirocco report` says on the terminal: where the page is, and the numbers that people ask for first.
use std::path::Path;

use crate::failure::Failure;
use crate::output::{duration, grouped, line, named, say};
use crate::report::compare::Comparison;
use crate::report::cost::Figure;
use crate::report::curves::digits;
use crate::report::outcome::Outcome;
use crate::watch::table::lines;

/// Settings that have a column each; more are on the page.
const COLUMNS: usize = 5;

/// Of one run.
pub(crate) fn of_one(to: &Path, outcome: &Outcome) -> Result<(), Failure> {
    outcome.notes.iter().for_each(|note| say(format_args!("note: {note}")));
    line(format_args!("wrote {}", to.display()))?;
    let valid = outcome.best_valid_loss.map(|loss| {
        let step = outcome.best_valid_step.map_or_else(String::new, |step| format!(" at step {}, the best", grouped(step)));
        format!("{}{step}", digits(loss))
    });
    let measured = |figure: &Figure, unit: &str| figure.value.map(|_| format!("{} {unit}", figure.words()));
    let cost = &outcome.cost;
    let hours = [
        measured(&cost.node_hours, "node-hours"),
        measured(&cost.gpu_hours, "GPU-hours"),
        measured(&cost.core_hours, "core-hours"),
    ];
    let hours: Vec<String> = hours.into_iter().flatten().collect();
    let steps = outcome.steps.map_or_else(|| "?".to_owned(), grouped);
    let speed = outcome.tokens_per_s.map(|speed| format!("{speed:.0} tokens/s, {} in all steps", duration(outcome.seconds)));
    let rows = [
        ("state", Some(format!("{}, step {} of {steps}", outcome.state, grouped(outcome.step)))),
        ("loss", outcome.loss.map(digits)),
        ("held-out loss", valid),
        ("speed", speed),
        ("cost", Some(hours.join(", ")).filter(|hours| !hours.is_empty())),
        ("energy", Some(measured(&cost.energy_kwh, "kWh").unwrap_or_else(|| cost.energy_kwh.words()))),
        ("events", outcome.events.clone()),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .try_for_each(|(name, value)| line(format_args!("{}{value}", named(name))))
}

/// Of several, the best first.
pub(crate) fn of_several(to: &Path, comparison: &Comparison) -> Result<(), Failure> {
    comparison.notes().iter().for_each(|note| say(format_args!("note: {note}")));
    let shown = comparison.settings.len().min(COLUMNS);
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let settings = comparison.settings.iter().take(shown).map(|(name, _)| short(name));
    let ends = ["best held-out loss", "at step", "last held-out loss", "loss", "tokens/s", comparison.cost_name(), "state"];
    let head = ["run".to_owned()].into_iter().chain(settings).chain(ends.map(str::to_owned)).collect();
    let mut table: Vec<Vec<String>> = vec![head];
    for row in comparison.lines() {
        let ends = [row.best, row.at, row.last, row.loss, row.speed, row.cost, row.state];
        table.push([row.label].into_iter().chain(row.settings.into_iter().take(shown)).chain(ends).collect());
    }
    lines(&table).into_iter().try_for_each(line)?;
    if comparison.settings.len() > shown {
        line(format_args!("and {} more settings that differ: they are on the page", comparison.settings.len() - shown))?;
    }
    line(format_args!("wrote {}", to.display()))
}
