//! Curves as data for an inline SVG: points, ticks, marks, a text alternative and the numbers beside it. The template draws them.
//!
//! Not drawn with `plotters`: its SVG writes fixed colours into every element and has neither `<title>` nor classes, so that it can follow no
//! dark mode, print in no other colours, and says nothing to a screen reader. What is left to do is a scale and a line.
use serde::Serialize;

use crate::report::scale::{Scale, short};

/// The part of the view box that has the curves; the template draws the axes around it.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 748.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 214.0;
/// More points than this are thinned out: what one column of pixels has is its first, lowest, highest and last point.
const COLUMNS: usize = 686;
/// Curves with fewer points show each.
const DOTTED: usize = 24;

/// One curve: a value for some steps.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Rising steps; values are finite.
    pub(crate) points: Vec<(u64, f64)>,
}

/// Something that happened at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The ranks were started again after that many steps.
    Restart,
    /// The weights stayed as they were.
    Skipped,
    /// The loss was far above those before it.
    Spike,
}

/// What a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Plot<'a> {
    /// For links within the page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Of the values, perhaps none.
    pub(crate) unit: &'static str,
    pub(crate) from_zero: bool,
    pub(crate) curves: Vec<Curve>,
    pub(crate) events: &'a [(u64, Event)],
}

/// A chart ready to be drawn: every place is in the units of the view box.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    /// The text alternative.
    says: String,
    lines: Vec<Line>,
    across: Vec<At>,
    up: Vec<At>,
    restarts: Vec<At>,
    skipped: Vec<At>,
    spikes: Vec<At>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// Chooses colour and dashes.
    number: usize,
    points: String,
    dots: Vec<(String, String)>,
    first: String,
    lowest: String,
    highest: String,
    last: String,
}

/// A place on an axis and its label.
#[derive(Debug, Serialize)]
struct At {
    at: String,
    label: String,
}

/// Lines have this many looks; then they come again.
pub(crate) const LOOKS: usize = 8;

impl Plot<'_> {
    /// The chart, or nothing where no curve has a point.
    pub(crate) fn chart(&self) -> Option<Chart> {
        let curves: Vec<&Curve> = self.curves.iter().filter(|curve| !curve.points.is_empty()).collect();
        let all = || curves.iter().flat_map(|curve| curve.points.iter());
        let (first, last) = (all().map(|point| point.0).min()?, all().map(|point| point.0).max()?);
        let values = || all().map(|point| point.1);
        let across = Scale::of_steps(first, last);
        let up =
            Scale::of_values(values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max), self.from_zero);
        let place = |(step, value): (u64, f64)| (x(&across, step as f64), y(&up, value));
        let lines = self.curves.iter().enumerate().filter(|(_, curve)| !curve.points.is_empty());
        let at = |event| {
            let there = move |(step, what): &&(u64, Event)| *what == event && (first..=last).contains(step);
            let at = |(step, _): &(u64, Event)| At { at: x(&across, *step as f64), label: step.to_string() };
            self.events.iter().filter(there).map(at).collect::<Vec<_>>()
        };
        Some(Chart {
            id: self.id,
            title: self.title,
            unit: self.unit,
            says: self.says(first, last),
            lines: lines.map(|(number, curve)| line(number % LOOKS, curve, place)).collect(),
            restarts: at(Event::Restart),
            skipped: at(Event::Skipped),
            spikes: at(Event::Spike),
            across: across.ticks.iter().map(|tick| At { at: x(&across, tick.value), label: tick.label.clone() }).collect(),
            up: up.ticks.iter().map(|tick| At { at: y(&up, tick.value), label: tick.label.clone() }).collect(),
        })
    }

    /// The chart in words.
    fn says(&self, first: u64, last: u64) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) };
        let mut text = format!("{}{unit} over steps {first} to {last}.", self.title);
        for curve in self.curves.iter().filter(|curve| !curve.points.is_empty()) {
            let Extremes { first, lowest, highest, last } = Extremes::of(curve);
            text += &format!(" {}: first {first}, lowest {lowest}, highest {highest}, last {last}.", curve.name);
        }
        for (event, what) in [
            (Event::Restart, "The ranks were started again after step"),
            (Event::Skipped, "Skipped: step"),
            (Event::Spike, "The loss jumped at step"),
        ] {
            let steps: Vec<_> =
                self.events.iter().filter(|(_, found)| *found == event).map(|(step, _)| step.to_string()).collect();
            if let Some(named) = steps.get(..steps.len().min(8)).filter(|named| !named.is_empty()) {
                let more =
                    if steps.len() > named.len() { format!(" and {} more", steps.len() - named.len()) } else { String::new() };
                text += &format!(" {what} {}{more}.", named.join(", "));
            }
        }
        text
    }
}

