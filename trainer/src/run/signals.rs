//! Signals set a wish to stop, which the ranks agree on at the end of a step. The exceptions are SIGTERM after another rank died, and SIGUSR2,
//! which is for who will not wait.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use sirocco_comm::{Communicator, DeadPeer, Peer};

use crate::failure::{Failure, STOPPED};

/// How long a rank that found a dead one stays, so that the others do not take it for a second victim.
const LINGER: Duration = Duration::from_millis(300);

/// What signals have asked for so far.
pub(super) struct Signalled {
    stop: Arc<AtomicBool>,
    peers: Arc<OnceLock<Weak<dyn Communicator>>>,
}

impl Signalled {
    /// Starts to listen for SIGTERM, SIGINT, SIGHUP and SIGUSR1; SIGUSR2 ends this process where it is.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listening = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]);
        let mut signals = listening.map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
        let signalled = Self { stop: Arc::new(AtomicBool::new(false)), peers: Arc::new(OnceLock::new()) };
        let (stop, peers) = (Arc::clone(&signalled.stop), Arc::clone(&signalled.peers));
        std::thread::spawn(move || {
            for signal in &mut signals {
                if signal == SIGUSR2 {
                    tracing::info!("stopped at once, on request");
                    signal_hook::low_level::exit(STOPPED);
                }
                let communicator = peers.get().and_then(Weak::upgrade);
                let dead = communicator.map(|communicator| communicator.dead_peers()).unwrap_or_default();
                if signal == SIGTERM && !dead.is_empty() {
                    leave_after(&dead);
                }
                stop.store(true, Ordering::Relaxed);
            }
        });
        Ok(signalled)
    }

    /// From here on a SIGTERM is held against the ranks that have died.
    pub(super) fn watch_peers(&self, communicator: &Arc<dyn Communicator>) {
        // Called once; a second group would be a mistake of this program and is left out.
        let _ = self.peers.set(Arc::downgrade(communicator));
    }

    /// Whether this rank was asked to stop.
    pub(super) fn stop_is_wanted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// mpirun sends SIGTERM to the survivors of a dead rank and SIGKILL a second later. The main thread may be deep in a backward, so this
/// one says what happened and ends the process, without destructors: other threads still compute.
fn leave_after(dead: &[DeadPeer]) -> ! {
    let mut text = String::new();
    for dead in dead {
        let Peer { rank, host, pid } = &dead.peer;
        tracing::error!(rank, host, pid, "rank died");
        text.push_str(&format!("error: rank {rank} (process {pid} on {host}) died; this rank stops\n"));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::thread::sleep(LINGER);
    signal_hook::low_level::exit(1)
}
