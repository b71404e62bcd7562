//! Several runs below each other, each in a line, for a terminal or a file.
use crate::output::duration;

/// What is told of a run. Lengths of time are seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) state: String,
    pub(crate) step: u64,
    pub(crate) steps: Option<u64>,
    pub(crate) loss: Option<f64>,
    pub(crate) held_out: Option<f64>,
    pub(crate) left: Option<f64>,
    /// That runs, or comes next.
    pub(crate) job: Option<String>,
    /// In which it differs from the others; last, because it may be long.
    pub(crate) settings: String,
}

const HEAD: [&str; 8] = ["run", "state", "step", "loss", "held-out loss", "left", "job", "settings"];

/// The head and a line for each, with columns as wide as what stands in them; a column that holds nothing is left out.
pub(crate) fn table(rows: &[Row]) -> Vec<String> {
    let cells: Vec<[String; HEAD.len()]> = rows.iter().map(cells).collect();
    let all: Vec<Vec<String>> = [HEAD.map(str::to_owned)].iter().chain(&cells).map(|row| row.to_vec()).collect();
    let holds = |column: usize| cells.iter().any(|row| !row[column].is_empty());
    let shown: Vec<usize> = (0..HEAD.len()).filter(|column| holds(*column)).collect();
    lines(&all.iter().map(|row| shown.iter().map(|column| row[*column].clone()).collect()).collect::<Vec<_>>())
}

/// `4 runs: 1 running, 2 queued, 1 done`
pub(crate) fn counted(states: &[&str]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    states.iter().for_each(|state| {
        if !kinds.contains(state) {
            kinds.push(state);
        }
    });
    let count = |kind: &&str| format!("{} {kind}", states.iter().filter(|state| state == &kind).count());
    let parts: Vec<String> = kinds.iter().map(count).collect();
    format!("{}: {}", crate::output::count(states.len() as u64, "run"), parts.join(", "))
}

/// Cells of rows of the same length below each other, two blanks between columns.
pub(crate) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
    let steps = row.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    [
        row.label.clone(),
        row.state.clone(),
        format!("{} of {steps}", row.step),
        number(row.loss),
        number(row.held_out),
        row.left.map_or_else(String::new, duration),
        row.job.clone().unwrap_or_default(),
        row.settings.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_empty_ones_are_not_there() {
        let row = |label: &str, state: &str, loss: Option<f64>| Row {
            label: label.to_owned(),
            state: state.to_owned(),
            steps: Some(60),
            loss,
            settings: "rank=8".to_owned(),
            ..Row::default()
        };
        let rows = [row("0000", "running", Some(2.5)), row("0001", "queued", None)];
        let expected = [
            "run   state    step     loss    settings",
            "0000  running  0 of 60  2.5000  rank=8",
            "0001  queued   0 of 60          rank=8",
        ];
        assert_eq!(table(&rows), expected);
        assert_eq!(counted(&["running", "queued", "queued"]), "3 runs: 1 running, 2 queued");
        assert_eq!(table(&[]), [""]);
    }
}
