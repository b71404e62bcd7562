//! Where a setting was typed: a line of a file, or an argument of the command line.
use std::fmt;
use std::path::PathBuf;

/// The place that an error about a setting names first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the run file, counted from 1.
    Line {
        /// The run file as it was named on the command line.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The run file as a whole: for a setting that is missing or has its default.
    File(PathBuf),
    /// `--set SECTION.KEY`, with the setting as it was typed.
    Override(String),
    /// An option that stands for a setting, such as `--ranks` for `parallel.dp`.
    Option(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line { file, line } => write!(out, "{}:{line}", file.display()),
            Place::File(file) => write!(out, "{}", file.display()),
            Place::Override(setting) => write!(out, "--set {setting}"),
            Place::Option(option) => out.write_str(option),
        }
    }
}

/// The line, counted from 1, of a byte offset in `text`.
pub fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_of("a\nb\n", 0), 1);
        assert_eq!(line_of("a\nb\n", 2), 2);
        assert_eq!(line_of("a\nb\n", 400), 3);
    }
}
