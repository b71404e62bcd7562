#!/usr/bin/env python3
"""Takes out every gate of Sirocco, one at a time, and looks whether a test notices.

A gate is taken out where it is asked: there the question goes to rules that allow everything, as if nobody had asked. A signature is taken out
by reading a directory without verifying it, confinement by not applying it. After each, what belongs to it is built and tested again: a mutation
is found when a test fails, and the tree as it is has to pass the same tests.

    make mutations                        all of them, in an hour and a quarter
    tests/mutations/gates.py --only export merge
    tests/mutations/gates.py --list
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# How long tests may take, in seconds, and how one that takes longer is told, as cargo tells of a test.
LIMIT = 1800
ENDLESS = "test did-not-end ... FAILED"

# What mutations need and the project must not have: a way round.
WAYS_ROUND = {
    "crates/custody/src/custody.rs": """
#[doc(hidden)]
impl Custody {
    /// Mutations only: the same account and site, and rules that allow everything.
    pub fn blind(&self) -> Custody {
        let settings = Settings { set: "configs/policies/open".into(), facts: vec![], ..self.settings.clone() };
        match Custody::open(settings, &self.base, None) {
            Ok(custody) => custody,
            Err(error) => unreachable!("{error}"),
        }
    }
}
""",
    "crates/custody/src/artefact.rs": """
