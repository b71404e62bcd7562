//! `sirocco init`: a commented run file to start from.
use std::fs::{self, OpenOptions};
use std::io::Write as _;

use serde_json::json;

use crate::cli::{Init, Recipe};
use crate::failure::{Failure, Kind};
use crate::output;

const LORA: &str = include_str!("../../../configs/recipes/lora.toml");
const FULL: &str = include_str!("../../../configs/recipes/full.toml");

/// Writes `DIR/run.toml`, named after the directory. A run file that is already there stays.
pub(crate) fn run(arguments: &Init) -> Result<(), Failure> {
    let path = arguments.dir.join("run.toml");
    let io = |error: std::io::Error| Failure::new(Kind::Failed, format_args!("{}: cannot write: {error}", path.display()));
    let recipe = match arguments.recipe {
        Recipe::Lora => LORA,
        Recipe::Full => FULL,
    };
    fs::create_dir_all(&arguments.dir).map_err(io)?;
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format_args!("{} exists already", path.display()).to_string();
            return Err(Failure::usage(message).help("choose another directory, or remove the file"));
        }
        other => other.map_err(io)?,
    };
    file.write_all(named(recipe, &arguments.dir).as_bytes()).map_err(io)?;
    if arguments.json {
        return output::json(&json!({ "run_file": path }));
    }
    output::line(format_args!("wrote {}", path.display()))?;
    output::line("next: set [model] path and [data] train in it, then")?;
    output::line(format_args!("  sirocco check {}", path.display()))
}

/// The recipe with the directory's name in place of `my-run`, if that name can be one.
fn named(recipe: &str, dir: &std::path::Path) -> String {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(plain) || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return recipe.to_owned();
    }
    let line = "name = \"my-run\"";
    recipe.replacen(line, &format!("{:width$}", format!("name = \"{name}\""), width = line.len()), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_config::RunFile;
    use std::path::Path;

    #[test]
    fn both_recipes_are_named_after_the_directory_and_check() {
        for recipe in [LORA, FULL] {
            let text = named(recipe, Path::new("a/darija"));
            let run = RunFile::parse(&text, Path::new("run.toml")).unwrap().check(Path::new("/base")).unwrap();
            assert_eq!(run.name, "darija");
            assert_eq!(named(recipe, Path::new("..")), recipe);
        }
    }
}
