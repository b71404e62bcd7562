//! Memory that MPI reads and writes between calls.
//!
//! A buffer lends parts of itself to messages. It knows what is lent, so that nobody reads where MPI writes and nobody writes where MPI
//! reads; and a message that is given up before it is complete keeps the memory allocated for ever, because MPI may still use it.
#![expect(unsafe_code, reason = "MPI keeps pointers to buffers between calls")]

use std::{
    cell::RefCell,
    mem::{self, ManuallyDrop},
    ops::Range,
    ptr::NonNull,
    rc::Rc,
    slice,
};

use bytemuck::Pod;

/// A buffer of plain data, parts of which may be lent.
pub(super) struct Buffer<E: Pod>(Rc<Memory<E>>);

/// The memory of a `Vec`, given back to one when it is dropped.
struct Memory<E> {
    start: NonNull<E>,
    length: usize,
    capacity: usize,
    lent: RefCell<Vec<Lent>>,
}

/// Elements that MPI uses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lent {
    range: Range<usize>,
    writes: bool,
}

impl<E: Pod> Buffer<E> {
    pub(super) fn new(data: Vec<E>) -> Self {
        let mut data = ManuallyDrop::new(data);
        let (length, capacity) = (data.len(), data.capacity());
        // A vector's pointer is never null; the other arm is for the type.
        let start = NonNull::new(data.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Buffer(Rc::new(Memory { start, length, capacity, lent: RefCell::default() }))
    }

    /// Room for `length` elements.
    pub(super) fn room(length: usize) -> Self {
        Buffer::new(vec![E::zeroed(); length])
    }

    pub(super) fn len(&self) -> usize {
        self.0.length
    }

    /// The elements in `range`; `None` where it is not within the buffer, and where MPI writes.
    pub(super) fn read(&self, range: Range<usize>) -> Option<&[E]> {
        self.0.is_free(&range, |lent| lent.writes).then(|| {
            // SAFETY: the range lies within initialised memory that lives as long as `self`. Nobody writes there: MPI does not, and this
            // program would need `&mut self` to write or to lend for writing.
            unsafe { slice::from_raw_parts(self.0.start.as_ptr().add(range.start), range.len()) }
        })
    }

    /// The same to be changed; `None` where MPI reads or writes, too.
    pub(super) fn write(&mut self, range: Range<usize>) -> Option<&mut [E]> {
        self.0.is_free(&range, |_| true).then(|| {
            // SAFETY: as in `read`, and `&mut self` excludes any other slice; MPI does not use the range.
            unsafe { slice::from_raw_parts_mut(self.0.start.as_ptr().add(range.start), range.len()) }
        })
    }

    /// Lends `range` to a message that leaves from there.
    pub(super) fn lend(&self, range: Range<usize>) -> Option<Loan> {
        self.0.is_free(&range, |lent| lent.writes).then(|| self.loan(Lent { range, writes: false }))
    }

    /// Lends `range` to a message that arrives there.
    pub(super) fn lend_to_write(&mut self, range: Range<usize>) -> Option<Loan> {
        self.0.is_free(&range, |_| true).then(|| self.loan(Lent { range, writes: true }))
    }

    fn loan(&self, lent: Lent) -> Loan {
        self.0.lent.borrow_mut().push(lent.clone());
        let bytes = lent.range.len() * size_of::<E>();
        // `is_free` has checked that the range lies within the memory, so this stays inside it.
        let start = self.0.start.as_ptr().wrapping_add(lent.range.start).cast();
        Loan { start, bytes, lent, keeper: Some(self.0.clone()) }
    }

    /// The data; `None` while a part of it is lent.
    pub(super) fn into_vec(self) -> Option<Vec<E>> {
        let memory = ManuallyDrop::new(Rc::into_inner(self.0)?);
        // SAFETY: the three came from a vector, and `memory` does not free them.
        Some(unsafe { Vec::from_raw_parts(memory.start.as_ptr(), memory.length, memory.capacity) })
    }
}

impl<E> Memory<E> {
    /// Whether `range` is within the memory and overlaps nothing lent that `matters`.
    fn is_free(&self, range: &Range<usize>, matters: impl Fn(&Lent) -> bool) -> bool {
        let overlaps = |lent: &Lent| lent.range.start < range.end && range.start < lent.range.end;
        let within = range.start <= range.end && range.end <= self.length;
        within && (range.is_empty() || !self.lent.borrow().iter().any(|lent| matters(lent) && overlaps(lent)))
    }
}

impl<E> Drop for Memory<E> {
    fn drop(&mut self) {
        // SAFETY: the three came from a vector of plain data, and nothing else frees them (`into_vec` does not come here).
        drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), self.length, self.capacity) });
    }
}

