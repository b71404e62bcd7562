//! A device collective under way, and what it is keeping alive.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cudarc::driver::CudaEvent;

use super::{
    Failure,
    device::{Device, driver},
    line::{Progress, Shared},
};
use crate::{Collective, CommError};

/// Pause between two questions whether the device is done.
const NAP: Duration = Duration::from_micros(50);

/// A device collective under way. It owns `K`, the tensors whose memory it uses, until libtorch's stream is set to wait for its end.
///
/// Handles may be waited for in any order. Dropping one is [`InFlight::wait`] without the result.
#[must_use = "a collective's error is only seen by waiting for it"]
pub struct InFlight<K> {
    collective: Collective,
    end: Arc<CudaEvent>,
    device: Arc<Device>,
    shared: Arc<Shared>,
    kept: Option<K>,
}

impl<K> InFlight<K> {
    pub(super) fn new(
        collective: Collective,
        end: Arc<CudaEvent>,
        (device, shared): (Arc<Device>, Arc<Shared>),
        kept: K,
    ) -> Self {
        InFlight { collective, end, device, shared, kept: Some(kept) }
    }

    /// The name and number of the collective.
    pub fn collective(&self) -> &Collective {
        &self.collective
    }

    /// Lets everything that libtorch is given from now on wait for the end of the collective; the host goes on at once.
    ///
    /// # Errors
    /// The group's first error, which may be another collective's; one that the device meets later is returned by the calls after it.
    pub fn wait(mut self) -> Result<K, CommError> {
        let kept = self.release()?;
        self.shared.health()?;
        kept.ok_or_else(|| CommError::WireEnded { name: self.collective.name.clone() })
    }

    /// Lets the host wait, too, until the collective is done.
    ///
    /// # Errors
    /// The group's first error; the watch bounds how long that takes.
    pub fn finish(self) -> Result<K, CommError> {
        let done = || self.end.try_is_complete().map_err(|error| self.failed(driver("cuEventQuery")(error)));
        while !done()? {
            self.shared.health()?;
            thread::sleep(NAP);
        }
        self.wait()
    }

    fn failed(&self, failure: Failure) -> CommError {
        failure.in_collective(self.collective.clone())
    }

    /// Orders libtorch after the collective, after which its memory may go. Where the driver refuses, it must stay for ever.
    fn release(&mut self) -> Result<Option<K>, CommError> {
        let kept = self.kept.take();
        match self.device.torch_waits_for(&self.end) {
            Ok(()) => Ok(kept),
            Err(failure) => {
                std::mem::forget(kept);
                Err(self.failed(failure))
            }
        }
    }
}

impl<K> Drop for InFlight<K> {
    fn drop(&mut self) {
        if self.kept.is_some() {
            let _ = self.release();
        }
    }
}

/// The beginning and the end of an operation, as the watch asks for them.
pub(super) struct Events {
    pub(super) start: CudaEvent,
    pub(super) end: Arc<CudaEvent>,
    /// When it was given to the device.
    pub(super) given: Instant,
}

impl Progress for Events {
    fn begun(&self) -> Result<bool, Failure> {
        self.start.try_is_complete().map_err(driver("cuEventQuery"))
    }

    fn done(&self) -> Result<bool, Failure> {
        self.end.try_is_complete().map_err(driver("cuEventQuery"))
    }

    fn seconds(&self) -> f64 {
        let since = self.given.elapsed().as_secs_f64();
        self.start.elapsed_ms(&self.end).map_or(since, |milliseconds| f64::from(milliseconds) / 1e3)
    }
}
