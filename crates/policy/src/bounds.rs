//! Bounds on texts of rules, held before they are parsed: readers of deep text call themselves until the stack is used up.
//!
//! Three things make an expression deep: brackets, `if` inside `if`, and rows of operators such as `a && b && c`. Each is counted.

use crate::error::PolicyError;
use crate::source::Source;

/// In bytes, of a file.
const LONGEST_TEXT: usize = 256 * 1024;
/// In bytes, of one rule.
const LONGEST_RULE: usize = 16 * 1024;
/// Brackets inside each other, and `if`s of one rule.
const DEEPEST: usize = 100;
/// Operators of one rule, dots included.
const MOST_OPERATORS: usize = 500;

/// Refuses text that no rule needs.
pub(crate) fn check(source: &Source) -> Result<(), PolicyError> {
    let refuse = |offset: usize, message: String, expected: &str| {
        Err(PolicyError::Syntax { at: source.place(offset), message, expected: Some(expected.to_owned()) })
    };
    if source.text.len() > LONGEST_TEXT {
        let found = format!("the file has {} bytes", source.text.len());
        return refuse(0, found, &format!("expected at most {LONGEST_TEXT}: use several files"));
    }
    let Some((offset, excess)) = first_excess(&source.text) else { return Ok(()) };
    let (found, expected) = match excess {
        Excess::Brackets => (format!("more than {DEEPEST} brackets inside each other"), "expected fewer"),
        Excess::Ifs => (format!("more than {DEEPEST} times `if` in one rule"), "expected fewer: make several rules of it"),
        Excess::Operators => {
            (format!("more than {MOST_OPERATORS} operators in one rule"), "expected fewer: make several rules of it")
        }
        Excess::Length => {
            (format!("a rule of more than {LONGEST_RULE} bytes"), "expected a shorter one: make several rules of it")
        }
    };
    refuse(offset, found, expected)
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    Brackets,
    Ifs,
    Operators,
    Length,
}

/// What was counted in one rule.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    ifs: usize,
    operators: usize,
    /// In bytes, without blanks and comments.
    length: usize,
    /// Where it begins.
    start: usize,
}

impl Counts {
    fn excess(self) -> Option<Excess> {
        let too_much = [
            (self.ifs > DEEPEST, Excess::Ifs),
            (self.operators > MOST_OPERATORS, Excess::Operators),
            (self.length > LONGEST_RULE, Excess::Length),
        ];
        too_much.into_iter().find(|(is, _)| *is).map(|(_, excess)| excess)
    }

    fn word(&mut self, word: &[u8]) {
        self.ifs += usize::from(word == b"if");
        self.operators += usize::from([&b"in"[..], b"is", b"has", b"like"].contains(&word));
    }
}

/// What a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    String,
    Comment,
}

/// The first place where there is too much, outside of strings and comments; for a rule that is too long, where it begins.
fn first_excess(text: &str) -> Option<(usize, Excess)> {
    let (mut counts, mut depth, mut part, mut previous, mut word) = (Counts::default(), 0usize, Part::Code, b' ', 0usize);
    for (offset, byte) in text.bytes().enumerate() {
        let was = part;
        part = match (was, byte) {
            (Part::Code, b'"') => Part::String,
            (Part::Code, b'/') if previous == b'/' => Part::Comment,
            (Part::String, b'"') if previous != b'\\' => Part::Code,
            (Part::Comment, b'\n') => Part::Code,
            _ => was,
        };
        if was == Part::Code && !(byte.is_ascii_alphanumeric() || byte == b'_') {
            counts.word(text.as_bytes().get(word..offset).unwrap_or_default());
        }
        if was != Part::Code || !(byte.is_ascii_alphanumeric() || byte == b'_') {
            word = offset + 1;
        }
        match (was, byte) {
            (Part::Code, b'(' | b'[' | b'{') => depth += 1,
            (Part::Code, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (Part::Code, b';') => counts = Counts::default(),
            // The second of a pair is a part of the first.
            (Part::Code, b'&' | b'|' | b'=') if previous == byte => {}
            (Part::Code, b'&' | b'|' | b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'*' | b'.') => counts.operators += 1,
            _ => {}
        }
        // What stands before a rule is not a part of it, and the first slash of a comment was none of a rule.
        let blank = was == Part::Comment || was == Part::Code && (byte.is_ascii_whitespace() || byte == b';');
        if part == Part::Comment && was == Part::Code {
            counts.length = counts.length.saturating_sub(1);
        } else if !blank {
            counts.start = if counts.length == 0 { offset } else { counts.start };
            counts.length += 1;
        }
        if depth > DEEPEST {
            return Some((offset, Excess::Brackets));
        }
        if let Some(excess) = counts.excess() {
            return Some((if excess == Excess::Length { counts.start } else { offset }, excess));
        }
        // An escaped backslash escapes nothing.
        previous = if byte == b'\\' && previous == b'\\' { b' ' } else { byte };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<Excess> {
        first_excess(text).map(|(_, excess)| excess)
    }

    #[test]
    fn only_what_is_code_is_counted() {
        let many = |text: &str| text.repeat(DEEPEST + 1);
        assert_eq!(found(&many("(")), Some(Excess::Brackets));
        assert_eq!(found(&many("if ")), Some(Excess::Ifs));
        assert_eq!(found(&many("(if(")), Some(Excess::Brackets));
        assert_eq!(found(&many("if(x)")), Some(Excess::Ifs));
        for fine in ["// if (\n", "\"if (\" ", "\" if \\\" if (\" ", "iffy wif _if if_ ", "if ;", "(if)", "'if' ; "] {
            let expected = if fine == "(if)" { Some(Excess::Ifs) } else { None };
            assert_eq!(found(&many(fine)), expected, "{fine}");
        }
        assert_eq!(found(&"if ".repeat(DEEPEST)), None);
    }

    #[test]
    fn operators_are_signs_and_words() {
        for operator in ["a&&", "a||", "a==", "<", "+", "-", "*", "!", ".", " in ", " has ", "\nlike ", " is "] {
            assert_eq!(found(&operator.repeat(MOST_OPERATORS)), None, "{operator}");
            assert_eq!(found(&format!("{} ", operator.repeat(MOST_OPERATORS + 1))), Some(Excess::Operators), "{operator}");
        }
        assert_eq!(found(&"a&&b;".repeat(MOST_OPERATORS + 1)), None, "each rule is counted for itself");
    }

    #[test]
    fn a_rule_is_as_long_as_what_is_written_in_it() {
        assert_eq!(found(&"a".repeat(LONGEST_RULE)), None);
        let long = "b;\n // words\n  ".to_owned() + &"a".repeat(LONGEST_RULE + 1);
        assert_eq!(first_excess(&long), Some((long.find('a').unwrap(), Excess::Length)));
        assert_eq!(found(&format!("{};", "a".repeat(LONGEST_RULE)).repeat(3)), None);
        assert_eq!(found(&format!("\"{}\"", ";".repeat(LONGEST_RULE))), Some(Excess::Length), "a string is a part of it");
    }
}
