//! Standard output for results, standard error for everything else. A reader that has gone away (`| head`) ends the command, and
//! is no error.
use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use sirocco_config::Parallel;

use crate::failure::{Failure, Kind};

/// A name in its column, as it stands before every value that a command prints below each other.
pub(crate) fn named(name: &str) -> String {
    format!("{name:15}")
}

/// One line of results.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Text of results that brings its own line ends.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// One object on one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::new(Kind::Failed, format_args!("cannot write JSON: {error}")))?;
    line(text)
}

/// A line for the person who watches.
pub(crate) fn say(text: Arguments<'_>) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Waits, unless whoever read standard output leaves first, or a signal comes.
pub(crate) fn sleep_while_read(time: Duration) -> Result<(), Failure> {
    let out = io::stdout();
    let mut pipe = [PollFd::new(&out, PollFlags::empty())];
    let timeout = Timespec::try_from(time).ok();
    match poll(&mut pipe, timeout.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => Err(Failure::new(Kind::Unread, "standard output: nobody reads it any more")),
        // Something that cannot be waited for.
        Err(_) => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        let kind = if error.kind() == ErrorKind::BrokenPipe { Kind::Unread } else { Kind::Failed };
        Failure::new(kind, format_args!("standard output: cannot write: {error}"))
    })
}

/// A number with thousands apart: 1 234 567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, rest) = digits.split_at(first);
    let mut groups: Vec<&str> = rest.as_bytes().chunks(3).filter_map(|chunk| std::str::from_utf8(chunk).ok()).collect();
    if !head.is_empty() {
        groups.insert(0, head);
    }
    groups.join(" ")
}

/// `1 rank`, `2 ranks`, `1 000 ranks`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A mesh by the axes that are longer than 1: `dp 2 × tp 2 = 4 ranks`.
pub(crate) fn mesh(parallel: &Parallel) -> String {
    let Parallel { pp, dp, fsdp, tp, .. } = parallel;
    let axes = [("pp", pp), ("dp", dp), ("fsdp", fsdp), ("tp", tp)];
    let long: Vec<_> = axes.iter().filter(|(_, size)| **size > 1).map(|(name, size)| format!("{name} {size}")).collect();
    let ranks = count(parallel.ranks(), "rank");
    if long.is_empty() { ranks } else { format!("{} = {ranks}", long.join(" × ")) }
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

/// Seconds as hours, minutes and seconds.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_names_its_long_axes() {
        let of = |sets: &[&str]| {
            let text = "name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 1\n";
            let mut file = sirocco_config::RunFile::parse(text, std::path::Path::new("run.toml")).unwrap();
            sets.iter().for_each(|set| file.set(set).unwrap());
            mesh(&file.check(std::path::Path::new("/")).unwrap().parallel)
        };
        assert_eq!(of(&[]), "1 rank");
        assert_eq!(of(&["parallel.dp=2"]), "dp 2 = 2 ranks");
        assert_eq!(of(&["parallel.tp=2", "parallel.dp=2", "parallel.fsdp=2"]), "dp 2 × fsdp 2 × tp 2 = 8 ranks");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([512, 2_500_000, 3_000_000_000].map(bytes), ["0.5 kB", "2.5 MB", "3.00 GB"]);
        assert_eq!([3.4, 75.0, 3700.0].map(duration), ["3 s", "1:15 min", "1:01 h"]);
    }
}
