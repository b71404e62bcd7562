//! How many threads this process computes with.

use crate::failure::Failure;

/// Sets libtorch's and rayon's threads. Called once, before any tensor exists.
pub(crate) fn use_threads(threads: Option<u16>) -> Result<usize, Failure> {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or(available, usize::from);
    tch::set_num_threads(threads as i32);
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|error| Failure::failed(format!("cannot start {threads} threads: {error}")))?;
    Ok(threads)
}
