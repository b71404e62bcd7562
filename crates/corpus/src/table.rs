//! CSV tables, read strictly. Written by hand because the well-kept readers forgive what must be reported here: a quotation
//! mark that is never closed swallows the following lines, and text after a closing one is glued to the field.
//!
//! Unless a table is said to be multi-line, a row is one physical line. A quote that is left open then costs its own row only.

use crate::error::CorpusError;
use crate::fault::Fault;
use crate::lines::Lines;
use crate::sieve::{Located, Record};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// How a table is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// The header, exactly: names in order. Editions of a data set that swap or rename columns are thereby noticed.
    pub columns: Vec<String>,
    /// The separator.
    pub delimiter: char,
    /// Whether a quoted field may go over several lines.
    pub multiline: bool,
}

/// The rows of a table; see [`read_table`].
pub struct Table {
    lines: Lines<BufReader<File>>,
    options: TableOptions,
}

/// Opens a table and checks its header. Each item is a row with as many fields as the header, or the fault of its line.
/// Lines of white space only are passed over.
///
/// # Errors
/// The file cannot be opened, is empty, or has another header.
pub fn read_table(path: &Path, options: TableOptions) -> Result<Table, CorpusError> {
    let mut lines = Lines::open(path)?;
    let header = match lines.next() {
        None => Vec::new(),
        Some(line) => {
            let line = line?.value;
            parse_row(&line, options.delimiter).map_err(|fault| CorpusError::bad(path, 1, fault))?
        }
    };
    let header: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if header != options.columns {
        let list = |names: &[String]| if names.is_empty() { "empty".into() } else { format!("\"{}\"", names.join("\", \"")) };
        return Err(CorpusError::Header { file: path.into(), found: list(&header), expected: list(&options.columns) });
    }
    Ok(Table { lines, options })
}

impl Table {
    /// A row and, in a multi-line table, the lines that its open quote needs.
    fn row(&mut self, mut text: String) -> Result<Vec<String>, Result<Fault, CorpusError>> {
        let fields = loop {
            match parse_row(&text, self.options.delimiter) {
                Err(fault @ Fault::UnclosedQuote { .. }) if self.options.multiline => match self.lines.next() {
                    None => return Err(Ok(fault)),
                    Some(Err(error)) => return Err(Err(error)),
                    Some(Ok(more)) => {
                        text.push('\n');
                        text.push_str(&more.value);
                    }
                },
                Err(fault) => return Err(Ok(fault)),
                Ok(fields) => break fields,
            }
        };
        match (fields.len(), self.options.columns.len()) {
            (found, expected) if found != expected => Err(Ok(Fault::Width { found, expected })),
            _ => Ok(fields),
        }
    }
}

impl Iterator for Table {
    type Item = Record<Vec<String>>;

    fn next(&mut self) -> Option<Record<Vec<String>>> {
        loop {
            match self.lines.next()? {
                Err(error) => return Some(Err(error)),
                Ok(line) if line.value.trim().is_empty() => {}
                Ok(Located { line, value }) => {
                    return Some(match self.row(value) {
                        Ok(value) => Ok(Located { line, value }),
                        Err(Ok(fault)) => Err(CorpusError::bad(self.lines.path(), line, fault)),
                        Err(Err(error)) => Err(error),
                    });
                }
            }
        }
    }
}

/// The fields of one row: RFC 4180, and a quotation mark inside an unquoted field is text.
fn parse_row(text: &str, delimiter: char) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    loop {
        let mut field = String::new();
        if let Some(&(open, '"')) = chars.peek() {
            chars.next();
            loop {
                match chars.next() {
                    None => return Err(Fault::UnclosedQuote { column: open + 1 }),
                    Some((_, '"')) if chars.next_if(|&(_, c)| c == '"').is_some() => field.push('"'),
                    Some((_, '"')) => break,
                    Some((_, c)) => field.push(c),
                }
            }
            if let Some(&(column, c)) = chars.peek()
                && c != delimiter
            {
                return Err(Fault::TextAfterQuote { column: column + 1 });
            }
        } else {
            while let Some((_, c)) = chars.next_if(|&(_, c)| c != delimiter) {
                field.push(c);
            }
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A line and its fields, or the words of the fault.
    type Row = Result<(u64, Vec<String>), String>;

    fn read(text: &[u8], multiline: bool) -> Result<Vec<Row>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let columns = vec!["english".to_owned(), "darija".to_owned()];
        let short = |error: CorpusError| error.to_string().split_once("t.csv").unwrap().1.to_owned();
        let table = read_table(&path, TableOptions { columns, delimiter: ',', multiline }).map_err(short)?;
        Ok(table.map(|row| row.map(|l| (l.line, l.value)).map_err(short)).collect())
    }

    #[test]
    fn an_open_quote_costs_its_own_line_only() {
        let text = b"\"english\",\"darija\"\n\"we are not,7na\nMaybe?,imkn\nOkay.,\"wakha 3la, t\"\nonly one\n";
        let rows = read(text, false).unwrap();
        let open = ":2: a quoted field is not closed on its line (column 1); expected a closing quotation mark";
        assert_eq!(rows[0], Err(open.into()));
        assert_eq!(rows[1], Ok((3, vec!["Maybe?".into(), "imkn".into()])));
        assert_eq!(rows[2], Ok((4, vec!["Okay.".into(), "wakha 3la, t".into()])));
        assert_eq!(rows[3], Err(":5: the row has 1 fields; expected 2, as in the header".into()));
    }

    #[test]
    fn quotes_inside_and_after() {
        let rows = read(b"english,darija\na,b\"\n\"say \"\"hi\"\"\",x\n\"a\" b,c\n,\n", false).unwrap();
        assert_eq!(rows[0], Ok((2, vec!["a".into(), "b\"".into()])));
        assert_eq!(rows[1], Ok((3, vec!["say \"hi\"".into(), "x".into()])));
        let after = ":4: text after a closing quotation mark (column 4); expected a separator or the end of the line";
        assert_eq!(rows[2], Err(after.into()));
        assert_eq!(rows[3], Ok((5, vec![String::new(), String::new()])));
    }

    #[test]
    fn a_multi_line_table_counts_physical_lines() {
        let rows = read(b"english,darija\n\"a\nb\",c\nd,e\n\"f,g\n", true).unwrap();
        assert_eq!(rows[0], Ok((2, vec!["a\nb".into(), "c".into()])));
        assert_eq!(rows[1], Ok((4, vec!["d".into(), "e".into()])));
        assert!(rows[2].as_ref().unwrap_err().starts_with(":5: a quoted field is not closed"));
    }

    #[test]
    fn another_header_is_an_error() {
        let swapped = read(b"darija,english\n", false).unwrap_err();
        assert_eq!(swapped, ":1: the header is \"darija\", \"english\"; expected \"english\", \"darija\"");
        assert_eq!(read(b"", false).unwrap_err(), ":1: the header is empty; expected \"english\", \"darija\"");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), multiline: bool) {
            let mut text = b"english,darija\n".to_vec();
            text.extend(bytes);
            let _ = read(&text, multiline);
        }

        #[test]
        fn what_is_quoted_is_read_back(fields in proptest::collection::vec("[a-z\", \u{639}]{0,8}", 1..5)) {
            let line = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            prop_assert_eq!(parse_row(&line, ',').unwrap(), fields);
        }
    }
}