/// Where a loan is given back.
trait Keeper {
    fn give_back(&self, lent: &Lent);
}

impl<E> Keeper for Memory<E> {
    fn give_back(&self, lent: &Lent) {
        let mut all = self.lent.borrow_mut();
        if let Some(at) = all.iter().position(|other| other == lent) {
            all.swap_remove(at);
        }
    }
}

/// A part of a buffer in the hands of MPI. Dropped before [`Loan::end`], it keeps the memory allocated for ever.
pub(super) struct Loan {
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
    lent: Lent,
    /// `None` once it has ended.
    keeper: Option<Rc<dyn Keeper>>,
}

impl Loan {
    /// MPI does not use it any more.
    pub(super) fn end(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.give_back(&self.lent);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // The reference stays counted, so the memory stays allocated.
        mem::forget(self.keeper.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mpi_uses_is_not_touched() {
        let mut buffer = Buffer::new((0..10_u32).collect());
        assert_eq!(buffer.len(), 10);
        let out = buffer.lend(2..4).unwrap();
        assert_eq!((out.bytes, buffer.read(1..3)), (8, Some(&[1, 2][..])));
        assert!(buffer.write(3..5).is_none() && buffer.lend_to_write(0..3).is_none());
        let again = buffer.lend(2..4).unwrap();
        let coming = buffer.lend_to_write(4..6).unwrap();
        assert!(buffer.read(5..7).is_none() && buffer.lend(5..6).is_none() && buffer.write(0..2).is_some());
        out.end();
        assert!(buffer.write(2..4).is_none());
        again.end();
        coming.end();
        buffer.write(2..6).unwrap().fill(7);
        assert_eq!(buffer.into_vec().unwrap(), [0, 1, 7, 7, 7, 7, 6, 7, 8, 9]);
    }

    #[test]
    fn ranges_outside_and_empty_buffers_are_harmless() {
        let buffer = Buffer::new(vec![1_u8; 3]);
        assert!(buffer.read(2..4).is_none() && buffer.lend(4..4).is_none());
        let mut empty = Buffer::<f64>::room(0);
        assert_eq!(empty.write(0..0), Some(&mut [][..]));
        let loan = empty.lend(0..0).unwrap();
        assert_eq!(loan.bytes, 0);
        loan.end();
        assert!(empty.into_vec().unwrap().is_empty());
    }

    #[test]
    fn memory_stays_allocated_while_a_message_may_use_it() {
        let buffer = Buffer::new(vec![5_u8; 100]);
        let loan = buffer.lend(0..100).unwrap();
        drop(buffer);
        // SAFETY: the loan keeps the memory.
        assert_eq!(unsafe { *loan.start }, 5);
        loan.end();
        let buffer = Buffer::new(vec![6_u8; 100]);
        let loan = buffer.lend(0..100).unwrap();
        let start = loan.start;
        drop(loan);
        assert!(buffer.into_vec().is_none());
        // SAFETY: given up before it ended, so the memory is never freed.
        assert_eq!(unsafe { *start }, 6);
    }
}
