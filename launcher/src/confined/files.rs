//! The files that a command needs: the lists of level 3.

use std::path::{Path, PathBuf};

use sirocco_config::{OPEN_POLICY, Run, places};
use sirocco_confine::Paths;

use crate::cli::PolicyOptions;
use crate::failure::{Failure, Kind};
use crate::gate::account;
use crate::programs::Mpirun;
use crate::train::directory::RunDirectory;

/// What a run reads and writes: its directory is the first of those that are written.
pub(super) fn of_run(run: &Run, written: &[&Path]) -> Result<Paths, Failure> {
    let mut paths = of_every_command()?;
    let data = run.data.train.iter().chain(&run.data.valid);
    data.chain([&run.model.path]).for_each(|path| paths.read(path));
    rules(&mut paths, &run.policy.set, run.policy.facts.iter().chain(&run.policy.trust));
    if let Ok(mpirun) = Mpirun::find() {
        paths.start(&mpirun.path);
    }
    signing(&mut paths, run.policy.keys.as_deref(), written.first().map(|directory| directory.join(RunDirectory::LEDGER)))?;
    let mut written = written.iter().copied().chain(run.checkpoint.staging.as_deref());
    written.try_for_each(|directory| write(&mut paths, directory))?;
    Ok(paths)
}

/// What a command that belongs to no run reads and writes, besides `options` and the `keys` that it signs with.
pub(super) fn of_tool(options: &PolicyOptions, keys: Option<&Path>, used: &Used) -> Result<Paths, Failure> {
    let mut paths = of_every_command()?;
    used.read.iter().for_each(|path| paths.read(path));
    rules(&mut paths, &options.policy, options.facts.iter().chain(&options.trust));
    signing(&mut paths, keys, None)?;
    write(&mut paths, &used.written)?;
    Ok(paths)
}

/// What a tool uses: files and directories that it reads, and the directory in which it writes.
pub(super) struct Used {
    pub(super) read: Vec<PathBuf>,
    pub(super) written: PathBuf,
}

fn of_every_command() -> Result<Paths, Failure> {
    let mut paths = Paths::usual();
    if let Ok(own) = std::env::current_exe() {
        paths.start(&own);
    }
    places::libraries().chain(option_env!("LIBTORCH").map(PathBuf::from)).for_each(|path| paths.read(&path));
    write(&mut paths, &std::env::temp_dir())?;
    Ok(paths)
}

fn rules<'a>(paths: &mut Paths, set: &str, others: impl Iterator<Item = &'a PathBuf>) {
    if set != OPEN_POLICY {
        paths.read(Path::new(set));
    }
    others.for_each(|path| paths.read(path));
}

/// What signs is made now, because nothing can be made beside it later.
fn signing(paths: &mut Paths, keys: Option<&Path>, ledger: Option<PathBuf>) -> Result<(), Failure> {
    write(paths, account::keys_for(keys, ledger)?.path())?;
    places::ledger().map_or(Ok(()), |ledger| write(paths, &ledger))
}

fn write(paths: &mut Paths, directory: &Path) -> Result<(), Failure> {
    paths.write(directory).map_err(|error| Failure::new(Kind::Failed, error))
}
