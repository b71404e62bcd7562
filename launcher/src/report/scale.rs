//! The scale of an axis: round numbers a person can count in, and their labels.

/// A value where the axis has a line, with its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// The range of an axis and its ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ticks: Vec<Tick>,
}

impl Scale {
    /// Of steps, from the first to the last: its ticks are whole.
    pub(crate) fn of_steps(first: u64, last: u64) -> Scale {
        let (from, to) = (first as f64, last.max(first + 1) as f64);
        Scale::with(from, to, round((to - from) / 6.0).max(1.0))
    }

    /// Of values; the axis begins and ends at a tick. `from_zero` where the height itself says something.
    pub(crate) fn of_values(lowest: f64, highest: f64, from_zero: bool) -> Scale {
        let lowest = if from_zero { lowest.min(0.0) } else { lowest };
        // A curve that never changes needs a height, too.
        let pad = if highest > lowest { 0.0 } else { (highest.abs() * 0.1).max(1e-9) };
        let (lowest, highest) = (if from_zero && lowest >= 0.0 { lowest } else { lowest - pad }, highest + pad);
        let step = round((highest - lowest) / 4.0);
        Scale::with((lowest / step).floor() * step, (highest / step).ceil() * step, step)
    }

    fn with(from: f64, to: f64, step: f64) -> Scale {
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-6).floor() as i64;
        let largest = from.abs().max(to.abs());
        let tick = |number: i64| {
            let value = number as f64 * step;
            Tick { value, label: label(value, step, largest) }
        };
        // A handful by construction; the bound is for values that no number can hold.
        Scale { from, to, ticks: (first..=last.min(first.saturating_add(20))).map(tick).collect() }
    }

    /// Where a value lies, 0 at the beginning of the axis and 1 at its end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }
}

/// The next of 1, 2, 5, 10, … at least as large.
fn round(step: f64) -> f64 {
    let step = if step.is_finite() && step > 0.0 { step } else { 1.0 };
    let power = 10f64.powf(step.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= step * (1.0 - 1e-9)).unwrap_or(10.0);
    multiple * power
}

fn label(value: f64, step: f64, largest: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-2..1e6).contains(&largest) {
        return short((value / step).round() * step);
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

/// `2e-4`, `1.5e6`
pub(crate) fn short(value: f64) -> String {
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> String {
        scale.ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let loss = Scale::of_values(4.41, 7.75, false);
        assert_eq!((loss.from, loss.to, labels(&loss).as_str()), (4.0, 8.0, "4 5 6 7 8"));
        assert_eq!((loss.place(4.0), loss.place(8.0)), (0.0, 1.0));
        assert_eq!(labels(&Scale::of_values(8.4e-7, 1e-3, true)), "0 5e-4 1e-3");
        assert_eq!(labels(&Scale::of_values(0.12, 0.47, true)), "0 0.2 0.4 0.6");
        assert_eq!(labels(&Scale::of_values(300.0, 840.0, true)), "0 500 1000");
        assert_eq!(labels(&Scale::of_steps(1, 60)), "10 20 30 40 50 60");
        assert_eq!(labels(&Scale::of_steps(1, 1)), "1 2");
    }

    #[test]
    fn strange_values_have_a_scale() {
        for (lowest, highest) in [(2.0, 2.0), (0.0, 0.0), (-1.0, -1.0), (1e-300, 2e-300), (-1e300, 1e300), (0.0, f64::MAX)] {
            for from_zero in [false, true] {
                let scale = Scale::of_values(lowest, highest, from_zero);
                assert!(!scale.ticks.is_empty() && scale.ticks.len() < 22, "{lowest} {highest}: {scale:?}");
                assert!(scale.place(lowest).is_finite() && scale.place(highest) <= 1.0 + 1e-9, "{scale:?}");
            }
        }
    }
}
