//! What a run settles when it begins: the rules that it is asked by. Whoever could change a line of `run.toml` afterwards could otherwise
//! export by other rules what was trained by these.

use std::path::Path;

use serde_json::{Map, Value};
use sirocco_config::Run;
use sirocco_ledger::Fact;

use crate::error::CustodyError;
use crate::history::{History, RUN_STARTED};

/// The fact of a run's first entry that says it.
pub const SETTLED: &str = "policy";

/// `[policy]` of a run as its ledger remembers it: all but where its own keys lie, which may be brought elsewhere.
pub fn policy(run: &Run) -> Fact {
    Fact::Text(Value::Object(settings(run)).to_string())
}

fn settings(run: &Run) -> Map<String, Value> {
    let mut settings = match serde_json::to_value(&run.policy) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    };
    settings.remove("keys");
    settings
}

impl History {
    /// Refuses rules that the run did not begin with; `run_file` is where they stand. Where nothing was begun, nothing is settled.
    ///
    /// # Errors
    /// [`CustodyError::OtherRules`] with the first setting that differs.
    pub fn expect_policy(&self, run: &Run, run_file: &Path) -> Result<(), CustodyError> {
        let started = self.entries().iter().find(|entry| entry.verb == RUN_STARTED);
        let Some(Fact::Text(began)) = started.and_then(|entry| entry.facts.get(SETTLED)) else { return Ok(()) };
        let began: Map<String, Value> = serde_json::from_str(began).unwrap_or_default();
        let now = settings(run);
        let of = |settings: &Map<String, Value>, name: &String| settings.get(name).cloned().unwrap_or_default();
        let differs = now.keys().chain(began.keys()).find(|name| of(&now, name) != of(&began, name));
        let Some(name) = differs else { return Ok(()) };
        let (found, expected) = (of(&now, name).to_string(), of(&began, name).to_string());
        Err(CustodyError::OtherRules { path: run_file.to_owned(), setting: name.clone(), found, expected })
    }
}

#[cfg(test)]
mod tests {
    use sirocco_config::RunFile;
    use sirocco_ledger::{Author, Digest};

    use super::*;

    fn run(policy: &str) -> Run {
        let text = format!("name = \"a\"\nmodel.path = \"m\"\ndata.train = [\"d\"]\ntrain.steps = 1\n[policy]\n{policy}\n");
        RunFile::parse(&text, Path::new("run.toml")).unwrap().check(Path::new("/")).unwrap()
    }

    #[test]
    fn other_rules_than_the_run_began_with_are_named_and_other_keys_are_not() {
        let author = Author { identity: "person:a".to_owned(), host: "h".to_owned(), binary: Digest::of(b"") };
        let mut entry = author.entry(RUN_STARTED, std::time::SystemTime::UNIX_EPOCH.into());
        entry.facts.insert(SETTLED.to_owned(), policy(&run("set = \"rules\"")));
        let history = History::of(vec![entry]);
        let expect = |policy: &str| history.expect_policy(&run(policy), Path::new("run.toml"));
        expect("set = \"rules\"").unwrap();
        expect("set = \"rules\"\nkeys = \"elsewhere\"").unwrap();
        let refused = expect("set = \"configs/policies/open\"").unwrap_err().to_string();
        assert_eq!(
            refused,
            "run.toml: found [policy] set = \"configs/policies/open\", expected what the run began with, \"/rules\""
        );
        assert!(expect("set = \"rules\"\npurpose = \"research\"").unwrap_err().to_string().contains("purpose"));
        assert!(expect("set = \"rules\"\nfacts = [\"mine.toml\"]").unwrap_err().to_string().contains("facts"));
        History::of(vec![]).expect_policy(&run(""), Path::new("run.toml")).unwrap();
    }
}
