//! The canary itself: that it can fail, and that it fails when it measured nothing.

use std::os::unix::fs::PermissionsExt as _;

use sirocco_confine::canary::{Canary, CanaryError, Finding, Inside, Outcome, Plan, Report, Try, attempt, machine};
use sirocco_confine::{Allowed, Demand};

use crate::place::{Place, skipped};

/// Nothing found, but for what a machine without addresses always finds.
fn assert_holds(report: &Report) {
    if machine().is_empty() {
        skipped("reaching an address outside", "this machine has none but loopbacks");
        assert_eq!(report.findings, [Finding::NoOutsideAddress]);
    } else {
        assert!(report.holds(), "{report:?}");
    }
}

#[test]
fn without_confinement_every_listener_is_reached() {
    let place = Place::new();
    for user in place.users() {
        let canary = place.canary(user);
        let through: Vec<_> = canary.control().iter().filter(|attempt| attempt.got_through).collect();
        for (start, least) in [
            ("tcp connect", 1),
            ("udp sendto", 1),
            ("udp sendmsg", 1),
            ("udp connect", 1),
            ("dns question to", 1),
            ("unix sendto to a path by a pair of", 2),
            ("unix", 5),
        ] {
            let found = through.iter().filter(|attempt| attempt.name.starts_with(start) && attempt.heard).count();
            assert!(found >= least, "{start} as {user:?}: {:?}", canary.control());
        }
        let has = |name: &str| through.iter().any(|attempt| attempt.name == name);
        assert_eq!(has("io_uring_setup"), place.offer(user).io_uring);
        assert!(!canary.control().iter().any(|attempt| attempt.name.contains("name server")), "the control asks nobody else");
        if user.is_none() {
            // What a container or an ordinary user may not, this process may not either.
            for (what, name) in [(Try::Raw, "raw socket"), (Try::Packet, "packet socket")] {
                let here = attempt(&Plan { attempt: what, token: "here".into() }) == Outcome::Passed;
                assert_eq!(has(name), here, "{name}");
            }
        }
    }
}

#[test]
fn programs_that_are_started_inherit_it() {
    let place = Place::new();
    let inside = ["--allow", "nothing", "--"];
    let shell = [inside.as_slice(), &["sh", "-c", "\"$0\" \"$1\"; exit $?"]].concat();
    let mut canary = place.canary(None);
    for words in [inside.as_slice(), &shell] {
        let report = canary.measure(&place.behind(words), None).unwrap();
        assert!(report.applied.is_none() && report.attempts.iter().all(|attempt| attempt.outcome != Outcome::Passed));
        assert_holds(&report);
    }
}

#[test]
fn one_that_is_not_confined_does_not_hold() {
    let place = Place::new();
    let report = place.canary(None).measure(&place.helper(None), None).unwrap();
    assert!(!report.holds() && report.failures().len() >= 8, "{report:?}");
    let of_streams = report.attempts.iter().filter(|attempt| attempt.name.starts_with("tcp connect"));
    assert!(of_streams.into_iter().all(|attempt| attempt.got_through && attempt.unconfined == Some(true)));
}

#[test]
fn a_control_that_reaches_nobody_fails_the_report() {
    let place = Place::new();
    // Confined itself, as by a broken machine: nothing that follows can get through, and that shows nothing.
    let mut canary = Canary::open(&place.behind(&["--allow", "nothing", "--"]), &place.path("listeners")).unwrap();
    let report = canary.measure(&place.helper(None), Some(&Demand::best(Allowed::Nothing, None))).unwrap();
    assert!(report.failures().is_empty() && !report.holds());
    let deaf = report.findings.iter().filter(|finding| matches!(finding, Finding::NotReached { .. })).count();
    assert!(deaf >= 6, "{:?}", report.findings);
}

#[test]
fn listeners_that_the_user_cannot_enter_fail_the_report() {
    let place = Place::new();
    let Some(user) = place.users().into_iter().flatten().next() else {
        return skipped("listeners behind another user's directory", "there is one user only");
    };
    std::fs::set_permissions(place.path("listeners"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let report =
        place.canary(Some(user)).measure(&place.helper(Some(user)), Some(&Demand::best(Allowed::Nothing, None))).unwrap();
    let of_files = |finding: &&Finding| matches!(finding, Finding::NotReached { listener } if listener.contains("with a path"));
    assert_eq!(report.findings.iter().filter(of_files).count(), 2, "{:?}", report.findings);
}

#[test]
fn a_control_of_another_user_is_none() {
    let place = Place::new();
    let [None, Some(other)] = place.users()[..] else {
        return skipped("a control of another user", "there is one user only");
    };
    let measured = place.canary(None).measure(&place.helper(Some(other)), None);
    assert!(matches!(measured, Err(CanaryError::User { inside, .. }) if inside == other), "{measured:?}");
}

#[test]
fn several_inside_have_a_plan_each_and_are_judged_apart() {
    let place = Place::new();
    let mut canary = place.canary(None);
    let plans = [canary.plan(), canary.plan()];
    let refused = Outcome::Errno { number: 1, name: "EPERM".to_owned() };
    // One rank attempts nothing that gets through; the other, in this process, is free.
    let quiet = Inside { applied: None, user: rustix::process::getuid().as_raw(), outcomes: vec![refused; plans[0].len()] };
    let free = Inside::attempts(&plans[1], None);
    assert!(!canary.judge(&plans[1], free).unwrap().holds());
    assert_holds(&canary.judge(&plans[0], quiet).unwrap());
    let too_few = Inside { applied: None, user: rustix::process::getuid().as_raw(), outcomes: vec![] };
    assert!(matches!(canary.judge(&plans[0], too_few), Err(CanaryError::Helper(_))));
}

#[test]
fn a_report_is_json_with_level_mechanisms_gaps_and_errors() {
    let place = Place::new();
    let report = place.canary(None).measure(&place.helper(None), Some(&Demand::best(Allowed::Nothing, None))).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(serde_json::from_value::<Report>(json.clone()).unwrap(), report);
    assert_eq!(json["applied"]["level"], report.applied.as_ref().unwrap().level.name());
    for (field, value) in [("mechanisms", "seccomp"), ("gaps", "files")] {
        assert!(json["applied"][field].as_array().unwrap().contains(&value.into()), "{json:#}");
    }
    assert_eq!(json["attempts"][0]["outcome"]["errno"]["name"], "EPERM");
}
