//! Signs and verifies directories from a command line, for tests/interop and for trying things out. The programs have commands of their own.
//!
//! ```text
//! sign keys DIR NAME                                  a new pair, DIR/NAME.key and DIR/NAME.pub
//! sign sign MODEL KEY [--shards BYTES] [--links] [--ignore PATH]...   writes MODEL/model.sig
//! sign verify MODEL TRUST [SIGNATURE]                 TRUST is a directory of public keys; prints the signer and the digest
//! sign state MODEL KEY                                writes MODEL/provenance.intoto.jsonl with facts that are made up
//! sign stated MODEL TRUST                             verifies it
//! sign publish MODEL KEY                              writes both files as a program does
//! sign use MODEL TRUST ROLE                           verifies both; the key must have the role
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use sirocco_signing::artefact::{self, Claim, Demand};
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::{Method, Options};
use sirocco_signing::provenance::{self, Build, Facts, Input, Role};
use sirocco_signing::trust::Trust;
use sirocco_signing::{Digest, oms};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["keys", dir, name] => {
            let (_, private, public) = PrivateKey::create(Path::new(dir), name)?;
            println!("{} {}", private.display(), public.display());
        }
        ["sign", model, key, rest @ ..] => {
            let manifest = oms::sign(Path::new(model), &PrivateKey::read(Path::new(key))?, options(rest)?)?;
            println!("{}", manifest.digest());
        }
        ["verify", model, trust, rest @ ..] => {
            let (model, trust) = (Path::new(model), Trust::read(Path::new(trust))?);
            let signature = rest.first().map_or_else(|| model.join(oms::FILE), Into::into);
            let verified = oms::read(&signature, &trust)?.check(model)?;
            println!("{} {} {:?}", verified.signer.name, verified.digest, verified.coverage);
        }
        ["state", model, key] => {
            provenance::write(Path::new(model), &facts(), &PrivateKey::read(Path::new(key))?)?;
        }
        ["stated", model, trust] => {
            let attested = provenance::verify(Path::new(model), &Trust::read(Path::new(trust))?)?;
            println!("{} statements hold", attested.len());
        }
        ["publish", model, key] => {
            let claim = Claim { name: "an example", known: &[], facts: &facts() };
            println!("{}", artefact::sign(Path::new(model), &claim, &PrivateKey::read(Path::new(key))?)?.digest());
        }
        ["use", model, trust, role] => {
            let trust = Trust::read(Path::new(trust))?;
            let demand = Demand { trust: &trust, role, digest: None, known: &[] };
            let verified = artefact::verify(Path::new(model), &demand)?;
            println!("{} {} {} statements", verified.signer.name, verified.digest, verified.statements.len());
        }
        _ => return Err("usage: sign keys|sign|verify|state|stated|publish|use …; see the head of this example".into()),
    }
    Ok(())
}

fn options(words: &[&str]) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--shards" => options.method = Method::Shards { size: words.next().ok_or("--shards BYTES")?.parse()? },
            "--links" => options.follow_links = true,
            "--ignore" => options.ignore.push((*words.next().ok_or("--ignore PATH")?).to_owned()),
            other => return Err(format!("no option {other}").into()),
        }
    }
    Ok(options)
}

fn facts() -> Facts {
    let input = |role: Role, directory| Input {
        role,
        name: format!("an example of {}", role.name()),
        uri: None,
        digest: Digest::of(role.name().as_bytes()),
        directory,
    };
    Facts {
        build: Build::FineTune,
        run: "an example".to_owned(),
        builder: "urn:sirocco:example".to_owned(),
        versions: [("sirocco".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        started: "2026-01-31T12:00:00Z".to_owned(),
        finished: "2026-01-31T13:30:00.5Z".to_owned(),
        parameters: [("train".to_owned(), serde_json::json!({ "steps": 100, "lr": 0.0002 }))].into_iter().collect(),
        settled: [("world".to_owned(), 8.into())].into_iter().collect(),
        inputs: vec![
            input(Role::BaseModel, true),
            input(Role::Data, true),
            input(Role::Configuration, false),
            input(Role::Binary, false),
            input(Role::Policy, true),
        ],
    }
}
