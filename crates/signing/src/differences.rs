//! How a directory differs from what was signed, file by file.

use std::fmt::{Display, Formatter};

/// Most names of one kind that a message lists; the value has them all.
const NAMED: usize = 8;

/// What is missing, what is there besides, and what has another content. Names are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Files that are signed and not there.
    pub missing: Vec<String>,
    /// Files that are there and not signed.
    pub extra: Vec<String>,
    /// Files whose bytes are not those that were signed.
    pub changed: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty()
    }
}

impl Display for Differences {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        let kinds = [("changed", &self.changed), ("missing", &self.missing), ("not signed", &self.extra)];
        let mut kinds = kinds.iter().filter(|(_, names)| !names.is_empty()).peekable();
        while let Some((kind, names)) = kinds.next() {
            let shown: Vec<_> = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let end = if kinds.peek().is_some() { "; " } else { "" };
            write!(to, "{kind}: {}{more}{end}", shown.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_kind_and_counts_what_it_does_not_name() {
        let extra = (0..11).map(|index| format!("x{index}")).collect();
        let text = Differences { missing: vec!["m".into()], extra, changed: vec!["c\n".into()] }.to_string();
        assert!(text.starts_with(r#"changed: "c\n"; missing: "m"; not signed: "x0", "x1""#), "{text}");
        assert!(text.ends_with("and 3 more"), "{text}");
        assert!(Differences::default().is_empty() && Differences::default().to_string().is_empty());
    }
}
