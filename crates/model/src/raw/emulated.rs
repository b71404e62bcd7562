//! Tests run the text of the kernels without a GPU: compiled by clang++ behind `tests/cuda/emulation.hpp`, called through the same launches.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

use super::cuda::Grid;
use crate::ModelError;
use crate::ops::cuda::{kernels, source};

type Emulate = unsafe extern "C" fn(*const c_char, u32, u32, u32, *mut *mut c_void) -> c_int;

/// The compiled kernels, or why there are none.
fn library() -> &'static Result<Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(build)
}

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` with the device's operations on tensors of the CPU.
pub(crate) fn instead<T>(work: impl FnOnce() -> T) -> T {
    WANTED.set(true);
    let result = work();
    WANTED.set(false);
    result
}

/// Whether this thread is inside of [`instead`].
pub(crate) fn wanted() -> bool {
    WANTED.get()
}

/// Whether kernels can be emulated here. Says so where they cannot.
pub(crate) fn available() -> bool {
    match library() {
        Ok(_) => true,
        Err(reason) => {
            eprintln!("skipped: kernels cannot be emulated without clang++ ({reason})");
            false
        }
    }
}

fn build() -> Result<Library, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("kernels.so");
    // A host's own bits decide a NaN here as a device's do: no shortcut of floating-point arithmetic is allowed. Nor are products and sums
    // fused, so that results are the same on every host.
    let mut compiler = Command::new("clang++")
        .args(["-std=c++17", "-O1", "-fno-fast-math", "-ffp-contract=off", "-fPIC", "-shared", "-x", "c++", "-", "-o"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let text = format!("{}\n{}\n{}", include_str!("../../tests/cuda/emulation.hpp"), source(), table());
    if let Some(mut input) = compiler.stdin.take() {
        input.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    }
    let status = compiler.wait().map_err(|error| error.to_string())?;
    assert!(status.success(), "the kernels do not compile as C++: {status}");
    // SAFETY: the library was made above, from the kernels; it has no initialisers that expect anything. It stays loaded without its
    // file, which goes with `directory`.
    unsafe { Library::new(&path) }.map_err(|error| error.to_string())
}

/// The function that finds a kernel by its name.
fn table() -> String {
    let rows: String = kernels()
        .iter()
        .map(|name| {
            format!("    if (!strcmp(name, \"{name}\")) return emulation::launch(emulation::bound({name}, arguments), x, y, threads);\n")
        })
        .collect();
    format!(
        "extern \"C\" int emulate(const char *name, unsigned x, unsigned y, unsigned threads, void **arguments) {{\n{rows}    return 1;\n}}\n"
    )
}

/// Runs a kernel on the CPU.
pub(crate) fn launch(kernel: &str, grid: Grid, pointers: &mut [*mut c_void]) -> Result<(), ModelError> {
    let failed = |message: String| ModelError::Cuda { call: "emulation", message };
    // One block of one kernel at a time: the emulation's state is global.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let library = library().as_ref().map_err(|reason| failed(reason.clone()))?;
    let name = CString::new(kernel).map_err(|error| failed(error.to_string()))?;
    // SAFETY: the function is declared with this type in `table`.
    let emulate = unsafe { library.get::<Emulate>(b"emulate") }.map_err(|error| failed(error.to_string()))?;
    // SAFETY: as on a device: one pointer per parameter, to cells of the right width, and memory of the length that goes with them.
    match unsafe { emulate(name.as_ptr(), grid.blocks.0, grid.blocks.1, grid.threads, pointers.as_mut_ptr()) } {
        0 => Ok(()),
        1 => Err(failed("no kernel of this name".to_owned())),
        2 => Err(failed(format!("{} threads a block, expected a multiple of 32 up to 1024", grid.threads))),
        _ => Err(failed("threads of a block wait for each other for ever".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::nvrtc;
    use super::*;

    #[test]
    fn the_kernels_compile_for_devices_where_nvrtc_is_here() {
        for capability in [(8, 0), (9, 0), (10, 0)] {
            match nvrtc::compile(&source(), capability) {
                Ok(code) => assert!(code.len() > 1000),
                Err(ModelError::Cuda { call: "dlopen", message }) => return eprintln!("skipped: {message}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
