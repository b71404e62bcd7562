//! The result of a check: one line for each fact of a profile.
use serde::Serialize;

/// Whether a fact holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum State {
    #[serde(rename = "ok")]
    Ok,
    #[serde(rename = "missing")]
    Missing,
    #[serde(rename = "differs")]
    Differs,
    /// The profile does not say, or it cannot be seen from here.
    #[serde(rename = "not known")]
    NotKnown,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Differs => "differs",
            State::NotKnown => "not known",
        }
    }
}

/// A fact of the profile, and what is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) fact: String,
    pub(crate) state: State,
    /// Whether a run cannot do without it.
    pub(crate) needed: bool,
    /// What the profile says; `null` where it does not.
    pub(crate) expected: Option<String>,
    /// What is here, or why that was not seen; `null` where there is nothing.
    pub(crate) found: Option<String>,
}

/// What was seen of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen<T> {
    Here(T),
    /// There is none.
    Nothing,
    /// Nobody could look, and why.
    Unseen(String),
}

impl<T> Seen<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Here(value) => Seen::Here(change(value)),
            Seen::Nothing => Seen::Nothing,
            Seen::Unseen(why) => Seen::Unseen(why),
        }
    }
}

impl Line {
    /// A fact and what is here, compared by `fits`.
    pub(crate) fn compare<E: ToString, T: ToString>(
        fact: impl Into<String>,
        expected: Option<E>,
        seen: Seen<T>,
        fits: impl FnOnce(&E, &T) -> bool,
    ) -> Line {
        let state = match (&expected, &seen) {
            (None, _) | (_, Seen::Unseen(_)) => State::NotKnown,
            (Some(_), Seen::Nothing) => State::Missing,
            (Some(expected), Seen::Here(found)) if fits(expected, found) => State::Ok,
            _ => State::Differs,
        };
        let found = match seen {
            Seen::Here(found) => Some(found.to_string()),
            Seen::Unseen(why) => Some(why),
            Seen::Nothing => None,
        };
        Line { fact: fact.into(), state, needed: false, expected: expected.map(|expected| expected.to_string()), found }
    }

    /// The same fact, if a run cannot do without it.
    pub(crate) fn needed(mut self, needed: bool) -> Line {
        self.needed = needed;
        self
    }

    /// Whether a run cannot work because of it.
    pub(crate) fn stops(&self) -> bool {
        self.needed && matches!(self.state, State::Missing | State::Differs)
    }

    /// As a person reads it.
    pub(crate) fn words(&self) -> String {
        let found = self.found.as_deref();
        let words = match (self.state, &self.expected) {
            (State::Ok, _) | (State::NotKnown, None) => found.unwrap_or("none here").to_owned(),
            (State::NotKnown, Some(expected)) => format!("expected {expected}; {}", found.unwrap_or("not seen")),
            (_, expected) => {
                format!("expected {}, found {}", expected.as_deref().unwrap_or("something"), found.unwrap_or("none"))
            }
        };
        format!("{:30} {:10} {words}", self.fact, self.state.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(expected: Option<u64>, seen: Seen<u64>) -> State {
        Line::compare("cores", expected, seen, |expected, found| expected == found).state
    }

    #[test]
    fn states_follow_from_what_is_known_and_seen() {
        assert_eq!(state(Some(4), Seen::Here(4)), State::Ok);
        assert_eq!(state(Some(4), Seen::Here(2)), State::Differs);
        assert_eq!(state(Some(4), Seen::Nothing), State::Missing);
        assert_eq!(state(None, Seen::Here(4)), State::NotKnown);
        assert_eq!(state(Some(4), Seen::Unseen("no Slurm".to_owned())), State::NotKnown);
    }

    #[test]
    fn only_what_is_needed_stops() {
        let line = |needed| Line::compare("cores", Some(4), Seen::<u64>::Nothing, |_, _| true).needed(needed);
        assert!(line(true).stops() && !line(false).stops());
        assert_eq!(line(true).words(), format!("{:30} {:10} expected 4, found none", "cores", "missing"));
    }
}
