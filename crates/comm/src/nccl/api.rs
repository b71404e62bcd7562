//! libnccl's functions, found at run time, so that one program runs with and without it.
//!
//! The types are cudarc's. Its own loader is not used: it looks for `libnccl.so` only, while the library that comes with libtorch (and
//! that must not be loaded twice) is called `libnccl.so.2`, and it ends the process where it finds none.
#![expect(unsafe_code, reason = "a library is loaded at run time and its C functions are called")]

use std::{
    error::Error,
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

use cudarc::nccl::sys::{cudaStream_t, ncclComm_t, ncclConfig_t, ncclUniqueId};
use libloading::Library;

use super::Failure;

/// Names under which the library is looked for: the first is the one that libtorch's own copy is loaded by.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// `ncclSuccess`. Results are read as numbers: a newer library may know more of them than an enumeration here.
pub(super) const SUCCESS: c_int = 0;
/// `ncclInProgress`: a communicator that does not block is still at it.
pub(super) const IN_PROGRESS: c_int = 7;
/// `ncclSum`.
pub(super) const SUM: c_int = 0;

type Reduce = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, ncclComm_t, cudaStream_t) -> c_int;
type Gather = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, ncclComm_t, cudaStream_t) -> c_int;
type Send = unsafe extern "C" fn(*const c_void, usize, c_int, c_int, ncclComm_t, cudaStream_t) -> c_int;
type Receive = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, ncclComm_t, cudaStream_t) -> c_int;
type OnComm = unsafe extern "C" fn(ncclComm_t) -> c_int;
type Nothing = unsafe extern "C" fn() -> c_int;

/// The functions that are used, by their names without `nccl`.
pub(super) struct Api {
    pub(super) get_version: unsafe extern "C" fn(*mut c_int) -> c_int,
    pub(super) get_unique_id: unsafe extern "C" fn(*mut ncclUniqueId) -> c_int,
    pub(super) init: unsafe extern "C" fn(*mut ncclComm_t, c_int, ncclUniqueId, c_int, *mut ncclConfig_t) -> c_int,
    pub(super) get_async_error: unsafe extern "C" fn(ncclComm_t, *mut c_int) -> c_int,
    pub(super) finalize: OnComm,
    pub(super) destroy: OnComm,
    pub(super) abort: OnComm,
    pub(super) group_start: Nothing,
    pub(super) group_end: Nothing,
    pub(super) all_reduce: Reduce,
    pub(super) reduce_scatter: Reduce,
    pub(super) all_gather: Gather,
    pub(super) send: Send,
    pub(super) receive: Receive,
    get_error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    get_last_error: unsafe extern "C" fn(ncclComm_t) -> *const c_char,
    /// Never unloaded: threads of the library may run as long as the process.
    _library: Library,
}

impl Api {
    /// The library, loaded when first asked for.
    pub(super) fn get() -> Result<&'static Self, Failure> {
        static API: OnceLock<Result<Api, Failure>> = OnceLock::new();
        API.get_or_init(Api::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, Failure> {
        let mut reasons = Vec::new();
        for name in NAMES {
            // SAFETY: NCCL's initialisers have no requirements of their own.
            match unsafe { Library::new(name) } {
                Ok(library) => return Self::resolve(library),
                Err(error) => reasons.push(reason(&error)),
            }
        }
        Err(Failure::new("dlopen", format!("no NCCL library: {}", reasons.join("; "))))
    }

    fn resolve(library: Library) -> Result<Self, Failure> {
        Ok(Api {
            get_version: symbol(&library, "ncclGetVersion")?,
            get_unique_id: symbol(&library, "ncclGetUniqueId")?,
            init: symbol(&library, "ncclCommInitRankConfig")?,
            get_async_error: symbol(&library, "ncclCommGetAsyncError")?,
            finalize: symbol(&library, "ncclCommFinalize")?,
            destroy: symbol(&library, "ncclCommDestroy")?,
            abort: symbol(&library, "ncclCommAbort")?,
            group_start: symbol(&library, "ncclGroupStart")?,
            group_end: symbol(&library, "ncclGroupEnd")?,
            all_reduce: symbol(&library, "ncclAllReduce")?,
            reduce_scatter: symbol(&library, "ncclReduceScatter")?,
            all_gather: symbol(&library, "ncclAllGather")?,
            send: symbol(&library, "ncclSend")?,
            receive: symbol(&library, "ncclRecv")?,
            get_error_string: symbol(&library, "ncclGetErrorString")?,
            get_last_error: symbol(&library, "ncclGetLastError")?,
            _library: library,
        })
    }

    /// The library's version as one number: 2.27.3 is 22703.
    pub(super) fn version(&self) -> Result<i32, Failure> {
        let mut version = 0;
        // SAFETY: the function writes one int.
        let code = unsafe { (self.get_version)(&raw mut version) };
        self.accept("ncclGetVersion", code, std::ptr::null_mut()).map(|()| version)
    }

    /// An id that names a new group; the ranks that are given it find each other.
    pub(super) fn unique_id(&self) -> Result<Vec<u8>, Failure> {
        let mut id = ncclUniqueId { internal: [0; 128] };
        // SAFETY: the function fills the 128 bytes.
        let code = unsafe { (self.get_unique_id)(&raw mut id) };
        self.accept("ncclGetUniqueId", code, std::ptr::null_mut())?;
        Ok(id.internal.iter().map(|&byte| byte as u8).collect())
    }

    /// Anything but success and "in progress" is an error; its text is NCCL's own.
    pub(super) fn accept(&self, call: &'static str, code: c_int, comm: ncclComm_t) -> Result<(), Failure> {
        if code == SUCCESS || code == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: both functions return terminated strings that live as long as the library; `comm` is live or null, which is allowed.
        let texts = unsafe { [(self.get_error_string)(code), (self.get_last_error)(comm)].map(|text| words(text)) };
        let [what, detail] = texts;
        let separator = if detail.is_empty() { "" } else { ": " };
        Err(Failure::new(call, format!("{what} (code {code}){separator}{detail}")))
    }
}

/// # Safety
/// `text` is null or points to a terminated string.
unsafe fn words(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// A function of the library. `F` is the C function's type, as in `nccl.h`; the fields of [`Api`] give it.
fn symbol<F: Copy>(library: &Library, name: &'static str) -> Result<F, Failure> {
    // SAFETY: `F` is a function pointer of the type that nccl.h declares for this name.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|error| Failure::new(name, format!("not in this NCCL library: {}", reason(&error))))
}

/// What the system said: libloading itself says only which function failed.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_here_gives_its_version_and_ids() {
        match Api::get() {
            Err(failure) => assert!(failure.message.starts_with("no NCCL library: "), "{failure:?}"),
            Ok(api) => {
                assert!(api.version().unwrap() >= 21_800);
                assert_eq!(api.unique_id().unwrap().len(), 128);
                let refused = api.accept("ncclSend", 5, std::ptr::null_mut()).unwrap_err();
                assert!(refused.message.contains("code 5"), "{}", refused.message);
            }
        }
    }
}
