//! Measures a log: appends per second, sealing, verification of a million entries, the proof of one.
//!
//! `cargo run --release -p sirocco-ledger --example measure -- DIR [ENTRIES]`, where DIR does not exist yet.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sirocco_ledger::disk::{Directory, Log, Writer};
use sirocco_ledger::entry::{Author, Decision, Digest, Entry, Fact};
use sirocco_ledger::key::{KeyType, SignerKey};
use sirocco_ledger::tlog_proof::prove;
use sirocco_ledger::verify::{Expected, verify};
use sirocco_ledger::witness::TrustPolicy;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut words = std::env::args_os().skip(1);
    let path = PathBuf::from(words.next().ok_or("usage: measure DIR [ENTRIES]")?);
    let count: u64 = words.next().map_or(Ok(1_000_000), |word| word.to_string_lossy().parse())?;
    let mut out = std::io::stdout();
    let author = Author { identity: "someone".into(), host: "node0001".into(), binary: Digest::of(b"program") };
    let log = Arc::new(Log::create(&path, author)?);
    let key = SignerKey::new("sirocco.example/measure", KeyType::Ed25519, &[1; 32])?;
    let bytes = entry(&log, 0).to_bytes()?.len();
    let per_second = |count: u64, since: Instant| (count as f64 / since.elapsed().as_secs_f64()) as u64;

    let start = Instant::now();
    for number in 0..1000 {
        log.append(&entry(&log, number))?;
        log.sync()?;
    }
    writeln!(out, "append and sync, one by one:      {:>9} entries/s of {bytes} bytes", per_second(1000, start))?;
    let start = Instant::now();
    for number in 0..50_000 {
        log.append(&entry(&log, number))?;
    }
    log.sync()?;
    writeln!(out, "append one by one, sync at end:   {:>9} entries/s", per_second(50_000, start))?;
    let rest = count.saturating_sub(51_000);
    let writer = Writer::start(log.clone())?;
    let start = Instant::now();
    for number in 0..rest {
        writer.append(&entry(&log, number))?;
        if number % 100_000 == 99_999 {
            writer.sync()?;
        }
    }
    let handed = start.elapsed();
    writer.sync()?;
    writeln!(out, "append in the background, synced: {:>9} entries/s", per_second(rest, start))?;
    writeln!(out, "  the caller waits                {:>9.2} µs an entry", handed.as_secs_f64() * 1e6 / rest.max(1) as f64)?;
    let start = Instant::now();
    let sealed = log.seal(&key)?;
    writeln!(out, "seal {} entries:             {:>9.2} s", sealed.added, start.elapsed().as_secs_f64())?;
    log.append(&entry(&log, 0))?;
    let start = Instant::now();
    log.seal(&key)?;
    writeln!(out, "seal one more:                    {:>9.2} ms", start.elapsed().as_secs_f64() * 1e3)?;

    let directory = Directory::new(&path);
    for (threads, actions) in [(1, true), (2, true), (2, false)] {
        let mut expected = Expected::new(TrustPolicy::of_logs([key.verifier()])?);
        (expected.threads, expected.actions) = (threads, actions);
        let start = Instant::now();
        let report = verify(&directory, &expected)?;
        let what = if actions { "hashes and actions" } else { "hashes only" };
        let sound = if report.is_sound() { "sound" } else { "NOT SOUND" };
        let seconds = start.elapsed().as_secs_f64();
        writeln!(out, "verify {} entries, {threads} thread(s), {what}: {seconds:.2} s, {sound}", report.size)?;
    }
    let start = Instant::now();
    let proofs = 1000;
    for number in 0..proofs {
        prove(&directory, number * 7919 % count)?;
    }
    writeln!(out, "proof of one entry:               {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3 / proofs as f64)?;
    Ok(())
}

/// An action as a training step's checkpoint would record it.
fn entry(log: &Log, number: u64) -> Entry {
    let mut entry = log.author().entry("checkpoint", SystemTime::now().into());
    let digest = Digest::of(&number.to_be_bytes());
    entry.configuration = Some(digest);
    entry.decision = Some(Decision { allowed: true, policy: digest, rules: vec!["stay-in-luxembourg".into()] });
    entry.inputs.insert("checkpoints/000020".into(), digest);
    entry.outputs.insert("checkpoints/000040".into(), digest);
    entry.facts.insert("step".into(), Fact::Number(number as i64));
    entry
}
