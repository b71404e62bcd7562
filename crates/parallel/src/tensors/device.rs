//! Tensors on a CUDA device: NCCL moves their memory where it lies. NCCL wants equal parts of every rank, so pieces and rows are padded to
//! the longest; where there is nothing to pad nothing is copied.
//!
//! **This file has not been run on a GPU yet.**

use std::sync::Arc;

use sirocco_comm::nccl::{Device as NcclDevice, DeviceGroup, Element, InFlight, Region};
use sirocco_comm::{Communicator, Options};
use tch::{Device, Kind, TchError, Tensor};

use super::{Coming, TensorGroup, piece_length, rows_of, split};
use crate::ParallelError;

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

    pub(super) fn join(&self, name: &'static str, host: &dyn Communicator) -> Result<Joined, ParallelError> {
        let group = DeviceGroup::join(name, host, Arc::clone(&self.device), self.options)?;
        Ok(Joined { group, device: Device::Cuda(self.ordinal) })
    }
}

/// A group of ranks, each with a device.
pub(super) struct Joined {
    pub(super) group: DeviceGroup,
    pub(super) device: Device,
}

impl Joined {
    fn empty(&self, shape: &[i64], kind: Kind) -> Tensor {
        Tensor::empty(shape, (kind, self.device))
    }

    /// Every rank's `own`, in rank order, as a tensor of `shape`.
    fn all_of(&self, name: &'static str, own: Tensor, shape: &[i64]) -> Result<Tensor, ParallelError> {
        let all = self.empty(shape, own.kind());
        let pairs = [(own, all)];
        let [(_, all)] = landed(Ok(self.group.all_gather(name, &regions(&pairs)?, pairs)?))?;
        Ok(all)
    }

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

    fn health(&self) -> Result<(), ParallelError> {
        Ok(self.group.health()?)
    }

    fn gather(&self, name: &'static str, own: &[Tensor], wholes: &[usize]) -> Coming<Vec<Tensor>> {
        let ranks = self.size();
        let pair = |(piece, &whole): (&Tensor, &usize)| {
            let piece = padded(piece, piece_length(whole, 0, ranks));
            let all = self.empty(&[(ranks * piece.numel()) as i64], piece.kind());
            (piece, all)
        };
        let pairs: Vec<(Tensor, Tensor)> = own.iter().zip(wholes).map(pair).collect();
        let started = regions(&pairs).and_then(|regions| Ok(self.group.all_gather(name, &regions, pairs)?));
        let wholes = wholes.to_vec();
        Coming::new(move || {
            let whole = |((_, all), &whole): (&(Tensor, Tensor), &usize)| all.narrow(0, 0, whole as i64);
            Ok(landed(started)?.iter().zip(&wholes).map(whole).collect())
        })
    }

    fn scatter(&self, name: &'static str, wholes: &[Tensor]) -> Coming<Vec<Tensor>> {
        let (rank, ranks) = (self.rank(), self.size());
        let elements: Vec<usize> = wholes.iter().map(Tensor::numel).collect();
        let pair = |whole: &Tensor| {
            let chunk = piece_length(whole.numel(), 0, ranks);
            (padded(whole, ranks * chunk), self.empty(&[chunk as i64], whole.kind()))
        };
        let pairs: Vec<(Tensor, Tensor)> = wholes.iter().map(pair).collect();
        let started = regions(&pairs).and_then(|regions| Ok(self.group.reduce_scatter(name, &regions, pairs)?));
        Coming::new(move || {
            let piece =
                |((_, own), &whole): (&(Tensor, Tensor), &usize)| own.narrow(0, 0, piece_length(whole, rank, ranks) as i64);
            Ok(landed(started)?.iter().zip(&elements).map(piece).collect())
        })
    }

    fn sum(&self, name: &'static str, tensors: &[Tensor]) -> Coming<Vec<Tensor>> {
        let lengths: Vec<usize> = tensors.iter().map(Tensor::numel).collect();
        let data = Tensor::cat(tensors, 0);
        let started = region(&data).and_then(|region| Ok(self.group.all_reduce(name, region, data)?));
        Coming::new(move || Ok(split(&landed(started)?, lengths)))
    }

