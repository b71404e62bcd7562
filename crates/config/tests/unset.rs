//! `--set SECTION.KEY=`: a setting of the file is as if it had not been typed.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use sirocco_config::{ConfigError, RunFile, Site};
use std::path::Path;

const TEXT: &str =
    "name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 1\n[site]\naccount = 'p200000'\nqos = 'default'\n";

fn with(sets: &[&str]) -> Result<RunFile, ConfigError> {
    let mut file = RunFile::parse(TEXT, Path::new("run.toml")).unwrap();
    sets.iter().try_for_each(|text| file.set(text)).map(|()| file)
}

fn site(sets: &[&str]) -> Site {
    with(sets).unwrap().check(Path::new("/")).unwrap().site
}

fn refused(sets: &[&str]) -> String {
    with(sets).and_then(|file| file.check(Path::new("/"))).unwrap_err().to_string()
}

#[test]
fn an_override_without_a_value_takes_a_setting_out() {
    assert_eq!(site(&[]).account.as_deref(), Some("p200000"));
    let taken_out = site(&["site.account=", "site.qos = ", "site.partition="]);
    assert_eq!((taken_out.account, taken_out.qos, taken_out.partition), (None, None, None));
    assert_eq!(site(&["site.account=", "site.account=b"]).account.as_deref(), Some("b"));
}

#[test]
fn what_a_run_needs_is_missed_with_the_override_that_took_it_out() {
    assert!(refused(&["site.acount="]).starts_with("--set site.acount: unknown setting [site] acount"));
    assert!(refused(&["model.path="]).starts_with("--set model.path: "), "{}", refused(&["model.path="]));
}

#[test]
fn what_was_settled_when_a_run_began_cannot_be_taken_out() {
    let resumed = |set: &str| with(&[set]).unwrap().refuse_fixed_overrides().map_err(|error| error.to_string());
    assert!(resumed("site.account=").is_ok());
    assert!(resumed("train.learning_rate=").unwrap_err().starts_with("--set train.learning_rate: [train] learning_rate was"));
}
