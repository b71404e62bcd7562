//! What the run computes on, at work: all cores of the node, or each of its GPUs. **Not run on a GPU yet.**

use std::thread;
use std::time::Duration;

use sirocco_config::{DeviceMemory, DeviceReport, Product};
use sirocco_model::ops::cuda;
use tch::{Device, Kind};

use super::device_memory;
use super::product::{Known, Measured};
use crate::caught::caught;
use crate::failure::Failure;

/// Sides of the matrices: on a core a product is done well within one turn of its thread, on a GPU it is long enough to fill it.
pub(super) const SIDE_ON_CORE: usize = 128;
pub(super) const SIDE_ON_GPU: usize = 4096;

/// How long each element type is multiplied.
const SPAN: Duration = Duration::from_millis(80);

const KINDS: [(&str, Kind); 2] = [("fp32", Kind::Float), ("bf16", Kind::BFloat16)];

/// All cores that this program may use, each with products of its own at the same time: one that is slow or wrong shows.
pub(super) fn cores() -> Result<DeviceReport, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let known = Known::new(SIDE_ON_CORE);
    let on_core = || caught(|| both(&known, Device::Cpu)).map_err(|failure| failure.message().to_owned());
    let found: Vec<Result<Vec<Measured>, String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| thread::Builder::new().spawn_scoped(scope, on_core)).collect();
        let result = |thread: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err("a thread has died".to_owned())),
            Err(error) => Err(format!("cannot start {cores} threads: {error}")),
        };
        threads.into_iter().map(result).collect()
    });
    let kind = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| maker(&text));
    let failed = found.iter().find_map(|result| result.as_ref().err().cloned());
    let each: Vec<Vec<Measured>> = found.into_iter().flatten().collect();
    Ok(DeviceReport { name: "cpu".to_owned(), kind, products: together(&each), memory: None, failed })
}

/// Every GPU that this program sees, one after the other.
pub(super) fn gpus() -> Result<Vec<DeviceReport>, String> {
    let devices = cuda::devices().map_err(|error| error.to_string())?;
    let known = Known::new(SIDE_ON_GPU);
    Ok((0..devices).map(|ordinal| gpu(ordinal, &known)).collect())
}

fn gpu(ordinal: usize, known: &Known) -> DeviceReport {
    let mut report = DeviceReport { name: format!("cuda:{ordinal}"), ..DeviceReport::default() };
    let tested = caught(|| {
        let gpu = cuda::prepare(ordinal).map_err(Failure::model)?;
        report.kind = Some(gpu.name);
        let free_bytes = cuda::free_memory(ordinal).map_err(Failure::model)?;
        let device = Device::Cuda(ordinal);
        report.products = together(&[both(known, device)?]);
        let (tested_bytes, wrong_words) = device_memory::test(device, device_memory::share(free_bytes))?;
        report.memory = Some(DeviceMemory { bytes: gpu.bytes, free_bytes, tested_bytes, wrong_words });
        Ok(())
    });
    report.failed = tested.err().map(|failure| failure.message().to_owned());
    report
}

fn both(known: &Known, device: Device) -> Result<Vec<Measured>, Failure> {
    // Of this thread; other cores have their own.
    tch::set_num_threads(1);
    KINDS.iter().map(|(_, kind)| known.measure(device, *kind, SPAN)).collect()
}

/// What several cores do at once.
fn together(each: &[Vec<Measured>]) -> Vec<Product> {
    let of_kind = |(index, (dtype, _)): (usize, &(&str, Kind))| {
        let of_cores: Vec<Measured> = each.iter().filter_map(|kinds| kinds.get(index).copied()).collect();
        Product {
            dtype: (*dtype).to_owned(),
            gflops: (of_cores.iter().map(|core| core.per_second).sum::<f64>() / 1e8).round() / 10.0,
            rows: of_cores.iter().map(|core| core.rows).sum(),
            wrong_rows: of_cores.iter().map(|core| core.wrong_rows).sum(),
        }
    };
    KINDS.iter().enumerate().map(of_kind).collect()
}

/// The name of the first processor; Arm's have none there.
fn maker(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_add_up() {
        let core = |per_second, wrong_rows| Measured { per_second, rows: 512, wrong_rows };
        let products = together(&[vec![core(40e9, 0), core(60e9, 0)], vec![core(42e9, 0), core(61.5e9, 3)]]);
        assert_eq!((products[0].dtype.as_str(), products[0].gflops, products[0].wrong_rows), ("fp32", 82.0, 0));
        assert_eq!((products[1].dtype.as_str(), products[1].gflops, products[1].wrong_rows), ("bf16", 121.5, 3));
        assert_eq!(products[1].rows, 1024);
    }

    #[test]
    fn a_processor_is_called_what_its_maker_calls_it() {
        assert_eq!(maker("processor\t: 0\nmodel name\t: A fast one\nmodel name\t: B\n").as_deref(), Some("A fast one"));
        assert_eq!(maker("processor\t: 0\nBogoMIPS\t: 2000\n"), None);
    }
}
