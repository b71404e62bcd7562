//! One NCCL communicator: made without blocking, asked for its state, finalised or aborted.
//!
//! A communicator that does not block answers "in progress" and works on; nothing else may be asked of it until it has settled. That
//! is what lets a rank give up on peers that never come instead of hanging in a call.
#![expect(unsafe_code, reason = "NCCL is called through C; the kernels it starts use device addresses")]

use std::{
    ffi::{c_int, c_void},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cudarc::{
    driver::CudaStream,
    nccl::sys::{cudaStream_t, ncclComm_t, ncclConfig_t, ncclUniqueId},
};

use super::{
    Failure,
    api::{Api, IN_PROGRESS, SUCCESS, SUM},
    region::Checked,
};

/// Pause between two questions whether a communicator has settled: it takes longer only when ranks connect for the first time.
const NAP: Duration = Duration::from_micros(20);
/// How long an orderly end may take before it is an abort.
const FAREWELL: Duration = Duration::from_secs(5);
/// `NCCL_CONFIG_UNDEF_INT`: the library's default.
const UNDEFINED: c_int = c_int::MIN;
/// The version whose `ncclConfig_t` this is, as the library counts; it reads that many fields and fills in the rest.
const CONFIG_VERSION: u32 = 22_400;

struct Comm(ncclComm_t);

// SAFETY: a communicator may be used from any thread, by one at a time: it lives behind a mutex.
unsafe impl Send for Comm {}

/// A communicator; `None` once it has been aborted.
pub(super) struct Handle {
    api: &'static Api,
    comm: Mutex<Option<Comm>>,
    timeout: Duration,
}

/// Who is in the group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) rank: usize,
    pub(super) size: usize,
}

impl Handle {
    /// Meets the ranks that were given the same `id`. The device must be current on this thread.
    pub(super) fn join(api: &'static Api, id: &[u8], seat: Seat, timeout: Duration) -> Result<Self, Failure> {
        let call = "ncclCommInitRankConfig";
        let number = |value: usize| c_int::try_from(value).map_err(|_| failed(call, format!("{value} ranks")));
        let (rank, size) = (number(seat.rank)?, number(seat.size)?);
        let mut bytes = [0; 128];
        if id.len() != bytes.len() {
            return Err(failed(call, format!("an id of {} bytes, expected {}", id.len(), bytes.len())));
        }
        bytes.iter_mut().zip(id).for_each(|(to, &from)| *to = from as _);
        let mut config = config();
        let mut comm = std::ptr::null_mut();
        // SAFETY: the id is 128 bytes that ncclGetUniqueId made; the library writes `comm`, and reads `config` during the call.
        let code = unsafe { (api.init)(&raw mut comm, size, ncclUniqueId { internal: bytes }, rank, &raw mut config) };
        api.accept(call, code, std::ptr::null_mut())?;
        let handle = Handle { api, comm: Mutex::new(Some(Comm(comm))), timeout };
        match handle.settle(call) {
            Ok(()) => Ok(handle),
            Err(failure) => {
                // Nobody can leave a group in good order that has not come together.
                handle.abort();
                let absent = |waited: Duration| format!("a rank of the group did not join within {:.1} s", waited.as_secs_f64());
                Err(failure.waited.map_or(failure, |waited| failed(call, absent(waited))))
            }
        }
    }

