//! The MPI calls that rsmpi has no safe form for: sends and receives that own their buffer and can be given up.
//!
//! rsmpi's requests borrow their buffers and end the process when dropped before completion. After a rank has died a request never
//! completes, so here a request owns its buffer, and one that is dropped early leaks it: MPI may still write there.
#![expect(unsafe_code, reason = "MPI is called through C, and keeps pointers to buffers between calls")]

use std::{
    ffi::{CStr, c_char, c_int},
    marker::PhantomData,
    mem::MaybeUninit,
    sync::Arc,
};

use bytemuck::Pod;
use mpi::{
    datatype::Equivalence,
    environment::Universe,
    ffi,
    point_to_point::Status,
    raw::AsRaw,
    traits::{Communicator, Source},
};

/// An MPI function that did not succeed, with MPI's own text.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    pub(crate) message: String,
}

/// The communicator of all ranks. Not `Send`: it stays on the thread that started MPI.
pub(crate) struct World {
    world: mpi::topology::SimpleCommunicator,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    thread: PhantomData<*const ()>,
}

impl World {
    /// The world of a started MPI, set to return errors instead of ending the process. Must not be used after `universe` is dropped.
    pub(crate) fn open(universe: &Universe) -> Result<Self, Failure> {
        let world = universe.world();
        // SAFETY: MPI is initialised (there is a `Universe`), the communicator is live, and the error handler is MPI's own.
        check("MPI_Comm_set_errhandler", unsafe { ffi::MPI_Comm_set_errhandler(world.as_raw(), ffi::RSMPI_ERRORS_RETURN) })?;
        let number = |value: i32| usize::try_from(value).unwrap_or_default();
        Ok(World { rank: number(world.rank()), size: number(world.size()), world, thread: PhantomData })
    }

    /// Starts to send `data` to rank `to`.
    pub(crate) fn send<E: Pod>(&self, data: Arc<[E]>, to: usize, tag: i32) -> Result<Sending<E>, Failure> {
        let (count, to_rank) = (bytes_of(&data)?, rank_number(to)?);
        let data = Arc::into_raw(data);
        let mut request = MaybeUninit::uninit();
        // SAFETY: `data` points at `count` initialised bytes (E is plain data) and stays allocated and unchanged, because the
        // reference count taken by `into_raw` is only given back when MPI reports completion.
        let code = unsafe { ffi::MPI_Isend(data.cast(), count, byte(), to_rank, tag, self.world.as_raw(), request.as_mut_ptr()) };
        check("MPI_Isend", code)?;
        // SAFETY: MPI_Isend succeeded, so it has written the request.
        Ok(Sending { request: Request(unsafe { request.assume_init() }), data: Some(data), peer: to })
    }

    /// Starts to receive at most `buffer.len()` elements from rank `from`.
    pub(crate) fn receive<E: Pod>(&self, buffer: Box<[E]>, from: usize, tag: i32) -> Result<Receiving<E>, Failure> {
        let (count, from_rank) = (bytes_of(&buffer)?, rank_number(from)?);
        let buffer = Box::into_raw(buffer);
        let mut request = MaybeUninit::uninit();
        // SAFETY: `buffer` points at `count` writable bytes that nothing else refers to, and any bytes are a valid E (plain data).
        // It is only turned back into a box when MPI reports completion.
        let code =
            unsafe { ffi::MPI_Irecv(buffer.cast(), count, byte(), from_rank, tag, self.world.as_raw(), request.as_mut_ptr()) };
        check("MPI_Irecv", code)?;
        // SAFETY: MPI_Irecv succeeded, so it has written the request.
        Ok(Receiving { request: Request(unsafe { request.assume_init() }), buffer: Some(buffer), received: 0, peer: from })
    }

    /// A rank whose message with this tag has arrived and waits to be received.
    pub(crate) fn probe(&self, tag: i32) -> Option<usize> {
        let status = self.world.any_process().immediate_probe_with_tag(tag)?;
        usize::try_from(status.source_rank()).ok()
    }

    /// Ends all ranks of the job.
    pub(crate) fn abort(&self, code: i32) -> ! {
        self.world.abort(code)
    }
}

/// An unfinished MPI operation.
struct Request(ffi::MPI_Request);

