//! Moments of entries: milliseconds of UTC, written as RFC 3339 section 5.6 in one form, `2026-11-22T15:52:12.123Z`.
//!
//! A verifier needs no more of a calendar than this, so no crate is taken for it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

const DAY: i64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z: four digits of a year end there.
const LAST: i64 = 253_402_300_799_999;

/// A moment between the years 1970 and 9999, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(i64);

impl Time {
    /// Milliseconds since 1970, cut to what four digits of a year can say.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, LAST))
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Reads what `Display` writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let millis = ((hour * 60 + minute) * 60 + second) * 1000 + number(20, 23)?;
        let time = days(year, month, day) * DAY + millis;
        // Writing it again refuses what no calendar has: a 30th of February, an hour 24, other separators, years before 1970.
        let time = (0..=LAST).contains(&time).then_some(Self(time))?;
        (time.to_string() == text).then_some(time)
    }
}

impl From<SystemTime> for Time {
    /// The clock's moment; one before 1970 is 1970.
    fn from(moment: SystemTime) -> Self {
        let millis = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self::from_millis(i64::try_from(millis).unwrap_or(LAST))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0.div_euclid(DAY));
        let millis = self.0.rem_euclid(DAY);
        let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years begin in March here, so that the leap day is the last one; the five
/// months from March have 153 days, as have the five from August.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let day_of_year = (153 * since_march + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The inverse of [`days`], by centuries and years of fixed length.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let in_era = days.rem_euclid(146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * since_march + 2) / 5 + 1;
    let month = (since_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time, expected 2026-11-22T15:52:12.123Z")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by GNU date: `date -u -d @SECONDS +%FT%T`.
    #[test]
    fn known_moments() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_679_315_147_000, "2023-03-20T12:25:47.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in rows {
            assert_eq!(Time(millis).to_string(), text);
            assert_eq!(Time::parse(text), Some(Time(millis)));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let wrong = [
            "2026-11-22T15:52:12Z",
            "2026-11-22 15:52:12.123Z",
            "2026-11-22T15:52:12.123+00:00",
            "2026-02-30T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-11-22T24:00:00.000Z",
            "2026-11-22T15:60:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2026-11-22T15:52:12.123z",
            "+026-11-22T15:52:12.123Z",
            "2026-00-01T00:00:00.000Z",
            "2100-02-29T00:00:00.000Z",
            "",
        ];
        for text in wrong {
            assert_eq!(Time::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_read_back(millis in 0..=LAST) {
            prop_assert_eq!(Time::parse(&Time(millis).to_string()), Some(Time(millis)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            prop_assert!(Time::parse(&text).is_none_or(|time| time.to_string() == text));
        }
    }
}
