//! What a corpus is made of: the SPEC.toml of `sirocco data check|prepare|report`.

use crate::error::CorpusError;
use crate::sieve::OnBad;
use crate::template::Template;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A corpus: its sources and where the result goes. Relative paths are taken from the current directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The file that this came from; not a field of the file.
    #[serde(skip)]
    pub file: PathBuf,
    /// Name of the corpus.
    pub name: String,
    /// Directory for train.jsonl, valid.jsonl, report.md, report.json and NOTICE.md.
    pub output: PathBuf,
    /// Share of the questions that is held out for validation, from 0 up to 0.5.
    pub held_out: f64,
    /// What a bad record costs.
    #[serde(default)]
    pub on_bad: OnBad,
    /// The sources, in the order in which they are read; of duplicates the first is kept.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// One file of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name for reports.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The digest that the file must have, 64 hexadecimal digits; without it any content is taken.
    pub sha256: Option<String>,
    /// How the file is written.
    pub format: SourceFormat,
    /// `csv`: the header, exactly.
    #[serde(default)]
    pub columns: Vec<String>,
    /// `csv`: the separator.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// `csv`: whether a quoted field may go over several lines.
    #[serde(default)]
    pub multiline: bool,
    /// `csv`: replacements in cells, before the templates.
    #[serde(default)]
    pub replace: Vec<Replace>,
    /// `csv`: the user's message, with `{column}` in it.
    pub prompt: Option<String>,
    /// `csv`: the assistant's message, with `{column}` in it.
    pub answer: Option<String>,
    /// `csv`: the column whose hash decides the split. A chat is split by its first user message.
    pub split_by: Option<String>,
    /// Under which terms the source may be used.
    pub licence: Licence,
}

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceFormat {
    /// A table, one pair a row.
    Csv,
    /// Chat JSONL, taken as it is.
    Chat,
}

/// A replacement in the cells of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The column.
    pub column: String,
    /// Text to replace, everywhere in the cell.
    pub from: String,
    /// What to put there.
    pub to: String,
}

/// The terms of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its name or SPDX identifier.
    pub name: String,
    /// The file with its text, which goes into NOTICE.md word for word.
    pub file: PathBuf,
    /// A sentence that the licence asks for.
    pub attribution: Option<String>,
    /// A link that the licence asks for.
    pub link: Option<String>,
}

fn comma() -> char {
    ','
}

impl Spec {
    /// Reads and checks a specification. It does not look at the sources.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown or missing field or a value that makes no sense.
    pub fn open(path: &Path) -> Result<Spec, CorpusError> {
        let text = std::fs::read_to_string(path).map_err(|source| CorpusError::io(path, "read", source))?;
        Spec::parse(path, &text)
    }