    fn gather_rows(&self, name: &'static str, own: &Tensor, tokens: usize) -> Result<Tensor, ParallelError> {
        let (ranks, width) = (self.size(), own.size()[1]);
        let most = tokens.div_ceil(ranks) as i64;
        let message = padded(&own.contiguous().view([-1]), (most * width) as usize);
        let all = self.all_of(name, message, &[ranks as i64 * most, width])?;
        let rows = |index: usize| all.narrow(0, index as i64 * most, rows_of(tokens, index, ranks) as i64);
        Ok(Tensor::cat(&(0..ranks).map(rows).collect::<Vec<_>>(), 0))
    }

    fn sum_rows(&self, name: &'static str, partial: &Tensor) -> Result<Tensor, ParallelError> {
        let (tokens, width) = (partial.size()[0] as usize, partial.size()[1]);
        let (message, most) = self.spread_rows(partial);
        let own = self.empty(&[most, width], partial.kind());
        let pairs = [(message, own)];
        let [(_, own)] = landed(Ok(self.group.reduce_scatter(name, &regions(&pairs)?, pairs)?))?;
        Ok(own.narrow(0, 0, rows_of(tokens, self.rank(), self.size()) as i64))
    }

    fn gather_tensors(&self, name: &'static str, own: &Tensor) -> Result<Vec<Tensor>, ParallelError> {
        let shape: Vec<i64> = [self.size() as i64].into_iter().chain(own.size()).collect();
        let all = self.all_of(name, own.contiguous(), &shape)?;
        Ok((0..self.size() as i64).map(|rank| all.select(0, rank)).collect())
    }
}

/// The memory of a tensor as collectives see it. Its address is good for as long as the tensor lives.
///
/// # Errors
/// One that is not contiguous, or of other elements than fp32 and bf16.
pub fn region(tensor: &Tensor) -> Result<Region, ParallelError> {
    let element = match tensor.kind() {
        Kind::Float => Element::F32,
        Kind::BFloat16 => Element::Bf16,
        other => return Err(refused(format!("a tensor of {other:?} elements, expected fp32 or bf16"))),
    };
    if !tensor.is_contiguous() {
        return Err(refused(format!("a tensor {:?} that is not contiguous", tensor.size())));
    }
    Ok(Region { address: tensor.data_ptr() as u64, elements: tensor.numel(), element })
}

fn refused(message: String) -> ParallelError {
    ParallelError::Model(TchError::Kind(message).into())
}

/// The regions of several tensors and of those that they become.
fn regions(pairs: &[(Tensor, Tensor)]) -> Result<Vec<(Region, Region)>, ParallelError> {
    pairs.iter().map(|(from, to)| Ok((region(from)?, region(to)?))).collect()
}

/// A flat tensor of `length` elements, zeros behind what is there; the tensor itself where it has as many.
fn padded(tensor: &Tensor, length: usize) -> Tensor {
    match length - tensor.numel() {
        0 => tensor.contiguous(),
        missing => tensor.constant_pad_nd([0, missing as i64]),
    }
}

/// Lets libtorch wait for the device to be done.
fn landed<K>(started: Result<InFlight<K>, ParallelError>) -> Result<K, ParallelError> {
    Ok(started?.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_memory_of_fp32_and_bf16_is_moved() {
        let tensor = |kind: Kind| Tensor::zeros([3, 4], (kind, Device::Cpu));
        let found = region(&tensor(Kind::BFloat16)).unwrap();
        assert_eq!((found.elements, found.element), (12, Element::Bf16));
        let error = region(&tensor(Kind::Int64)).unwrap_err().to_string();
        assert!(error.ends_with("a tensor of Int64 elements, expected fp32 or bf16"), "{error}");
        let error = region(&tensor(Kind::Float).tr()).unwrap_err().to_string();
        assert!(error.ends_with("a tensor [4, 3] that is not contiguous"), "{error}");
    }

    #[test]
    fn what_needs_no_padding_is_not_copied() {
        let tensor = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
        assert_eq!(padded(&tensor, 3).data_ptr(), tensor.data_ptr());
        assert_eq!(Vec::<f32>::try_from(padded(&tensor, 5)).unwrap(), [1.0, 2.0, 3.0, 0.0, 0.0]);
    }
}
