//! Bounds on texts of rules, held before they are parsed: readers of deep text call themselves until the stack is used up.
//!
//! Three things make an expression deep: brackets, `if` inside `if`, and rows of operators. The first two are counted, the third is bounded
//! by the length of one rule.

use crate::error::PolicyError;
use crate::source::Source;

/// In bytes, of a file.
const LONGEST_TEXT: usize = 256 * 1024;
/// In bytes, of one rule.
const LONGEST_RULE: usize = 16 * 1024;
/// Brackets inside each other, and `if`s of one rule.
const DEEPEST: usize = 100;

/// Refuses text that no rule needs.
pub(crate) fn check(source: &Source) -> Result<(), PolicyError> {
    let refuse = |offset: usize, message: String, expected: &str| {
        Err(PolicyError::Syntax { at: source.place(offset), message, expected: Some(expected.to_owned()) })
    };
    if source.text.len() > LONGEST_TEXT {
        let found = format!("the file has {} bytes", source.text.len());
        return refuse(0, found, &format!("expected at most {LONGEST_TEXT}: use several files"));
    }
    match first_excess(&source.text) {
        None => Ok(()),
        Some((offset, Excess::Brackets)) => {
            refuse(offset, format!("more than {DEEPEST} brackets inside each other"), "expected fewer")
        }
        Some((offset, Excess::Ifs)) => {
            refuse(offset, format!("more than {DEEPEST} times `if` in one rule"), "expected fewer: make several rules of it")
        }
        Some((offset, Excess::Length)) => refuse(
            offset,
            format!("a rule of more than {LONGEST_RULE} bytes"),
            "expected a shorter one: make several rules of it",
        ),
    }
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    Brackets,
    Ifs,
    Length,
}

/// The first place where there is too much, outside of strings and comments; for a rule that is too long, where it begins.
fn first_excess(text: &str) -> Option<(usize, Excess)> {
    let (mut depth, mut ifs, mut length, mut start) = (0usize, 0usize, 0usize, 0usize);
    let (mut string, mut comment, mut previous, mut word) = (false, false, b' ', 0usize);
    for (offset, byte) in text.bytes().enumerate() {
        let ends_if = string || comment || !(byte.is_ascii_alphanumeric() || byte == b'_');
        if ends_if && !string && text.as_bytes().get(word..offset) == Some(b"if") {
            ifs += 1;
        }
        if ends_if {
            word = offset + 1;
        }
        match byte {
            b'\n' => comment = false,
            _ if comment => {}
            b'"' if previous != b'\\' => string = !string,
            _ if string => {}
            b'/' if previous == b'/' => comment = true,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => (ifs, length) = (0, 0),
            _ => {}
        }
        // What stands before a rule is not a part of it.
        let blank = comment || byte.is_ascii_whitespace();
        if !blank && byte != b';' {
            start = if length == 0 { offset } else { start };
            length += 1;
        }
        if depth > DEEPEST {
            return Some((offset, Excess::Brackets));
        }
        if ifs > DEEPEST {
            return Some((offset, Excess::Ifs));
        }
        if length > LONGEST_RULE {
            return Some((start, Excess::Length));
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
    fn a_rule_is_as_long_as_what_is_written_in_it() {
        assert_eq!(found(&"a".repeat(LONGEST_RULE)), None);
        let long = "b;\n // words\n  ".to_owned() + &"a".repeat(LONGEST_RULE + 1);
        assert_eq!(first_excess(&long), Some((long.find('a').unwrap(), Excess::Length)));
        assert_eq!(found(&format!("{};", "a".repeat(LONGEST_RULE)).repeat(3)), None);
        assert_eq!(found(&format!("\"{}\"", ";".repeat(LONGEST_RULE))), Some(Excess::Length), "a string is a part of it");
    }
}
