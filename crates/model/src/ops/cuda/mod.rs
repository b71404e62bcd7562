//! The operations on a CUDA device. Each is the twin of the file of the same name one level up, which hands over to it for tensors that are
//! not on the CPU; the formulas stand there.
//!
//! Kernels are CUDA C++ (`kernels/`), compiled by NVRTC when a device is prepared. Activations are fp32 or bf16, sums fp32. Heads stay where
//! the projections put them, `[T, H, E]`: there is no head layout on a device. Every reduction has one order, so results are the same bits
//! in every run.
//!
//! **None of this has been run on a GPU yet.** The kernels' text and the code that launches it are held against the CPU's operations by
//! emulation; what only a device can show (libtorch's flash attention, speed) is not tested.

pub mod adamw;
pub mod attention;
mod attention_plain;
pub mod cross_entropy;
mod documents;
pub mod embedding;
pub(crate) mod rmsnorm;
pub(crate) mod rope;
pub(crate) mod swiglu;
#[cfg(test)]
mod whole;

use tch::{Cuda, Device, Kind, Tensor};

use crate::ModelError;
use crate::raw::cuda::Grid;
use crate::raw::{cuda, torch};

/// Threads of a block: where rows are reduced, eight elements each cover the usual widths in one or two steps. (Emulated ones take turns;
/// two warps show what there is to see.)
const THREADS: u32 = if cfg!(test) { 64 } else { 256 };

/// Most blocks of a kernel whose threads go on to further elements: several for each of a large device's processors.
const MOST_BLOCKS: u32 = 4096;

/// A device that was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// All of its memory, in bytes.
    pub bytes: u64,
}

/// Makes CUDA device `ordinal` ready: loads libtorch's CUDA part, which the program is not linked against, and compiles the kernels. To be
/// called once before anything else asks libtorch for CUDA.
///
/// # Errors
/// What this machine lacks.
pub fn prepare(ordinal: usize) -> Result<Gpu, ModelError> {
    let found = devices()?;
    if found <= ordinal {
        let message = format!("libtorch finds {found} devices, expected device {ordinal} to be there");
        return Err(ModelError::Cuda { call: "cudaGetDeviceCount", message });
    }
    torch::sums_in_fp32()?;
    cuda::prepare(ordinal, &source(), &kernels())?;
    let (name, bytes) = cuda::describe(ordinal)?;
    Ok(Gpu { name, bytes })
}

/// How many CUDA devices this process sees. Where a scheduler shows each rank its own alone, that is one, number 0.
///
/// # Errors
/// libtorch's CUDA part is not here.
pub fn devices() -> Result<usize, ModelError> {
    cuda::load_torch()?;
    Ok(usize::try_from(Cuda::device_count()).unwrap_or(0))
}

/// The device of the rank that is number `local_rank` on its machine, of the `devices` that this process sees: where it sees one alone, a
/// scheduler has chosen it; else ranks take them in their order.
///
/// # Errors
/// More ranks than devices.
pub fn ordinal_of(local_rank: usize, devices: usize) -> Result<usize, ModelError> {
    match devices {
        1 => Ok(0),
        devices if local_rank < devices => Ok(local_rank),
        devices => {
            let message = format!("rank {local_rank} of this machine finds {devices} devices, expected one for each rank");
            Err(ModelError::Cuda { call: "cudaGetDeviceCount", message })
        }
    }
}

/// Bytes of a prepared device's memory that nobody has taken, libtorch's cache counting as taken.
///
/// # Errors
/// A device that was not prepared.
pub fn free_memory(ordinal: usize) -> Result<u64, ModelError> {
    cuda::free_memory(ordinal)
}

/// The text of all kernels, as one program.
pub(crate) fn source() -> String {
    [
        include_str!("kernels/common.cu"),
        include_str!("kernels/rmsnorm.cu"),
        include_str!("kernels/rope.cu"),
        include_str!("kernels/swiglu.cu"),
        include_str!("kernels/cross_entropy.cu"),
        include_str!("kernels/embedding.cu"),
        include_str!("kernels/adamw.cu"),
    ]
    .join("\n")
}

