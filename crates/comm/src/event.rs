//! One collective as it looks from outside: for traces of hangs and for timelines.

use std::{fmt, time::Duration};

use crate::entry::{Collective, Ends, Operation, list};

/// One collective or message of this process, as it was when [`Communicator::history`](crate::Communicator::history) was asked.
/// Times count from the start of the process's communicator.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The group's name; "world" for all ranks.
    pub group: &'static str,
    /// The name that the caller gave.
    pub name: &'static str,
    /// What it does.
    pub operation: Operation,
    /// Its number among the collectives of the group, or among the messages of the group in this direction.
    pub sequence: u64,
    /// For a message: from where to where.
    pub message: Option<Ends>,
    /// Whether devices move it, through NCCL; else hosts do, through MPI.
    pub device: bool,
    /// Bytes in this rank's buffer, or received; between devices, of the result.
    pub bytes: u64,
    /// When it was asked for.
    pub submitted: Duration,
    /// When the wire, or the device, came to it; until then it waits for what is before it.
    pub entered: Option<Duration>,
    /// When all ranks of the group had entered it (for a message: when the receiver had its beginning); of devices it is not known.
    pub together: Option<Duration>,
    /// When it ended, well or not. A message that was sent ends when MPI has handed it on.
    pub done: Option<Duration>,
    /// Whether it ended in an error.
    pub failed: bool,
    /// The ranks that it waits for, as far as this rank knows; empty while it has not stood still for long.
    pub waits_for: Vec<usize>,
    /// When this was written down.
    pub seen: Duration,
}

impl Event {
    /// Its name and number.
    pub(crate) fn collective(&self) -> Collective {
        let (name, group) = (self.name.to_owned(), self.group.to_owned());
        Collective { name, group, sequence: self.sequence, message: self.message.map(Box::new) }
    }

    /// Whether `collective` is its name and number.
    pub(crate) fn is(&self, collective: &Collective) -> bool {
        (self.sequence, self.name, self.group) == (collective.sequence, &*collective.name, &*collective.group)
            && self.message.as_ref() == collective.message.as_deref()
    }
}

/// One line: what it is, how much, and how far it has come.
impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = if self.device { " between devices" } else { "" };
        write!(out, "{}, {}{devices}, {}: ", self.collective(), self.operation, Amount(self.bytes))?;
        let ago = |time: Duration| Ago(self.seen.saturating_sub(time));
        match (self.entered, self.done) {
            (Some(entered), Some(done)) => {
                let outcome = if self.failed { "failed" } else { "done" };
                write!(out, "{outcome} {} ago after {}", ago(done), Ago(done.saturating_sub(entered)))
            }
            (None, Some(done)) => write!(out, "failed {} ago before it was entered", ago(done)),
            (None, None) => write!(out, "submitted {} ago, not entered", ago(self.submitted)),
            (Some(entered), None) => {
                write!(out, "entered {} ago, not done", ago(entered))?;
                match self.waits_for.len() {
                    0 => Ok(()),
                    1 => write!(out, "; waits for rank {}", self.waits_for[0]),
                    _ => write!(out, "; waits for ranks {}", list(&self.waits_for, 16)),
                }
            }
        }
    }
}

/// Bytes as people write them.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1024 => write!(out, "{bytes} bytes"),
            bytes @ ..1_048_576 => write!(out, "{:.1} KiB", bytes as f64 / 1024.0),
            bytes @ ..1_073_741_824 => write!(out, "{:.1} MiB", bytes as f64 / 1_048_576.0),
            bytes => write!(out, "{:.1} GiB", bytes as f64 / 1_073_741_824.0),
        }
    }
}

/// A duration as people write it.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 { write!(out, "{:.1} ms", seconds * 1e3) } else { write!(out, "{seconds:.1} s") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let at = |millis| Duration::from_millis(millis);
        Event {
            group: "dp",
            name: "gradients",
            operation: Operation::AllReduceF32,
            sequence: 17,
            message: None,
            device: false,
            bytes: 12 << 20,
            submitted: at(1000),
            entered: None,
            together: None,
            done: None,
            failed: false,
            waits_for: Vec::new(),
            seen: at(5000),
        }
    }

    #[test]
    fn a_line_says_how_far_it_has_come() {
        let text = |change: &dyn Fn(&mut Event)| {
            let mut event = event();
            change(&mut event);
            event.to_string()
        };
        let start = "`gradients` of dp (collective 17), all_reduce_f32, 12.0 MiB: ";
        assert_eq!(text(&|_| {}), format!("{start}submitted 4.0 s ago, not entered"));
        let entered = Some(Duration::from_millis(1800));
        assert_eq!(
            text(&|event| (event.entered, event.waits_for) = (entered, vec![3])),
            format!("{start}entered 3.2 s ago, not done; waits for rank 3")
        );
        let done = Some(Duration::from_millis(1802));
        assert_eq!(text(&|event| (event.entered, event.done) = (entered, done)), format!("{start}done 3.2 s ago after 2.0 ms"));
        assert_eq!(
            text(&|event| (event.entered, event.done, event.failed) = (entered, done, true)),
            format!("{start}failed 3.2 s ago after 2.0 ms")
        );
        let start = "`gradients` of dp (collective 17), all_reduce_f32 between devices, 12.0 MiB: ";
        assert_eq!(text(&|event| event.device = true), format!("{start}submitted 4.0 s ago, not entered"));
    }
}
