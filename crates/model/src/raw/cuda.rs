//! Kernels of our own on a CUDA device: compiled once per device, launched on libtorch's stream with tensors as arguments.
//!
//! libtorch works on the legacy default stream of the device's primary context, and so do these launches: each kernel comes after all
//! that libtorch was given before it and before all that it is given after it, without a synchronisation.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, DriverError, result, sys};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Tensor};

use super::nvrtc;
use super::signature::{self, Memory, Numbers};
use crate::ModelError;

/// How a kernel is spread over the device: blocks in two dimensions, threads in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: (u32, u32),
    pub(crate) threads: u32,
}

/// An argument of a kernel, in the order and of the type that the kernel declares.
pub(crate) enum Argument<'a> {
    /// A tensor's memory, read.
    In(&'a Tensor),
    /// A tensor's memory, written.
    Out(&'a mut Tensor),
    /// A null pointer.
    Null,
    /// `long long`.
    Int(usize),
    /// The same, where it may be negative.
    Signed(i64),
    /// `float`.
    Float(f32),
}

/// The kernels of one device, ready to be launched.
struct Loaded {
    context: Arc<CudaContext>,
    kernels: BTreeMap<String, sys::CUfunction>,
}

// SAFETY: functions of a loaded module may be launched from any thread on which the context is current, and `launch` makes it so.
unsafe impl Send for Loaded {}
// SAFETY: as above; launching does not change a function.
unsafe impl Sync for Loaded {}

/// The first devices with bf16 products and flash attention (A100).
const OLDEST: (i32, i32) = (8, 0);

static LOADED: Mutex<BTreeMap<usize, Arc<Loaded>>> = Mutex::new(BTreeMap::new());

/// Makes libtorch's CUDA part available, which this program is not linked against: to be called before anything asks libtorch for CUDA,
/// since it remembers the answer.
///
/// # Errors
/// The library is not here or does not load.
pub(crate) fn load_torch() -> Result<(), ModelError> {
    let open = |name: &str| {
        // SAFETY: libtorch's libraries register themselves when they are loaded; they expect nothing else.
        unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }
    };
    // libloading itself says only that it failed; what the system said is its source.
    let reason = |error: libloading::Error| error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let library = open("libtorch_cuda.so").map_err(|error| failed("dlopen", reason(error)))?;
    // It is never unloaded: libtorch keeps pointers into it.
    std::mem::forget(library);
    // Brings the compiler that belongs to this libtorch; where it is missing, another may be found.
    if let Ok(library) = open("libcaffe2_nvrtc.so") {
        std::mem::forget(library);
    }
    Ok(())
}

/// Compiles `source` for device `ordinal` and looks up `names` in it, unless that was done before.
///
/// # Errors
/// No driver, no such device, or what NVRTC or the driver report.
pub(crate) fn prepare(ordinal: usize, source: &str, names: &[String]) -> Result<(), ModelError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if loaded.contains_key(&ordinal) {
        return Ok(());
    }
    // SAFETY: loading the driver's library has no requirements. cudarc ends the process where it is missing, so this comes first.
    if !unsafe { sys::is_culib_present() } {
        return Err(failed("dlopen", "no CUDA driver (libcuda.so.1) on this machine".to_owned()));
    }
    let context = CudaContext::new(ordinal).map_err(driver("cuDevicePrimaryCtxRetain"))?;
    let capability = context.compute_capability().map_err(driver("cuDeviceGetAttribute"))?;
    if capability < OLDEST {
        let ((major, minor), (least, _)) = (capability, OLDEST);
        return Err(failed(
            "prepare",
            format!("a device of compute capability {major}.{minor}, expected {least}.0 or later (bf16)"),
        ));
    }
    let code = nvrtc::compile(source, capability)?;
    context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
    // SAFETY: `code` is a whole module that NVRTC made for this device; the driver copies it. The module is never unloaded.
    let module = unsafe { result::module::load_data(code.as_ptr().cast()) }.map_err(driver("cuModuleLoadData"))?;
    let find = |name: &String| {
        let text = CString::new(name.as_str()).map_err(|error| failed("cuModuleGetFunction", error.to_string()))?;
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(module, text) };
        Ok((name.clone(), function.map_err(|error| failed("cuModuleGetFunction", format!("{name}: {error}")))?))
    };
    let kernels = names.iter().map(find).collect::<Result<_, ModelError>>()?;
    loaded.insert(ordinal, Arc::new(Loaded { context, kernels }));
    Ok(())
}