/// The names of all kernels.
pub(crate) fn kernels() -> Vec<String> {
    const OF_BOTH_TYPES: [&str; 10] = [
        "rmsnorm_forward",
        "rmsnorm_backward",
        "rmsnorm_backward_weight",
        "add",
        "rope",
        "swiglu_forward",
        "swiglu_backward",
        "normalisers",
        "logits_into_gradients",
        "embedding_backward",
    ];
    let both = OF_BOTH_TYPES.iter().flat_map(|name| ["f32", "bf16"].map(|kind| format!("{name}_{kind}")));
    both.chain(["sum_chunks".to_owned(), "adamw".to_owned()]).collect()
}

/// The kernel of `base` for a tensor's element type.
fn typed(base: &str, like: &Tensor) -> String {
    match like.kind() {
        Kind::Float => format!("{base}_f32"),
        Kind::BFloat16 => format!("{base}_bf16"),
        other => unreachable!("activations are fp32 or bf16, not {other:?}: Dtype offers nothing else"),
    }
}

/// One block for each of `rows`.
fn one_a_row(rows: usize) -> Grid {
    Grid { blocks: (u32::try_from(rows).unwrap_or(u32::MAX), 1), threads: THREADS }
}

/// One thread for each of `columns`, in `chunks` rows of blocks.
fn one_a_column(columns: usize, chunks: usize) -> Grid {
    let blocks = columns.div_ceil(THREADS as usize);
    Grid { blocks: (u32::try_from(blocks).unwrap_or(u32::MAX), u32::try_from(chunks).unwrap_or(u32::MAX)), threads: THREADS }
}

/// Enough threads for `units`, each taking one or, beyond a full device, several.
fn spread(units: usize) -> Grid {
    let blocks = units.div_ceil(THREADS as usize);
    Grid { blocks: (u32::try_from(blocks).unwrap_or(MOST_BLOCKS).min(MOST_BLOCKS), 1), threads: THREADS }
}

/// The same for threads that take eight elements at a time.
fn spread_eights(elements: usize) -> Grid {
    spread(elements.div_ceil(8))
}

/// Numbers of the host on `device`, without a wait.
fn upload<P: tch::kind::Element>(values: &[P], device: Device) -> Tensor {
    let host = Tensor::from_slice(values);
    match device {
        Device::Cuda(ordinal) => torch::upload(&host, ordinal).unwrap_or_else(|error| panic!("upload: {error}")),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_device_is_told_what_it_lacks() {
        assert_eq!(devices().is_ok_and(|devices| devices > 0), prepare(0).is_ok());
        match prepare(0) {
            Err(ModelError::Cuda { call: "dlopen", message }) => assert!(message.contains("libtorch_cuda.so"), "{message}"),
            Err(ModelError::Cuda { call: "cudaGetDeviceCount", message }) => {
                assert!(message.contains("finds 0 devices"), "{message}");
            }
            Err(error) => panic!("{error}"),
            Ok(gpu) => assert!(!gpu.name.is_empty() && gpu.bytes > 0 && free_memory(0).unwrap() <= gpu.bytes),
        }
        assert!(free_memory(99).is_err());
    }

    #[test]
    fn ranks_of_a_machine_take_its_devices_in_their_order() {
        assert_eq!([(0, 4), (3, 4), (0, 1), (3, 1)].map(|(rank, devices)| ordinal_of(rank, devices).unwrap()), [0, 3, 0, 0]);
        assert_eq!(
            ordinal_of(4, 4).unwrap_err().to_string(),
            "cudaGetDeviceCount: rank 4 of this machine finds 4 devices, expected one for each rank"
        );
        assert!(ordinal_of(0, 0).is_err());
    }

    #[test]
    fn grids_cover_what_they_are_asked_for() {
        assert_eq!(one_a_row(7).blocks, (7, 1));
        let threads = THREADS as usize;
        assert_eq!(one_a_column(threads + 1, 3).blocks, (2, 3));
        assert_eq!(spread(0).blocks, (0, 1));
        assert_eq!((spread_eights(8 * threads).blocks, spread_eights(8 * threads + 1).blocks), ((1, 1), (2, 1)));
        assert_eq!(spread(usize::MAX).blocks, (MOST_BLOCKS, 1));
    }
}
