//! Chat JSONL: one `{"messages":[{"role":…,"content":…},…]}` a line. Lines of white space only are passed over.

use crate::error::CorpusError;
use crate::fault::Fault;
use crate::json::Json;
use crate::lines::Lines;
use crate::message::{Conversation, Message};
use crate::sieve::{Located, Record};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The conversations of a file; see [`read_chat`].
pub struct ChatReader {
    lines: Lines<BufReader<File>>,
}

/// Opens a chat JSONL file. Each item is a conversation that passed [`Conversation::validate`], or the fault of its line; the
/// lines after a bad one are read as if it were not there.
///
/// # Errors
/// The file cannot be opened.
pub fn read_chat(path: &Path) -> Result<ChatReader, CorpusError> {
    Ok(ChatReader { lines: Lines::open(path)? })
}

impl Iterator for ChatReader {
    type Item = Record<Conversation>;

    fn next(&mut self) -> Option<Record<Conversation>> {
        loop {
            match self.lines.next()? {
                Err(error) => return Some(Err(error)),
                Ok(line) if line.value.trim().is_empty() => {}
                Ok(Located { line, value }) => {
                    let parsed = parse_conversation(&value).map_err(|fault| CorpusError::bad(self.lines.path(), line, fault));
                    return Some(parsed.map(|value| Located { line, value }));
                }
            }
        }
    }
}

/// One line of a chat file, checked.
fn parse_conversation(line: &str) -> Result<Conversation, Fault> {
    let [messages] = Json::parse(line)?.fields("", ["messages"], "`messages`")?;
    let list = match messages {
        Json::List(list) => list,
        other => {
            return Err(Fault::WrongType { field: "messages".into(), found: other.kind(), expected: "a list of messages" });
        }
    };
    let messages = list.into_iter().enumerate().map(|(index, item)| parse_message(index, item)).collect::<Result<_, _>>()?;
    let conversation = Conversation { messages };
    conversation.validate()?;
    Ok(conversation)
}

fn parse_message(index: usize, item: Json) -> Result<Message, Fault> {
    let at = format!("messages[{index}]");
    let [role, content] = item.fields(&at, ["role", "content"], "`role` and `content`")?;
    let role = role.text(|| format!("{at}.role"))?;
    let content = content.text(|| format!("{at}.content"))?;
    Ok(Message { role, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> String {
        match parse_conversation(line) {
            Ok(_) => "fit".into(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn each_fault_has_its_words() {
        let cases = [
            (r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#, "fit"),
            (r#"{"messages":["#, "invalid JSON at column 13: EOF while parsing a list"),
            (r#"{} {}"#, "invalid JSON at column 4: trailing characters"),
            (r#"{}"#, "the field `messages` is missing; found no field"),
            (r#"{"message":[]}"#, "unknown field `message`; expected only `messages`"),
            (r#"[]"#, "`the line` is a list; expected an object"),
            (r#"{"messages":{}}"#, "`messages` is an object; expected a list of messages"),
            (r#"{"messages":[["user","a"]]}"#, "`messages[0]` is a list; expected an object"),
            (r#"{"messages":[{"role":"user"}]}"#, "the field `messages[0].content` is missing; found only `role`"),
            (
                r#"{"messages":[{"role":"user","content":"a","name":"b"}]}"#,
                "unknown field `messages[0].name`; expected only `role` and `content`",
            ),
            (
                r#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#,
                "the field `messages[0].content` occurs twice; expected it once",
            ),
            (r#"{"messages":[{"role":"user","content":null}]}"#, "`messages[0].content` is null; expected a string"),
            (r#"{"messages":[{"role":1,"content":""}]}"#, "`messages[0].role` is a number; expected a string"),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn the_lines_after_a_bad_one_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.jsonl");
        let good = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
        std::fs::write(&path, format!("{good}\n\n{{\n{good}")).unwrap();
        let found: Vec<_> = read_chat(&path).unwrap().collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].as_ref().unwrap().line, 4);
        let error = found[1].as_ref().unwrap_err().to_string();
        assert!(error.ends_with("c.jsonl:3: invalid JSON at column 1: EOF while parsing an object"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("c.jsonl");
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(read_chat(&path).unwrap().count() <= bytes.len());
        }

        #[test]
        fn almost_json_never_panics(line in r#"[\[\]{}",:0-9a-e\\u. ]{0,80}"#) {
            let _ = parse_conversation(&line);
        }
    }
}
