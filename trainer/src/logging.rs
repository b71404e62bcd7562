//! What a rank writes to `RUN/logs/rank-00000.log`.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use sirocco_config::environment;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Opens the rank's log and sends all events there. A resumed run appends.
pub(crate) fn start(directory: &Path, rank: usize) -> Result<(), Failure> {
    let path = directory.join("logs").join(format!("rank-{rank:05}.log"));
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(directory.join("logs")).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let filter = EnvFilter::try_from_env(environment::LOG.name).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Mutex::new(file)).init();
    Ok(())
}
