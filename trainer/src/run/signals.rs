//! Signals set a wish to stop, which the ranks agree on at the end of a step. The exception is SIGTERM after another rank died.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use sirocco_comm::{Communicator, DeadPeer, Peer};

use crate::failure::Failure;

/// How long a rank that found a dead one stays, so that the others do not take it for a second victim.
const LINGER: Duration = Duration::from_millis(300);

/// Starts to listen. The flag becomes true at the first SIGTERM, SIGINT or SIGUSR1.
pub(crate) fn listen(communicator: &Arc<dyn Communicator>) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1]).map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let (flag, communicator): (_, Weak<dyn Communicator>) = (Arc::clone(&stop), Arc::downgrade(communicator));
    std::thread::spawn(move || {
        for signal in &mut signals {
            let dead = communicator.upgrade().map(|communicator| communicator.dead_peers()).unwrap_or_default();
            if signal == SIGTERM && !dead.is_empty() {
                leave_after(&dead);
            }
            flag.store(true, Ordering::Relaxed);
        }
    });
    Ok(stop)
}

/// mpirun sends SIGTERM to the survivors of a dead rank and SIGKILL a second later. The main thread may be deep in a backward, so this
/// one says what happened and ends the process.
fn leave_after(dead: &[DeadPeer]) -> ! {
    let mut text = String::new();
    for dead in dead {
        let Peer { rank, host, pid } = &dead.peer;
        tracing::error!(rank, host, pid, "rank died");
        text.push_str(&format!("error: rank {rank} (process {pid} on {host}) died; this rank stops\n"));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::thread::sleep(LINGER);
    std::process::exit(1)
}