    /// Checks a specification given as text; `file` is for messages.
    ///
    /// # Errors
    /// As [`Spec::open`].
    pub fn parse(file: &Path, text: &str) -> Result<Spec, CorpusError> {
        let mut spec: Spec = toml::from_str(text).map_err(|error| CorpusError::Spec {
            file: file.to_path_buf(),
            line: error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        spec.file = file.to_path_buf();
        spec.check_values().map_err(|message| CorpusError::Spec { file: file.to_path_buf(), line: None, message })?;
        Ok(spec)
    }

    /// The same corpus with its relative paths taken from `root`.
    pub fn rooted(mut self, root: &Path) -> Spec {
        self.output = root.join(&self.output);
        for source in &mut self.sources {
            source.path = root.join(&source.path);
            source.licence.file = root.join(&source.licence.file);
        }
        self
    }

    fn check_values(&self) -> Result<(), String> {
        if !(0.0..=0.5).contains(&self.held_out) {
            return Err(format!("held_out is {}; expected a share from 0 to 0.5", self.held_out));
        }
        if self.sources.is_empty() {
            return Err("found no source; expected at least one [[source]]".to_owned());
        }
        for (index, source) in self.sources.iter().enumerate() {
            if self.sources[..index].iter().any(|other| other.name == source.name) {
                return Err(format!("found two sources named \"{}\"; expected different names", source.name));
            }
            source.check_values().map_err(|words| format!("source \"{}\": {words}", source.name))?;
        }
        Ok(())
    }
}

impl Source {
    fn check_values(&self) -> Result<(), String> {
        if let Some(pin) = &self.sha256
            && (pin.len() != 64 || !pin.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        {
            return Err(format!("sha256 is \"{pin}\"; expected 64 lower-case hexadecimal digits"));
        }
        match self.format {
            SourceFormat::Csv => self.templates().map(|_| ()),
            SourceFormat::Chat => {
                let fields = [
                    ("columns", !self.columns.is_empty()),
                    ("delimiter", self.delimiter != ','),
                    ("multiline", self.multiline),
                    ("replace", !self.replace.is_empty()),
                    ("prompt", self.prompt.is_some()),
                    ("answer", self.answer.is_some()),
                    ("split_by", self.split_by.is_some()),
                ];
                match fields.iter().find(|(_, set)| *set) {
                    Some((name, _)) => Err(format!("found {name}; expected it only where format is \"csv\"")),
                    None => Ok(()),
                }
            }
        }
    }

    /// The templates of a table and the index of the column that decides the split.
    pub(crate) fn templates(&self) -> Result<(Template, Template, usize), String> {
        if self.columns.is_empty() {
            return Err("columns is missing; expected the header of the table".to_owned());
        }
        let template = |name: &str, value: &Option<String>| {
            let text = value.as_ref().ok_or_else(|| format!("{name} is missing; expected text with {{column}} in it"))?;
            let template = Template::parse(text, &self.columns).map_err(|words| format!("{name}: {words}"))?;
            if template.columns().next().is_none() {
                return Err(format!("{name} is \"{text}\"; expected a {{column}} in it"));
            }
            Ok(template)
        };
        for replace in &self.replace {
            self.column("replace.column", &replace.column)?;
            if replace.from.is_empty() {
                return Err("replace.from is empty; expected text".to_owned());
            }
        }
        let split_by = self.split_by.as_ref().ok_or("split_by is missing; expected the column of the question")?;
        Ok((template("prompt", &self.prompt)?, template("answer", &self.answer)?, self.column("split_by", split_by)?))
    }

    /// The index of a named column.
    pub(crate) fn column(&self, field: &str, name: &str) -> Result<usize, String> {
        let found = self.columns.iter().position(|column| column == name);
        found.ok_or_else(|| format!("{field} is \"{name}\"; expected one of {}", self.columns.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"name = "d"
output = "data/d"
held_out = 0.05
[[source]]
name = "s"
path = "s.csv"
format = "csv"
columns = ["en", "ar"]
prompt = "Say: {en}"
answer = "{ar}"
split_by = "en"
licence = { name = "MIT", file = "LICENSE" }
"#;

    fn words(from: &str, to: &str) -> String {
        Spec::parse(Path::new("S.toml"), &GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn a_good_one_is_read_and_rooted() {
        let spec = Spec::parse(Path::new("S.toml"), GOOD).unwrap().rooted(Path::new("/r"));
        assert_eq!(spec.sources[0].path, Path::new("/r/s.csv"));
        assert_eq!((spec.on_bad, spec.sources[0].delimiter), (OnBad::Fail, ','));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(words("split_by =", "split_on =").starts_with("S.toml:11: unknown field `split_on`, expected one of"));
        assert!(words("held_out = 0.05\n", "").contains("missing field `held_out`"));
        assert_eq!(words("0.05", "0.9"), "S.toml: held_out is 0.9; expected a share from 0 to 0.5");
        assert!(words("{en}", "{eng}").contains("source \"s\": prompt: found the unknown column {eng}"));
        assert!(words("\"{ar}\"", "\"x\"").contains("answer is \"x\"; expected a {column} in it"));
        assert!(words("\"csv\"", "\"chat\"").contains("found columns; expected it only where format is \"csv\""));
        assert!(words("format = \"csv\"", "format = \"csv\"\nsha256 = \"12\"").contains("expected 64"));
        assert!(words("split_by = \"en\"", "split_by = \"x\"").contains("split_by is \"x\"; expected one of en, ar"));
    }
}
