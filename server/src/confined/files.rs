//! The files that the server needs: the lists of level 3.

use std::path::{Path, PathBuf};

use sirocco_config::{OPEN_POLICY, places};
use sirocco_confine::{Paths, Refused};

use crate::args::Args;
use crate::custody::account;
use crate::failure::Failure;

/// What is served, the rules and whom to believe are read; only the account's ledger and keys are written, and temporary files.
pub(super) fn lists(args: &Args) -> Result<Paths, Failure> {
    let mut paths = Paths::usual();
    let own = std::env::current_exe().map_err(|source| Failure::System { what: "the path of this program", source })?;
    paths.start(&own);
    places::libraries().chain(option_env!("LIBTORCH").map(PathBuf::from)).for_each(|path| paths.read(&path));
    paths.read(&args.model);
    args.adapters.iter().for_each(|(_, directory)| paths.read(directory));
    if args.policy != OPEN_POLICY {
        paths.read(Path::new(&args.policy));
    }
    args.facts.iter().chain(&args.trust).for_each(|path| paths.read(path));
    // What signs is made now, because nothing can be made beside it later.
    let keys = account::keys()?;
    write(&mut paths, keys.path())?;
    write(&mut paths, &account::ledger()?)?;
    write(&mut paths, &std::env::temp_dir())?;
    Ok(paths)
}

fn write(paths: &mut Paths, directory: &Path) -> Result<(), Failure> {
    paths.write(directory).map_err(|error: Refused| Failure::System {
        what: "the files that the server needs",
        source: std::io::Error::other(error),
    })
}
