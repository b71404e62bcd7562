//! Text documents: JSONL with `{"text":…}` a line, or a `.txt` file, which is one document.

use crate::error::CorpusError;
use crate::fault::Fault;
use crate::json::Json;
use crate::lines::Lines;
use crate::sieve::{Located, Record};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The documents of a file; see [`read_text`].
pub struct TextReader {
    lines: Lines<BufReader<File>>,
    whole: bool,
    ended: bool,
    document: Option<Located<String>>,
}

/// Opens a text file: `.jsonl` (or `.json`) has one `{"text":…}` a line, `.txt` is one document, whose line ends become `\n`.
/// A line of a `.txt` file that is not UTF-8 is a bad record; under `skip` the document goes on without it.
///
/// # Errors
/// The file cannot be opened, or has another extension.
pub fn read_text(path: &Path) -> Result<TextReader, CorpusError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let whole = match extension {
        "jsonl" | "json" => false,
        "txt" => true,
        found => return Err(CorpusError::UnknownExtension { file: path.to_path_buf(), found: found.to_owned() }),
    };
    Ok(TextReader { lines: Lines::open(path)?, whole, ended: false, document: None })
}

impl TextReader {
    /// Gathers the lines of a `.txt` file; a bad line is handed out as soon as it is met, the document at the end.
    fn next_whole(&mut self) -> Option<Record<String>> {
        if self.ended {
            return None;
        }
        for line in self.lines.by_ref() {
            let Located { line, value } = match line {
                Ok(located) => located,
                Err(error) => return Some(Err(error)),
            };
            match &mut self.document {
                Some(document) => {
                    document.value.push('\n');
                    document.value.push_str(&value);
                }
                None => self.document = Some(Located { line, value }),
            }
        }
        self.ended = true;
        let document = self.document.take()?;
        Some(if document.value.trim().is_empty() {
            Err(CorpusError::bad(self.lines.path(), document.line, Fault::EmptyText))
        } else {
            Ok(document)
        })
    }

    fn next_line(&mut self) -> Option<Record<String>> {
        loop {
            match self.lines.next()? {
                Err(error) => return Some(Err(error)),
                Ok(line) if line.value.trim().is_empty() => {}
                Ok(Located { line, value }) => {
                    let parsed = parse_text(&value).map_err(|fault| CorpusError::bad(self.lines.path(), line, fault));
                    return Some(parsed.map(|value| Located { line, value }));
                }
            }
        }
    }
}

impl Iterator for TextReader {
    type Item = Record<String>;

    fn next(&mut self) -> Option<Record<String>> {
        if self.whole { self.next_whole() } else { self.next_line() }
    }
}

fn parse_text(line: &str) -> Result<String, Fault> {
    let [text] = Json::parse(line)?.fields("", ["text"], "`text`")?;
    let text = text.text(|| "text".to_owned())?;
    if text.trim().is_empty() { Err(Fault::EmptyText) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(name: &str, bytes: &[u8]) -> Vec<Result<(u64, String), String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let short = |error: CorpusError| error.to_string().split_once(name).unwrap().1.to_owned();
        read_text(&path).unwrap().map(|r| r.map(|l| (l.line, l.value)).map_err(short)).collect()
    }

    #[test]
    fn a_txt_file_is_one_document_without_its_bad_line() {
        let found = read("a.txt", b"one\r\n\xFF\n\nthree\n");
        assert_eq!(found[0], Err(":2: invalid UTF-8 at byte 0 of the line; expected UTF-8 text".into()));
        assert_eq!(found[1], Ok((1, "one\n\nthree".into())));
        assert_eq!(read("b.txt", b" \n"), [Err(":1: the text is empty; expected some".into())]);
        assert_eq!(read("c.txt", b""), []);
    }

    #[test]
    fn jsonl_has_one_document_a_line() {
        let found = read("a.jsonl", "{\"text\":\"سلام\"}\n{\"text\":1}\n{\"text\":\" \"}\n".as_bytes());
        assert_eq!(found[0], Ok((1, "سلام".into())));
        assert_eq!(found[1], Err(":2: `text` is a number; expected a string".into()));
        assert_eq!(found[2], Err(":3: the text is empty; expected some".into()));
    }

    #[test]
    fn another_extension_is_refused() {
        let error = read_text(Path::new("a.parquet")).err().unwrap().to_string();
        assert_eq!(error, "a.parquet: found the extension \"parquet\"; expected .jsonl or .txt");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            read("a.txt", &bytes);
            read("a.jsonl", &bytes);
        }
    }
}
