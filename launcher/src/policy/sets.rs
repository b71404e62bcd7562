//! `sirocco policy init`, `test` and `sign`: sets of rules as directories.
use std::fs;
use std::path::Path;

use serde::Serialize;
use sirocco_custody::ReadSet;
use sirocco_files::replace;
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::Options;
use sirocco_signing::oms;

use crate::cli::{PolicyInit, PolicySign, PolicyTest};
use crate::failure::{Failure, Kind};
use crate::output::{self, count};

/// The files of a ready set, as they were when this program was built.
macro_rules! ready {
    ($name:literal) => {
        [
            ("policy.cedar", include_str!(concat!("../../../configs/policies/", $name, "/policy.cedar"))),
            ("facts.toml", include_str!(concat!("../../../configs/policies/", $name, "/facts.toml"))),
            ("cases.toml", include_str!(concat!("../../../configs/policies/", $name, "/cases.toml"))),
        ]
    };
}

type Files = [(&'static str, &'static str); 3];

const READY: [(&str, Files); 4] = [
    ("luxembourg-public", ready!("luxembourg-public")),
    ("france-defence", ready!("france-defence")),
    ("morocco-public", ready!("morocco-public")),
    ("open", ready!("open")),
];

/// The fields of `init --json`.
#[derive(Serialize)]
struct Written {
    set: String,
    files: Vec<String>,
}

pub(super) fn init(arguments: &PolicyInit) -> Result<(), Failure> {
    let (dir, shown) = (&arguments.dir, arguments.dir.display());
    let files = READY.iter().find(|(name, _)| *name == arguments.from).map(|(_, files)| files);
    let files = files.ok_or_else(|| Failure::usage(format_args!("--from {}: there is no such set", arguments.from)))?;
    let failed = |error: std::io::Error| Failure::new(Kind::Failed, format_args!("{shown}: cannot be written: {error}"));
    fs::create_dir_all(dir).map_err(failed)?;
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        let message = format!("{shown} is not empty: expected a new directory for the set");
        return Err(Failure::usage(message).help("nothing is replaced: name a directory that does not exist yet"));
    }
    for (name, text) in files {
        replace::new_file(&dir.join(name), text.as_bytes(), 0o644).map_err(|error| Failure::new(Kind::Failed, error))?;
    }
    if arguments.json {
        let files = files.iter().map(|(name, _)| dir.join(name).display().to_string()).collect();
        return output::json(&Written { set: shown.to_string(), files });
    }
    output::line(format_args!("wrote {shown}: rules, facts and cases of {}", arguments.from))?;
    output::line("names and values in facts.toml are invented: replace them, then sirocco policy test")
}

/// The fields of `test --json`.
#[derive(Serialize)]
struct Tried {
    ok: bool,
    set: String,
    cases: usize,
    failed: Vec<Failed>,
}

/// A case with another answer than it expects.
#[derive(Serialize)]
struct Failed {
    name: String,
    at: String,
    differences: Vec<String>,
}

/// Gives the exit code: 0, or 1 where a case has another answer than it expects.
pub(super) fn test(arguments: &PolicyTest) -> Result<u8, Failure> {
    let tried = tried(&arguments.dir)?;
    if tried.cases == 0 {
        let failure = Failure::usage(format_args!("{}: no case in it: expected cases.toml", arguments.dir.display()));
        return Err(failure.help("a rule that no case tries is a rule that nobody has read: docs/policy.md"));
    }
    let (cases, failed) = (count(tried.cases as u64, "case"), tried.failed.len());
    if arguments.json {
        output::json(&tried)?;
    } else {
        for case in &tried.failed {
            output::line(format_args!("{}: {:?}", case.at, case.name))?;
            case.differences.iter().try_for_each(|difference| output::line(format_args!("  {difference}")))?;
        }
    }
    if failed > 0 {
        let failure = Failure::new(Kind::Failed, format_args!("{}: {failed} of {cases} failed", tried.set));
        return Ok(failure.help("correct the rule, the fact or the case").show(false));
    }
    if !arguments.json {
        output::line(format_args!("{}: {cases}, as expected", tried.set))?;
    }
    Ok(0)
}

fn tried(dir: &Path) -> Result<Tried, Failure> {
    let read = ReadSet::read(&dir.display().to_string(), &[], None)?;
    let cases = read.set.cases();
    let outcomes = cases.run(read.set.gate());
    let failed = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).map(|outcome| Failed {
        name: outcome.case.name.clone(),
        at: format!("{}/{}", dir.display(), outcome.case.at),
        differences: outcome.differences.clone(),
    });
    let failed: Vec<Failed> = failed.collect();
    Ok(Tried { ok: failed.is_empty(), set: dir.display().to_string(), cases: cases.cases.len(), failed })
}

/// The fields of `sign --json`.
#[derive(Serialize)]
struct Signed {
    signature: String,
    key: String,
    digest: String,
    files: Vec<String>,
}

pub(super) fn sign(arguments: &PolicySign) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let failed = tried(dir)?.failed;
    if let Some(case) = failed.first() {
        let message =
            format!("{}: the case {:?} fails: a set that does not keep its own cases is not signed", case.at, case.name);
        return Err(Failure::usage(message).help(format_args!("sirocco policy test {} says what differs", dir.display())));
    }
    let key = PrivateKey::read(&arguments.key)?;
    let manifest = oms::sign(dir, &key, Options::default())?;
    let digest = ReadSet::read(&dir.display().to_string(), &[], None)?.set.digest();
    let signed = Signed {
        signature: dir.join(oms::FILE).display().to_string(),
        key: key.public().fingerprint().to_string(),
        digest: digest.to_string(),
        files: manifest.resources.iter().map(|resource| resource.file.clone()).collect(),
    };
    if arguments.json {
        return output::json(&signed);
    }
    output::line(format_args!("wrote {} over {}", signed.signature, signed.files.join(", ")))?;
    output::line(format_args!("key          {}", signed.key))?;
    output::line(format_args!("policy_set   {digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ready_set_is_whole_and_keeps_its_cases() {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in READY {
            let dir = folder.path().join(name);
            fs::create_dir(&dir).unwrap();
            files.iter().for_each(|(file, text)| fs::write(dir.join(file), text).unwrap());
            let tried = tried(&dir).unwrap();
            assert!(tried.ok && tried.cases > 0, "{name}");
        }
    }
}
