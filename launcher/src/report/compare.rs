//! Several runs beside each other: in which settings they differ, how each ended, what it cost; the best first.
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{count, grouped};
use crate::report::curves::{LOOKS, digits};
use crate::report::facts::Facts;
use crate::report::html::render;
use crate::report::outcome::Outcome;
use crate::report::plots;

/// Runs in the order of their held-out loss.
pub(crate) struct Comparison {
    runs: Vec<(Facts, Outcome)>,
    /// Runs that could not be read, with the reason.
    pub(crate) left_out: Vec<String>,
    /// How each is called in the table: as short as names that differ can be.
    pub(crate) labels: Vec<String>,
    /// A setting in which they differ, and its value in each.
    pub(crate) settings: Vec<(String, Vec<String>)>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) settings: Vec<String>,
    pub(crate) state: String,
    pub(crate) best: String,
    pub(crate) at: String,
    pub(crate) last: String,
    pub(crate) loss: String,
    pub(crate) speed: String,
    pub(crate) cost: String,
}

impl Comparison {
    /// Of at least one run.
    pub(crate) fn of(mut runs: Vec<(Facts, Outcome)>, left_out: Vec<String>) -> Comparison {
        runs.sort_by(|(_, a), (_, b)| {
            let by = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                // What has no such loss comes last.
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            by(a.best_valid_loss, b.best_valid_loss).then(by(a.loss, b.loss))
        });
        let labels = labels(&runs);
        let settings = differing(&runs.iter().map(|(facts, _)| flat(facts)).collect::<Vec<_>>());
        Comparison { runs, left_out, labels, settings }
    }

    /// The settings in which the runs differ.
    pub(crate) fn differ(&self) -> Vec<&str> {
        self.settings.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<&Outcome> {
        self.runs.iter().map(|(_, outcome)| outcome).collect()
    }

    /// What the column of costs holds: GPU-hours where any run has them.
    pub(crate) fn cost_name(&self) -> &'static str {
        if self.outcomes().iter().any(|outcome| outcome.cost.gpu_hours.value.is_some()) { "GPU-hours" } else { "node-hours" }
    }

    /// The table.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), digits);
        let line = |(index, outcome): (usize, &Outcome)| Line {
            label: self.labels[index].clone(),
            settings: self.settings.iter().map(|(_, values)| values[index].clone()).collect(),
            state: format!("{}, step {}", outcome.state, grouped(outcome.step)),
            best: number(outcome.best_valid_loss),
            at: outcome.best_valid_step.map_or_else(String::new, grouped),
            last: number(outcome.valid_loss),
            loss: number(outcome.loss),
            speed: outcome.tokens_per_s.map_or_else(|| "none".to_owned(), |speed| format!("{speed:.0}")),
            cost: if self.cost_name() == "GPU-hours" { outcome.cost.gpu_hours.words() } else { outcome.cost.node_hours.words() },
        };
        self.outcomes().into_iter().enumerate().map(line).collect()
    }

    /// What is missing or wrong, run by run.
    pub(crate) fn notes(&self) -> Vec<String> {
        let of = |(label, outcome): (&String, &Outcome)| {
            outcome.notes.iter().map(|note| format!("{label}: {note}")).collect::<Vec<_>>()
        };
        self.left_out.iter().cloned().chain(self.labels.iter().zip(self.outcomes()).flat_map(of)).collect()
    }

    /// The page.
    pub(crate) fn page(&self) -> Result<String, Failure> {
        // More curves than looks could not be told apart.
        let shown: Vec<(&str, &Facts)> =
            self.labels.iter().map(String::as_str).zip(self.runs.iter().map(|(facts, _)| facts)).take(LOOKS).collect();
        let left = self.runs.len() - shown.len();
        let sources: Vec<_> = self
            .labels
            .iter()
            .zip(self.outcomes())
            .map(|(label, outcome)| {
                let cost = &outcome.cost;
                json!({
                    "label": label, "directory": outcome.run_dir, "tokens": grouped(outcome.tokens), "starts": outcome.starts,
                    "node_hours": [cost.node_hours.words(), cost.node_hours.source],
                    "gpu_hours": [cost.gpu_hours.words(), cost.gpu_hours.source],
                    "energy": [cost.energy_kwh.words(), cost.energy_kwh.source],
                })
            })
            .collect();
        render(
            "comparison.html",
            json!({
                "title": format!("{} compared", count(self.runs.len() as u64, "run")),
                "notes": self.notes(),
                "settings": self.differ().into_iter().map(parts).collect::<Vec<_>>(),
                "lines": self.lines(),
                "cost_name": self.cost_name(),
                "charts": plots::of_runs(&shown),
                "left": left,
                "sources": sources,
            }),
        )
    }
}