/// The name and the memory of a device, in bytes.
///
/// # Errors
/// A device that [`prepare`] has not prepared, or what the driver reports.
pub(crate) fn describe(ordinal: usize) -> Result<(String, u64), ModelError> {
    let loaded = prepared(ordinal)?;
    let name = loaded.context.name().map_err(driver("cuDeviceGetName"))?;
    let bytes = loaded.context.total_mem().map_err(driver("cuDeviceTotalMem"))?;
    Ok((name, bytes as u64))
}

/// Free bytes of a device's memory.
///
/// # Errors
/// As [`describe`].
pub(crate) fn free_memory(ordinal: usize) -> Result<u64, ModelError> {
    let (free, _) = prepared(ordinal)?.context.mem_get_info().map_err(driver("cuMemGetInfo"))?;
    Ok(free as u64)
}

fn prepared(ordinal: usize) -> Result<Arc<Loaded>, ModelError> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.get(&ordinal).cloned().ok_or_else(|| failed("launch", format!("CUDA device {ordinal} was not prepared")))
}

/// Launches `kernel` on the device of its tensors.
///
/// # Panics
/// If an argument is not what the kernel declares, a tensor is shorter than the sizes among the arguments say, is not contiguous or lies
/// elsewhere than the others, all of which are mistakes in this crate; and, as libtorch's own operations do, where the device refuses.
pub(crate) fn launch(kernel: &str, grid: Grid, arguments: &mut [Argument<'_>]) {
    let device = device_of(kernel, arguments);
    if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
        return;
    }
    check(kernel, grid, arguments);
    let mut cells: Vec<u64> = arguments.iter_mut().map(cell).collect();
    let mut pointers: Vec<*mut c_void> = cells.iter_mut().map(|cell| std::ptr::from_mut(cell).cast()).collect();
    let done = match device {
        Device::Cuda(ordinal) => on_device(kernel, ordinal, grid, &mut pointers),
        #[cfg(test)]
        Device::Cpu => super::emulated::launch(kernel, grid, &mut pointers),
        other => Err(failed("launch", format!("tensors on {other:?}, expected a CUDA device"))),
    };
    done.unwrap_or_else(|error| panic!("kernel {kernel}: {error}"));
}

fn on_device(kernel: &str, ordinal: usize, grid: Grid, pointers: &mut [*mut c_void]) -> Result<(), ModelError> {
    let loaded = prepared(ordinal)?;
    let function = *loaded.kernels.get(kernel).ok_or_else(|| failed("launch", "no kernel of this name".to_owned()))?;
    loaded.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))?;
    let blocks = (grid.blocks.0, grid.blocks.1, 1);
    // SAFETY: the function is of a module that stays loaded; `pointers` has one entry per parameter, each to a cell that is wide enough,
    // and the memory that it points to is as long as the kernel takes it to be (`check`). The tensors outlive the launch in stream order:
    // libtorch gives freed memory out again on this stream only.
    unsafe { result::launch_kernel(function, blocks, (grid.threads, 1, 1), 0, result::stream::null(), pointers) }
        .map_err(driver("cuLaunchKernel"))
}

/// Holds the arguments to what the kernel declares: `signature`.
fn check(kernel: &str, grid: Grid, arguments: &[Argument<'_>]) {
    let numbers = arguments.iter().skip_while(|argument| tensor(argument).is_some() || matches!(argument, Argument::Null));
    let (mut types, mut integers, mut pointers) = (String::new(), Vec::new(), arguments.len());
    for number in numbers {
        pointers -= 1;
        match number {
            Argument::Int(value) => integers.push(i64::try_from(*value).unwrap_or(i64::MAX)),
            Argument::Signed(value) => integers.push(*value),
            Argument::Float(_) => {}
            _ => panic!("kernel {kernel}: a pointer after a number"),
        }
        types.push(if matches!(number, Argument::Float(_)) { 'f' } else { 'l' });
    }
    let null = arguments.iter().any(|argument| matches!(argument, Argument::Null));
    let expected = signature::pointers(kernel, grid, Numbers { types: &types, integers: &integers }, null);
    let expected = expected.unwrap_or_else(|| panic!("kernel {kernel}: none takes {types} {integers:?} with {:?}", grid.blocks));
    assert!(pointers == expected.len(), "kernel {kernel}: {pointers} pointers, expected {}", expected.len());
    for (at, (argument, memory)) in arguments.iter().zip(expected).enumerate() {
        let Some((tensor, written)) = tensor(argument) else {
            assert!(!memory.written && kernel.starts_with("rmsnorm_forward"), "kernel {kernel}: argument {at} is null");
            continue;
        };
        let Memory { kind, elements, written: writes } = memory;
        assert!(written || !writes, "kernel {kernel} writes to argument {at}, which was given to be read");
        let (found, length) = (tensor.kind(), tensor.numel());
        assert!(
            found == kind && length >= elements,
            "kernel {kernel}: argument {at} has {length} elements of {found:?}, expected {elements} of {kind:?}"
        );
    }
}

/// The tensor of an argument, and whether it may be written to.
fn tensor<'a>(argument: &'a Argument<'_>) -> Option<(&'a Tensor, bool)> {
    match argument {
        Argument::In(tensor) => Some((tensor, false)),
        Argument::Out(tensor) => Some((tensor, true)),
        _ => None,
    }
}

