//! Tensors on the host: their memory goes into a buffer that the communicator owns while it is under way, and comes back as a tensor.

use std::sync::Arc;

use bytemuck::cast_slice;
use half::bf16;
use sirocco_comm::{Communicator, Pending};
use sirocco_model::memory::{bytes, bytes_mut, floats};
use tch::{Device, Kind, Tensor};

use super::{Coming, Form, TensorGroup, piece_length, rows_of, split};
use crate::{ParallelError, layout};

/// A group whose collectives go through host buffers.
pub(crate) struct Host {
    group: Arc<dyn Communicator>,
}

impl Host {
    pub(crate) fn new(group: Arc<dyn Communicator>) -> Self {
        Self { group }
    }

    /// Sends a tensor, from wherever it lies; the receiver knows its form. Done when the buffer is handed over.
    pub(crate) fn send(&self, name: &'static str, to: usize, tensor: &Tensor) -> Pending<()> {
        self.group.send_bytes(name, to, bytes(&tensor.contiguous().to_device(Device::Cpu)).to_vec())
    }

    /// Receives a tensor of a known form.
    ///
    /// # Errors
    /// What ended the collective, or a message of another length.
    pub(crate) fn receive(&self, name: &'static str, from: usize, form: Form<'_>) -> Result<Tensor, ParallelError> {
        let message = self.group.receive_bytes(name, from).wait()?;
        from_parts([message.as_slice()], form)
    }

    /// Waits for all ranks of the group.
    ///
    /// # Errors
    /// What ended the collective.
    pub(crate) fn meet(&self, name: &'static str) -> Result<(), ParallelError> {
        Ok(self.group.barrier(name).wait()?)
    }

    /// This rank's part of a sum, flat; `lengths`: elements of each rank's part.
    fn reduce_scatter(&self, name: &'static str, data: &Tensor, lengths: &[usize]) -> Result<Tensor, ParallelError> {
        match data.kind() {
            Kind::BFloat16 => {
                let elements: Vec<bf16> = cast_slice(bytes(data)).to_vec();
                let sum = self.group.reduce_scatter_bf16(name, elements, lengths).wait()?;
                from_parts([cast_slice(&sum)], (&[sum.len() as i64], Kind::BFloat16))
            }
            _ => Ok(Tensor::from_slice(&self.group.reduce_scatter_f32(name, floats(data).to_vec(), lengths).wait()?)),
        }
    }
}

impl TensorGroup for Host {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn health(&self) -> Result<(), ParallelError> {
        Ok(())
    }

    fn gather(&self, name: &'static str, own: &[Tensor], wholes: &[usize]) -> Coming<Vec<Tensor>> {
        let mut message = Vec::with_capacity(own.iter().map(|piece| bytes(piece).len()).sum());
        own.iter().for_each(|piece| message.extend_from_slice(bytes(piece)));
        let coming = self.group.all_gather_bytes(name, message);
        let kind = own.first().map_or(Kind::Float, Tensor::kind);
        let wholes = wholes.to_vec();
        Coming::new(move || {
            let parts = coming.wait()?;
            let mut at = vec![0; parts.len()];
            let whole = |&elements: &usize| {
                let pieces = parts.iter().zip(&mut at).enumerate().map(|(rank, (part, at))| {
                    let length = piece_length(elements, rank, parts.len()) * kind.elt_size_in_bytes();
                    let piece = part.get(*at..*at + length).unwrap_or_default();
                    *at += length;
                    piece
                });
                from_parts(pieces, (&[elements as i64], kind))
            };
            wholes.iter().map(whole).collect()
        })
    }

    fn scatter(&self, name: &'static str, wholes: &[Tensor]) -> Coming<Vec<Tensor>> {
        let (rank, ranks) = (self.rank(), self.size());
        let (mut data, mut lengths) = (Vec::new(), Vec::with_capacity(ranks));
        for rank in 0..ranks {
            let before = data.len();
            for whole in wholes {
                data.extend_from_slice(&floats(whole)[layout::piece(whole.numel(), rank, ranks)]);
            }
            lengths.push(data.len() - before);
        }
        let coming = self.group.reduce_scatter_f32(name, data, &lengths);
        let own: Vec<usize> = wholes.iter().map(|whole| piece_length(whole.numel(), rank, ranks)).collect();
        Coming::new(move || Ok(split(&Tensor::from_slice(&coming.wait()?), own)))
    }

