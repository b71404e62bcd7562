//! Collectives between CUDA devices through NCCL, on device memory where it lies. Neither NCCL nor the CUDA driver is loaded before
//! [`Device::open`] and [`DeviceGroup::join`] ask for them.
//!
//! **This module has not been run on a GPU yet**; what does not need one (argument checks, the meeting of the ranks, the watch) is tested.
//!
//! # What callers can rely on
//! - **Order.** As on the host: all ranks of a group call the same collectives in the same order. Groups on one [`Device`] share its
//!   stream, so their collectives run in the order submitted, and a consistent order over all ranks cannot deadlock.
//! - **No host synchronisation.** A call orders the device's streams with events and returns; [`InFlight::wait`] lets libtorch's stream
//!   wait, not the host.
//! - **Memory.** The handle owns what it is given to keep until libtorch is ordered after the collective, also when it is dropped.
//!   Addresses are checked against the driver's tables before they are used.
//! - **Failure.** A thread watches what is under way: an asynchronous error, a dead rank of this host, a collective of the host that has
//!   failed or an exhausted timeout aborts the group's communicator, so that nothing hangs; every later call returns that first error. A
//!   group that is dropped with work under way aborts after a few seconds.
//! - **Time-outs** name who hangs where a rank of the group has not entered the collective: the ranks are asked over the host, as for the
//!   host's own ([`Standing`](crate::Standing)). Where all have entered it, the error says so: NCCL does not tell which one does not get on.
//! - **Traces and totals.** Collectives between devices stand in the record of the job beside the host's: see
//!   [`Communicator::history`] and [`Communicator::traffic`].
//! - **Sums.** NCCL adds in an order of its own, the same in every run on the same machines with the same NCCL. It differs from the
//!   host's rank order, so results agree with the host's to rounding only. Sums of f32 are fp32; sums of bf16 are rounded at every hop.
//!
//! A send here waits on the device until its receive has been posted (a host send is buffered): opposite messages between two ranks
//! belong into one [`DeviceGroup::exchange`].

mod api;
mod bounds;
mod device;
mod flight;
mod handle;
mod line;
mod meeting;
mod region;
mod watch;

use std::{
    ffi::c_int,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use self::{
    api::Api,
    flight::Events,
    handle::{Handle, Seat},
    line::{Shared, collective},
    meeting::Card,
    region::Checked,
    watch::{Lifeline, Watch},
};
use crate::{Collective, CommError, Communicator, Options, entry::Operation, membership::WORLD, record::Asked};
pub use device::Device;
pub use flight::InFlight;
pub use meeting::is_of_joining;
pub use region::{Element, Region};

/// A call into NCCL or the driver that did not succeed, with the library's own text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    #[serde(skip_deserializing)]
    call: &'static str,
    message: String,
    /// How long other ranks were waited for in vain, where that is what is wrong.
    #[serde(skip)]
    waited: Option<Duration>,
}

impl Failure {
    fn new(call: &'static str, message: String) -> Self {
        Failure { call, message, waited: None }
    }

    fn in_collective(self, collective: Collective) -> CommError {
        CommError::Nccl { call: self.call.to_owned(), message: self.message, collective }
    }
}

/// The NCCL that this process finds, as `2.27.3`. It stays loaded.
///
/// # Errors
/// [`CommError::Nccl`] where there is none.
pub fn version() -> Result<String, CommError> {
    let found = Api::get().and_then(Api::version).map_err(|failure| {
        let (name, group) = ("version of NCCL".to_owned(), WORLD.to_owned());
        failure.in_collective(Collective { name, group, sequence: 0, message: None })
    })?;
    Ok(written(found))
}

/// 22703 is 2.27.3.
fn written(version: i32) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// The ranks of a host group, each with a device.
pub struct DeviceGroup {
    name: &'static str,
    seat: Seat,
    device: Arc<Device>,
    members: Arc<Members>,
    shared: Arc<Shared>,
    /// The number of the next collective; held while one is submitted, so that two threads cannot mix theirs.
    next: Mutex<u64>,
    /// Ends before `members`, whose communicator says goodbye when nothing is under way any more.
    watch: Option<Watch>,
}

/// The NCCL communicator.
struct Members {
    handle: Handle,
    device: Arc<Device>,
}

impl Lifeline for Members {
    fn prepare(&self) -> Result<(), Failure> {
        self.device.bind()
    }

    fn trouble(&self) -> Result<(), Failure> {
        self.handle.busy("NCCL").map(|_| ())
    }

    fn abort(&self) {
        self.handle.abort();
    }
}

