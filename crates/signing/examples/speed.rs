//! How fast a directory is hashed, signed and verified.
//!
//! `speed DIR MEGABYTES FILES [--shards MEGABYTES]` writes so many files with so many MB (10⁶ bytes) in all under DIR, signs and verifies them
//! three times, removes them, and prints one line for each step: its name, seconds, MB/s; the best of the three. The files were just written,
//! so that they come from memory and not from the disk.
#![expect(clippy::print_stdout, reason = "an example is a program")]

use std::error::Error;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Instant;

use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::{KnownFile, Manifest, Method, Options};
use sirocco_signing::oms;
use sirocco_signing::trust::Trust;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (dir, megabytes, files, method) = match words.as_slice() {
        [dir, megabytes, files] => (dir, megabytes, files, Method::Files),
        [dir, megabytes, files, "--shards", size] => {
            let size = NonZeroU64::new(size.parse::<u64>()?.saturating_mul(1_000_000)).ok_or("a shard has at least one MB")?;
            (dir, megabytes, files, Method::Shards { size })
        }
        _ => return Err("usage: speed DIR MEGABYTES FILES [--shards MEGABYTES]".into()),
    };
    let dir = Path::new(dir).join("speed");
    let (megabytes, files) = (megabytes.parse::<usize>()?, files.parse::<usize>()?);
    fs::create_dir_all(&dir)?;
    let content = vec![0x5a; megabytes.saturating_mul(1_000_000).checked_div(files).ok_or("at least one file")?];
    for index in 0..files {
        fs::write(dir.join(format!("model-{index:05}.safetensors")), &content)?;
    }
    let measured = measure(&dir, megabytes as f64, &Options { method, ..Options::default() });
    fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path, megabytes: f64, options: &Options) -> Result<(), Box<dyn Error>> {
    let key = PrivateKey::generate()?;
    let trust = Trust::only("speed", key.public().clone());
    let manifest = best("hash", megabytes, || Manifest::of(dir, options.clone()))?;
    best("sign", megabytes, || oms::sign(dir, &key, options.clone()))?;
    best("verify", megabytes, || oms::verify(dir, &trust))?;
    let start = Instant::now();
    oms::sign_manifest(&dir.join(oms::FILE), &manifest, &key)?;
    println!("signature alone, of digests that are there: {:.4} s", start.elapsed().as_secs_f64());
    match options.method {
        Method::Files => with_known(dir, &manifest, &oms::read(&dir.join(oms::FILE), &trust)?),
        Method::Shards { .. } => Ok(()),
    }
}

/// The same where every digest is known from writing or reading, as when a checkpoint is published and a run goes on from it.
fn with_known(dir: &Path, manifest: &Manifest, signed: &oms::Signed) -> Result<(), Box<dyn Error>> {
    fs::remove_file(dir.join(oms::FILE))?;
    let known = manifest.resources.iter().map(|line| {
        let bytes = fs::metadata(dir.join(&line.file))?.len();
        Ok(KnownFile { file: line.file.clone(), bytes, digest: line.digest })
    });
    let known: Vec<KnownFile> = known.collect::<std::io::Result<_>>()?;
    let start = Instant::now();
    let own = Options { ignore: vec![oms::FILE.to_owned()], ..Options::default() };
    Manifest::of_known(dir, own, &known)?;
    println!("manifest of known digests: {:.4} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    signed.clone().check_known(dir, &known)?;
    println!("comparison with known digests: {:.4} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn best<T>(step: &str, megabytes: f64, mut run: impl FnMut() -> sirocco_signing::Result<T>) -> sirocco_signing::Result<T> {
    let mut fastest = f64::INFINITY;
    let mut last = run()?;
    for _ in 0..3 {
        let start = Instant::now();
        last = run()?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    println!("{step}: {fastest:.4} s, {:.0} MB/s", megabytes / fastest);
    Ok(last)
}
