//! The parts of the screen: numbers, curve, jobs, warnings.
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use crate::chain::history::{Job, JobState};
use crate::watch::look::Look;
use crate::watch::shown::Shown;
use crate::watch::words::{nodes_words, one_line, what_next};

/// Names and values, one a line.
pub(crate) fn numbers(shown: &Shown) -> Paragraph<'static> {
    let lines = shown.rows().into_iter().map(|(name, value)| Line::from(format!("{name:15} {value}")));
    Paragraph::new(lines.collect::<Vec<_>>())
}

/// Loss as a line and held-out loss as letters, so that a screen without colours shows which is which.
pub(crate) fn curve(frame: &mut Frame<'_>, area: Rect, shown: &Shown, look: Look) {
    let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let drawable = |value: f64| value.is_finite() && value.abs() < 1e9;
        points.iter().copied().filter(|(x, y)| drawable(*x) && drawable(*y)).collect()
    };
    let (losses, held_out) = (finite(&shown.losses), finite(&shown.held_out));
    let title = if held_out.is_empty() { " loss " } else { " loss (line), held-out loss (o) " };
    let block = Block::bordered().title(title);
    let all = || losses.iter().chain(&held_out).copied();
    let range = |of: fn((f64, f64)) -> f64| {
        all().map(of).fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        })
    };
    let Some(((first, last), (low, high))) = range(|point| point.0).zip(range(|point| point.1)) else {
        let words = if shown.state.is_none() { "there is no run directory" } else { "no step is done yet" };
        return frame.render_widget(Paragraph::new(words).block(block), area);
    };
    // A curve of one point, or a flat one, has room around it.
    let (right, margin) = (last.max(first + 1.0), (0.05 * (high - low)).max(1e-3));
    let sets = vec![
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(look.colour(Color::Cyan)).data(&losses),
        Dataset::default()
            .marker(Marker::Custom('o'))
            .graph_type(GraphType::Scatter)
            .style(look.colour(Color::Magenta))
            .data(&held_out),
    ];
    let steps = Axis::default().bounds([first, right]).labels([format!("{first:.0}"), format!("step {right:.0}")]);
    let values = Axis::default().bounds([low - margin, high + margin]).labels([format!("{low:.2}"), format!("{high:.2}")]);
    frame.render_widget(Chart::new(sets).block(block).x_axis(steps).y_axis(values).legend_position(None), area);
}

/// The newest `room` jobs.
pub(crate) fn jobs(shown: &Shown, room: usize) -> Paragraph<'static> {
    if shown.jobs.is_empty() {
        return Paragraph::new("The run has no jobs: it was not submitted.");
    }
    let newest = shown.jobs.iter().skip(shown.jobs.len().saturating_sub(room));
    let width = newest.clone().map(|job| job.job.chars().count()).max().unwrap_or(0);
    Paragraph::new(newest.map(|job| Line::from(job_line(job, width, shown.step))).collect::<Vec<_>>())
}

/// `7  stopped   0-40  n1, n2  the time was up; job 8 follows`: what matters most stands where a narrow screen still has it.
fn job_line(job: &Job, width: usize, step: u64) -> String {
    let steps = match (job.from_step, job.until(step)) {
        (Some(from), Some(until)) => format!("{from}-{until}"),
        _ => String::new(),
    };
    let waits = job.after.as_ref().filter(|_| job.state == JobState::Queued && job.started.is_none());
    let waits = waits.map(|after| format!("after job {after}"));
    let nodes = (!job.nodes.is_empty()).then(|| nodes_words(&job.nodes));
    let parts = [waits, nodes, what_next(job)].into_iter().flatten().collect::<Vec<_>>().join("  ");
    format!("{:width$}  {:9}  {steps:11}  {parts}", one_line(&job.job), job.state.word())
}

/// The newest `room` warnings.
pub(crate) fn warnings(shown: &Shown, room: usize, look: Look) -> Paragraph<'static> {
    if shown.warnings.is_empty() {
        return Paragraph::new("There are no warnings.");
    }
    let newest = shown.warnings.iter().skip(shown.warnings.len().saturating_sub(room));
    Paragraph::new(newest.map(|line| Line::styled(line.clone(), look.colour(Color::Yellow))).collect::<Vec<_>>())
}
