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
        let marked: Vec<Message> = (0..messages.len()).map(|i| Message::new(&messages[i].role, marker(i))).collect();
        let skeleton = template.render(&marked, add_generation_prompt)?;
        match locate(&text, &skeleton, messages) {
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
        for (place, id) in self.template_controls(rendered) {
            ids.extend(self.encode_going_on(&rendered.text[start..place.start], false, goes_on || start > 0)?);
            ids.push(id);
            start = place.end;
        }
        ids.extend(self.encode_going_on(&rendered.text[start..], false, goes_on || start > 0)?);
        Ok(ids)
    }

    /// The control tokens that the template wrote, with their places, in one pass from left to right.
    pub(crate) fn template_controls(&self, rendered: &Rendered) -> impl Iterator<Item = (Range<usize>, u32)> {
        let Rendered { text, guarded } = rendered;
        let mut guarded = guarded.iter().peekable();
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < text.len() {
                while guarded.next_if(|range| range.end <= at).is_some() {}
                let people = guarded.peek().map_or(text.len()..text.len(), |range| (*range).clone());
                if people.contains(&at) {
                    at = people.end;
                    continue;
                }
                match self.control_at(&text[at..]) {
                    // One that reaches into a message is not the template's.
                    Some((token, id)) if at + token.len() <= people.start => {
                        let place = at..at + token.len();
                        at = place.end;
                        return Some((place, id));
                    }
                    _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
                }
            }
            None
        })
    }

    /// The same without the control tokens' text in guarded parts.
    fn neutral(&self, rendered: &Rendered) -> Rendered {
        let mut neutral = Rendered::default();
        let mut end = 0;
        for range in &rendered.guarded {
            neutral.text.push_str(&rendered.text[end..range.start]);
            let content = self.without_controls(&rendered.text[range.clone()]);
            let start = neutral.text.len();
            neutral.text.push_str(&content);
            neutral.guarded.push(start..neutral.text.len());
            end = range.end;
        }
        neutral.text.push_str(&rendered.text[end..]);
        neutral
    }

    /// A text without the text of control tokens, those included that come about when one is taken out.
    fn without_controls(&self, content: &str) -> String {
        let mut kept = String::with_capacity(content.len());
        for character in content.chars() {
            kept.push(character);
            // None was in the text before this character, so one that is there now ends with it.
            if let Some(token) = self.control_at_end(&kept) {
                kept.truncate(kept.len() - token.len());
            }
        }
        kept
    }
}

/// How a marker begins. Messages may hold the same: no message is in the rendering that is searched for markers.
const MARKER: &str = "\u{E0F0}message:";

fn marker(index: usize) -> String {
    format!("{MARKER}{index}\u{E0F1}")
}

/// Where the messages are in `text`, given the same rendering with markers.
fn locate(text: &str, skeleton: &str, messages: &[Message]) -> Option<Vec<Range<usize>>> {
    let mut pieces = skeleton.split(MARKER);
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
        let (m0, m1) = (marker(0), marker(1));
        let skeleton = format!("<{m0}>{m0}|{m1}");
        assert_eq!(locate("< a >a|b", &skeleton, &messages), Some(vec![1..4, 5..6, 7..8]));
        assert_eq!(locate("< A >a|b", &skeleton, &messages), None);
        assert_eq!(locate("< a >a|b!", &skeleton, &messages), None);
        let marked = [Message::new("user", format!("{m1}{m0}")), Message::new("assistant", "b")];
        assert_eq!(locate(&format!("<{m1}{m0}>b"), &format!("<{m0}>{m1}"), &marked), Some(vec![1..31, 32..33]));
    }

    #[test]
    fn ranges_move_with_the_text() {
        let rendered = Rendered { text: "abcdef".into(), guarded: vec![0..1, 2..5] };
        assert_eq!(rendered.since("abc").unwrap(), Rendered { text: "def".into(), guarded: vec![0..2] });
        assert_eq!(rendered.since("x"), None);
    }
}
