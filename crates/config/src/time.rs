//! A time limit, in the notation of Slurm.
use std::fmt;

use serde::{Serialize, Serializer};

/// A length of wall-clock time in whole seconds. Written as Slurm writes it: `2-00:00:00`, `06:00:00`, `00:30:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    seconds: u64,
}

impl WallTime {
    /// So many seconds.
    pub fn from_seconds(seconds: u64) -> WallTime {
        WallTime { seconds }
    }

    /// The length in seconds.
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Reads the forms that sbatch's `--time` takes: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`,
    /// `days-hours:minutes` and `days-hours:minutes:seconds`. `None` for anything else, `infinite` among it.
    ///
    /// The forms are those of <https://slurm.schedmd.com/sbatch.html>, option `--time`.
    pub fn parse(text: &str) -> Option<WallTime> {
        let number = |word: &str| {
            let plain = !word.is_empty() && word.len() <= 9 && word.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| word.parse::<u64>().ok()).flatten()
        };
        let numbers = |text: &str| text.split(':').map(number).collect::<Option<Vec<u64>>>();
        let (days, clock) = match text.split_once('-') {
            Some((days, clock)) => (Some(number(days)?), numbers(clock)?),
            None => (None, numbers(text)?),
        };
        let (hours, minutes, seconds) = match (days, clock.as_slice()) {
            (None, [minutes]) => (0, *minutes, 0),
            (None, [minutes, seconds]) => (0, *minutes, *seconds),
            (Some(_), [hours]) => (*hours, 0, 0),
            (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
            (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
            _ => return None,
        };
        // Nine digits each: no sum leaves 64 bits.
        Some(WallTime { seconds: ((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds })
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.seconds / 86_400, self.seconds % 86_400);
        if days > 0 {
            write!(out, "{days}-")?;
        }
        write!(out, "{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_slurm_is_read() {
        let read = |text| WallTime::parse(text).map(|time| time.to_string());
        for (text, means) in [
            ("30", "00:30:00"),
            ("90:30", "01:30:30"),
            ("24:00:00", "1-00:00:00"),
            ("2-0", "2-00:00:00"),
            ("1-12:30", "1-12:30:00"),
            ("4-00:00:00", "4-00:00:00"),
        ] {
            assert_eq!(read(text).as_deref(), Some(means), "{text}");
        }
        for wrong in ["", "infinite", "UNLIMITED", "n/a", "1:2:3:4", "-3", "1-", "1h", "+5", " 5", "12345678901234567890"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
