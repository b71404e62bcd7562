//! Tensors on a CUDA device: NCCL moves their memory where it lies. NCCL wants equal parts of every rank, so pieces and rows are padded to
//! the longest.
//!
//! **This file has not been run on a GPU yet.**

use std::sync::Arc;

use sirocco_comm::nccl::{Device as NcclDevice, DeviceGroup, Element, InFlight, Region};
use sirocco_comm::{CommError, Communicator, Options};
use tch::{Device, Kind, Tensor};

use super::{Coming, TensorGroup, piece_length, rows_of, split};
use crate::{ParallelError, layout};

/// The device that a rank computes on, open for collectives.
pub struct OnDevice {
    ordinal: usize,
    device: Arc<NcclDevice>,
    options: Options,
}

impl OnDevice {
    /// Opens CUDA device `ordinal`; `options` bound how long its collectives may stand still.
    ///
    /// # Errors
    /// What this machine lacks.
    pub fn open(ordinal: usize, options: Options) -> Result<Self, ParallelError> {
        Ok(Self { ordinal, device: NcclDevice::open(ordinal)?, options })
    }

    pub(super) fn join(&self, name: &'static str, host: Arc<dyn Communicator>) -> Result<Joined, ParallelError> {
        let group = DeviceGroup::join(name, host, Arc::clone(&self.device), self.options)?;
        Ok(Joined { group, device: Device::Cuda(self.ordinal) })
    }
}

/// A group of ranks, each with a device.
pub(super) struct Joined {
    group: DeviceGroup,
    device: Device,
}

impl Joined {
    /// Rows of `[T, D]`, padded so that every rank has equally many: `[ranks · most, D]`.
    fn spread_rows(&self, rows: &Tensor) -> (Tensor, i64) {
        let (tokens, width) = (rows.size()[0] as usize, rows.size()[1]);
        let most = tokens.div_ceil(self.size()) as i64;
        let spread = Tensor::zeros([self.size() as i64 * most, width], (rows.kind(), self.device));
        let mut first = 0;
        for index in 0..self.size() {
            let count = rows_of(tokens, index, self.size()) as i64;
            spread.narrow(0, index as i64 * most, count).copy_(&rows.narrow(0, first, count));
            first += count;
        }
        (spread, most)
    }
}

impl TensorGroup for Joined {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn gather(&self, name: &'static str, own: &[Tensor], wholes: &[usize]) -> Coming<Vec<Tensor>> {
        let ranks = self.size();
        let chunks: Vec<usize> = wholes.iter().map(|&whole| piece_length(whole, 0, ranks)).collect();
        let padded: Vec<Tensor> = own.iter().zip(&chunks).map(|(piece, &chunk)| padded(piece, chunk)).collect();
        let message = Tensor::cat(&padded, 0);
        let all = Tensor::empty([(ranks * message.numel()) as i64], (message.kind(), self.device));
        let (from, to) = (region(&message), region(&all));
        let started = self.group.all_gather(name, from, to, [all, message]);
        let wholes = wholes.to_vec();
        Coming::new(move || {
            let [all, message] = landed(started)?;
            let by_rank = all.view([ranks as i64, message.numel() as i64]);
            let mut at = 0;
            let whole = |(&elements, &chunk): (&usize, &usize)| {
                let pieces = by_rank.narrow(1, at, chunk as i64).contiguous().view([-1]);
                at += chunk as i64;
                pieces.narrow(0, 0, elements as i64)
            };
            Ok(wholes.iter().zip(&chunks).map(whole).collect())
        })
    }

