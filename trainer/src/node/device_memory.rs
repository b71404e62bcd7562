//! A device's memory, written and read back: every word holds its own place, then the complement of it. **Not run on a GPU yet.**

use tch::{Device, Kind, Tensor};

use crate::failure::Failure;

/// Words of eight bytes of one tensor.
const CHUNK: i64 = 32 << 20;

/// Left alone: what comparing a chunk needs, and the device's own.
const RESERVE: u64 = 3 << 30;

/// Bytes to test of those that are free.
pub(super) fn share(free_bytes: u64) -> u64 {
    free_bytes.saturating_sub(RESERVE)
}

/// Takes `bytes` of memory, as far as whole chunks go, and fills all of it before any is read: the bytes that were tested, and how many
/// words came back wrong.
pub(super) fn test(device: Device, bytes: u64) -> Result<(u64, u64), Failure> {
    test_chunks(device, bytes, CHUNK, |_| ())
}

fn test_chunks(device: Device, bytes: u64, words: i64, mut between: impl FnMut(&mut [Tensor])) -> Result<(u64, u64), Failure> {
    let count = bytes / (words.unsigned_abs() * 8);
    let mut chunks: Vec<Tensor> = (0..count).map(|_| Tensor::empty([words], (Kind::Int64, device))).collect();
    let places = Tensor::arange(words, (Kind::Int64, device));
    let pattern = |index: usize, complement: bool| {
        let own = &places + index as i64 * words;
        if complement { own.bitwise_not() } else { own }
    };
    let mut wrong = 0;
    for complement in [false, true] {
        for (index, chunk) in chunks.iter_mut().enumerate() {
            chunk.copy_(&pattern(index, complement));
        }
        between(&mut chunks);
        for (index, chunk) in chunks.iter().enumerate() {
            let differing = chunk.ne_tensor(&pattern(index, complement)).sum(Kind::Int64);
            wrong += u64::try_from(differing.int64_value(&[])).map_err(Failure::failed)?;
        }
    }
    Ok((count * words.unsigned_abs() * 8, wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_memory_is_sound() {
        assert_eq!(test_chunks(Device::Cpu, 100_000, 1000, |_| ()).unwrap(), (96_000, 0));
        assert_eq!(test(Device::Cpu, 100).unwrap(), (0, 0));
        assert_eq!((share(1 << 30), share(80 << 30)), (0, 77 << 30));
    }

    #[test]
    fn a_bit_that_sticks_and_a_line_that_leads_elsewhere_are_found() {
        let stuck = test_chunks(Device::Cpu, 100_000, 1000, |chunks| {
            let mut word = chunks[3].get(7);
            let _ = word.bitwise_or_(4);
        });
        // Its place, 3007, has that bit; the complement has not.
        assert_eq!(stuck.unwrap(), (96_000, 1));
        let elsewhere = test_chunks(Device::Cpu, 100_000, 1000, |chunks| {
            let other = chunks[2].copy();
            chunks[9].copy_(&other);
        });
        assert_eq!(elsewhere.unwrap(), (96_000, 2000));
    }
}
