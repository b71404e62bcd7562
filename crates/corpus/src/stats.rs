//! Numbers about text for the quality report: lengths, scripts, and oddities that a reader should know of.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Lengths in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lengths {
    /// The shortest.
    pub min: u64,
    /// Half are at most this long.
    pub median: u64,
    /// Of a hundred, 99 are at most this long.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// All together.
    pub total: u64,
}

impl Lengths {
    pub(crate) fn of(mut lengths: Vec<u64>) -> Lengths {
        lengths.sort_unstable();
        let at = |percent: usize| lengths.get((lengths.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default();
        Lengths { min: at(0), median: at(50), p99: at(99), max: at(100), total: lengths.iter().sum() }
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {} characters, median {}, 99th percentile {}", self.min, self.max, self.median, self.p99)
    }
}

/// The script in which a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Script {
    /// Latin letters, as in Arabizi.
    Latin,
    /// Arabic letters.
    Arabic,
    /// Tifinagh letters.
    Tifinagh,
    /// Letters of another script.
    Other,
    /// Letters of more than one script.
    Mixed,
    /// No letters.
    None,
}

impl Script {
    /// The script of a text, from its letters alone.
    pub fn of(text: &str) -> Script {
        let mut found = Script::None;
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            let script = match c as u32 {
                0x41..=0x24F | 0x1E00..=0x1EFF | 0x2C60..=0x2C7F | 0xA720..=0xA7FF => Script::Latin,
                0x600..=0x6FF | 0x750..=0x77F | 0x8A0..=0x8FF | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => Script::Arabic,
                0x2D30..=0x2D7F => Script::Tifinagh,
                _ => Script::Other,
            };
            match found {
                Script::None => found = script,
                same if same == script => {}
                _ => return Script::Mixed,
            }
        }
        found
    }
}

impl fmt::Display for Script {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Script::Latin => "Latin",
            Script::Arabic => "Arabic",
            Script::Tifinagh => "Tifinagh",
            Script::Other => "another script",
            Script::Mixed => "mixed",
            Script::None => "no letters",
        })
    }
}

/// Counts what is kept as it is and yet worth knowing.
pub(crate) fn count_oddities(text: &str, oddities: &mut BTreeMap<String, u64>) {
    let mut add = |name: &str| *oddities.entry(name.to_owned()).or_default() += 1;
    if text.matches('"').count() % 2 == 1 {
        add("an odd number of quotation marks");
    }
    if text.contains('\u{A0}') {
        add("a no-break space");
    }
    if text.chars().any(|c| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')) {
        add("a bidirectional control");
    }
    if text.contains("<|") || text.contains("[INST]") || text.contains("</s>") {
        add("text that looks like a control token");
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        add("a control character");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let cases = [("3la l9arya", Script::Latin), ("سلام 3", Script::Arabic), ("ⵣ", Script::Tifinagh)];
        for (text, script) in cases {
            assert_eq!(Script::of(text), script);
        }
        assert_eq!(Script::of("salam سلام"), Script::Mixed);
        assert_eq!(Script::of("12 !"), Script::None);
        assert_eq!(Script::of("мир"), Script::Other);
    }

    #[test]
    fn lengths() {
        assert_eq!(Lengths::of(vec![]), Lengths::default());
        let lengths = Lengths::of((1..=100).rev().collect());
        assert_eq!(lengths, Lengths { min: 1, median: 50, p99: 99, max: 100, total: 5050 });
    }
}
