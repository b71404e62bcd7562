//! Collectives on tensors: a tensor's memory goes into a buffer that a communicator owns while it is under way, and comes back as a tensor.

use bytemuck::cast_slice;
use half::bf16;
use sirocco_comm::{CommError, Communicator, Pending};
use sirocco_model::SeamError;
use sirocco_model::memory::{bytes, bytes_mut};
use tch::{Device, Kind, Tensor};

use crate::ParallelError;

/// Shape and element type of a tensor to be put together.
pub(crate) type Form<'a> = (&'a [i64], Kind);

/// Every rank's part, one after the other, as one tensor.
///
/// # Errors
/// What ended the collective, or parts that are not as long together as the tensor.
pub(crate) fn all_gather(
    group: &dyn Communicator,
    name: &'static str,
    own: &Tensor,
    form: Form<'_>,
) -> Result<Tensor, SeamError> {
    let parts = group.all_gather_bytes(name, bytes(own).to_vec()).wait()?;
    Ok(from_parts(parts.iter().map(Vec::as_slice), form)?)
}

/// A tensor from consecutive parts of its memory.
///
/// # Errors
/// Parts that are not as long together as the tensor.
pub(crate) fn from_parts<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    (shape, kind): Form<'_>,
) -> Result<Tensor, ParallelError> {
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

/// This rank's part of the sum over ranks, flat; `lengths`: elements of each rank's part.
///
/// # Errors
/// What ended the collective.
pub(crate) fn reduce_scatter(
    group: &dyn Communicator,
    name: &'static str,
    data: &Tensor,
    lengths: &[usize],
) -> Result<Tensor, CommError> {
    match data.kind() {
        Kind::BFloat16 => {
            let elements: Vec<bf16> = cast_slice(bytes(data)).to_vec();
            let sum = group.reduce_scatter_bf16(name, elements, lengths).wait()?;
            let tensor = Tensor::empty([sum.len() as i64], (Kind::BFloat16, Device::Cpu));
            Ok(filled(tensor, cast_slice(&sum)))
        }
        _ => {
            let elements: Vec<f32> = cast_slice(bytes(data)).to_vec();
            Ok(Tensor::from_slice(&group.reduce_scatter_f32(name, elements, lengths).wait()?))
        }
    }
}

fn filled(mut tensor: Tensor, memory: &[u8]) -> Tensor {
    bytes_mut(&mut tensor).copy_from_slice(memory);
    tensor
}

/// Sends a tensor's memory; the receiver knows its form.
pub(crate) fn send(group: &dyn Communicator, name: &'static str, to: usize, tensor: &Tensor) -> Pending<()> {
    group.send_bytes(name, to, bytes(&tensor.contiguous()).to_vec())
}

/// Receives a tensor of a known form.
///
/// # Errors
/// What ended the collective, or a message of another length.
pub(crate) fn receive(
    group: &dyn Communicator,
    name: &'static str,
    from: usize,
    form: Form<'_>,
) -> Result<Tensor, ParallelError> {
    let message = group.receive_bytes(name, from).wait()?;
    from_parts([message.as_slice()], form)
}

#[cfg(test)]
mod tests {
    use sirocco_comm::Solo;

    use super::*;

    #[test]
    fn what_goes_through_a_group_of_one_comes_back() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let tensor = Tensor::from_slice(&[1.0f32, 2.5, -3.0, 0.25]).view([2, 2]).to_kind(kind);
            let solo = Solo::new();
            assert!(all_gather(&solo, "gather", &tensor, (&[2, 2], kind)).unwrap().equal(&tensor));
            assert!(reduce_scatter(&solo, "sum", &tensor, &[4]).unwrap().equal(&tensor.view([-1])));
        }
    }

    #[test]
    fn parts_of_another_length_are_an_error() {
        let error = from_parts([&[0u8; 4][..], &[0; 8]], (&[2], Kind::Float)).unwrap_err().to_string();
        assert_eq!(error, "parts of a tensor hold 12 bytes, expected 8");
    }
}
