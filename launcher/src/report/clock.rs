//! Moments: as logs write them, and as pages show them, always in UTC. The time now is nobody's business here: the same run gives the same page.
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970 of a moment as logs write it.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some((moment.unix_timestamp_nanos() / 1000) as f64 / 1e6)
}

/// Day and time to the second; what is out of the calendar is a number.
pub(crate) fn show(seconds: f64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds.floor() as i64).ok();
    match moment.and_then(|moment| moment.format(&Rfc3339).ok()) {
        Some(text) => format!("{} UTC", text.trim_end_matches('Z').replace('T', " ")),
        None => format!("{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let seconds = parse("2026-11-22T12:05:09.159439Z").unwrap();
        assert_eq!(seconds, 1_795_349_109.159_439);
        assert_eq!(show(seconds), "2026-11-22 12:05:09 UTC");
        assert_eq!((parse("yesterday"), show(0.0)), (None, "1970-01-01 00:00:00 UTC".to_owned()));
        assert_eq!(show(1e300), format!("{}", 1e300));
    }
}
