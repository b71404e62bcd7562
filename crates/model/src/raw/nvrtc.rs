//! CUDA C++ to machine code at run time.

use std::ffi::{CString, c_char};

use cudarc::nvrtc::{
    result::{self, NvrtcError},
    sys,
};

use crate::ModelError;

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
    let text = CString::new(source).map_err(|error| failed("nvrtcCreateProgram", error.to_string()))?;
    let program = Program(result::create_program(&text, Some(c"sirocco.cu")).map_err(nvrtc("nvrtcCreateProgram"))?);
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".to_owned()];
    // SAFETY: the program was created above and lives until the end of this function; so does `text`.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        return Err(failed("nvrtcCompileProgram", format!("{error} for sm_{major}{minor}: {}", log(&program))));
    }
    code(&program)
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
