//! The inference server: OpenAI's API over HTTP for a model and its adapters.
//!
//! `args` is the command line, `lifecycle` composes and ends the program, `custody` lets in what is served, `http` speaks the API, `engine` computes.

mod args;
mod confined;
mod custody;
mod engine;
mod failure;
mod http;
mod lifecycle;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::Args;
use failure::Failure;
use sirocco_policy::Confinement;

// Large buffers come and go with every token; glibc would give them back to the system and fault them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that speak HTTP; the other cores belong to the engine.
const HTTP_THREADS: usize = 2;
/// Threads that tokenize prompts.
const TOKENIZER_THREADS: usize = 4;

fn main() -> ExitCode {
    if let Some(assisted) = confined::assist() {
        return assisted.map_or_else(|failure| ExitCode::from(failure.report(false)), |()| ExitCode::SUCCESS);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let filter = EnvFilter::try_from_env(sirocco_config::environment::LOG.name).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    // Before there is a thread.
    if let Err(failure) = custody::needed(&args).and_then(|least| confined::apply(&args, least)) {
        return ExitCode::from(failure.report(args.json));
    }
    let (confinement, attempts) = (confined::level().map_or("unknown", Confinement::word), confined::attempts());
    tracing::info!(confinement, attempts, "kept from the network as far as this says");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .max_blocking_threads(TOKENIZER_THREADS)
        .enable_all()
        .build();
    let result = runtime.map_err(|source| Failure::System { what: "the HTTP threads", source }).and_then(|runtime| {
        let result = runtime.block_on(lifecycle::serve(&args));
        runtime.shutdown_background();
        result
    });
    let code = result.map_or_else(|failure| failure.report(args.json), |()| 0);
    // The engine's thread may be in the middle of a step that nobody waits for: the libraries' destructors must not run
    // under it.
    signal_hook::low_level::exit(i32::from(code))
}

/// Help and version are no errors; a wrong command line is, in JSON too if that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let rendered = error.render().to_string();
    let message = rendered.trim_start_matches("error: ").trim_end();
    ExitCode::from(failure::report("usage", message, None, 2, std::env::args_os().any(|argument| argument == "--json")))
}
