//! From the command line to a listening server, and from a signal to its end.

use std::future::{Future, IntoFuture};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use sirocco_tokens::Tokenizer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::args::{Args, is_name};
use crate::confined::{self, Port};
use crate::custody::{Admission, Desk};
use crate::engine::{Engine, EngineError, Limits, NetworkSource, Started, load};
use crate::failure::Failure;
use crate::http::{Service, router};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a request's body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long answers that were ended early have to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until a signal comes.
pub(crate) async fn serve(args: &Args) -> Result<(), Failure> {
    // The port is taken first, so that one in use is reported before minutes of loading, but it is opened last, so that
    // a client is refused rather than kept waiting.
    let socket = match confined::opened() {
        Some(open) => open,
        None => Port::Taken(reserve(&args.listen).await?),
    };
    let names = names(args)?;
    share_threads(threads(args));
    let desk = Desk::open(args, &names[0])?;
    let admission = desk.admit(args)?;
    let (service, ended) = start(args, &admission, names).await?;
    let mut signals = Signals::new()?;
    let (listener, address) = listen(socket, &admission, &args.listen)?;
    if !address.ip().is_loopback() {
        warn!(%address, "the server asks for no key: anyone who reaches this address can use it");
    }
    desk.started(&admission, address, &service.names)?;
    let answered = Arc::clone(&service.answered);
    let result = match announce(address, &service.names, args.json.then(|| desk.described(&admission, &service.names))) {
        Ok(()) => run(listener, service, ended, async || signals.next().await, Duration::from_secs(args.drain_seconds)).await,
        Err(failure) => Err(failure),
    };
    let reason = result.as_ref().map_or_else(ToString::to_string, |signal| (*signal).to_owned());
    desk.ended(&reason, answered.load(Ordering::Relaxed));
    result.map(|_| ())
}

/// From here on clients are answered, so that nothing gets here which was not admitted.
fn listen(socket: Port, _: &Admission, address: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = socket.listen(BACKLOG).map_err(|source| Failure::Listen { address: address.to_owned(), source })?;
    let address = listener.local_addr().map_err(|source| Failure::System { what: "the listening address", source })?;
    Ok((listener, address))
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
async fn start(args: &Args, admission: &Admission, names: Vec<String>) -> Result<(Arc<Service>, oneshot::Receiver<()>), Failure> {
    let source = NetworkSource::open(admission, args.dtype)?;
    let tokenizer = Arc::new(Tokenizer::open(admission.model())?);
    let (context, vocabulary) = (source.context(), source.vocabulary());
    if tokenizer.vocab_size() > vocabulary {
        let (path, found) = (args.model.clone(), tokenizer.vocab_size());
        return Err(EngineError::Vocabulary { path, found, expected: vocabulary }.into());
    }
    let limits = Limits { running: args.max_concurrent as usize, waiting: args.max_waiting as usize };
    let threads = i32::try_from(threads(args)).unwrap_or(i32::MAX);
    let end_of_text = tokenizer.eos_id();
    let Started { engine, loaded, ended } = Engine::start(Arc::clone(&tokenizer), limits, move || {
        // libtorch's, which are those of the thread that computes.
        tch::set_num_threads(threads);
        load(&source, end_of_text)
    })
    .map_err(|source| Failure::System { what: "the engine's thread", source })?;
    loaded.await.map_err(|_| Failure::EngineEnded)??;
    let started = crate::http::now();
    let (max_body, body_time, answered) = (args.max_body, BODY_TIME, Arc::default());
    let service = Service { engine, tokenizer, names, context, vocabulary, started, max_body, body_time, answered };
    Ok((Arc::new(service), ended))
}

/// How many threads compute: `--threads`, or one per core.
fn threads(args: &Args) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or_else(available)
}

/// Sets how many threads the network's own loops use, and the digests of what is served: whoever needs some first would have one per core.
fn share_threads(threads: usize) {
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
        warn!(%error, "the network's loops use another number of threads than --threads");
    }
}

