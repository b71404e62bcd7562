//! Where documents begin and end, on a device: made once for a batch and not once for every operation.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Tensor};

use super::upload;
use crate::batch::Documents;

/// The documents of a batch on a device.
#[derive(Debug)]
pub(super) struct Uploaded {
    /// Cumulative, `[documents + 1]`, int32.
    pub(super) offsets: Tensor,
    /// Each token's position in its document, `[T]`, int32.
    pub(super) positions: Tensor,
}

impl Uploaded {
    fn handle(&self) -> Self {
        Self { offsets: self.offsets.shallow_clone(), positions: self.positions.shallow_clone() }
    }
}

struct Kept {
    documents: Documents,
    first: usize,
    device: Device,
    made: Uploaded,
}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// Batches that are kept: those that are under way at one time in a pipeline.
const BATCHES: usize = 8;

/// The documents on `device`; `first` is the position of each one's first token.
pub(super) fn on(device: Device, documents: &Documents, first: usize) -> Uploaded {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |kept: &&Kept| kept.device == device && kept.first == first && kept.documents == *documents;
    if let Some(found) = kept.iter().find(same) {
        return found.made.handle();
    }
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let ends = documents.iter().map(|(start, length)| number(start + length));
    let offsets: Vec<i32> = std::iter::once(0).chain(ends).collect();
    let positions: Vec<i32> = documents.iter().flat_map(|(_, length)| (0..length).map(|at| number(first + at))).collect();
    let made = Uploaded { offsets: upload(&offsets, device), positions: upload(&positions, device) };
    let handle = made.handle();
    kept.insert(0, Kept { documents: documents.clone(), first, device, made });
    kept.truncate(BATCHES);
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_positions_follow_the_documents() {
        let documents = Documents::new(&[0, 2, 5], 5).unwrap();
        for _ in 0..2 {
            let made = on(Device::Cpu, &documents, 7);
            assert_eq!(Vec::<i32>::try_from(&made.offsets).unwrap(), [0, 2, 5]);
            assert_eq!(Vec::<i32>::try_from(&made.positions).unwrap(), [7, 8, 7, 8, 9]);
        }
        assert_eq!(Vec::<i32>::try_from(&on(Device::Cpu, &documents, 0).positions).unwrap(), [0, 1, 0, 1, 2]);
    }
}
