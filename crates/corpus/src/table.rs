//! CSV tables, read strictly. Written by hand because the well-kept readers forgive what must be reported here: a quotation
//! mark that is never closed swallows the following lines, and text after a closing one is glued to the field.
//!
//! Unless a table is said to be multi-line, a row is one physical line. A quote that is left open costs its own line only: in a
//! multi-line table, too, reading goes on from the line after it when no closing one comes within the limits of a row.

use crate::error::CorpusError;
use crate::fault::Fault;
use crate::lines::Lines;
use crate::sieve::{Located, Record};
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Most physical lines of a row.
const MOST_LINES: usize = 1000;
/// Most bytes of a row of several lines.
const MOST_BYTES: usize = 1 << 20;

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
    /// Lines that were read for a row and are not part of it.
    returned: VecDeque<Record<String>>,
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
    Ok(Table { lines, returned: VecDeque::new(), options })
}

impl Table {
    fn line(&mut self) -> Option<Record<String>> {
        self.returned.pop_front().or_else(|| self.lines.next())
    }

    /// A row and, in a multi-line table, the lines that its open quote needs. When they do not make a row, it is the quote that is
    /// not trusted: they are read again as rows of their own.
    fn row(&mut self, first: &str) -> Result<Vec<String>, Fault> {
        let mut more = Vec::new();
        let fields = self.gather(first, &mut more).inspect_err(|_| {
            for line in more.into_iter().rev() {
                self.returned.push_front(line);
            }
        })?;
        match (fields.len(), self.options.columns.len()) {
            (found, expected) if found != expected => Err(Fault::Width { found, expected }),
            _ => Ok(fields),
        }
    }

    /// The fields of a row; `more` gets the lines after the first that were read for it.
    fn gather(&mut self, first: &str, more: &mut Vec<Record<String>>) -> Result<Vec<String>, Fault> {
        let mut row = Row::default();
        row.take(first, self.options.delimiter)?;
        let mut bytes = first.len();
        while let Some((column, _)) = &row.open {
            let unclosed = Fault::UnclosedQuote { column: *column };
            if !self.options.multiline || more.len() + 1 == MOST_LINES {
                return Err(unclosed);
            }
            let Some(line) = self.line() else { return Err(unclosed) };
            more.push(line);
            match more.last() {
                Some(Ok(line)) if bytes + line.value.len() < MOST_BYTES => {
                    bytes += line.value.len() + 1;
                    row.take(&line.value, self.options.delimiter)?;
                }
                _ => return Err(unclosed),
            }
        }
        Ok(row.fields)
    }
}

impl Iterator for Table {
    type Item = Record<Vec<String>>;

    fn next(&mut self) -> Option<Record<Vec<String>>> {
        loop {
            match self.line()? {
                Err(error) => return Some(Err(error)),
                Ok(line) if line.value.trim().is_empty() => {}
                Ok(Located { line, value }) => {
                    let row = self.row(&value).map(|value| Located { line, value });
                    return Some(row.map_err(|fault| CorpusError::bad(self.lines.path(), line, fault)));
                }
            }
        }
    }
}

/// The fields of a row of one line.
fn parse_row(text: &str, delimiter: char) -> Result<Vec<String>, Fault> {
    let mut row = Row::default();
    row.take(text, delimiter)?;
    match row.open {
        Some((column, _)) => Err(Fault::UnclosedQuote { column }),
        None => Ok(row.fields),
    }
}

/// A row that is read line by line: RFC 4180, and a quotation mark inside an unquoted field is text.
#[derive(Default)]
struct Row {
    fields: Vec<String>,
    /// The quoted field that the lines so far have not closed: the column of its quotation mark, and its text.
    open: Option<(usize, String)>,
    /// Characters of the lines so far, their ends included.
    read: usize,
}

impl Row {
    /// Reads a line to its end. If a field is open then, the row goes on with the next line. Columns count over all its lines.
    fn take(&mut self, line: &str, delimiter: char) -> Result<(), Fault> {
        let before = self.read;
        let mut chars = line.chars().enumerate().map(|(at, c)| (before + at + 1, c)).peekable();
        loop {
            let quoted = match self.open.take() {
                Some((column, text)) => Some((column, text + "\n")),
                None => chars.next_if(|&(_, c)| c == '"').map(|(column, _)| (column, String::new())),
            };
            let mut field = String::new();
            if let Some((open, text)) = quoted {
                field = text;
                loop {
                    match chars.next() {
                        None => {
                            self.read += line.chars().count() + 1;
                            self.open = Some((open, field));
                            return Ok(());
                        }
                        Some((_, '"')) if chars.next_if(|&(_, c)| c == '"').is_some() => field.push('"'),
                        Some((_, '"')) => break,
                        Some((_, c)) => field.push(c),
                    }
                }
                if let Some(&(column, _)) = chars.peek().filter(|&&(_, c)| c != delimiter) {
                    return Err(Fault::TextAfterQuote { column });
                }
            } else {
                while let Some((_, c)) = chars.next_if(|&(_, c)| c != delimiter) {
                    field.push(c);
                }
            }
            self.fields.push(field);
            if chars.next().is_none() {
                return Ok(());
            }
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
    fn an_open_quote_of_a_multi_line_table_costs_its_own_line_only() {
        for rest in [2, 3000] {
            let rows = read(&[b"english,darija\n\"a,b\n".to_vec(), b"c,d\n".repeat(rest)].concat(), true).unwrap();
            assert!(rows[0].as_ref().unwrap_err().starts_with(":2: a quoted field is not closed"));
            let kept: Vec<u64> = rows[1..].iter().map(|row| row.as_ref().unwrap().0).collect();
            assert_eq!(kept, (3..3 + rest as u64).collect::<Vec<_>>());
        }
        let wide = [b"english,darija\n\"a\n".to_vec(), vec![b'b'; MOST_BYTES], b"\n\xFF\nc,d\n".to_vec()].concat();
        let rows = read(&wide, true).unwrap();
        let lines = rows.iter().map(|row| row.as_ref().map_or_else(|words| words[..3].to_owned(), |(at, _)| at.to_string()));
        assert_eq!(lines.collect::<Vec<_>>(), [":2:", ":3:", ":4:", "5"]);
        let most = format!("english,darija\n\"a{}\",b\nc,d\n", "\nx".repeat(MOST_LINES - 1));
        assert!(read(most.as_bytes(), true).unwrap().iter().all(Result::is_ok));
    }

    /// Every line closes a field and opens another one: the row grows with the file.
    #[test]
    fn a_row_without_end_is_read_in_time() {
        let rows = read(&[b"english,darija\n".to_vec(), b"a\",\"b\n".repeat(3000)].concat(), true).unwrap();
        assert_eq!(rows.len(), 3000);
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
