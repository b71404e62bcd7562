//! What a person who watches a run should hear of: steps that were skipped, a loss that jumps, ranks and data that are slow.
use std::time::{Duration, Instant};

use crate::train::metrics::{SlowRank, Step};

/// Between two lines about slowness, which tends to last.
const PAUSE: Duration = Duration::from_secs(60);
/// The share of a step's time that may go into waiting for data before it is worth a line; of a step that is over at once,
/// nothing is.
const DATA_SHARE: f64 = 0.2;
const DATA_SECONDS: f64 = 0.1;

/// What has been said, and the loss to compare a jump with.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    loss: Option<f64>,
    slow_rank: Option<Instant>,
    slow_data: Option<Instant>,
}

impl Alarms {
    /// Lines about a step that ended at `now`: each skipped step and each jump once, slowness at most once a minute.
    pub(crate) fn of(&mut self, step: &Step, now: Instant) -> Vec<String> {
        let number = step.step;
        let mut lines = Vec::new();
        if step.skipped {
            lines.push(format!("warning: step {number} was skipped: its loss or its gradients were not finite"));
        }
        if step.loss_spike
            && let Some(loss) = step.loss
        {
            let from = self.loss.map_or_else(String::new, |before| format!(" from {before:.4}"));
            lines.push(format!("warning: the loss jumped{from} to {loss:.4} at step {number}"));
        }
        if let Some(SlowRank { rank, seconds, median_seconds }) = step.slowest_rank
            && due(&mut self.slow_rank, now)
        {
            lines.push(format!(
                "warning: rank {rank} is slow: step {number} took it {seconds:.2} s of computing, half of the others {median_seconds:.2} s or less"
            ));
        }
        if let Some(waited) = step.data_seconds.filter(|waited| *waited > DATA_SECONDS.max(DATA_SHARE * step.seconds))
            && due(&mut self.slow_data, now)
        {
            lines.push(format!("warning: step {number} waited {waited:.2} of its {:.2} s for data", step.seconds));
        }
        self.loss = step.loss.or(self.loss);
        lines
    }
}

/// Whether a line is due at `now`, which is then remembered as said.
fn due(said: &mut Option<Instant>, now: Instant) -> bool {
    let due = said.is_none_or(|said| now.duration_since(said) >= PAUSE);
    if due {
        *said = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rest: &str) -> Step {
        serde_json::from_str(&format!(r#"{{"step":12,"tokens":20,"seconds":2.0,"tokens_per_s":10.0,{rest}}}"#)).unwrap()
    }

    #[test]
    fn a_step_as_it_should_be_says_nothing() {
        assert_eq!(Alarms::default().of(&step(r#""loss":2.5,"data_seconds":0.01"#), Instant::now()), [""; 0]);
    }

    #[test]
    fn skipped_steps_and_jumps_are_told_each_time() {
        let (mut alarms, now) = (Alarms::default(), Instant::now());
        let skipped = "warning: step 12 was skipped: its loss or its gradients were not finite";
        assert_eq!(alarms.of(&step(r#""loss":null,"skipped":true"#), now), [skipped]);
        let spike = step(r#""loss":5.25,"loss_spike":true"#);
        assert_eq!(alarms.of(&spike, now), ["warning: the loss jumped to 5.2500 at step 12"]);
        assert!(alarms.of(&step(r#""loss":2.5"#), now).is_empty());
        assert_eq!(alarms.of(&step(r#""loss":null,"skipped":true"#), now), [skipped]);
        assert_eq!(alarms.of(&spike, now), ["warning: the loss jumped from 2.5000 to 5.2500 at step 12"]);
    }

    #[test]
    fn slowness_is_told_at_most_once_a_minute() {
        let (mut alarms, start) = (Alarms::default(), Instant::now());
        let slow = step(r#""loss":2.5,"slowest_rank":{"rank":3,"seconds":1.8,"median_seconds":0.75},"data_seconds":0.5"#);
        assert_eq!(
            alarms.of(&slow, start),
            [
                "warning: rank 3 is slow: step 12 took it 1.80 s of computing, half of the others 0.75 s or less",
                "warning: step 12 waited 0.50 of its 2.00 s for data",
            ]
        );
        assert!(alarms.of(&slow, start + Duration::from_secs(59)).is_empty());
        assert_eq!(alarms.of(&slow, start + Duration::from_secs(60)).len(), 2);
    }
}
