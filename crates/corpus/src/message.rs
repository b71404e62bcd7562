//! A conversation and what makes one fit to learn from.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};

/// The roles of a conversation.
pub const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// One of [`ROLES`].
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of this role with this text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// A list of turns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conversation {
    /// The turns, oldest first.
    pub messages: Vec<Message>,
}

impl Conversation {
    /// Whether a model can learn from it: known roles, system messages before answers, no empty answer, an answer at the end.
    ///
    /// # Errors
    /// The first fault, with the index of the message.
    pub fn validate(&self) -> Result<(), Fault> {
        let mut answered = false;
        for (index, message) in self.messages.iter().enumerate() {
            match message.role.as_str() {
                "assistant" if message.content.trim().is_empty() => return Err(Fault::EmptyAnswer { index }),
                "assistant" => answered = true,
                "system" if answered => return Err(Fault::SystemAfterAssistant { index }),
                "system" | "user" => {}
                role => return Err(Fault::UnknownRole { index, role: role.to_owned() }),
            }
        }
        match self.messages.last() {
            None => Err(Fault::EmptyConversation),
            Some(last) if last.role != "assistant" => Err(Fault::NoAnswerAtEnd { role: last.role.clone() }),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(turns: &[(&str, &str)]) -> Result<(), Fault> {
        Conversation { messages: turns.iter().map(|(role, text)| Message::new(*role, *text)).collect() }.validate()
    }

    #[test]
    fn what_is_fit_and_what_is_not() {
        assert_eq!(validate(&[("system", "s"), ("user", "u"), ("assistant", "a")]), Ok(()));
        assert_eq!(validate(&[]), Err(Fault::EmptyConversation));
        assert_eq!(validate(&[("user", "u")]), Err(Fault::NoAnswerAtEnd { role: "user".into() }));
        assert_eq!(validate(&[("user", "u"), ("assistant", " \n")]), Err(Fault::EmptyAnswer { index: 1 }));
        let tool = Err(Fault::UnknownRole { index: 0, role: "tool".into() });
        assert_eq!(validate(&[("tool", "u"), ("assistant", "a")]), tool);
        let late = [("user", "u"), ("assistant", "a"), ("system", "s"), ("assistant", "a")];
        assert_eq!(validate(&late), Err(Fault::SystemAfterAssistant { index: 2 }));
    }
}
