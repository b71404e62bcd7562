//! A day of the calendar. Decisions know no clock: the day is passed in, so that each can be replayed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month};

/// A day, written `2026-11-22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day of a date.
    pub fn new(date: Date) -> Day {
        Day(date)
    }

    /// The day before, if the calendar has one.
    pub fn before(self) -> Option<Day> {
        self.0.previous_day().map(Day)
    }

    /// The day after, if the calendar has one.
    pub fn after(self) -> Option<Day> {
        self.0.next_day().map(Day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Day, String> {
        let part = |range: std::ops::Range<usize>| {
            text.get(range)
                .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|part| part.parse::<u16>().ok())
        };
        let dashes = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let day = || {
            let month = Month::try_from(u8::try_from(part(5..7)?).ok()?).ok()?;
            Date::from_calendar_date(i32::from(part(0..4)?), month, u8::try_from(part(8..10)?).ok()?).ok()
        };
        let day = if dashes { day() } else { None };
        day.map(Day).ok_or_else(|| format!("\"{text}\": expected a day such as 2026-11-22"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A day as TOML writes it, with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Date(toml::value::Datetime),
    Text(String),
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Day, D::Error> {
        let expected = |_| serde::de::Error::custom("expected a day such as 2026-11-22");
        let text = match Written::deserialize(deserializer).map_err(expected)? {
            Written::Date(date) => date.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_of_the_calendar_are_days() {
        for good in ["2026-11-22", "2024-02-29", "9999-12-31", "0001-01-01"] {
            assert_eq!(good.parse::<Day>().map(|day| day.to_string()), Ok(good.to_owned()));
        }
        for bad in ["2026-02-29", "2026-13-01", "2026-1-1", "2026-11-22T10:00:00Z", "", "+026-11-22", "2026-11-2é"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }

    #[test]
    fn days_have_neighbours_except_at_the_ends() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(day.before().and_then(Day::after), Some(day));
        assert_eq!("9999-12-31".parse::<Day>().unwrap().after(), None);
    }
}
