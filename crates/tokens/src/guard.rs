//! Control tokens in what people write stay text.
//!
//! A chat template is rendered to one string, in which "<|im_end|>" from a message cannot be told from the template's own. When
//! no message holds the text of a control token, which is nearly always, the string is encoded as it is, exactly as other
//! programs do. Otherwise the conversation is rendered a second time with markers in place of the messages. The text around the
//! markers is the template's; if putting the messages (as they are, or trimmed, as many templates do) between these parts gives
//! the first rendering again, then it is known which bytes came from whom, and only the template's bytes may become control
//! tokens. A template that does something else to its messages is refused for such a conversation, with the reason.

use crate::error::TokensError;
use crate::tokenizer::Tokenizer;
use sirocco_corpus::Message;
use std::ops::Range;

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Byte ranges of `text` that must stay text, ascending; empty when no message holds a control token's text.
    pub(crate) guarded: Vec<Range<usize>>,
}

impl Rendered {
    /// What this has beyond `earlier`, which must be its start.
    pub(crate) fn since(&self, earlier: &str) -> Option<Rendered> {
        let text = self.text.strip_prefix(earlier)?.to_owned();
        let shift = earlier.len();
        let moved = |range: &Range<usize>| range.start.max(shift) - shift..range.end.saturating_sub(shift);
        Some(Rendered { text, guarded: self.guarded.iter().map(moved).filter(|range| !range.is_empty()).collect() })
    }
}

impl Tokenizer {
    /// Renders a conversation and finds what must stay text.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered, TokensError> {
        let template = self.template()?;
        let text = template.render(messages, add_generation_prompt)?;
        let Some((index, token)) = messages.iter().enumerate().find_map(|(i, m)| Some((i, self.control_in(&m.content)?))) else {
            return Ok(Rendered { text, guarded: Vec::new() });
        };
        let name = marker_name(messages);
        let marked: Vec<Message> = (0..messages.len()).map(|i| Message::new(&messages[i].role, marker(&name, i))).collect();
        let skeleton = template.render(&marked, add_generation_prompt)?;
        match locate(&text, &skeleton, &name, messages) {
            Some(guarded) => Ok(Rendered { text, guarded }),
            None => Err(TokensError::ControlText {
                place: format!("messages[{index}]"),
                token: token.to_owned(),
                reason: "the chat template changes messages in a way that hides which text is theirs",
            }),
        }
    }

    /// The ids of a rendered conversation, or of a part of one that may go on from another part.
    pub(crate) fn encode_rendered(&self, rendered: &Rendered, goes_on: bool) -> Result<Vec<u32>, TokensError> {
        if rendered.guarded.is_empty() {
            return self.encode_going_on(&rendered.text, true, goes_on);
        }
        // The two ways must agree where they can be compared: on the same conversation without the control text.
        let neutral = self.neutral(rendered);
        if self.encode_split(&neutral, goes_on)? != self.encode_going_on(&neutral.text, true, goes_on)? {
            let found = rendered.guarded.iter().find_map(|range| self.control_in(&rendered.text[range.clone()]));
            return Err(TokensError::ControlText {
                place: "a message".to_owned(),
                token: found.unwrap_or_default().to_owned(),
                reason: "this tokenizer's tokens depend on what stands around them",
            });
        }
        self.encode_split(rendered, goes_on)
    }

    /// Cuts at the template's own control tokens and encodes what is between them as text.
    fn encode_split(&self, rendered: &Rendered, goes_on: bool) -> Result<Vec<u32>, TokensError> {
        let mut ids = Vec::new();
        let mut start = 0; // of the text that has not been encoded
        let mut at = 0;
        while at < rendered.text.len() {
            if let Some(range) = rendered.guarded.iter().find(|range| range.contains(&at)) {
                at = range.end;
                continue;
            }
            match self.control_at(&rendered.text[at..]) {
                // One that reaches into a message is not the template's.
                Some((token, id)) if !rendered.guarded.iter().any(|range| range.contains(&(at + token.len() - 1))) => {
                    ids.extend(self.encode_going_on(&rendered.text[start..at], false, goes_on || start > 0)?);
                    ids.push(id);
                    at += token.len();
                    start = at;
                }
                _ => at += rendered.text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        ids.extend(self.encode_going_on(&rendered.text[start..], false, goes_on || start > 0)?);
        Ok(ids)
    }

    /// The same without the control tokens' text in guarded parts.
    fn neutral(&self, rendered: &Rendered) -> Rendered {
        let mut neutral = Rendered::default();
        let mut end = 0;
        for range in &rendered.guarded {
            neutral.text.push_str(&rendered.text[end..range.start]);
            let mut content = rendered.text[range.clone()].to_owned();
            while let Some(token) = self.control_in(&content) {
                content = content.replacen(token, "", 1);
            }
            let start = neutral.text.len();
            neutral.text.push_str(&content);
            neutral.guarded.push(start..neutral.text.len());
            end = range.end;
        }
        neutral.text.push_str(&rendered.text[end..]);
        neutral
    }
}

/// A name for markers that no message holds.
fn marker_name(messages: &[Message]) -> String {
    let mut name = "message".to_owned();
    while messages.iter().any(|message| message.content.contains(&name)) {
        name.push('x');
    }
    name
}

fn marker(name: &str, index: usize) -> String {
    format!("\u{E0F0}{name}:{index}\u{E0F1}")
}

/// Where the messages are in `text`, given the same rendering with markers.
fn locate(text: &str, skeleton: &str, name: &str, messages: &[Message]) -> Option<Vec<Range<usize>>> {
    let open = format!("\u{E0F0}{name}:");
    let mut pieces = skeleton.split(open.as_str());
    let mut at = pieces.next().filter(|fixed| text.starts_with(fixed))?.len();
    let mut ranges = Vec::new();
    for piece in pieces {
        let (index, fixed) = piece.split_once('\u{E0F1}')?;
        let content = messages.get(index.parse::<usize>().ok()?)?.content.as_str();
        let forms = [content, content.trim(), content.trim_start(), content.trim_end()];
        let fits = |form: &&&str| text[at..].strip_prefix(**form).is_some_and(|rest| rest.starts_with(fixed));
        let length = forms.iter().find(fits)?.len();
        ranges.push(at..at + length);
        at += length + fixed.len();
    }
    (at == text.len()).then(|| ranges.into_iter().filter(|range| !range.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_also_when_trimmed_or_repeated() {
        let messages = [Message::new("user", " a "), Message::new("assistant", "b")];
        let name = marker_name(&messages);
        let (m0, m1) = (marker(&name, 0), marker(&name, 1));
        let skeleton = format!("<{m0}>{m0}|{m1}");
        assert_eq!(locate("< a >a|b", &skeleton, &name, &messages), Some(vec![1..4, 5..6, 7..8]));
        assert_eq!(locate("< A >a|b", &skeleton, &name, &messages), None);
        assert_eq!(locate("< a >a|b!", &skeleton, &name, &messages), None);
        assert_eq!(marker_name(&[Message::new("user", "a message")]), "messagex");
    }

    #[test]
    fn ranges_move_with_the_text() {
        let rendered = Rendered { text: "abcdef".into(), guarded: vec![0..1, 2..5] };
        assert_eq!(rendered.since("abc").unwrap(), Rendered { text: "def".into(), guarded: vec![0..2] });
        assert_eq!(rendered.since("x"), None);
    }
}
