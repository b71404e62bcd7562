//! Collectives on tensors, wherever they lie: [`Host`] moves their memory through a communicator's buffers, [`OnDevice`] leaves it on the
//! device and has NCCL move it, and a rank alone ([`Alone`]) hands them back.

mod alone;
mod device;
mod host;
#[cfg(test)]
mod twin;

use std::cell::RefCell;
use std::sync::Arc;

use sirocco_comm::Communicator;
use tch::{Kind, Tensor};

use crate::ParallelError;
use crate::layout;
use alone::Alone;
pub use device::{OnDevice, region};
pub(crate) use host::Host;

/// A result that is under way.
#[must_use = "a collective's result, or its error, is only seen by waiting for it"]
pub(crate) struct Coming<T>(Box<dyn FnOnce() -> Result<T, ParallelError>>);

impl<T> Coming<T> {
    pub(crate) fn new(finish: impl FnOnce() -> Result<T, ParallelError> + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// Waits for it.
    ///
    /// # Errors
    /// What ended the collective.
    pub(crate) fn wait(self) -> Result<T, ParallelError> {
        (self.0)()
    }
}

/// Shape and element type of a tensor that is to come.
pub(crate) type Form<'a> = (&'a [i64], Kind);

/// A group of ranks as the axes of a mesh use it. "Pieces" of a flat tensor are those of [`layout::piece`].
pub(crate) trait TensorGroup: Send + Sync {
    /// This rank's place in the group.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// The first error that the group has met and that no caller may have seen: a collective on a device can fail after it was waited for.
    /// On the host every error is returned by the collective that met it.
    ///
    /// # Errors
    /// That error.
    fn health(&self) -> Result<(), ParallelError>;

    /// Several flat tensors of `wholes` elements each, from every rank's `own` pieces of them, in one message.
    fn gather(&self, name: &'static str, own: &[Tensor], wholes: &[usize]) -> Coming<Vec<Tensor>>;

    /// This rank's pieces of the sums of several flat fp32 tensors, in one message.
    fn scatter(&self, name: &'static str, wholes: &[Tensor]) -> Coming<Vec<Tensor>>;

    /// The sums of several flat fp32 tensors, in one message.
    fn sum(&self, name: &'static str, tensors: &[Tensor]) -> Coming<Vec<Tensor>>;

    /// `[t, D]` of each rank, in the shares of [`rows_of`] → `[T, D]`.
    ///
    /// # Errors
    /// What ended the collective.
    fn gather_rows(&self, name: &'static str, own: &Tensor, tokens: usize) -> Result<Tensor, ParallelError>;

    /// Partial sums `[T, D]` → this rank's rows `[t, D]` of their sum.
    ///
    /// # Errors
    /// What ended the collective.
    fn sum_rows(&self, name: &'static str, partial: &Tensor) -> Result<Tensor, ParallelError>;

    /// Every rank's fp32 tensor, all of one shape, by rank.
    ///
    /// # Errors
    /// What ended the collective.
    fn gather_tensors(&self, name: &'static str, own: &Tensor) -> Result<Vec<Tensor>, ParallelError>;
}

/// How many of `tokens` rows the place `index` of `count` holds.
pub(crate) fn rows_of(tokens: usize, index: usize, count: usize) -> usize {
    let bound = |index: usize| tokens * index / count;
    bound(index + 1) - bound(index)
}

/// Makes groups of ranks, on the host or on a device.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'a> {
    pub(crate) world: &'a dyn Communicator,
    pub(crate) device: Option<&'a OnDevice>,
    /// The groups that were made, for those who ask for the health of all.
    pub(crate) made: &'a RefCell<Vec<Arc<dyn TensorGroup>>>,
}

impl Maker<'_> {
    /// The group of these ranks of the job; all of them make it, in the same order as their other groups.
    ///
    /// # Errors
    /// Members that are no group; what went wrong between devices.
    pub(crate) fn of(&self, name: &'static str, members: &[usize]) -> Result<Arc<dyn TensorGroup>, ParallelError> {
        let group = self.world.group(name, members)?;
        let made: Arc<dyn TensorGroup> = match (members, self.device) {
            ([_], _) => Arc::new(Alone),
            (_, None) => Arc::new(Host::new(group)),
            (_, Some(device)) => Arc::new(device.join(name, group.as_ref())?),
        };
        self.made.borrow_mut().push(Arc::clone(&made));
        Ok(made)
    }

    /// The same group for messages between its ranks, which go through the host wherever tensors lie: a message between devices waits for
    /// its receiver, and a pipeline's schedule needs messages that do not.
    ///
    /// # Errors
    /// Members that are no group.
    pub(crate) fn of_messages(&self, name: &'static str, members: &[usize]) -> Result<Host, ParallelError> {
        Ok(Host::new(self.world.group(name, members)?))
    }
}

/// Flat views of consecutive parts of a flat tensor.
fn split(flat: &Tensor, lengths: impl IntoIterator<Item = usize>) -> Vec<Tensor> {
    let mut at = 0;
    let part = |length: usize| {
        let part = flat.narrow(0, at, length as i64);
        at += length as i64;
        part
    };
    lengths.into_iter().map(part).collect()
}

/// Elements of the piece of the place `index`.
fn piece_length(whole: usize, index: usize, count: usize) -> usize {
    layout::piece(whole, index, count).len()
}
