//! `sirocco-verify`: checks an evidence bundle with public keys that the reader has from elsewhere. Needs nothing else of Sirocco, no network
//! and no particular system: one static file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sirocco_evidence::{Check, Demand, EvidenceError, Files, Proven, Report, State, Trusted, proven, read_checkpoint, verify};

/// Checks that an evidence bundle is whole, unchanged, and what trusted keys have signed.
#[derive(Debug, Parser)]
#[command(
    name = "sirocco-verify",
    version,
    max_term_width = 110,
    after_help = "\
The directory of trusted keys comes from those who signed, by another way than the bundle: NAME.pub with \
         roles.json, and ledger/NAME.pub. Keys inside the bundle are never trusted. Nothing is written.

Checks:
  signature    every file is one that was signed, none is missing or added
  record       evidence.json says what the other files say
  ledger       the history is whole, and signed by a trusted ledger key
  proofs       each entry that a claim rests on is in that history
  decisions    by these rules and facts; nothing was done that was refused
  signers      who approved, and who signed the rules
  artefacts    checkpoints and exports: whose signature, made of what
  confinement  every node was measured, and nothing got through
  weights      with --artefacts: the weights themselves

A file that `sirocco ledger prove` wrote is checked and shown: one entry of a ledger.

Exit codes:
  0  every check holds
  1  something is wrong; it is named
  2  the command line is wrong, or bundle or keys are not there

Examples:
  sirocco-verify demo-evidence --trust ministry-keys
  sirocco-verify demo-evidence.tar --trust ministry-keys --json
  sirocco-verify demo-evidence --trust ministry-keys --artefacts exports
  sirocco-verify demo-evidence --trust ministry-keys --earlier seen/checkpoint
  sirocco-verify started.tlog-proof --trust ministry-keys"
)]
struct Arguments {
    /// The bundle: a directory or a tar file; or the proof of one entry
    bundle: PathBuf,
    /// Public keys that you believe
    #[arg(long, value_name = "DIR")]
    trust: PathBuf,
    /// A checkpoint of this ledger that you have seen before: the ledger has to continue it
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    /// Where the weights lie: a signed directory, or a directory of them
    #[arg(long, value_name = "DIR")]
    artefacts: Vec<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// An error and the exit code that it ends with.
struct Failure(u8, EvidenceError);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when the stream is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let (code, text) = match report(&arguments) {
        Ok(Checked::Bundle(report)) => (u8::from(!report.ok), shown(&report, &arguments)),
        Ok(Checked::Proof(proven)) => (0, said(&proven, &arguments)),
        Err(Failure(code, error)) => {
            let object = serde_json::json!({"error": {"message": error.to_string(), "exit_code": code}});
            let _ = writeln!(std::io::stderr().lock(), "error: {}", one_line(&error.to_string()));
            (code, if arguments.json { format!("{object}\n") } else { String::new() })
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // What nobody could read has shown nobody that all is well.
        Err(_) => ExitCode::from(code.max(1)),
        Ok(()) => ExitCode::from(code),
    }
}

/// What was looked at.
enum Checked {
    Bundle(Report),
    Proof(Box<Proven>),
}

fn report(arguments: &Arguments) -> Result<Checked, Failure> {
    let usage = |error| Failure(2, error);
    let trusted = Trusted::read(&arguments.trust).map_err(usage)?;
    if let Some(proven) = proven(&arguments.bundle, &trusted).map_err(|error| Failure(1, error))? {
        if !arguments.earlier.is_empty() || !arguments.artefacts.is_empty() {
            return Err(Failure(2, EvidenceError::ProofAlone { path: arguments.bundle.clone() }));
        }
        return Ok(Checked::Proof(Box::new(proven)));
    }
    if let Some(path) = arguments.artefacts.iter().find(|path| !path.is_dir()) {
        return Err(Failure(2, EvidenceError::NoWeights { path: path.clone() }));
    }
    let earlier: Result<Vec<_>, _> = arguments.earlier.iter().map(|path| read_checkpoint(path)).collect();
    let files = Files::read(&arguments.bundle).map_err(|error| {
        let absent = matches!(error, EvidenceError::NoBundle { .. });
        Failure(if absent { 2 } else { 1 }, error)
    })?;
    let demand = Demand { trusted: &trusted, earlier: earlier.map_err(usage)?, artefacts: arguments.artefacts.clone() };
    Ok(Checked::Bundle(verify(&files, &demand)))
}

/// The entry of a proof that holds.
fn said(proven: &Proven, arguments: &Arguments) -> String {
    let Proven { log, entries, index, entry } = proven;
    if arguments.json {
        return format!("{}\n", serde_json::json!({"ok": true, "proof": proven}));
    }
    let says = serde_json::to_string_pretty(entry).unwrap_or_default();
    let says: Vec<String> = says.lines().map(one_line).collect();
    let place = one_line(&format!("entry {index} of {entries} in {log}"));
    format!("{}\n{}: the proof holds: {place}\n", says.join("\n"), bundle_name(&arguments.bundle))
}

fn shown(report: &Report, arguments: &Arguments) -> String {
    if arguments.json {
        return serde_json::to_string(report).map_or_else(|error| format!("error: {error}\n"), |text| text + "\n");
    }
    let mut text: String = report.checks.iter().map(lines).collect();
    let words = if report.ok { "every check holds" } else { "NOT VERIFIED" };
    text += &format!("{}: {words}\n", bundle_name(&arguments.bundle));
    text
}

fn bundle_name(path: &Path) -> String {
    path.display().to_string()
}

fn lines(check: &Check) -> String {
    let state = match check.state {
        State::Ok => "ok",
        State::Failed => "FAILED",
        State::Skipped => "skipped",
    };
    let mut text = format!("{state:8}{:13}{}\n", check.check, one_line(&check.looked_at));
    for finding in &check.findings {
        text += &format!("        {}: {}\n", one_line(&finding.file), one_line(&finding.what));
    }
    text
}

/// A text from a bundle that cannot move the cursor of whoever reads it.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
