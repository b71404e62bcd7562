//! The roll call that every collective begins with: do all ranks enter the same one?
//!
//! The first rank of the group presides: every other one sends it a header; it compares them and answers with a verdict. Small
//! payloads ride on the two messages, so a small collective is one round trip. The presiding rank knows who has not come yet and,
//! after a while, says so to those who have, so that a timeout can name the missing rank wherever it strikes.

use std::time::{Duration, Instant};

use half::bf16;

use super::{
    Tag, Wire,
    buffer::Buffer,
    call::{Call, Trouble},
    fitting::fitting,
    message::{HEADER_MAX, Header, INLINE_RESULT_MAX, Verdict, verdict_max},
    patience::{Flights, Found},
    raw::{Arrival, Failure, Message, World},
    sum::{Element, add_up},
};
use crate::{CommError, Operation, membership::Membership};

/// How long the presiding rank waits before it tells those who came who has not, and between two such notes.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How long it tries to deliver bad news.
const BAD_NEWS: Duration = Duration::from_millis(500);

/// What the roll call led to.
pub(super) enum Roll {
    /// All ranks are here; for a gather or broadcast, the bytes of each rank's payload.
    Proceed(Vec<usize>),
    /// The result itself; for a gather, to be cut by the lengths.
    Result(Vec<usize>, Vec<u8>),
}

impl Wire {
    /// Enters `call`, with the whole payload where it is small.
    pub(super) fn roll_call(&self, call: &Call, payload: Option<Vec<u8>>) -> Result<Roll, Trouble> {
        let header = Header { entry: call.entry(), payload };
        let verdict = if call.group.rank == 0 { self.preside(call, header)? } else { self.attend(call, &header)? };
        self.shared.record.together(call.event);
        let sizes = |lengths: Vec<u64>| lengths.into_iter().map(|length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
        match verdict {
            Verdict::Proceed { lengths } => Ok(Roll::Proceed(sizes(lengths))),
            Verdict::Result { lengths, bytes } => Ok(Roll::Result(sizes(lengths), bytes)),
            Verdict::Failed { error } => Err(Trouble::told(
                serde_json::from_slice(&error)
                    .unwrap_or_else(|_| call.garbled(call.group.first(), "a verdict that cannot be read", "an error")),
            )),
            Verdict::Waiting { .. } => Err(Trouble::own(call.garbled(call.group.first(), "a note", "a verdict"))),
        }
    }

    /// The first rank: hears everybody, decides, answers everybody.
    fn preside(&self, call: &Call, own: Header) -> Result<Verdict, Trouble> {
        let mut hearing = Hearing::open(self, call, own)?;
        let heard = self.wait(call, &mut hearing);
        self.see_off(hearing.notes.drain(..));
        let outcome = heard.and_then(|()| match hearing.objection.take() {
            Some(error) => Err(Trouble::own(error)),
            None => hearing.decide(call),
        });
        let verdict = match &outcome {
            Ok(verdict) => verdict.encode(),
            Err(trouble) => Verdict::Failed { error: fitting(&trouble.error, INLINE_RESULT_MAX) }.encode(),
        };
        let verdict = Buffer::new(verdict);
        let send = |peer| self.send_part(call, &verdict, 0..verdict.len(), (peer, Tag::Verdict));
        match outcome {
            Ok(verdict) => {
                let mut sends = call.group.others().map(send).collect::<Result<Vec<_>, _>>()?;
                self.wait(call, &mut sends)?;
                Ok(verdict)
            }
            Err(trouble) => {
                let mut sends: Vec<Message> = call.group.others().filter_map(|peer| send(peer).ok()).collect();
                self.within(BAD_NEWS, &mut sends);
                // Not "told" by this: a rank that is still busy with the collective before does not listen for a verdict yet.
                Err(trouble)
            }
        }
    }

    /// The other ranks: send the header, wait for the verdict.
    fn attend(&self, call: &Call, header: &Header) -> Result<Verdict, Trouble> {
        let failed = |failure| call.failed(failure);
        let mut attendance = Attendance {
            sending: self.world.send_bytes(header.encode(), call.group.first(), Tag::Header).map_err(failed)?,
            receiving: Some(receive_verdict(&self.world, &call.group).map_err(failed)?),
            verdict: None,
            group: &call.group,
            missing: vec![call.group.first()],
        };
        self.wait(call, &mut attendance)?;
        match attendance.verdict {
            Some(Some(verdict)) => Ok(verdict),
            _ => Err(Trouble::own(call.garbled(call.group.first(), "a message that cannot be read", "a verdict"))),
        }
    }
}

/// The presiding rank's side of a roll call.
struct Hearing<'a> {
    call: &'a Call,
    receiving: Vec<Arrival>,
    /// By rank in the group; this rank's own is there from the start.
    headers: Vec<Option<Header>>,
    /// The first thing found wrong.
    objection: Option<CommError>,
    note_every: Duration,
    noted: (Instant, Vec<usize>),
    notes: Vec<Message>,
}

