//! The files that a command needs: the lists of level 3.

use std::path::{Path, PathBuf};

use sirocco_config::{OPEN_POLICY, Run, environment, places};
use sirocco_confine::Paths;

use crate::failure::{Failure, Kind};
use crate::gate::account;
use crate::programs::Mpirun;
use crate::train::directory::RunDirectory;

/// Programs, libraries and what they read of the system. /tmp and its likes are not among them.
const SYSTEM: [&str; 9] = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/opt", "/dev/urandom"];
/// What is written besides the run.
const WRITTEN: [&str; 2] = ["/dev/shm", "/dev/null"];
/// Where GPUs are: each device by its own name, because the directory has others, too.
const DEVICES: &str = "/dev";

/// What a run reads and writes: its directory is the first of those that are written. Makes them, because only what is there can be named.
pub(super) fn lists(run: &Run, written: &[&Path]) -> Result<Paths, Failure> {
    let mut readable: Vec<PathBuf> = SYSTEM.into_iter().map(PathBuf::from).collect();
    readable.extend(run.data.train.iter().chain(&run.data.valid).cloned());
    readable.extend(run.policy.facts.iter().chain(&run.policy.trust).cloned());
    readable.push(run.model.path.clone());
    if run.policy.set != OPEN_POLICY {
        readable.push(PathBuf::from(&run.policy.set));
    }
    readable.extend(programs());
    let mut writable: Vec<PathBuf> = WRITTEN.into_iter().map(PathBuf::from).collect();
    writable.push(std::env::temp_dir());
    writable.extend(gpus());
    // What signs is made now, because nothing can be made beside it later.
    let named = run.policy.keys.as_deref();
    let ledger = written.first().map(|directory| directory.join(RunDirectory::LEDGER));
    let keys = account::keys_for(named, ledger)?.path().to_owned();
    let own = [Some(keys), places::ledger(), run.checkpoint.staging.clone()].into_iter().flatten();
    for needed in written.iter().map(|path| (*path).to_owned()).chain(own) {
        std::fs::create_dir_all(&needed)
            .map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be made: {error}", needed.display())))?;
        writable.push(needed);
    }
    readable.retain(|path| path.exists());
    writable.retain(|path| path.exists());
    Ok(Paths { readable, writable })
}

/// Where the programs of Sirocco, MPI and their libraries are, wherever they were installed.
fn programs() -> impl Iterator<Item = PathBuf> {
    let of = |program: PathBuf| {
        let real = std::fs::canonicalize(&program).unwrap_or(program);
        let bin = real.parent().map(Path::to_owned);
        let lib = bin.as_deref().and_then(Path::parent).map(|prefix| prefix.join("lib"));
        [bin, lib].into_iter().flatten()
    };
    let own = std::env::current_exe().into_iter().flat_map(of);
    let mpirun = Mpirun::find().into_iter().flat_map(move |mpirun| of(mpirun.path));
    let libraries = std::env::var_os(environment::LIBRARIES.name).unwrap_or_default();
    let libraries: Vec<_> = std::env::split_paths(&libraries).filter(|path| path.is_absolute()).collect();
    own.chain(mpirun).chain(libraries).chain(option_env!("LIBTORCH").map(PathBuf::from))
}

fn gpus() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(DEVICES).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("nvidia") && !path.is_dir()
    })
}
