//! How many threads this process computes with.

/// Sets libtorch's and rayon's threads. Called once, before any tensor exists.
pub(crate) fn use_threads(threads: Option<usize>) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(available).max(1);
    tch::set_num_threads(threads as i32);
    // Fails only if the pool exists already, which nothing before this call makes.
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    debug_assert!(built.is_ok());
    threads
}