/// The one device of all tensors.
fn device_of(kernel: &str, arguments: &[Argument<'_>]) -> Device {
    let devices: Vec<Device> = arguments
        .iter()
        .filter_map(tensor)
        .map(|(tensor, _)| {
            assert!(tensor.is_contiguous(), "kernel {kernel}: a tensor {:?} that is not contiguous", tensor.size());
            tensor.device()
        })
        .collect();
    assert!(devices.windows(2).all(|pair| pair[0] == pair[1]), "kernel {kernel}: tensors on {devices:?}");
    devices.first().copied().unwrap_or(Device::Cpu)
}

/// An argument's bits: the low bytes of a cell, on a little-endian machine.
fn cell(argument: &mut Argument<'_>) -> u64 {
    match argument {
        Argument::In(tensor) => tensor.data_ptr() as u64,
        Argument::Out(tensor) => tensor.data_ptr() as u64,
        Argument::Null => 0,
        Argument::Int(value) => *value as u64,
        Argument::Signed(value) => *value as u64,
        Argument::Float(value) => u64::from(value.to_bits()),
    }
}

fn driver(call: &'static str) -> impl Fn(DriverError) -> ModelError {
    move |error| failed(call, error.to_string())
}

fn failed(call: &'static str, message: String) -> ModelError {
    ModelError::Cuda { call, message }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    const GRID: Grid = Grid { blocks: (1, 1), threads: 32 };

    #[test]
    fn a_device_that_was_not_prepared_is_an_error() {
        assert_eq!(describe(77).unwrap_err().to_string(), "launch: CUDA device 77 was not prepared");
        assert!(free_memory(77).is_err());
    }

    /// What a launch of the AdamW kernel over `n` elements says.
    fn refusal(n: usize, lengths: [i64; 4], kind: Kind) -> String {
        let [mut values, gradient, mut first, mut second] = lengths.map(|length| Tensor::zeros([length], (kind, Device::Cpu)));
        let tensors =
            [Argument::Out(&mut values), Argument::In(&gradient), Argument::Out(&mut first), Argument::Out(&mut second)];
        let numbers = [Argument::Int(n)].into_iter().chain([0.5; 7].map(Argument::Float));
        let arguments: Vec<Argument<'_>> = tensors.into_iter().chain(numbers).collect();
        let launched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check("adamw", GRID, &arguments)));
        launched.map_or_else(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default(), |()| String::new())
    }

    #[test]
    fn memory_that_is_shorter_or_of_another_type_than_the_kernel_takes_it_to_be_is_refused() {
        assert_eq!(refusal(4, [4; 4], Kind::Float), "");
        assert_eq!(
            refusal(4, [4, 4, 4, 3], Kind::Float),
            "kernel adamw: argument 3 has 3 elements of Float, expected 4 of Float"
        );
        assert_eq!(refusal(4, [8; 4], Kind::Half), "kernel adamw: argument 0 has 8 elements of Half, expected 4 of Float");
        assert!(refusal(usize::MAX, [4; 4], Kind::Float).contains("has 4 elements of Float, expected 9223372036854775807"));
    }

    #[test]
    #[should_panic(expected = "writes to argument 0, which was given to be read")]
    fn what_is_written_must_be_given_to_be_written() {
        let x = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        launch("add_f32", GRID, &mut [Argument::In(&x), Argument::In(&x), Argument::Int(4)]);
    }

    #[test]
    #[should_panic(expected = "none takes l [2]")]
    fn a_kernel_that_is_given_fewer_numbers_is_not_launched() {
        let x = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        launch("sum_chunks", GRID, &mut [Argument::In(&x), Argument::In(&x), Argument::Int(2)]);
    }

    #[test]
    #[should_panic(expected = "a tensor [3, 2] that is not contiguous")]
    fn a_view_is_refused() {
        let view = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
        launch("add_f32", GRID, &mut [Argument::In(&view)]);
    }
}
