//! What several tests need.
#![allow(dead_code, reason = "each test uses a part of it")]

use sirocco_policy::{Facts, Gate, PolicyError, Request, Rules, Source};

/// A text under a name.
pub(crate) fn bare(name: &str, text: &str) -> Vec<Source> {
    vec![Source::new(name, text)]
}

/// Rules, or what is wrong with them.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
pub(crate) fn rules(sources: Vec<Source>) -> Result<Rules, PolicyError> {
    Rules::parse(&sources)
}

/// Facts of a text.
pub(crate) fn facts(text: &str) -> Facts {
    Facts::parse(&bare("facts.toml", text)).unwrap_or_else(|error| panic!("{error}"))
}

/// A gate with these rules and facts.
pub(crate) fn gate(rules: &str, facts: &str) -> Gate {
    Gate::new(Rules::parse(&bare("policy.cedar", rules)).unwrap_or_else(|error| panic!("{error}")), self::facts(facts))
}

/// A request of person:a on 2026-11-22.
pub(crate) fn request(action: &str, artefact: &str, site: &str) -> Request {
    let text =
        format!("who = \"person:a\"\naction = \"{action}\"\nartefact = \"{artefact}\"\nsite = \"{site}\"\nday = 2026-11-22\n");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
}