#[doc(hidden)]
/// Mutations only: what [`verified`] gives, believed as it lies there.
pub fn believed(directory: &Path, _: &Trust, _: &str, _: &[KnownFile]) -> Result<Used, CustodyError> {
    let digest = sirocco_signing::manifest::Manifest::of(directory, sirocco_signing::manifest::Options::default())?.digest();
    let path = directory.join(ORIGIN);
    let origin = match read::bytes_if_there(&path, LONGEST)? {
        Some(bytes) => Some(origin(&path, &bytes)?),
        None => None,
    };
    Ok(Used { signer: String::new(), digest, origin })
}
""",
}

# Of the whole workspace: a package alone would be built with other features, and so again.
LAUNCHER = ["--test", "launcher", "policy"]
BUNDLES = ["--test", "launcher", "bundle"]
RANKS = ["--test", "custody"]
CHECKPOINTS, EXPORTS, BASES, RULES = ([*RANKS, part] for part in ("checkpoints", "exports", "bases", "rules"))
CONFINED = ["--test", "confined"]
RANK_ALONE = ["--bin", "sirocco-train", "confined"]
AROUND = ["--test", "around"]
SERVER = ["--test", "http"]
EVIDENCE = ["--test", "insider", "--test", "tampering"]

RUN = "launcher/src/gate/run.rs"
OWN = "launcher/src/gate/own.rs"
LEAVE = "trainer/src/export/leave.rs"
RANK = "trainer/src/run/custody.rs"
KEEPER = "trainer/src/custody.rs"
DESK = "server/src/custody/mod.rs"

# Targets whose tests start our programs.
WITH_PROGRAMS = {"launcher", "custody", "confined", "http"}

PACK = "launcher/src/bundle/pack.rs"
BROKER = "crates/confine/src/hosts.rs"
CHECKS = ["signature", "record", "ledger", "proofs", "decisions", "signers", "artefacts", "confinement", "weights"]

ADMIT_OWN = "self.custody.admit::<V, _>(question, thing, &self.book)"


def own(action):
    """Lets one action of a command that belongs to no run pass."""
    blind = f"if V::ACTION == sirocco_policy::Action::{action} {{ &blind }} else {{ &self.custody }}"
    return f"{{ let blind = self.custody.blind(); ({blind}).admit::<V, _>(question, thing, &self.book) }}"


def unchecked(check):
    """A check of evidence that is left out."""
    return ("crates/evidence/src/check/mod.rs", f"        {check}::check(&seen),\n", "", EVIDENCE)


# name: (file, what is there, what is put there, the tests that have to notice)
MUTATIONS = {
    "check-train": (RUN, "Ok(self.custody.ask(self.question(action", "Ok(self.custody.blind().ask(self.question(action", LAUNCHER),
    "check-prepare": (RUN, "self.custody.ask(Question { planned: true, confinement, ..self.preparing(file) })?;", "let _ = (confinement, self.preparing(file));", LAUNCHER),
    "submit": (RUN, "self.ask_first(self.planned(action, lineage, data, directory)?, directory)", "self.planned(action, lineage, data, directory).map(drop)", LAUNCHER),
    "train-before-ranks": (
        RUN,
        "self.ask_first(Question { confinement, ..self.question(action, data, directory)? }, directory)?;",
        "let _ = (confinement, self.question(action, data, directory)?);",
        LAUNCHER,
    ),
    "prepare-before-run": (RUN, "try_for_each(|file| self.ask_first(self.preparing(file), directory))",
                           "try_for_each(|file| { let _ = (self.preparing(file), directory); Ok(()) })", LAUNCHER),
    "prepare-tokens": (RUN, "self.custody.admit::<verb::Prepare", "self.custody.blind().admit::<verb::Prepare", LAUNCHER),
    "prepare-corpus": (OWN, ADMIT_OWN, own("Prepare"), LAUNCHER),
    "import-model": (OWN, ADMIT_OWN, own("Import"), LAUNCHER),
    "send-out": (PACK, "asked.custody().admit::<verb::SendOut", "asked.custody().blind().admit::<verb::SendOut", BUNDLES),
    "import-bundle": (OWN, ADMIT_OWN, own("Import"), BUNDLES),
    "train-on-node": (RANK, "custody.decide::<verb::Train", "custody.blind().decide::<verb::Train", RANKS),
    "resume-on-node": (RANK, "custody.decide::<verb::Resume", "custody.blind().decide::<verb::Resume", RANKS),
    "export": (LEAVE, "custody.admit::<verb::Export", "custody.blind().admit::<verb::Export", EXPORTS),
    "merge": (LEAVE, "custody.admit::<verb::Merge", "custody.blind().admit::<verb::Merge", EXPORTS),
    "checkpoint-signature": (KEEPER, "artefact::verified(directory, &self.trust, role::CHECKPOINT",
                             "artefact::believed(directory, &self.trust, role::CHECKPOINT", CHECKPOINTS),
    "checkpoint-unsigned": (KEEPER, "if !artefact::is_signed(directory) {", "if !artefact::is_signed(directory) && step > u64::MAX - 1 {", CHECKPOINTS),
    "checkpoint-in-ledger": ("trainer/src/run/newest.rs", "same(checkpoint.path(), digest, expected).map(|()| origin)",
                             "same(checkpoint.path(), digest, expected).map_or(Ok(origin.clone()), |()| Ok(origin))", CHECKPOINTS),
    "newest-checkpoint": ("trainer/src/run/newest.rs", "is_ok_and(|(digest, _)| digest == newest.digest)",
                          "is_ok_and(|(digest, _)| digest == newest.digest && step > newest.step)", CHECKPOINTS),
    "serve": (DESK, "self.custody.admit(question, endpoint", "self.custody.blind().admit(question, endpoint", SERVER),
    "add-adapter": (DESK, "self.custody.admit(question, addition", "self.custody.blind().admit(question, addition", SERVER),
    "served-signature": (
        "server/src/custody/parts.rs",
        "verified_for(directory, trust, &[role::RELEASE, role::IMPORT], &[])",
        'sirocco_custody::artefact::believed(directory, trust, role::RELEASE, &[])',
        SERVER,
    ),
    "confine-launcher": ("launcher/src/main.rs", "    confined::apply(&command)?;\n", "", CONFINED),
    "confine-rank": ("trainer/src/confined.rs", "if found >= least {", "if found >= least || found < least {", RANK_ALONE),
    "confine-rank-asked": (RANK, "        confined::expect(run.policy.confinement)?;\n", "", CONFINED),
    "tokens": (RANK, "data.iter().try_for_each(|side| keeper.expect_prepared(side.side(), side.digest()))?;", "", RULES),
    "base-signature": (KEEPER, "artefact::verified_for(base.path(), &self.trust, &[role::RELEASE, role::IMPORT], &known)",
                       "artefact::believed(base.path(), &self.trust, role::RELEASE, &known)", BASES),
    "launcher-signature": ("launcher/src/gate/account.rs", "artefact::verified_for(directory, trust, &[role::RELEASE, role::IMPORT], &[])",
                           "artefact::believed(directory, trust, role::RELEASE, &[])", BASES),
    "approval-signer": ("crates/custody/src/approvals.rs", "if signers.iter().all(|signer| signer.name != approval.approver) {",
                        "if signers.is_empty() {", ["--lib", "approvals"]),
    "approval-run": ("crates/custody/src/approvals.rs", "if approval.run != about.run {", "if approval.run.is_empty() {", ["--lib", "approvals"]),
    "sealed-history": ("crates/custody/src/history.rs", "            check(&directory, key, &sealed.checkpoint.origin)?;\n",
                       "            let _ = check(&directory, key, &sealed.checkpoint.origin);\n", ["--lib", "history"]),
    "confine-server": ("server/src/main.rs", "and_then(|least| confined::apply(&args, least))", "map(drop)", SERVER),
    "machine-trust": ("crates/custody/src/trust.rs", "Some(machine) => own.under(&machine),", "Some(_) => own,", LAUNCHER),
    "places": ("crates/custody/src/custody.rs", "let real = place(&base, Path::new(written));", "let real = written.to_owned();", AROUND),
    "other-key": (KEEPER, "        book.expect_key(&keys.ledger).map_err(failed)?;\n", "", RULES),
    "signed-rules": (
        "crates/custody/src/custody.rs",
        "set.set.guard(&set.demands)",
        "set.set.guard(&[])",
        LAUNCHER,
    ),
    "settled-rules": (KEEPER, "        book.history(&keys.ledger).and_then(|history| history.expect_policy(run, &run_file)).map_err(failed)?;\n", "", RULES),
    "settled-rules-packed": (PACK, "    asked.expect_settled(&book, &keys)?;\n", "", BUNDLES),
    "read-of-set": ("crates/custody/src/set.rs", "        expect_read(path, &file)?;\n", "", ["--lib", "set"]),
    "fixed-places": ("crates/custody/src/set.rs", "        fixed?;\n", "        let _ = fixed;\n", LAUNCHER),
    "base-files": ("trainer/src/export.rs", "        keeper.expect_base(&base, &files, &origin)?;\n", "", BASES),
    "refused-checkpoint": (KEEPER, "if failure.is_of_a_file() {", "if failure.is_of_a_file() && directory.is_file() {", CHECKPOINTS),
    "own-form": ("crates/evidence/src/check/signature.rs", "        oms::expect_own_form(&path, bytes)?;\n", "", EVIDENCE),
    "own-form-bundle": ("crates/bundle/src/read.rs", "        oms::expect_own_form(&path.join(oms::FILE), &signature)?;\n", "",
                        ["--test", "tampering"]),
    "recorded-in-plan": (RUN, "        remember(&mut lineage, run);\n", "", RULES),
    "signer-at-check": ("launcher/src/commands/check.rs", "        self.policy.expect_signer()?;\n", "", LAUNCHER),
    "signer-at-submit": ("launcher/src/chain/submit/mod.rs", "    policy.expect_signer()\n", "    Ok(())\n", LAUNCHER),
    "signer-at-train": (RUN, "self.expect_preparing(data, directory)?;\n        self.expect_signer()\n",
                        "self.expect_preparing(data, directory)\n", LAUNCHER),
    "lost-keys": ("crates/custody/src/keys.rs", "Some(ledger) if is_empty(path)? =>", "Some(ledger) if is_empty(path)? && path.is_file() =>", ["--lib", "keys"]),
    "attempts": ("crates/confine/src/witness.rs", "if !beyond.is_empty() {", "if beyond.len() > 1000 {", ["--lib", "witness"]),
    "broker-host": (BROKER, "if !self.peers.knows(to.ip()) || ", "if ", ["--lib", "hosts"]),
    "broker-port": (BROKER, " || !self.peers.ports.contains(&to.port())", "", ["--lib", "hosts"]),
    "broker-key": (BROKER, "        self.peers.key.connecting(&peer, PATIENCE)?;\n", "", ["--lib", "hosts"]),
    "broker-peer": (BROKER, " && self.peers.key.accepting(&peer, PATIENCE_WITH_PEERS).is_ok()", "", ["--lib", "hosts"]),
    "bundle-parts": ("crates/bundle/src/read.rs", "own_signer(path, part, &kept, trust)?", "String::new()", ["--test", "travel", "--test", "launcher"]),
    **{f"evidence-{check}": unchecked(check) for check in CHECKS},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only name them")
    parser.add_argument("--only", nargs="+", choices=MUTATIONS, metavar="NAME", help="only these")
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "target/mutations", help="where cargo builds")
    parser.add_argument("--keep", type=pathlib.Path, help="write the results there, as JSON")
    parser.add_argument("--tested", action="store_true", help="the tests have just passed on the tree as it is: do not run them again")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(MUTATIONS))
        return 0
    chosen = arguments.only or list(MUTATIONS)
    with tempfile.TemporaryDirectory(prefix="sirocco-mutations-") as scratch:
        tree = copy(pathlib.Path(scratch) / "tree")
        workshop = Workshop(tree, arguments.target.resolve())
        if not arguments.tested and not passes(workshop, chosen):
            return 1
        return judge(workshop, chosen, arguments.keep)


def passes(workshop, chosen):
    """Whether the tree as it is passes the tests that have to notice."""
    for tests in {json.dumps(MUTATIONS[name][3]) for name in chosen}:
        words = json.loads(tests)
        passed, output = workshop.test(words)
        if not passed:
            sys.stderr.write(f"{output}\nerror: the tests fail without a mutation: {' '.join(words)}\n")
            return False
    return True


def judge(workshop, chosen, keep):
    """Every mutation; 0 if all were found."""
    results = {}
    for name in chosen:
        file, there, put, words = MUTATIONS[name]
        began = time.monotonic()
        with workshop.changed(file, there, put):
            passed, output = workshop.test(words)
        failed = sorted({line.split()[1] for line in output.splitlines() if line.startswith("test ") and line.endswith("FAILED")})
        if not passed and not failed:
            sys.stderr.write(f"{output}\nerror: {name}: it does not compile\n")
        results[name] = {"found": bool(failed), "by": failed, "seconds": round(time.monotonic() - began)}
        print(f"{'found' if failed else 'MISSED':7}{name:24}{', '.join(failed)}", flush=True)
        if keep:
            keep.write_text(json.dumps(results, indent=2) + "\n")
    missed = [name for name, result in results.items() if not result["found"]]
    print(f"{len(results) - len(missed)} of {len(results)} mutations found")
    return 1 if missed else 0


def copy(tree):
    """What git knows of the tree, as it lies here."""
    tree.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--null", "-T", "-", "-cf", str(tree.parent / "tree.tar")], cwd=ROOT, input=names, check=True)
    # With the time of now: a cache that another checkout filled last is not taken for this one's.
    subprocess.run(["tar", "-xmf", str(tree.parent / "tree.tar"), "-C", str(tree)], check=True)
    settings = ROOT / ".cargo/config.toml"
    if settings.is_file():
        (tree / ".cargo").mkdir(exist_ok=True)
        (tree / ".cargo/config.toml").write_bytes(settings.read_bytes())
    for file, way in WAYS_ROUND.items():
        path = tree / file
        text, mark, tests = path.read_text().partition("#[cfg(test)]")
        path.write_text(text + way + mark + tests)
    return tree


class Workshop:
    """A copy of the tree, where things are changed and changed back."""

    def __init__(self, tree, target):
        self.tree = tree
        self.environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}

    def changed(self, file, there, put):
        return Change(self.tree / file, there, put)

    def test(self, words):
        """Builds the programs, where the tests start any, and runs tests. Whether both went well, and what was said."""
        said = ""
        commands = [["test", "--no-fail-fast", *words]]
        if WITH_PROGRAMS.intersection(words):
            commands.insert(0, ["build"])
        for command in commands:
            command = ["cargo", command[0], "--release", "--locked", "--workspace", *command[1:]]
            passed, output = self.run(command, None if command[1] == "build" else LIMIT)
            said += output
            if not passed:
                return False, said
        return True, said

    def run(self, command, limit):
        """Runs one command for as long as it may take, in seconds. A test that waits for what a gate would have sent is noticed by that."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        with subprocess.Popen(command, cwd=self.tree, env=self.environment, **pipes) as process:
            try:
                said = process.communicate(timeout=limit)[0]
                return process.returncode == 0, said
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return False, f"{process.communicate()[0]}\n{ENDLESS}"


class Change:
    """One place of one file, for as long as this is open."""

    def __init__(self, path, there, put):
        self.path, self.before = path, path.read_text()
        if self.before.count(there) != 1:
            raise SystemExit(f"error: {path.name}: {there!r} is there {self.before.count(there)} times, expected once")
        self.after = self.before.replace(there, put)

    def __enter__(self):
        self.path.write_text(self.after)

    def __exit__(self, *_):
        self.path.write_text(self.before)


if __name__ == "__main__":
    sys.exit(main())
