//! A rank's piece of one weight: its values, and for a trained one the fp32 master copy and gradient.

use std::borrow::Cow;
use std::ops::Range;

use sirocco_model::memory::{floats, floats_mut};
use sirocco_model::weight::{FileTensor, from_file};
use sirocco_model::{Dtype, Origin, SeamError, Slice, Weight, lora};
use tch::{Device, Kind, Tensor};

use crate::ParallelError;
use crate::layout::Held;

/// Gives the elements `piece` (flat, row-major) of a slice of the base's tensor `name`, as they stand in a file.
pub type Source<'a> = &'a mut dyn FnMut(&str, &Slice, Range<usize>) -> Result<FileTensor, SeamError>;

/// A piece of a slice of a tensor.
#[derive(Debug)]
pub struct Shard {
    name: String,
    slice: Slice,
    piece: Range<usize>,
    /// Flat: fp32 where it is trained (the master copy), else in the network's dtype.
    values: Tensor,
    /// Flat, fp32, where it is trained.
    gradient: Option<Tensor>,
    /// Ranks that hold the same piece.
    replicas: Vec<usize>,
    /// The piece is all of the slice.
    all: bool,
}

impl Shard {
    /// Reads or draws this rank's piece of a weight.
    ///
    /// # Errors
    /// If the source cannot give it.
    pub(crate) fn new(
        weight: &Weight,
        held: &Held<'_>,
        (dtype, seed, device): (Dtype, u64, Device),
        source: Source<'_>,
    ) -> Result<Self, ParallelError> {
        let (name, slice) = (weight.name().to_string(), weight.slice().clone());
        let piece = held.piece(&slice);
        let kind = if weight.is_trained() { Kind::Float } else { dtype.kind() };
        let length = piece.len() as i64;
        let values = match weight.origin() {
            Origin::Zero => Tensor::zeros([length], (kind, Device::Cpu)),
            Origin::Uniform(bound) => {
                let all = lora::uniform(seed, &name, slice.full.iter().product::<i64>() as usize, bound);
                let cut = Tensor::from_slice(&all).view(&slice.full[..]).narrow(slice.dim as i64, slice.start, slice.length);
                cut.contiguous().view([-1]).narrow(0, piece.start as i64, length).to_kind(kind).copy()
            }
            Origin::File => {
                let stored = source(&name, &slice, piece.clone())
                    .map_err(|reason| ParallelError::Source { name: name.clone(), reason })?;
                // `to_kind` of the same kind gives another handle; a trained weight's memory must be its own, and so it is: just read.
                from_file(&name, &stored, &[length], kind)?
            }
        };
        let values = values.to_device(device);
        let gradient = weight.is_trained().then(|| values.zeros_like());
        let replicas = held.replicas(&name, &slice);
        let all = held.in_one_piece(slice.shape().iter().product::<i64>() as usize);
        Ok(Self { name, slice, piece, values, gradient, replicas, all })
    }

    /// The weight's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The slice of the whole tensor that this is a piece of.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    /// The elements of the slice, flat and row-major, that are held here.
    pub fn piece(&self) -> Range<usize> {
        self.piece.clone()
    }

    /// The ranks that hold the same piece, rising. The first of them saves it and counts it in the gradient's norm.
    pub fn replicas(&self) -> &[usize] {
        &self.replicas
    }

    /// Whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.gradient.is_some()
    }

    /// Elements of the slice.
    pub(crate) fn slice_elements(&self) -> usize {
        self.slice.shape().iter().product::<i64>() as usize
    }

    /// Whether the piece is all of the slice: then it stays where the network uses it.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// The gradient, flat and fp32, wherever it lies; none if not trained.
    pub fn gradient_tensor(&self) -> Option<&Tensor> {
        self.gradient.as_ref()
    }

    /// Master copy and gradient, flat and fp32, wherever they lie; none if not trained. [`crate::Engine::refresh`] afterwards.
    pub fn tensors_mut(&mut self) -> Option<(&mut Tensor, &mut Tensor)> {
        Some((&mut self.values, self.gradient.as_mut()?))
    }

    /// The master copy, on the host (empty if not trained).
    pub fn master(&self) -> Cow<'_, [f32]> {
        match self.values.device() {
            _ if !self.is_trained() => Cow::Borrowed(&[]),
            Device::Cpu => Cow::Borrowed(floats(&self.values)),
            _ => Cow::Owned(floats(&self.values.to_device(Device::Cpu)).to_vec()),
        }
    }

    /// Overwrites the master copy. [`crate::Engine::refresh`] afterwards.
    ///
    /// # Errors
    /// Another number of elements.
    pub fn set_master(&mut self, elements: &[f32]) -> Result<(), ParallelError> {
        let (found, expected) = (elements.len(), self.values.numel());
        if found != expected {
            return Err(ParallelError::Length { found, expected });
        }
        self.values.copy_(&Tensor::from_slice(elements));
        Ok(())
    }

    /// The gradient, of a piece on the host (empty if not trained).
    pub fn gradient(&self) -> &[f32] {
        self.gradient.as_ref().map_or(&[], floats)
    }

    /// Master copy and gradient of a piece on the host, to write to (empty if not trained).
    pub fn master_and_gradient(&mut self) -> (&mut [f32], &mut [f32]) {
        match &mut self.gradient {
            Some(gradient) => (floats_mut(&mut self.values), floats_mut(gradient)),
            None => (&mut [], &mut []),
        }
    }

    /// Bytes that this rank holds for the piece: values, and for a trained one the gradient.
    pub(crate) fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        size(&self.values) + self.gradient.as_ref().map_or(0, size)
    }

    /// The values in the network's dtype, flat: what is gathered.
    pub(crate) fn values_as(&self, kind: Kind) -> Tensor {
        self.values.to_kind(kind)
    }

    /// Lets the network use the piece where it is: for a piece that is all of its slice.
    pub(crate) fn settle(&self, weight: &mut Weight, dtype: Dtype) -> Result<(), ParallelError> {
        let shape = weight.shape();
        weight.set_value(self.values.to_kind(dtype.kind()).view(&shape[..]))?;
        if let Some(gradient) = &self.gradient {
            weight.set_gradient(gradient.view(&shape[..]))?;
        }
        Ok(())
    }

    /// Brings a settled weight up to date with the master copy.
    pub(crate) fn refresh(&self, weight: &Weight) {
        if self.is_trained() && weight.value().kind() != Kind::Float {
            weight.value().shallow_clone().copy_(&self.values.view(&weight.shape()[..]));
        }
    }
}
