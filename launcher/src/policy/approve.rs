//! `sirocco policy approve`: a signed file that says that somebody else than the one who acts agrees.
use serde::Serialize;
use sirocco_custody::approvals::{About, Approval};
use sirocco_custody::{Lineage, today};
use sirocco_policy::{Day, Kind, Name, Who, WhoKind};
use sirocco_signing::keys::PrivateKey;

use crate::cli::{Overrides, PolicyApprove};
use crate::failure::Failure;
use crate::gate::{RunPolicy, made_by};
use crate::output::{self, say};
use crate::train::directory::RunDirectory;
use crate::train::run_to_resume;

/// Days that an approval is good if nobody says otherwise.
const USUAL_DAYS: usize = 30;

/// The fields of `--json`.
#[derive(Serialize)]
struct Approved {
    approval: String,
    action: String,
    artefact: String,
    run: String,
    approver: String,
    day: Day,
    until: Day,
    /// Whether it counts where the run looks for trusted keys; `null` where that says nothing yet.
    counts: Option<bool>,
}

pub(super) fn run(arguments: &PolicyApprove) -> Result<(), Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = run_to_resume(&directory, &Overrides { ranks: None, set: vec![] })?.1;
    let policy = RunPolicy::open(&run)?;
    let checkpoint = Name::new(Kind::Checkpoint, run.name.clone());
    let usual = || made_by(arguments.action, &checkpoint, &mut Lineage::default());
    let artefact = arguments.artefact.clone().unwrap_or_else(usual);
    if !arguments.action.takes().contains(&artefact.kind) {
        let kinds: Vec<&str> = arguments.action.takes().iter().map(|kind| kind.word()).collect();
        let message = format!("--artefact {artefact}: {} takes {}", arguments.action, kinds.join(", "));
        return Err(Failure::usage(message).help(format_args!("for example {}:{}", kinds.join(":"), run.name)));
    }
    if artefact.name != run.name {
        say(format_args!("note: this run makes no {artefact}: what it makes is called {}", run.name));
    }
    let day = today();
    let until = arguments.until.unwrap_or_else(|| later(day));
    if until < day {
        return Err(Failure::usage(format_args!("--until {until}: it is over: expected {day} or later")));
    }
    let id = policy.id(directory.path())?.ok_or_else(|| {
        let message = format!("{}: its data was not tokenised yet, and an approval is for a run on its data", directory.shown());
        Failure::usage(message).help(format_args!("sirocco train {} tokenises it", directory.word()))
    })?;
    let about = About { action: arguments.action, artefact: &artefact, run: &id, day };
    let key = PrivateKey::read(&arguments.key)?;
    let path = Approval::new(&about, &arguments.approver, until).write(directory.path(), &key)?;
    let counts = policy.counts(directory.path(), &about, &arguments.approver)?;
    if counts == Some(false) {
        say(format_args!(
            "note: it does not count yet: expected the public half of {} as {}.pub in the run's trusted directory, with the role approve in roles.json",
            arguments.key.display(),
            arguments.approver
        ));
    }
    tell_roles(&policy, &arguments.approver);
    let approved = Approved {
        approval: path.display().to_string(),
        action: arguments.action.to_string(),
        artefact: artefact.to_string(),
        run: id,
        approver: arguments.approver.clone(),
        day,
        until,
        counts,
    };
    if arguments.json {
        return output::json(&approved);
    }
    let Approved { approval, action, artefact, approver, .. } = &approved;
    output::line(format_args!("wrote {approval}: {approver} approves {action} of {artefact} until {until}"))
}

/// Rules ask for somebody with a role: who has another one hears of it now.
fn tell_roles(policy: &RunPolicy, approver: &str) {
    let who = Who::new(WhoKind::Person, approver.to_owned());
    let facts = policy.custody().gate().facts().principal(&who);
    let roles: Vec<&str> = facts.into_iter().flat_map(|facts| facts.roles.iter().flatten()).map(String::as_str).collect();
    if facts.is_none() {
        say(format_args!("note: no fact describes {who}: where rules ask for a role, this does not count"));
    } else if roles.is_empty() {
        say(format_args!("note: the facts give {who} no role: where rules ask for one, this does not count"));
    } else {
        say(format_args!("note: it counts where rules ask for {}: these roles {who} has", roles.join(" or ")));
    }
}

fn later(day: Day) -> Day {
    std::iter::successors(Some(day), |day| day.after()).nth(USUAL_DAYS).unwrap_or(day)
}