fn x(scale: &Scale, step: f64) -> String {
    format!("{:.1}", LEFT + scale.place(step) * (RIGHT - LEFT))
}

fn y(scale: &Scale, value: f64) -> String {
    format!("{:.1}", BOTTOM - scale.place(value) * (BOTTOM - TOP))
}

fn line(number: usize, curve: &Curve, place: impl Fn((u64, f64)) -> (String, String)) -> Line {
    let points: Vec<_> = thinned(&curve.points).into_iter().map(&place).collect();
    let joined = points.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ");
    let Extremes { first, lowest, highest, last } = Extremes::of(curve);
    let dots = if points.len() <= DOTTED { points } else { Vec::new() };
    Line { name: curve.name.clone(), number, points: joined, dots, first, lowest, highest, last }
}

/// At most four points for each column of pixels, so that nothing that can be seen is lost and a long run's page stays small.
fn thinned(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(4 * COLUMNS);
    for column in points.chunks(points.len().div_ceil(COLUMNS)) {
        let by = |wins: fn(f64, f64) -> bool| {
            let best = |best: usize, index: usize| if wins(column[index].1, column[best].1) { index } else { best };
            (0..column.len()).fold(0, best)
        };
        let mut chosen = [0, by(|new, old| new < old), by(|new, old| new > old), column.len() - 1];
        chosen.sort_unstable();
        let mut chosen = chosen.to_vec();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|index| column[index]));
    }
    kept
}

/// The points of a curve that are named, each with its step.
struct Extremes {
    first: String,
    lowest: String,
    highest: String,
    last: String,
}

impl Extremes {
    fn of(curve: &Curve) -> Extremes {
        let by = |wins: fn(f64, f64) -> bool| {
            let points = curve.points.iter().copied();
            points.reduce(|best, next| if wins(next.1, best.1) { next } else { best })
        };
        let words = |point: Option<(u64, f64)>| {
            point.map_or_else(String::new, |(step, value)| format!("{} (step {step})", digits(value)))
        };
        Extremes {
            first: words(curve.points.first().copied()),
            lowest: words(by(|new, old| new < old)),
            highest: words(by(|new, old| new > old)),
            last: words(curve.points.last().copied()),
        }
    }
}

/// Five digits that count, four of what is small or large.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(0.1..1e6).contains(&size) {
        return short(value);
    }
    let decimals = (4.0 - size.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(u64, f64)>, events: &[(u64, Event)]) -> Option<Chart> {
        let curves = vec![Curve { name: "loss".to_owned(), points }];
        Plot { id: "loss", title: "Loss", unit: "", from_zero: false, curves, events }.chart()
    }

    #[test]
    fn a_chart_has_its_points_inside_and_says_what_it_shows() {
        let events = [(2, Event::Restart), (3, Event::Skipped), (9, Event::Spike)];
        let chart = plot(vec![(1, 8.0), (2, 6.0), (4, 7.0)], &events).unwrap();
        assert_eq!(chart.lines[0].points, "62.0,14.0 290.7,214.0 748.0,114.0");
        assert_eq!((chart.restarts[0].at.as_str(), chart.skipped[0].label.as_str(), chart.spikes.len()), ("290.7", "3", 0));
        assert_eq!(
            chart.says,
            "Loss over steps 1 to 4. loss: first 8.0000 (step 1), lowest 6.0000 (step 2), highest 8.0000 (step 1), last 7.0000 \
             (step 4). The ranks were started again after step 2. Skipped: step 3. The loss jumped at step 9."
        );
        assert!(plot(vec![], &[]).is_none());
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_extremes() {
        let points: Vec<_> =
            (1..=100_000).map(|step| (step, if step == 70_001 { 50.0 } else { 2.0 + (step % 7) as f64 / 10.0 })).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= 4 * COLUMNS && kept.contains(&(70_001, 50.0)), "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(kept.is_sorted_by_key(|point| point.0));
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(
            [4.518_174, 0.001_234_567, 1e-7, 0.0, 649.18, 123_456.7].map(digits),
            ["4.5182", "1.235e-3", "1e-7", "0", "649.18", "123457"]
        );
    }
}