impl<'a> Hearing<'a> {
    fn open(wire: &Wire, call: &'a Call, own: Header) -> Result<Self, Trouble> {
        let receive = |peer: usize| {
            wire.world.expect(HEADER_MAX, call.group.members[peer], Tag::Header).map_err(|failure| call.failed(failure))
        };
        let receiving = call.group.others().map(receive).collect::<Result<_, _>>()?;
        let mut headers: Vec<Option<Header>> = call.group.members.iter().map(|_| None).collect();
        headers[0] = Some(own);
        let note_every = NOTE_EVERY.min(wire.timeout / 4);
        let noted = (call.started, Vec::new());
        Ok(Hearing { call, receiving, headers, objection: None, note_every, noted, notes: Vec::new() })
    }

    /// Takes a header in and compares it with this rank's own.
    fn hear(&mut self, arrival: &Arrival) {
        let rank = arrival.message.peer;
        let header = arrival.bytes().and_then(|bytes| Header::decode(rank, bytes));
        let Some(header) = header else {
            self.objection.get_or_insert(self.call.garbled(rank, "a message that cannot be read", "a header"));
            return;
        };
        if let Some(error) = self.call.compare(&header.entry) {
            self.objection.get_or_insert(error);
        }
        if let Some(place) = self.call.group.position(rank) {
            self.headers[place] = Some(header);
        }
    }

    /// Tells the ranks that are here which ones are not, when that has changed.
    fn note(&mut self, world: &World) -> Result<(), Failure> {
        let missing = self.missing();
        if self.noted.0.elapsed() < self.note_every || missing == self.noted.1 {
            return Ok(());
        }
        let note = Buffer::new(Verdict::Waiting { missing: missing.iter().map(|&rank| rank as u64).collect() }.encode());
        for peer in self.call.group.members.iter().copied().skip(1).filter(|peer| !missing.contains(peer)) {
            self.notes.push(world.send(&note, 0..note.len(), peer, Tag::Verdict)?);
        }
        self.noted = (Instant::now(), missing);
        Ok(())
    }

    /// What follows now that all ranks have entered the same collective.
    fn decide(&mut self, call: &Call) -> Result<Verdict, Trouble> {
        let headers: Vec<Header> = self.headers.drain(..).flatten().collect();
        let lengths: Vec<u64> = headers.iter().map(|header| header.entry.elements).collect();
        let inline: Option<Vec<&[u8]>> = headers.iter().map(|header| header.payload.as_deref()).collect();
        let result = |bytes| Ok(Verdict::Result { lengths: lengths.clone(), bytes });
        match (call.operation, inline) {
            (Operation::Barrier | Operation::Leave, _) => Ok(Verdict::Result { lengths: Vec::new(), bytes: Vec::new() }),
            (Operation::AllReduceF32 | Operation::ReduceScatterF32, Some(parts)) => result(self.total::<f32>(&parts)?),
            (Operation::AllReduceF64, Some(parts)) => result(self.total::<f64>(&parts)?),
            (Operation::ReduceScatterBf16, Some(parts)) => result(self.total::<bf16>(&parts)?),
            (Operation::AllGather, Some(parts)) if parts.iter().map(|part| part.len()).sum::<usize>() <= INLINE_RESULT_MAX => {
                result(parts.concat())
            }
            (Operation::Broadcast, _) if headers[call.root].payload.is_some() => {
                result(headers[call.root].payload.clone().unwrap_or_default())
            }
            _ => Ok(Verdict::Proceed { lengths }),
        }
    }

