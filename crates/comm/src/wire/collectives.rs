//! Each collective: the roll call, and the transfer where the payload did not ride on it.

use bytemuck::Pod;

use super::{
    Wire,
    call::{Call, Trouble},
    message::INLINE_MAX,
    reduce::Parts,
    roll_call::Roll,
    sum::Element,
};
use crate::CommError;

impl Wire {
    /// The sum over all ranks.
    pub(crate) fn all_reduce<E: Element>(&mut self, call: Call, data: Vec<E>) -> Result<Vec<E>, CommError> {
        self.enter(call, |wire, call| {
            let total = match wire.roll_call(call, inline(&data))? {
                Roll::Result(_, total) => bytemuck::pod_collect_to_vec(&total),
                Roll::Proceed(_) => wire.sum_for_all(call, data)?,
            };
            Ok((Some(size_of_val(total.as_slice())), total))
        })
    }

    /// This rank's part of the sum; the call has the lengths of the parts.
    pub(crate) fn reduce_scatter<E: Element>(&mut self, call: Call, data: Vec<E>) -> Result<Vec<E>, CommError> {
        self.enter(call, |wire, call| {
            let bytes = size_of_val(data.as_slice());
            let own = match wire.roll_call(call, inline(&data))? {
                Roll::Proceed(_) => wire.sum_of_part(call, data)?,
                Roll::Result(_, total) => {
                    let total: Vec<E> = bytemuck::pod_collect_to_vec(&total);
                    let short = || Trouble::own(call.garbled(call.group.first(), "a short result", "the sum of all parts"));
                    total.get(Parts::of::<E>(&call.lengths).whole(call.group.rank)).ok_or_else(short)?.to_vec()
                }
            };
            Ok((Some(bytes), own))
        })
    }

    /// Every rank's bytes.
    pub(crate) fn all_gather(&mut self, call: Call, data: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        self.enter(call, |wire, call| {
            let parts = match wire.roll_call(call, inline(&data))? {
                Roll::Proceed(lengths) => wire.gather(call, data, &lengths)?,
                Roll::Result(lengths, bytes) => {
                    let mut rest = bytes.as_slice();
                    let mut parts = Vec::with_capacity(lengths.len());
                    for length in lengths {
                        let short = || Trouble::own(call.garbled(call.group.first(), "a short result", "every rank's bytes"));
                        let (part, after) = rest.split_at_checked(length).ok_or_else(short)?;
                        parts.push(part.to_vec());
                        rest = after;
                    }
                    parts
                }
            };
            Ok((Some(parts.iter().map(Vec::len).sum()), parts))
        })
    }

    /// The bytes of the call's root; `data` is empty elsewhere.
    pub(crate) fn broadcast(&mut self, call: Call, data: Vec<u8>) -> Result<Vec<u8>, CommError> {
        self.enter(call, |wire, call| {
            let payload = if call.group.rank == call.root { inline(&data) } else { None };
            let bytes = match wire.roll_call(call, payload)? {
                Roll::Result(_, bytes) => bytes,
                Roll::Proceed(lengths) => wire.pass_on(call, data, lengths.get(call.root).copied().unwrap_or(0))?,
            };
            Ok((Some(bytes.len()), bytes))
        })
    }

    /// Waits for all ranks.
    pub(crate) fn barrier(&mut self, call: Call) -> Result<(), CommError> {
        self.enter(call, |wire, call| wire.roll_call(call, None).map(|_| (Some(0), ())))
    }
}

/// A payload that is small enough to ride on the roll call.
fn inline<E: Pod>(data: &[E]) -> Option<Vec<u8>> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    (bytes.len() <= INLINE_MAX).then(|| bytes.to_vec())
}
