//! Panics of libtorch's operations as failures with words. tch panics where libtorch refuses, and on a device that is no mistake of a
//! program: its memory is full, or it has failed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::failure::Failure;

const MEMORY: &str = "lower train.micro_batch or set parallel.recompute";
const DEVICE: &str = "nvidia-smi says how the GPU is; make gpu-check compares its results with the CPU's";
const OURS: &str = "this is a mistake in Sirocco: please report it with the log of this rank";

thread_local! {
    /// Whether this thread's panics are caught, and so told by someone else.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; a panic in it becomes a failure, and goes to the log instead of to standard error. What `work` has changed may be half
/// changed then: the caller ends with that failure.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| if CAUGHT.get() { tracing::error!("{panic}") } else { others(panic) }));
    });
    let around = CAUGHT.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(around);
    outcome.unwrap_or_else(|panic| Err(failure(panic.as_ref())))
}

fn failure(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let words = words(text.unwrap_or("a panic without words"));
    let says = |some: &[&str]| some.iter().any(|some| words.contains(some));
    if says(&["out of memory", "OUT_OF_MEMORY", "can't allocate memory", "not enough memory"]) {
        Failure::machine(words).help(MEMORY)
    } else if says(&["CUDA", "cuda", "CUBLAS", "cuDNN", "CUDNN", "NVRTC", "NCCL"]) {
        Failure::machine(words).help(DEVICE)
    } else {
        Failure::failed(words).help(OURS)
    }
}

/// libtorch's own first line, without the error type that tch shows around it and the stack of C++ functions that follows.
fn words(text: &str) -> &str {
    let Some((_, inner)) = text.split_once("Torch(\"") else { return text };
    let line = inner.split("\\n").next().unwrap_or(inner);
    line.strip_suffix("\")").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_panic(message: &'static str) -> Failure {
        caught::<()>(|| panic!("{message}")).unwrap_err()
    }

    fn told(failure: &Failure) -> (u64, String) {
        let told = failure.told();
        (told["exit_code"].as_u64().unwrap_or(0), told["help"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_full_device_is_told_with_what_to_do() {
        let failure = of_panic(
            "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB.\\nException raised from …\")",
        );
        assert_eq!(failure.message(), "CUDA out of memory. Tried to allocate 2.00 GiB.");
        assert_eq!(told(&failure), (5, MEMORY.to_owned()));
        let failure = of_panic("kernel adamw: cuLaunchKernel: DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"…\")");
        assert_eq!(told(&failure), (5, DEVICE.to_owned()));
    }

    #[test]
    fn what_libtorch_itself_refuses_is_caught_with_its_first_line() {
        let failure = caught(|| {
            let of = |rows: i64| tch::Tensor::zeros([rows, 3], (tch::Kind::Float, tch::Device::Cpu));
            Ok(of(2).matmul(&of(2)))
        });
        let failure = failure.unwrap_err();
        assert!(failure.message().starts_with("mat1 and mat2 shapes cannot be multiplied"), "{}", failure.message());
        assert!(!failure.message().contains("Exception raised"), "{}", failure.message());
        assert_eq!(told(&failure), (1, OURS.to_owned()));
    }

    #[test]
    fn results_and_failures_pass_and_panics_outside_are_left_alone() {
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
        assert_eq!(caught::<()>(|| Err(Failure::usage("no"))).unwrap_err().message(), "no");
        // One inside another: the outer one still is in force behind the inner one.
        let outer = caught::<()>(|| {
            assert!(caught::<()>(|| panic!("inner")).is_err() && CAUGHT.get());
            panic!("outer")
        });
        assert_eq!(outer.unwrap_err().message(), "outer");
        assert!(!CAUGHT.get());
    }
}
