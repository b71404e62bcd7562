//! CUDA C++ to machine code at run time.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{
    result::{self, NvrtcError},
    sys,
};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::ModelError;

/// What the system knows of an address (`Dl_info` in `dlfcn.h`).
#[repr(C)]
struct Origin {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    symbol_address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, origin: *mut Origin) -> c_int;
}

/// A program that NVRTC holds.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it came from `create_program` and is destroyed once. Its result changes nothing.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Machine code for a device of compute capability `major.minor`.
///
/// # Errors
/// No NVRTC on this machine, one that does not know the device, or what it finds wrong with the source.
pub(crate) fn compile(source: &str, (major, minor): (i32, i32)) -> Result<Vec<u8>, ModelError> {
    // SAFETY: loading the library has no requirements. cudarc ends the process where it is missing, so this comes first.
    if !unsafe { sys::is_culib_present() } {
        return Err(failed("dlopen", "no NVRTC (libnvrtc.so) on this machine".to_owned()));
    }
    load_builtins();
    let text = CString::new(source).map_err(|error| failed("nvrtcCreateProgram", error.to_string()))?;
    let program = Program(result::create_program(&text, Some(c"sirocco.cu")).map_err(nvrtc("nvrtcCreateProgram"))?);
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".to_owned()];
    // SAFETY: the program was created above and lives until the end of this function; so does `text`.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        return Err(failed("nvrtcCompileProgram", format!("{error} for sm_{major}{minor}: {}", log(&program))));
    }
    code(&program)
}

/// NVRTC opens a second library by its bare name, which the system need not find though it lies beside the first: it is loaded from there.
/// Where it is not there, NVRTC says so itself.
fn load_builtins() {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the function writes two numbers.
    let known = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().is_ok();
    let Some(folder) = folder().filter(|_| known) else { return };
    let path = folder.join(format!("libnvrtc-builtins.so.{major}.{minor}"));
    // SAFETY: the library only holds data and has no initialisers.
    if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        // It is never unloaded: NVRTC uses it at each compilation.
        std::mem::forget(library);
    }
}

/// The directory that NVRTC was loaded from.
fn folder() -> Option<PathBuf> {
    // SAFETY: the library is there (`compile` has looked), and a symbol's address may be taken without calling it.
    let address = unsafe { sys::culib().get::<*const c_void>(b"nvrtcVersion") }.ok().map(|symbol| *symbol)?;
    let null = std::ptr::null_mut();
    let mut origin = Origin { file: null, base: null.cast(), symbol: null, symbol_address: null.cast() };
    // SAFETY: `origin` has the layout that the function fills in; it is read only where the function succeeds.
    let found = unsafe { dladdr(address, &raw mut origin) } != 0 && !origin.file.is_null();
    // SAFETY: the name is a terminated string that lives as long as the library, which is never unloaded.
    let file = found.then(|| unsafe { CStr::from_ptr(origin.file) })?;
    Path::new(OsStr::from_bytes(file.to_bytes())).parent().map(Path::to_owned)
}

fn code(program: &Program) -> Result<Vec<u8>, ModelError> {
    let mut size = 0;
    // SAFETY: the program is compiled; the function writes one number.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }.result().map_err(nvrtc("nvrtcGetCUBINSize"))?;
    let mut code = vec![0u8; size];
    // SAFETY: the buffer has the size that the library has just asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast::<c_char>()) }.result().map_err(nvrtc("nvrtcGetCUBIN"))?;
    Ok(code)
}

/// What the compiler had to say.
fn log(program: &Program) -> String {
    // SAFETY: the program exists.
    let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
    let bytes: Vec<u8> = log.iter().map(|&character| character as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn nvrtc(call: &'static str) -> impl Fn(NvrtcError) -> ModelError {
    move |error| failed(call, error.to_string())
}

fn failed(call: &'static str, message: String) -> ModelError {
    ModelError::Cuda { call, message }
}
