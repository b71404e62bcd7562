//! Texts with the names of their files, and places in them. The crate opens no file: who calls it brings the texts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One text of a policy directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name as messages and digests give it, such as `policy.cedar`.
    pub name: String,
    /// What the file holds.
    pub text: String,
}

impl Source {
    /// A text and its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    /// The place of the byte at `offset`; the end of the text when `offset` lies behind it or inside a character.
    pub fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place { file: self.name.clone(), line: before.matches('\n').count() + 1, column }
    }
}

/// A place in a text; lines and columns (in characters) count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source::new("a.toml", "é = 1\nbé = 2\n");
        assert_eq!(source.place(0).to_string(), "a.toml:1:1");
        assert_eq!(source.place(source.text.find("= 2").unwrap()).to_string(), "a.toml:2:4");
        assert_eq!(source.place(9999).line, 3);
        assert_eq!(source.place(1).line, 3, "inside a character is not a place");
    }
}