    fn sum(&self, name: &'static str, tensors: &[Tensor]) -> Coming<Vec<Tensor>> {
        let lengths: Vec<usize> = tensors.iter().map(Tensor::numel).collect();
        let mut data = Vec::with_capacity(lengths.iter().sum());
        tensors.iter().for_each(|tensor| data.extend_from_slice(floats(tensor)));
        let coming = self.group.all_reduce_f32(name, data);
        Coming::new(move || Ok(split(&Tensor::from_slice(&coming.wait()?), lengths)))
    }

    fn gather_rows(&self, name: &'static str, own: &Tensor, tokens: usize) -> Result<Tensor, ParallelError> {
        let parts = self.group.all_gather_bytes(name, bytes(own).to_vec()).wait()?;
        from_parts(parts.iter().map(Vec::as_slice), (&[tokens as i64, own.size()[1]], own.kind()))
    }

    fn sum_rows(&self, name: &'static str, partial: &Tensor) -> Result<Tensor, ParallelError> {
        let (tokens, width) = (partial.size()[0] as usize, partial.size()[1]);
        let lengths: Vec<usize> = (0..self.size()).map(|index| rows_of(tokens, index, self.size()) * width as usize).collect();
        let sum = self.reduce_scatter(name, &partial.contiguous(), &lengths)?;
        Ok(sum.view([rows_of(tokens, self.rank(), self.size()) as i64, width]))
    }

    fn gather_tensors(&self, name: &'static str, own: &Tensor) -> Result<Vec<Tensor>, ParallelError> {
        let parts = self.group.all_gather_bytes(name, bytes(own).to_vec()).wait()?;
        parts.iter().map(|part| from_parts([part.as_slice()], (&own.size(), own.kind()))).collect()
    }
}

/// A tensor from consecutive parts of its memory.
fn from_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>, (shape, kind): Form<'_>) -> Result<Tensor, ParallelError> {
    let mut tensor = Tensor::empty(shape, (kind, Device::Cpu));
    let mut room = bytes_mut(&mut tensor);
    let expected = room.len();
    let mut found = 0;
    for part in parts {
        found += part.len();
        let Some((target, rest)) = room.split_at_mut_checked(part.len()) else { break };
        target.copy_from_slice(part);
        room = rest;
    }
    if found == expected { Ok(tensor) } else { Err(ParallelError::Parts { found, expected }) }
}

#[cfg(test)]
mod tests {
    use sirocco_comm::Solo;

    use super::*;

    #[test]
    fn what_goes_through_a_group_of_one_comes_back() {
        let solo = Host::new(Arc::new(Solo::new()));
        for kind in [Kind::Float, Kind::BFloat16] {
            let tensor = Tensor::from_slice(&[1.0f32, 2.5, -3.0, 0.25]).view([2, 2]).to_kind(kind);
            assert!(solo.sum_rows("sum", &solo.gather_rows("gather", &tensor, 2).unwrap()).unwrap().equal(&tensor));
            let gathered = solo.gather("gather", &[tensor.view([-1]), tensor.view([-1])], &[4, 4]).wait().unwrap();
            assert!(gathered.iter().all(|whole| whole.equal(&tensor.view([-1]))) && gathered.len() == 2);
        }
        let (a, b) = (Tensor::from_slice(&[1.0f32, 2.0, 3.0]), Tensor::from_slice(&[4.0f32]));
        for found in [solo.sum("sum", &[a.copy(), b.copy()]), solo.scatter("scatter", &[a.copy(), b.copy()])] {
            let found = found.wait().unwrap();
            assert!(found[0].equal(&a) && found[1].equal(&b));
        }
    }

    #[test]
    fn parts_of_another_length_are_an_error() {
        let error = from_parts([&[0u8; 4][..], &[0; 8]], (&[2], Kind::Float)).unwrap_err().to_string();
        assert_eq!(error, "parts of a tensor hold 12 bytes, expected 8");
    }
}