/// What one collective is called and moves.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    operation: Operation,
    /// Bytes of the result, as the host's traffic counts them.
    bytes: usize,
}

impl DeviceGroup {
    /// Makes a group of the ranks of `host`; all of them call this, each with its own device. `host` is used to agree and to learn of
    /// dead ranks and of those that hang; no payload goes through it. `name` is the group's in errors, and in the traffic and the history
    /// of `host`, where its collectives stand beside those of the host: "entered" is when the device came to one.
    ///
    /// # Errors
    /// The same on every rank where it can be known before NCCL is asked: a rank without NCCL, two ranks with one device, different
    /// versions. Otherwise what NCCL reports, or that not all ranks came within the timeout.
    pub fn join(name: &'static str, host: &dyn Communicator, device: Arc<Device>, options: Options) -> Result<Self, CommError> {
        let joining = |failure: Failure| {
            let (name, group) = (meeting::JOIN.to_owned(), name.to_owned());
            failure.in_collective(Collective { name, group, sequence: 0, message: None })
        };
        let seat = Seat { rank: host.rank(), size: host.size() };
        let library = Api::get();
        // Whatever may fail on one rank alone comes before the exchange: all hear of it there, and none waits for that rank in NCCL.
        let own = library.as_ref().map_err(Clone::clone).and_then(|api| Card::new(&device, api, seat));
        let cards = meeting::exchange(host, "nccl/cards", &own.unwrap_or_else(Card::without))?;
        meeting::compare(&cards).map_err(joining)?;
        let (api, id) = (library.map_err(joining)?, &cards[0].id);
        // Less than the host's patience: a rank that fails early waits for the others in the next exchange.
        let joined = Handle::join(api, id, seat, options.timeout.mul_f64(0.8));
        let problem: Option<Failure> = joined.as_ref().err().cloned();
        let problems = meeting::exchange(host, "nccl/joined", &problem)?;
        let handle = joined.map_err(joining)?.with_patience(options.timeout);
        if let Some((rank, failure)) = problems.into_iter().enumerate().find_map(|(rank, problem)| Some((rank, problem?))) {
            return Err(joining(Failure::new("joining", format!("rank {rank}: {}", failure.message))));
        }

        let others = host.members().iter().enumerate().filter(|(rank, _)| *rank != seat.rank).map(|(_, member)| *member);
        let shared = Arc::new(Shared::new(name, others.collect(), host.job().0));
        let members = Arc::new(Members { handle, device: device.clone() });
        let watch = Watch::start(shared.clone(), members.clone(), options.timeout).map_err(joining)?;
        Ok(DeviceGroup { name, seat, device, members, shared, next: Mutex::new(0), watch: Some(watch) })
    }

    /// This rank, from 0, in the group.
    pub fn rank(&self) -> usize {
        self.seat.rank
    }

    /// How many ranks the group has.
    pub fn size(&self) -> usize {
        self.seat.size
    }

    /// The element-wise sum over the ranks of f32 `data`, in place; the same length on all of them. `keep` owns the memory.
    ///
    /// # Errors
    /// A region that is not this device's memory or not f32; the group's first error.
    pub fn all_reduce<K>(&self, name: &'static str, data: Region, keep: K) -> Result<InFlight<K>, CommError> {
        let call = Call { name, operation: Operation::AllReduceF32, bytes: data.bytes() };
        self.submit(call, keep, |group| {
            region::summable(data, &[Element::F32])?;
            let data = group.device.check(data)?;
            group.members.handle.all_reduce(data, group.device.stream())
        })
    }

    /// For each pair `(from, to)`: the element-wise sum over the ranks of `from`, of which rank r receives the r-th of
    /// [`DeviceGroup::size`] equal parts in `to`. `to` may be that part of `from`. All pairs are one operation.
    ///
    /// # Errors
    /// As [`DeviceGroup::all_reduce`]; lengths that do not fit.
    pub fn reduce_scatter<K>(&self, name: &'static str, pairs: &[(Region, Region)], keep: K) -> Result<InFlight<K>, CommError> {
        let bf16 = pairs.iter().any(|(from, _)| from.element == Element::Bf16);
        let operation = if bf16 { Operation::ReduceScatterBf16 } else { Operation::ReduceScatterF32 };
        let bytes = pairs.iter().map(|(from, _)| from.bytes()).sum();
        self.submit(Call { name, operation, bytes }, keep, |group| {
            let check = |&(from, to): &(Region, Region)| {
                region::summable(from, &[Element::F32, Element::Bf16])?;
                region::divides(to, from, group.seat.size)?;
                region::in_place(to, from, group.seat.rank)?;
                Ok((group.device.check(from)?, group.device.check(to)?))
            };
            let pairs = pairs.iter().map(check).collect::<Result<Vec<_>, Failure>>()?;
            group.members.handle.reduce_scatter(&pairs, group.device.stream())
        })
    }

