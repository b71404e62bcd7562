//! `sirocco bundle open` and `check`: a bundle is verified to its last byte, asked about, unpacked, recorded.
use std::path::Path;

use serde::Serialize;
use sirocco_bundle::{Bundle, FACTS, Incoming};
use sirocco_custody::{Deed, Question};
use sirocco_ledger::Fact;
use sirocco_policy::{Action, Admitted, Guarded as _, Kind, verb};
use sirocco_signing::trust::Trust;

use super::NAMED;
use super::shown::Shown;
use super::watched::Requests;
use crate::cli::{BundleCheck, BundleOpen};
use crate::failure::Failure;
use crate::gate::{self, OwnPolicy, account};
use crate::output;

/// The fields of `open --json`.
#[derive(Serialize)]
struct Opened {
    directory: String,
    /// The file of facts about what has no record of its own; null where everything has one.
    facts: Option<String>,
    /// What the parts are called here.
    names: Vec<String>,
    #[serde(flatten)]
    bundle: Shown,
}

pub(super) fn check(arguments: &BundleCheck) -> Result<(), Failure> {
    let requests = Requests::heed()?;
    let bundle = verified(&arguments.bundle, arguments.trust.as_deref(), &requests)?;
    let path = arguments.bundle.display().to_string();
    let shown = Shown::verified(path.clone(), &bundle);
    if arguments.json {
        return output::json(&shown);
    }
    shown.print(&format!("{path}: whole, signed by {}", bundle.signer()))
}

/// Compares every byte with the signature.
fn verified(path: &Path, trust: Option<&Path>, requests: &Requests) -> Result<Bundle, Failure> {
    let none = || {
        let help = "--trust names a directory with the public keys that are believed, and roles.json";
        Failure::usage(format_args!("{}: it is signed, and there is no key to believe", path.display())).help(help)
    };
    let trust: Trust = account::trust(trust, None)?.ok_or_else(none)?;
    let total = std::fs::metadata(path).map_or(0, |about| about.len());
    Ok(requests.watched("verifying", total, |pulse| Bundle::open(path, &trust, pulse))?)
}

pub(super) fn run(arguments: &BundleOpen) -> Result<(), Failure> {
    let requests = Requests::heed()?;
    let bundle = verified(&arguments.bundle, arguments.options.trust.as_deref(), &requests)?;
    let policy = OwnPolicy::open(&arguments.options)?;
    let admitted = admit(&policy, bundle.incoming(policy.custody(), &arguments.to)?)?;
    let total = bundle.record().bytes().unwrap_or(0);
    requests.watched("unpacking", total, |pulse| bundle.unpack(&arguments.to, &admitted, policy.custody(), pulse))?;
    policy.all_done(admitted.iter().map(|part| imported(part.thing(), &bundle, arguments)))?;
    tell(arguments, &bundle, &admitted)
}

/// Asks about every part, and records every answer, before anything is unpacked.
fn admit(policy: &OwnPolicy, parts: Vec<Incoming>) -> Result<Vec<Admitted<verb::Import, Incoming>>, Failure> {
    let ask = |part: Incoming| {
        account::warn_unheeded(policy.custody(), part.artefact(), part.lineage());
        let question = Question::new(Action::Import, part.artefact().clone(), part.lineage().clone());
        policy.ask::<verb::Import, _>(Question { confinement: gate::confinement(), ..question }, part)
    };
    let answers: Vec<_> = parts.into_iter().map(ask).collect();
    answers.into_iter().collect()
}

/// The entry of one part.
fn imported(part: &Incoming, bundle: &Bundle, arguments: &BundleOpen) -> Deed {
    let verb = match part.artefact().kind {
        Kind::Data => "data.imported",
        Kind::Adapter => "adapter.imported",
        _ => "model.imported",
    };
    let (file, record) = (arguments.bundle.file_name().unwrap_or_default().to_string_lossy(), bundle.record());
    Deed::new(verb)
        .fact("signer", Fact::Text(bundle.signer().to_owned()))
        .fact("packed", Fact::Text(format!("{} by {} at {}", record.day, record.packed_by, record.site)))
        .input(format!("{NAMED}{file}"), bundle.digest().into())
        .input(part.elsewhere.to_string(), part.digest.into())
        .output(part.artefact().to_string(), part.digest.into())
}

fn tell(arguments: &BundleOpen, bundle: &Bundle, admitted: &[Admitted<verb::Import, Incoming>]) -> Result<(), Failure> {
    let facts = arguments.to.join(FACTS);
    let opened = Opened {
        directory: arguments.to.display().to_string(),
        facts: facts.is_file().then(|| facts.display().to_string()),
        names: admitted.iter().map(|part| part.thing().artefact().to_string()).collect(),
        bundle: Shown::verified(arguments.bundle.display().to_string(), bundle),
    };
    if arguments.json {
        return output::json(&opened);
    }
    let parts = output::count(admitted.len() as u64, "part");
    opened.bundle.print(&format!(
        "{}: {parts} of {}, signed by {}",
        opened.directory,
        arguments.bundle.display(),
        bundle.signer()
    ))?;
    match &opened.facts {
        Some(facts) => output::line(format_args!("{}{facts}: name it in [policy] facts of a run file", output::named("labels"))),
        None => output::line(format_args!("{}in origin.json of each part", output::named("labels"))),
    }
}
