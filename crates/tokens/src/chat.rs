//! Conversations as tokens, encoded part by part: up to where an answer begins, then the answer.
//!
//! At inference the model is given the prompt's tokens and writes the answer's; training must cut at the same place. Encoding a
//! conversation in one go could merge the prompt's last characters with the answer's first ones into a token that inference
//! never has there, and would leave the answer's start to guesswork. Here each part's text comes from the template itself:
//! the conversation before the answer with the generation prompt, and the conversation with the answer, which must begin with it.

use crate::document::Document;
use crate::error::TokensError;
use crate::guard::Rendered;
use crate::tokenizer::Tokenizer;
use sirocco_corpus::Message;

impl Tokenizer {
    /// The tokens of a conversation to be answered: rendered with the generation prompt. The text of a control token inside a
    /// message stays text. A start token stands there once if the template writes it, and not otherwise.
    ///
    /// # Errors
    /// There is no chat template, it refuses the conversation, or a control token's text cannot be kept as text.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, TokensError> {
        self.encode_rendered(&self.render(messages, true)?, false)
    }

    /// A conversation as a document to learn from. The targets are each answer with its end-of-turn token: the first control
    /// token after the answer. What a template writes after that (often a line break) is not a target.
    ///
    /// # Errors
    /// Those of [`Tokenizer::chat_prompt`]; the conversation does not end with an answer; the template rewrites earlier text when
    /// a message is added, writes control tokens between its generation prompt and the answer, or no end-of-turn token.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Document, TokensError> {
        if messages.last().is_none_or(|message| message.role != "assistant") {
            return Err(TokensError::NoAnswerAtEnd);
        }
        let mut document = Document::default();
        let mut written = String::new();
        for index in (0..messages.len()).filter(|index| messages[*index].role == "assistant") {
            let prompt = self.render(&messages[..index], true)?;
            let full = self.render(&messages[..=index], false)?;
            let rewrites = || TokensError::TemplateDoesNotExtend { index };
            let question = prompt.since(&written).ok_or_else(rewrites)?;
            let answer = full.since(&prompt.text).ok_or_else(rewrites)?;
            self.refuse_header(&answer, &messages[index].content, index)?;
            let ids = self.encode_part(&prompt, &question, &document.ids)?;
            document.ids.extend(ids);
            let ids = self.encode_part(&full, &answer, &document.ids)?;
            let end = ids.iter().position(|id| self.is_control(*id)).ok_or(TokensError::NoEndOfTurn { index })?;
            let start = document.ids.len() as u32;
            document.targets.push(start..start + end as u32 + 1);
            document.ids.extend(ids);
            written = full.text;
        }
        Ok(document)
    }

    /// The ids of `part`, the end of `whole`, whose start has the ids `before`.
    fn encode_part(&self, whole: &Rendered, part: &Rendered, before: &[u32]) -> Result<Vec<u32>, TokensError> {
        let goes_on = !before.is_empty();
        if goes_on && self.marks_starts() {
            // Such a tokenizer may write a space into a part that stands alone: take the part from the whole, where the whole has
            // a token boundary at this place.
            let ids = self.encode_rendered(whole, false)?;
            if let Some(rest) = ids.strip_prefix(before) {
                return Ok(rest.to_vec());
            }
        }
        self.encode_rendered(part, goes_on)
    }

    /// A template whose generation prompt is shorter than what it writes before an answer would have its role markers learnt:
    /// the whole answer must stand before the first control token that the template wrote after its prompt.
    fn refuse_header(&self, answer: &Rendered, content: &str, index: usize) -> Result<(), TokensError> {
        let mut controls = self.template_controls(answer).map(|(place, _)| place);
        let Some(first) = controls.next() else { return Ok(()) };
        if answer.text[..first.start].contains(content.trim()) {
            return Ok(());
        }
        let end = controls.next().map_or(answer.text.len(), |second| second.start);
        // The last place, since the answer may be a part of the role's name.
        let header = answer.text[first.end..end].rfind(content.trim()).unwrap_or_default();
        Err(TokensError::TemplateDoesNotPrompt { index, found: answer.text[..first.end + header].to_owned() })
    }
}