    /// For each pair `(from, to)`: every rank's `from`, in rank order, in `to`. `from` may be this rank's part of `to`. All pairs are one
    /// operation.
    ///
    /// # Errors
    /// A region that is not this device's memory; lengths that do not fit; the group's first error.
    pub fn all_gather<K>(&self, name: &'static str, pairs: &[(Region, Region)], keep: K) -> Result<InFlight<K>, CommError> {
        let bytes = pairs.iter().map(|(_, to)| to.bytes()).sum();
        self.submit(Call { name, operation: Operation::AllGather, bytes }, keep, |group| {
            let check = |&(from, to): &(Region, Region)| {
                region::divides(from, to, group.seat.size)?;
                region::in_place(from, to, group.seat.rank)?;
                Ok((group.device.check(from)?, group.device.check(to)?))
            };
            let pairs = pairs.iter().map(check).collect::<Result<Vec<_>, Failure>>()?;
            group.members.handle.all_gather(&pairs, group.device.stream())
        })
    }

    /// Messages to (`sends`) and from (`receives`) ranks of the group, all under way at once: every message is one rank's send and
    /// another's receive of the same length, in an exchange of each.
    ///
    /// # Errors
    /// As [`DeviceGroup::all_gather`]; a rank that the group does not have.
    pub fn exchange<K>(
        &self,
        name: &'static str,
        sends: &[(usize, Region)],
        receives: &[(usize, Region)],
        keep: K,
    ) -> Result<InFlight<K>, CommError> {
        let bytes = sends.iter().chain(receives).map(|(_, region)| region.bytes()).sum();
        let operation = if sends.is_empty() { Operation::Receive } else { Operation::Send };
        self.submit(Call { name, operation, bytes }, keep, |group| {
            let (sends, receives) = (group.checked(sends)?, group.checked(receives)?);
            group.members.handle.exchange(&sends, &receives, group.device.stream())
        })
    }

    fn checked(&self, messages: &[(usize, Region)]) -> Result<Vec<(c_int, Checked)>, Failure> {
        let check = |&(peer, part): &(usize, Region)| {
            let number = c_int::try_from(peer).ok().filter(|_| peer < self.seat.size);
            let number = number.ok_or_else(|| region::refused(format!("rank {peer} in a group of {}", self.seat.size)))?;
            Ok((number, self.device.check(part)?))
        };
        messages.iter().map(check).collect()
    }

    /// Runs `enqueue` between the two orders of the streams, and gives what is under way to the watch.
    fn submit<K>(
        &self,
        call: Call,
        keep: K,
        enqueue: impl FnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<InFlight<K>, CommError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.health()?;
        let (sequence, given) = (*next, Instant::now());
        *next += 1;
        let Call { name, operation, bytes } = call;
        let asked = Asked { group: self.name, name, operation, sequence, message: None, bytes: bytes as u64, device: true };
        let event = self.shared.begin(asked);
        let queued = self.device.begin().and_then(|start| {
            enqueue(self)?;
            Ok((start, Arc::new(self.device.mark()?)))
        });
        match queued {
            Ok((start, end)) => {
                let events = Events { start, end: end.clone(), given };
                self.shared.add(asked, event, Box::new(events));
                Ok(InFlight::new(collective(&asked), end, (self.device.clone(), self.shared.clone()), keep))
            }
            Err(failure) => {
                // The device may have begun with it, so its memory must stay for ever; and the ranks no longer agree on what comes next.
                std::mem::forget(keep);
                let error = self.shared.fail(self.shared.error(&asked, failure));
                self.shared.refuse(event);
                self.members.handle.abort();
                Err(error)
            }
        }
    }

    /// The group's first error, if it has met one. Nothing else reports an error of a collective that was waited for in good health.
    ///
    /// # Errors
    /// That error.
    pub fn health(&self) -> Result<(), CommError> {
        self.shared.health()?;
        // The watch looks every few milliseconds; what has ended since may have ended badly.
        self.members.trouble().map_err(|failure| {
            let error = self.shared.fail(failure.in_collective(self.shared.front()));
            self.members.abort();
            error
        })
    }
}

impl Drop for DeviceGroup {
    fn drop(&mut self) {
        // First the watch, which ends when nothing is under way; then, with `members`, the communicator.
        self.watch = None;
        let _ = self.device.bind();
    }
}
