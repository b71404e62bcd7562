//! From the command line to a listening server, and from a signal to its end.

use std::future::{Future, IntoFuture};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sirocco_tokens::Tokenizer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::args::{Args, is_name};
use crate::engine::{Engine, EngineError, Limits, NetworkSource, Started, load};
use crate::failure::Failure;
use crate::http::{Service, router};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long answers that were ended early have to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until a signal comes.
pub(crate) async fn serve(args: &Args) -> Result<(), Failure> {
    // The port is taken first, so that one in use is reported before minutes of loading, but it is opened last, so that
    // a client is refused rather than kept waiting.
    let socket = reserve(&args.listen).await?;
    let names = names(args)?;
    let (service, ended) = start(args, names).await?;
    let mut signals = Signals::new()?;
    let listener = socket.listen(BACKLOG).map_err(|source| Failure::Listen { address: args.listen.clone(), source })?;
    let address = listener.local_addr().map_err(|source| Failure::System { what: "the listening address", source })?;
    if !address.ip().is_loopback() {
        warn!(%address, "the server asks for no key: anyone who reaches this address can use it");
    }
    announce(address, &service.names, args.json)?;
    run(listener, service, ended, &mut signals, Duration::from_secs(args.drain_seconds)).await
}

async fn reserve(listen: &str) -> Result<TcpSocket, Failure> {
    let unusable = |source| Failure::Address { found: listen.to_owned(), source };
    let address = tokio::net::lookup_host(listen)
        .await
        .map_err(unusable)?
        .next()
        .ok_or_else(|| unusable(std::io::Error::other("no address of that name")))?;
    let taken = |source| Failure::Listen { address: listen.to_owned(), source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(taken)?;
    // A restarted server need not wait for its predecessor's closed connections to time out.
    socket.set_reuseaddr(true).map_err(taken)?;
    socket.bind(address).map_err(taken)?;
    Ok(socket)
}

/// The names of the base and its adapters.
fn names(args: &Args) -> Result<Vec<String>, Failure> {
    let base = args.name.clone().unwrap_or_else(|| directory_name(&args.model));
    let mut names = vec![base];
    names.extend(args.adapters.iter().map(|(name, _)| name.clone()));
    for (position, name) in names.iter().enumerate() {
        if !is_name(name) {
            return Err(Failure::Name { found: name.clone(), problem: "which is empty or has spaces in it" });
        }
        if names[..position].contains(name) {
            return Err(Failure::Name { found: name.clone(), problem: "twice" });
        }
    }
    Ok(names)
}

fn directory_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Loads the models on the engine's thread. The receiver resolves when that thread ends.
async fn start(args: &Args, names: Vec<String>) -> Result<(Arc<Service>, oneshot::Receiver<()>), Failure> {
    let source = NetworkSource::open(&args.model, &args.adapters, args.dtype)?;
    let tokenizer = Arc::new(Tokenizer::open(&args.model)?);
    let (context, vocabulary) = (source.context(), source.vocabulary());
    if tokenizer.vocab_size() > vocabulary {
        let (path, found) = (args.model.clone(), tokenizer.vocab_size());
        return Err(EngineError::Vocabulary { path, found, expected: vocabulary }.into());
    }
    let limits = Limits { running: args.max_concurrent as usize, waiting: args.max_waiting as usize };
    let threads = args.threads;
    let end_of_text = tokenizer.eos_id();
    let Started { engine, loaded, ended } = Engine::start(Arc::clone(&tokenizer), limits, move || {
        use_threads(threads);
        load(&source, end_of_text)
    })
    .map_err(|source| Failure::System { what: "the engine's thread", source })?;
    loaded.await.map_err(|_| Failure::EngineEnded)??;
    let started = crate::http::now();
    let service = Service { engine, tokenizer, names, context, vocabulary, started, max_body: args.max_body };
    Ok((Arc::new(service), ended))
}

/// Sets how many threads libtorch and the network's own loops use; called on the thread that computes.
fn use_threads(threads: Option<i32>) {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or_else(available);
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
        warn!(%error, "the network's loops use another number of threads than --threads");
    }
}

fn announce(address: SocketAddr, models: &[String], as_json: bool) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let address = format!("http://{address}");
    let written = if as_json {
        writeln!(stdout, "{}", json!({"event": "listening", "address": address, "models": models}))
    } else {
        writeln!(stdout, "listening on {address}")
    };
    written.and_then(|()| stdout.flush()).map_err(|source| Failure::System { what: "standard output", source })
}

async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    ended: oneshot::Receiver<()>,
    signals: &mut Signals,
    patience: Duration,
) -> Result<(), Failure> {
    let engine = service.engine.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(service)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(server.into_future());
    let mut ended = ended;
    tokio::select! {
        name = signals.next() => info!(signal = name, active = engine.active(), "stopping: running requests may finish"),
        _ = &mut ended => return Err(Failure::EngineEnded),
    }
    // The server is gone already only if it failed, which ends the drain as well.
    let _ = stop.send(());
    tokio::select! {
        () = drain(serving, &engine, patience) => {}
        _ = signals.next() => return Err(Failure::Interrupted),
    }
    drop(engine);
    // The thread frees its tensors before the libraries under it are unloaded.
    let _ = timeout(LAST_WORDS, ended).await;
    info!("stopped");
    Ok(())
}

/// Waits until the server has answered everything, or for `patience`, then ends what is still running.
async fn drain(mut serving: impl Future + Unpin, engine: &Engine, patience: Duration) {
    if timeout(patience, &mut serving).await.is_err() {
        warn!(active = engine.active(), "out of patience: ending the requests that still run");
        engine.abort();
        let _ = timeout(LAST_WORDS, serving).await;
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let install = |kind| signal(kind).map_err(|source| Failure::System { what: "a signal handler", source });
        Ok(Signals { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