/// `train.` and `learning_rate`: a heading may break between them.
fn parts(setting: &str) -> (String, &str) {
    setting.rsplit_once('.').map_or((String::new(), setting), |(section, key)| (format!("{section}."), key))
}

/// The names of the runs where they differ, else the last parts of their directories, else these whole.
fn labels(runs: &[(Facts, Outcome)]) -> Vec<String> {
    let names = runs.iter().map(|(facts, _)| facts.run.name.clone()).collect();
    let of_path =
        |facts: &Facts| facts.directory.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let last_parts = runs.iter().map(|(facts, _)| of_path(facts)).collect();
    let whole = runs.iter().map(|(_, outcome)| outcome.run_dir.clone()).collect();
    let all_differ = |labels: &&Vec<String>| {
        let mut sorted: Vec<_> = labels.iter().collect();
        sorted.sort();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    };
    let candidates: [Vec<String>; 3] = [names, last_parts, whole];
    candidates.iter().find(all_differ).cloned().unwrap_or_else(|| candidates[2].clone())
}

/// Every setting of a run by its dotted name, as a run file would have it; the name of the run is no setting.
fn flat(facts: &Facts) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Ok(Value::Object(run)) = serde_json::to_value(&facts.run) {
        run.iter().filter(|(name, _)| *name != "name").for_each(|(name, value)| add(&mut settings, name.clone(), value));
    }
    settings
}

fn add(settings: &mut BTreeMap<String, String>, name: String, value: &Value) {
    match value {
        Value::Object(section) => section.iter().for_each(|(key, value)| add(settings, format!("{name}.{key}"), value)),
        Value::String(text) => drop(settings.insert(name, text.clone())),
        Value::Null => {}
        other => drop(settings.insert(name, other.to_string())),
    }
}

/// The settings whose values are not the same in all; `–` where one has none.
fn differing(all: &[BTreeMap<String, String>]) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let values = |name: &String| -> Vec<String> {
        all.iter().map(|settings| settings.get(name).cloned().unwrap_or_else(|| "–".to_owned())).collect()
    };
    let rows = names.into_iter().map(|name| (name.clone(), values(name)));
    rows.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_found_by_their_dotted_names() {
        let settings = |value: Value| {
            let mut settings = BTreeMap::new();
            add(&mut settings, "train".to_owned(), &value);
            settings
        };
        let all = [
            settings(json!({"learning_rate": 1e-3, "steps": 6, "betas": [0.9, 0.999]})),
            settings(json!({"learning_rate": 2e-3, "epochs": 1.5, "betas": [0.9, 0.999], "time": null})),
        ];
        let owned = |values: [&str; 2]| values.map(str::to_owned).to_vec();
        assert_eq!(
            differing(&all),
            [
                ("train.epochs".to_owned(), owned(["–", "1.5"])),
                ("train.learning_rate".to_owned(), owned(["0.001", "0.002"])),
                ("train.steps".to_owned(), owned(["6", "–"])),
            ]
        );
        assert_eq!(differing(&all[..1]), []);
    }
}