    /// The same with another timeout for what comes.
    pub(super) fn with_patience(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn lock(&self) -> MutexGuard<'_, Option<Comm>> {
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sum over the ranks, in place.
    pub(super) fn all_reduce(&self, data: Checked, stream: &CudaStream) -> Result<(), Failure> {
        let Checked(data) = data;
        let (at, kind) = (data.address as *mut c_void, data.element.code());
        // SAFETY (here and below): the communicator is live, the stream belongs to its device, and the addresses are memory of that
        // device (`Checked`), which the caller keeps allocated until the stream has passed the end of this operation.
        self.call("ncclAllReduce", |api, comm| unsafe { (api.all_reduce)(at, at, data.elements, kind, SUM, comm, raw(stream)) })
    }

    /// Sums over the ranks; each gets one part of each.
    pub(super) fn reduce_scatter(&self, pairs: &[(Checked, Checked)], stream: &CudaStream) -> Result<(), Failure> {
        self.grouped("ncclReduceScatter", |api, comm| {
            let one = |&(Checked(from), Checked(to)): &(Checked, Checked)| {
                let (source, target) = (from.address as *const c_void, to.address as *mut c_void);
                // SAFETY: see `all_reduce`; `to` holds `to.elements`, `from` that many for each rank.
                unsafe { (api.reduce_scatter)(source, target, to.elements, to.element.code(), SUM, comm, raw(stream)) }
            };
            pairs.iter().map(one).collect()
        })
    }

    /// Every rank's parts, in rank order.
    pub(super) fn all_gather(&self, pairs: &[(Checked, Checked)], stream: &CudaStream) -> Result<(), Failure> {
        self.grouped("ncclAllGather", |api, comm| {
            let one = |&(Checked(from), Checked(to)): &(Checked, Checked)| {
                let (source, target) = (from.address as *const c_void, to.address as *mut c_void);
                // SAFETY: see `all_reduce`; `from` holds `from.elements`, `to` that many for each rank.
                unsafe { (api.all_gather)(source, target, from.elements, from.element.code(), comm, raw(stream)) }
            };
            pairs.iter().map(one).collect()
        })
    }

    /// Messages to and from ranks of the group, all under way at once.
    pub(super) fn exchange(
        &self,
        sends: &[(c_int, Checked)],
        receives: &[(c_int, Checked)],
        stream: &CudaStream,
    ) -> Result<(), Failure> {
        self.grouped("ncclSend, ncclRecv", |api, comm| {
            let send = |&(peer, Checked(part)): &(c_int, Checked)| {
                // SAFETY: see `all_reduce`.
                unsafe { (api.send)(part.address as *const c_void, part.elements, part.element.code(), peer, comm, raw(stream)) }
            };
            let receive = |&(peer, Checked(part)): &(c_int, Checked)| {
                // SAFETY: see `all_reduce`.
                unsafe { (api.receive)(part.address as *mut c_void, part.elements, part.element.code(), peer, comm, raw(stream)) }
            };
            sends.iter().map(send).chain(receives.iter().map(receive)).collect()
        })
    }

    /// Several calls as one: the library begins with them when the last is known.
    fn grouped(&self, call: &'static str, work: impl FnOnce(&Api, ncclComm_t) -> Vec<c_int>) -> Result<(), Failure> {
        self.call(call, |api, comm| {
            // SAFETY: a group is this thread's own, and it is closed on every way out.
            let mut codes = vec![unsafe { (api.group_start)() }];
            codes.extend(work(api, comm));
            // SAFETY: as above.
            codes.push(unsafe { (api.group_end)() });
            codes.into_iter().find(|&code| code != SUCCESS && code != IN_PROGRESS).unwrap_or(SUCCESS)
        })
    }

    /// One call, and the wait until the communicator has taken it in. (The operation itself goes on on the device.)
    fn call(&self, call: &'static str, work: impl FnOnce(&Api, ncclComm_t) -> c_int) -> Result<(), Failure> {
        {
            let comm = self.lock();
            let Some(Comm(comm)) = *comm else { return Err(aborted(call)) };
            self.api.accept(call, work(self.api, comm), comm)?;
        }
        self.settle(call)
    }

    /// Waits until the communicator is no longer busy with a call: the first ones connect the ranks, which takes all of them.
    fn settle(&self, call: &'static str) -> Result<(), Failure> {
        let started = Instant::now();
        while self.busy(call)? {
            let waited = started.elapsed();
            if waited >= self.timeout {
                let message = format!("not taken in {:.1} s after it was called", waited.as_secs_f64());
                return Err(Failure { waited: Some(waited), ..failed(call, message) });
            }
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// Whether the communicator is busy; its asynchronous error, if it has one.
    pub(super) fn busy(&self, call: &'static str) -> Result<bool, Failure> {
        let guard = self.lock();
        let Some(Comm(comm)) = *guard else { return Err(aborted(call)) };
        let mut state = 0;
        // SAFETY: the communicator is live (it is only given up under this lock) and the library writes one int.
        let code = unsafe { (self.api.get_async_error)(comm, &raw mut state) };
        self.api.accept("ncclCommGetAsyncError", code, comm)?;
        self.api.accept(call, state, comm).map(|()| state == IN_PROGRESS)
    }

    /// Ends everything that the communicator has under way, on the device, too.
    pub(super) fn abort(&self) {
        if let Some(Comm(comm)) = self.lock().take() {
            // SAFETY: the communicator was live, and nobody can reach it any more. Its result changes nothing.
            let _ = unsafe { (self.api.abort)(comm) };
        }
    }

    /// Says goodbye to the other ranks. All operations must be done.
    fn leave(&self) -> Result<(), Failure> {
        let call = "ncclCommFinalize";
        // SAFETY: the communicator is live.
        self.call(call, |api, comm| unsafe { (api.finalize)(comm) })?;
        if let Some(Comm(comm)) = self.lock().take() {
            // SAFETY: the communicator is finalised, and nobody can reach it any more.
            let code = unsafe { (self.api.destroy)(comm) };
            self.api.accept("ncclCommDestroy", code, std::ptr::null_mut())?;
        }
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.timeout = self.timeout.min(FAREWELL);
        if self.leave().is_err() {
            self.abort();
        }
    }
}

/// Everything the library's own choice, except that calls do not block.
fn config() -> ncclConfig_t {
    ncclConfig_t {
        size: size_of::<ncclConfig_t>(),
        magic: 0xcafe_beef,
        version: CONFIG_VERSION,
        blocking: 0,
        cgaClusterSize: UNDEFINED,
        minCTAs: UNDEFINED,
        maxCTAs: UNDEFINED,
        netName: std::ptr::null(),
        splitShare: UNDEFINED,
    }
}

fn raw(stream: &CudaStream) -> cudaStream_t {
    stream.cu_stream().cast()
}

fn failed(call: &'static str, message: String) -> Failure {
    Failure::new(call, message)
}

fn aborted(call: &'static str) -> Failure {
    failed(call, "the communicator was aborted before".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_without_a_device_is_an_error_and_not_a_hang() {
        // SAFETY: loading the driver's library has no requirements.
        let driver = unsafe { cudarc::driver::sys::is_culib_present() };
        let Ok(api) = Api::get() else { return };
        if driver {
            return;
        }
        let id = api.unique_id().unwrap();
        let joined = Handle::join(api, &id, Seat { rank: 0, size: 1 }, Duration::from_secs(5));
        let failure = joined.map(|_| ()).unwrap_err();
        assert_eq!(failure.call, "ncclCommInitRankConfig");
        let short = Handle::join(api, &id[1..], Seat { rank: 0, size: 1 }, Duration::from_secs(5)).map(|_| ()).unwrap_err();
        assert_eq!(short.message, "an id of 127 bytes, expected 128");
    }
}
