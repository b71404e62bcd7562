//! The recipes at the root are complete run files that check, and say nothing that has no effect.
use std::path::Path;

use sirocco_config::{Method, RunFile};

#[test]
fn every_recipe_is_a_valid_run_file() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/recipes");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(recipes).unwrap() {
        let path = entry.unwrap().path();
        let file = RunFile::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let run = file.check(Path::new("/base")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.ignored(), [], "{}", path.display());
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        match stem.as_str() {
            "lora" => assert!(matches!(run.method, Method::Lora { rank: 16, .. })),
            "full" => assert_eq!(run.method, Method::Full),
            _ => {}
        }
        seen.push(stem);
    }
    assert!(seen.iter().any(|stem| stem == "lora") && seen.iter().any(|stem| stem == "full"), "{seen:?}");
}

#[test]
fn what_the_page_on_policies_shows_of_a_run_file_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/policy.md")).unwrap();
    let shown = page.split("```toml run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = format!("name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 1\n{shown}");
    let file = RunFile::parse(&text, Path::new("run.toml"));
    let run = file.and_then(|file| file.check(Path::new("/base"))).unwrap_or_else(|error| panic!("{error}"));
    assert!(run.policy.set.ends_with("rules") && run.policy.trust.is_some(), "{:?}", run.policy);
}
