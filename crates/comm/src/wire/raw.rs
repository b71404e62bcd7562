//! The MPI calls that rsmpi has no safe form for: sends and receives that hold on to their memory and can be given up.
//!
//! rsmpi's requests borrow their buffers and end the process when dropped before completion. After a rank has died a request never
//! completes, so here it holds a loan of a [`Buffer`].
#![expect(unsafe_code, reason = "MPI is called through C")]

use std::{
    ffi::{CStr, c_char, c_int},
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Range,
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

use super::{
    Tag,
    buffer::{Buffer, Loan},
};
use crate::{CommError, entry::Collective};

/// An MPI function that did not succeed, with MPI's own text.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(super) fn in_collective(self, collective: Collective) -> CommError {
        CommError::Mpi { call: self.call.to_owned(), message: self.message, collective }
    }
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

    /// Starts to send elements of `buffer` to rank `to`.
    pub(super) fn send<E: Pod>(&self, buffer: &Buffer<E>, range: Range<usize>, to: usize, tag: Tag) -> Result<Message, Failure> {
        let loan = buffer.lend(range).ok_or_else(|| in_use("MPI_Isend"))?;
        let (count, to_rank) = (count("MPI_Isend", &loan)?, rank_number("MPI_Isend", to)?);
        let mut request = MaybeUninit::uninit();
        // SAFETY: the loan is of `count` initialised bytes that stay allocated and unchanged until it is ended, which happens when MPI
        // reports completion.
        let code = unsafe {
            ffi::MPI_Isend(loan.start.cast(), count, byte(), to_rank, tag as i32, self.world.as_raw(), request.as_mut_ptr())
        };
        check("MPI_Isend", code)?;
        // SAFETY: MPI_Isend succeeded, so it has written the request.
        Ok(Message {
            request: Request(unsafe { request.assume_init() }),
            bytes: loan.bytes,
            loan: Some(loan),
            received: None,
            failed: None,
            peer: to,
        })
    }

    /// Starts to send bytes that nobody else needs.
    pub(super) fn send_bytes(&self, bytes: Vec<u8>, to: usize, tag: Tag) -> Result<Message, Failure> {
        let buffer = Buffer::new(bytes);
        self.send(&buffer, 0..buffer.len(), to, tag)
    }

    /// Starts to receive at most as many elements as `range` has into that part of `buffer`.
    pub(super) fn receive<E: Pod>(
        &self,
        buffer: &mut Buffer<E>,
        range: Range<usize>,
        from: usize,
        tag: Tag,
    ) -> Result<Message, Failure> {
        let loan = buffer.lend_to_write(range).ok_or_else(|| in_use("MPI_Irecv"))?;
        let (count, from_rank) = (count("MPI_Irecv", &loan)?, rank_number("MPI_Irecv", from)?);
        let mut request = MaybeUninit::uninit();
        // SAFETY: the loan is of `count` writable bytes that stay allocated and that nobody else uses until it is ended, which happens
        // when MPI reports completion; any bytes are a valid E (plain data).
        let code = unsafe {
            ffi::MPI_Irecv(loan.start.cast(), count, byte(), from_rank, tag as i32, self.world.as_raw(), request.as_mut_ptr())
        };
        check("MPI_Irecv", code)?;
        // SAFETY: MPI_Irecv succeeded, so it has written the request.
        let request = Request(unsafe { request.assume_init() });
        Ok(Message { request, bytes: loan.bytes, loan: Some(loan), received: Some(0), failed: None, peer: from })
    }

    /// Starts to receive a message of at most `most` bytes.
    pub(super) fn expect(&self, most: usize, from: usize, tag: Tag) -> Result<Arrival, Failure> {
        let mut room = Buffer::room(most);
        let message = self.receive(&mut room, 0..most, from, tag)?;
        Ok(Arrival { room, message })
    }

    /// A rank whose message with this tag has arrived and waits to be received.
    pub(super) fn probe(&self, tag: Tag) -> Option<usize> {
        let status = self.world.any_process().immediate_probe_with_tag(tag as i32)?;
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

/// A message on its way. Dropped early, it keeps its memory allocated for ever.
pub(super) struct Message {
    request: Request,
    /// `None` once complete.
    loan: Option<Loan>,
    /// The bytes that it may have.
    bytes: usize,
    /// The bytes that came; `None` for a message on its way out.
    received: Option<usize>,
    /// Why it will never be complete.
    failed: Option<Failure>,
    /// The rank at the other end.
    pub(super) peer: usize,
}

impl Message {
    /// Whether MPI needs the memory no longer: what was to come has come. One that has failed stays so: MPI may have let go of its
    /// request, and calls a request that does not exist complete.
    pub(super) fn poll(&mut self) -> Result<bool, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let Some(loan) = self.loan.take() else { return Ok(true) };
        match self.request.test() {
            Ok(Some(bytes)) => {
                loan.end();
                self.received = self.received.map(|_| bytes);
                Ok(true)
            }
            unfinished => {
                self.loan = Some(loan);
                self.failed = unfinished.as_ref().err().cloned();
                unfinished.map(|_| false)
            }
        }
    }

    /// Whether the last poll found it complete.
    pub(super) fn is_done(&self) -> bool {
        self.loan.is_none()
    }

    /// The bytes that came and those that should have, where they differ.
    pub(super) fn is_short(&self) -> Option<(usize, usize)> {
        self.received.filter(|&received| received != self.bytes).map(|received| (received, self.bytes))
    }
}

/// A message of unknown length on its way in.
pub(super) struct Arrival {
    room: Buffer<u8>,
    pub(super) message: Message,
}

impl Arrival {
    /// What came; `None` before it is complete.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        let length = self.message.received.filter(|_| self.message.is_done())?;
        self.room.read(0..length)
    }
}

fn byte() -> ffi::MPI_Datatype {
    u8::equivalent_datatype().as_raw()
}

fn count(call: &'static str, loan: &Loan) -> Result<c_int, Failure> {
    let message = || format!("a message of {} bytes, expected less than 2^31", loan.bytes);
    c_int::try_from(loan.bytes).map_err(|_| Failure { call, message: message() })
}

fn rank_number(call: &'static str, rank: usize) -> Result<c_int, Failure> {
    c_int::try_from(rank).map_err(|_| Failure { call, message: format!("rank {rank} is no MPI rank") })
}

/// A part of a buffer was asked for that is not there, or that another message uses.
fn in_use(call: &'static str) -> Failure {
    Failure { call, message: "that part of the buffer is in use".to_owned() }
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