    /// The sum of small payloads, in rank order, as bytes.
    fn total<E: Element>(&self, parts: &[&[u8]]) -> Result<Vec<u8>, Trouble> {
        let mut given: Vec<Vec<E>> = Vec::with_capacity(parts.len());
        for (part, &rank) in parts.iter().zip(&self.call.group.members) {
            if part.len() != parts[0].len() || part.len() % size_of::<E>() != 0 {
                let (found, expected) = (format!("{} bytes", part.len()), format!("{} bytes", parts[0].len()));
                return Err(Trouble::own(self.call.garbled(rank, &found, &expected)));
            }
            given.push(bytemuck::pod_collect_to_vec(part));
        }
        // The presiding rank's own is the first.
        let (mut total, others) = (given.remove(0), given);
        add_up(&mut total, 0, &others.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Ok(bytemuck::cast_slice(&total).to_vec())
    }
}

impl Flights for Hearing<'_> {
    fn poll(&mut self, world: &World) -> Result<Found, Failure> {
        let (mut at, mut moved) = (0, false);
        while at < self.receiving.len() {
            if self.receiving[at].message.poll()? {
                let arrival = self.receiving.swap_remove(at);
                self.hear(&arrival);
                moved = true;
            } else {
                at += 1;
            }
        }
        if self.receiving.is_empty() || self.objection.is_some() {
            return Ok(Found::Done);
        }
        if self.noted.0.elapsed() >= self.note_every {
            self.note(world)?;
            self.noted.0 = Instant::now();
        }
        for note in &mut self.notes {
            note.poll()?;
        }
        self.notes.retain(|note| !note.is_done());
        Ok(if moved { Found::Moved } else { Found::Still })
    }

    fn missing(&self) -> Vec<usize> {
        self.call.group.members.iter().zip(&self.headers).filter(|(_, header)| header.is_none()).map(|(&rank, _)| rank).collect()
    }
}

/// Another rank's side of a roll call.
struct Attendance<'a> {
    sending: Message,
    receiving: Option<Arrival>,
    /// What came, once it came; `Some(None)` if it cannot be read.
    verdict: Option<Option<Verdict>>,
    group: &'a Membership,
    /// Who is waited for, as far as known: the presiding rank until it says otherwise.
    missing: Vec<usize>,
}

impl Flights for Attendance<'_> {
    fn poll(&mut self, world: &World) -> Result<Found, Failure> {
        let sent = self.sending.poll()?;
        let arrived = match &mut self.receiving {
            Some(arrival) => arrival.message.poll()?,
            None => false,
        };
        if arrived && let Some(arrival) = self.receiving.take() {
            match arrival.bytes().and_then(Verdict::decode) {
                Some(Verdict::Waiting { missing }) => {
                    self.missing = missing.into_iter().map(|rank| usize::try_from(rank).unwrap_or(usize::MAX)).collect();
                    self.receiving = Some(receive_verdict(world, self.group)?);
                }
                verdict => self.verdict = Some(verdict),
            }
        }
        Ok(if sent && self.verdict.is_some() { Found::Done } else { Found::Still })
    }

    fn missing(&self) -> Vec<usize> {
        self.missing.clone()
    }
}

fn receive_verdict(world: &World, group: &Membership) -> Result<Arrival, Failure> {
    // As large as any group's: a rank that means another group is answered, too.
    world.expect(verdict_max(world.size), group.first(), Tag::Verdict)
}