/// Says on standard output that the server is ready; as JSON with what custody has to say.
fn announce(address: SocketAddr, models: &[String], custody: Option<Value>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let address = format!("http://{address}");
    let written = match custody {
        Some(custody) => {
            let mut event = json!({"event": "listening", "address": address, "models": models});
            if let (Value::Object(event), Value::Object(custody)) = (&mut event, custody) {
                event.extend(custody);
            }
            writeln!(stdout, "{event}")
        }
        None => writeln!(stdout, "listening on {address}"),
    };
    written.and_then(|()| stdout.flush()).map_err(|source| Failure::System { what: "standard output", source })
}

/// Serves until `signal` gives the name of one, which is the answer, and then until the requests are answered or `patience` is at its end.
async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    ended: oneshot::Receiver<()>,
    mut signal: impl AsyncFnMut() -> &'static str,
    patience: Duration,
) -> Result<&'static str, Failure> {
    let engine = service.engine.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(service)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(server.into_future());
    let mut ended = ended;
    let name = tokio::select! {
        name = signal() => name,
        _ = &mut ended => return Err(Failure::EngineEnded),
    };
    info!(signal = name, active = engine.active(), "stopping: running requests may finish");
    // The server is gone already only if it failed, which ends the drain as well.
    let _ = stop.send(());
    tokio::select! {
        () = drain(serving, &engine, patience) => {}
        _ = signal() => return Err(Failure::Interrupted),
    }
    drop(engine);
    // The thread frees its tensors before the libraries under it are unloaded.
    match timeout(LAST_WORDS, ended).await {
        // It panicked, and the requests that were to finish did not.
        Ok(Err(_)) => Err(Failure::EngineEnded),
        Ok(Ok(())) | Err(_) => {
            info!("stopped");
            Ok(name)
        }
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::engine::testing::{self, Gate, until};

    /// A server with one streamed request whose step waits at a closed gate, and a signal to end it; `then` goes on when the
    /// listener is closed. Gives how the server ended and what the client got.
    async fn drained(patience: Duration, then: impl AsyncFnOnce(&Gate, &Engine)) -> (Result<&'static str, Failure>, String) {
        let (tokenizer, gate) = (testing::tokenizer(), Gate::closed());
        let Started { engine, ended, .. } = testing::engine(&tokenizer, Limits { running: 1, waiting: 0 }, &gate);
        let watched = engine.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            let body = r#"{"model": "base", "prompt": "a", "temperature": 0, "stream": true}"#;
            let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
            write!(socket, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        });
        let (send, mut signals) = unbounded_channel();
        let service = Arc::new(Service::for_tests(engine, tokenizer));
        let script = async {
            until("the step of the request", || gate.arrived() == 1).await;
            send.send("SIGTERM").unwrap();
            until("a closed listener", || TcpStream::connect(address).is_err()).await;
            then(&gate, &watched).await;
            drop(watched); // the engine's thread ends when nobody has it any more
        };
        let signal = async || signals.recv().await.unwrap();
        let (result, ()) = tokio::join!(run(listener, service, ended, signal, patience), script);
        (result, client.join().unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_that_runs_may_finish() {
        let (result, answer) = drained(LONG, async |gate, _| gate.allow(usize::MAX)).await;
        assert!(result.is_ok() && answer.contains("[DONE]") && answer.contains("\"finish_reason\":\"length\""), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn out_of_patience_a_request_ends_with_an_error() {
        let end = async |gate: &Gate, engine: &Engine| {
            until("the order to stop", || engine.is_aborted()).await;
            gate.allow(1);
        };
        let (result, answer) = drained(Duration::ZERO, end).await;
        assert!(result.is_ok() && answer.contains("the server is stopping") && answer.contains("[DONE]"), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_engine_that_panics_while_requests_finish_is_a_failure() {
        let (result, answer) = drained(LONG, async |gate, _| gate.panic()).await;
        let failure = result.unwrap_err();
        assert!(matches!(failure, Failure::EngineEnded) && failure.exit_code() == 1, "{failure}");
        assert!(answer.contains("the engine has stopped"), "{answer}");
    }
}