impl Request {
    /// The number of bytes once the operation is complete. Must not be called again after that.
    fn test(&mut self) -> Result<Option<usize>, Failure> {
        let (mut done, mut status) = (0, MaybeUninit::uninit());
        // SAFETY: the request came from MPI_Isend or MPI_Irecv and has not completed yet; the two results are ours to write.
        check("MPI_Test", unsafe { ffi::MPI_Test(&raw mut self.0, &raw mut done, status.as_mut_ptr()) })?;
        if done == 0 {
            return Ok(None);
        }
        // SAFETY: MPI_Test sets the status when it reports completion.
        let status = Status::from_raw(unsafe { status.assume_init() });
        Ok(Some(usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or_default()))
    }
}

/// A message on its way out. Dropped early, it leaks its buffer.
pub(crate) struct Sending<E> {
    request: Request,
    /// From `Arc::into_raw`; `None` once complete.
    data: Option<*const [E]>,
    pub(crate) peer: usize,
}

impl<E> Sending<E> {
    /// Whether MPI needs the buffer no longer.
    pub(crate) fn poll(&mut self) -> Result<bool, Failure> {
        let Some(data) = self.data else { return Ok(true) };
        if self.request.test()?.is_none() {
            return Ok(false);
        }
        self.data = None;
        // SAFETY: the pointer came from `Arc::into_raw` and is given back once, here.
        drop(unsafe { Arc::from_raw(data) });
        Ok(true)
    }

    /// Whether the last poll found it complete.
    pub(crate) fn is_done(&self) -> bool {
        self.data.is_none()
    }
}

/// A message on its way in. Dropped before it is complete, it leaks its buffer.
pub(crate) struct Receiving<E> {
    request: Request,
    /// From `Box::into_raw`; `None` once taken.
    buffer: Option<*mut [E]>,
    /// Bytes received, plus one: 0 while incomplete.
    received: usize,
    pub(crate) peer: usize,
}

impl<E> Receiving<E> {
    /// Whether the message is here.
    pub(crate) fn poll(&mut self) -> Result<bool, Failure> {
        if self.received == 0
            && let Some(bytes) = self.request.test()?
        {
            self.received = bytes + 1;
        }
        Ok(self.received != 0)
    }

    /// Whether the last poll found it complete.
    pub(crate) fn is_done(&self) -> bool {
        self.received != 0
    }

    /// The buffer and how many bytes of it were received; `None` before it is complete.
    pub(crate) fn take(mut self) -> Option<(Box<[E]>, usize)> {
        let bytes = self.received.checked_sub(1)?;
        // SAFETY: the pointer came from `Box::into_raw`, MPI is done with it, and `take` forgets it.
        self.buffer.take().map(|buffer| (unsafe { Box::from_raw(buffer) }, bytes))
    }
}

impl<E> Drop for Receiving<E> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take()
            && self.received != 0
        {
            // SAFETY: as in `take`; an incomplete one stays allocated.
            drop(unsafe { Box::from_raw(buffer) });
        }
    }
}

fn byte() -> ffi::MPI_Datatype {
    u8::equivalent_datatype().as_raw()
}

fn bytes_of<E>(data: &[E]) -> Result<c_int, Failure> {
    let bytes = size_of_val(data);
    c_int::try_from(bytes)
        .map_err(|_| Failure { call: "MPI_Isend", message: format!("a message of {bytes} bytes, expected less than 2^31") })
}

fn rank_number(rank: usize) -> Result<c_int, Failure> {
    c_int::try_from(rank).map_err(|_| Failure { call: "MPI_Isend", message: format!("rank {rank} is no MPI rank") })
}

fn check(call: &'static str, code: c_int) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure { call, message: error_text(code) }) }
}

/// MPI's text for an error code.
fn error_text(code: c_int) -> String {
    const ROOM: usize = 4096;
    let (mut text, mut length) = ([0 as c_char; ROOM], 0);
    // SAFETY: the buffer is longer than MPI_MAX_ERROR_STRING of every MPI (OpenMPI 256, MPICH 512), and starts out zeroed, so it
    // holds a terminated string whether or not the call succeeds.
    let text = unsafe {
        ffi::MPI_Error_string(code, text.as_mut_ptr(), &raw mut length);
        CStr::from_ptr(text.as_ptr())
    };
    format!("{} (code {code})", text.to_string_lossy())
}