    fn scatter(&self, name: &'static str, wholes: &[Tensor]) -> Coming<Vec<Tensor>> {
        let (rank, ranks) = (self.rank(), self.size());
        let elements: Vec<usize> = wholes.iter().map(Tensor::numel).collect();
        let mut parts = Vec::with_capacity(ranks * wholes.len());
        for rank in 0..ranks {
            for (whole, &elements) in wholes.iter().zip(&elements) {
                let piece = layout::piece(elements, rank, ranks);
                let piece = whole.narrow(0, piece.start as i64, piece.len() as i64);
                parts.push(padded(&piece, piece_length(elements, 0, ranks)));
            }
        }
        let message = Tensor::cat(&parts, 0);
        let own = Tensor::empty([(message.numel() / ranks) as i64], (Kind::Float, self.device));
        let (from, to) = (region(&message), region(&own));
        let started = self.group.reduce_scatter(name, from, to, [own, message]);
        Coming::new(move || {
            let [own, _] = landed(started)?;
            let chunks = elements.iter().map(|&elements| piece_length(elements, 0, ranks));
            let chunks = split(&own, chunks);
            let piece = |(chunk, &elements): (&Tensor, &usize)| chunk.narrow(0, 0, piece_length(elements, rank, ranks) as i64);
            Ok(chunks.iter().zip(&elements).map(piece).collect())
        })
    }

    fn sum(&self, name: &'static str, tensors: &[Tensor]) -> Coming<Vec<Tensor>> {
        let lengths: Vec<usize> = tensors.iter().map(Tensor::numel).collect();
        let data = Tensor::cat(tensors, 0);
        let started = self.group.all_reduce(name, region(&data), data);
        Coming::new(move || Ok(split(&landed(started)?, lengths)))
    }

    fn gather_rows(&self, name: &'static str, own: &Tensor, tokens: usize) -> Result<Tensor, ParallelError> {
        let (ranks, width) = (self.size(), own.size()[1]);
        let most = tokens.div_ceil(ranks) as i64;
        let message = padded(&own.contiguous().view([-1]), (most * width) as usize);
        let all = Tensor::empty([ranks as i64 * most, width], (own.kind(), self.device));
        let (from, to) = (region(&message), region(&all));
        let [all, _] = landed(self.group.all_gather(name, from, to, [all, message]))?;
        let rows = |index: usize| all.narrow(0, index as i64 * most, rows_of(tokens, index, ranks) as i64);
        Ok(Tensor::cat(&(0..ranks).map(rows).collect::<Vec<_>>(), 0))
    }

    fn sum_rows(&self, name: &'static str, partial: &Tensor) -> Result<Tensor, ParallelError> {
        let (tokens, width) = (partial.size()[0] as usize, partial.size()[1]);
        let (message, most) = self.spread_rows(partial);
        let own = Tensor::empty([most, width], (partial.kind(), self.device));
        let (from, to) = (region(&message), region(&own));
        let [own, _] = landed(self.group.reduce_scatter(name, from, to, [own, message]))?;
        Ok(own.narrow(0, 0, rows_of(tokens, self.rank(), self.size()) as i64))
    }

    fn gather_tensors(&self, name: &'static str, own: &Tensor) -> Result<Vec<Tensor>, ParallelError> {
        let (own, ranks) = (own.contiguous(), self.size());
        let shape: Vec<i64> = [ranks as i64].into_iter().chain(own.size()).collect();
        let all = Tensor::empty(&shape[..], (own.kind(), self.device));
        let (from, to) = (region(&own), region(&all));
        let [all, _] = landed(self.group.all_gather(name, from, to, [all, own]))?;
        Ok((0..ranks as i64).map(|rank| all.select(0, rank)).collect())
    }
}

fn region(tensor: &Tensor) -> Region {
    let element = if tensor.kind() == Kind::BFloat16 { Element::Bf16 } else { Element::F32 };
    Region { address: tensor.data_ptr() as u64, elements: tensor.numel(), element }
}

/// A flat tensor of `length` elements, zeros behind what is there.
fn padded(tensor: &Tensor, length: usize) -> Tensor {
    tensor.constant_pad_nd([0, (length - tensor.numel()) as i64])
}

/// Lets libtorch wait for the device to be done.
fn landed<K>(started: Result<InFlight<K>, CommError>) -> Result<K, ParallelError> {
    Ok(started?.wait()?)
}
