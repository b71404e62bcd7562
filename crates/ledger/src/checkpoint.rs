//! Checkpoints: the signed name, size and root of a log. C2SP tlog-checkpoint, "Note text" and "Signatures".

use crate::LedgerError;
use crate::error::shown;
use crate::hash::Hash;
use crate::note::Note;
use crate::proof::Head;
use crate::tile::decimal;

const WHAT: &str = "checkpoint";

/// What a log says of itself at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The root of the tree of that size.
    pub root: Hash,
    /// Lines after these three, opaque to verifiers.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// Reads the text of a checkpoint's note.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], with the line.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let wrong =
            |line: &str, found: &str, expected: &str| LedgerError::malformed(WHAT, line, shown(found.as_bytes()), expected);
        let body = text.strip_suffix('\n').ok_or_else(|| wrong("end", text, "a newline"))?;
        let mut lines = body.split('\n');
        let (origin, size, root) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        if origin.is_empty() {
            return Err(wrong("line 1", origin, "the log's name"));
        }
        let size = decimal(size).ok_or_else(|| wrong("line 2", size, "the number of entries"))?;
        let root = Hash::from_base64(root).ok_or_else(|| wrong("line 3", root, "the root hash in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        match extensions.iter().position(String::is_empty) {
            Some(at) => Err(wrong(&format!("line {}", at + 4), "", "no empty lines")),
            None => Ok(Self { origin: origin.to_owned(), size, root, extensions }),
        }
    }

    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        Head { size: self.size, root: self.root }
    }

    /// Can both be of one log at the sizes alone? Two roots of one size, or two names, cannot.
    ///
    /// # Errors
    /// [`LedgerError::Fork`] with both.
    pub fn check_same_size(&self, other: &Self) -> Result<(), LedgerError> {
        let fork = |reason| LedgerError::Fork { origin: self.origin.clone(), reason };
        if self.origin != other.origin {
            return Err(fork(format!("the other checkpoint is of the log {}", other.origin)));
        }
        if self.size == other.size && self.root != other.root {
            return Err(fork(format!("two roots of {} entries: {} and {}", self.size, self.root, other.root)));
        }
        Ok(())
    }
}

/// A checkpoint with the note that carries it. Its signatures have not been verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    /// Name, size and root.
    pub checkpoint: Checkpoint,
    /// The same as text, and the signatures.
    pub note: Note,
}

impl SignedCheckpoint {
    /// Reads a checkpoint file.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let note = Note::parse(bytes)?;
        Ok(Self { checkpoint: Checkpoint::parse(&note.text)?, note })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n");
        let checkpoint = Checkpoint::parse(&text).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.to_text(), text);
    }

    /// The refused texts of transparency-dev/formats (Apache-2.0), log/checkpoint_test.go, and of the specification's words.
    #[test]
    fn wrong_checkpoints_say_which_line() {
        let rows = [
            ("Head\n9944\n".to_owned(), "line 3"),
            (format!("\n9944\n{ROOT}\n"), "line 1"),
            (format!("Log\n123\n{ROOT}"), "end"),
            (format!("Log\nbananas\n{ROOT}\n"), "line 2"),
            (format!("Log\n-34\n{ROOT}\n"), "line 2"),
            (format!("Log\n3438945738945739845734895735\n{ROOT}\n"), "line 2"),
            (format!("Log\n0123\n{ROOT}\n"), "line 2"),
            (format!("Log\n+1\n{ROOT}\n"), "line 2"),
            ("Log\n123\nThisIsn'tBase64\n".to_owned(), "line 3"),
            ("Log\n123\nYmFuYW5hcw==\n".to_owned(), "line 3"),
            (format!("Log\n9944\n{ROOT}\n\n\n"), "line 4"),
        ];
        for (text, place) in rows {
            let error = Checkpoint::parse(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("{place}:")), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,80}|[a-z]{1,5}\n[0-9]{1,3}\n[A-Za-z0-9+/=]{43,45}\n(\\PC|\n)*") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.to_text(), text);
            }
        }
    }
}
