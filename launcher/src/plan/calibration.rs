//! What `make bench` measured of this machine, if it ran here.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sirocco_config::{Dtype, environment};
use sirocco_plan::{Link, Rates};

/// The file, under the directory of caches.
const FILE: &str = "sirocco/calibration.json";

/// The version of the file that this program reads; benches/calibration.py writes it.
const FORMAT: u64 = 2;

/// What it says. Rates are of all cores together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    format: u64,
    /// When, as people write it.
    pub(crate) measured: String,
    pub(crate) processor: String,
    pub(crate) cores: u64,
    pub(crate) bf16: Products,
    pub(crate) fp32: Products,
    /// 10⁹ operations per second in attention.
    pub(crate) attention_gflops: f64,
    /// 10⁹ bytes per second in products with the factors of LoRA.
    pub(crate) factors_gb_s: f64,
    /// 10⁹ bytes per second between memory and processor.
    pub(crate) memory_gb_s: f64,
    /// What a whole LoRA step reached of what these let expect, on one rank with all cores.
    pub(crate) step_share: f64,
    /// The same where each core is a rank: its thread waits for no other.
    pub(crate) thread_share: f64,
    /// 10⁹ bytes per second from rank to rank.
    pub(crate) link_gb_s: f64,
    /// 10⁹ bytes per second of a checkpoint that somebody waits for.
    pub(crate) disk_gb_s: Option<f64>,
    /// What a rank has before it loads a model.
    pub(crate) base_bytes: u64,
}

/// What every version of the file begins with.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

/// 10⁹ operations per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Products {
    /// Of products with weights.
    pub(crate) products_gflops: f64,
    /// Of products that make gradients.
    pub(crate) gradients_gflops: f64,
}

/// The figures, or why there are none.
pub(crate) fn calibration(cores: u64) -> Result<(Calibration, String), String> {
    const NOT: &str = "not calibrated: run make bench";
    let path = path().ok_or(NOT)?;
    let text = std::fs::read_to_string(&path).map_err(|_| NOT)?;
    let shown = path.display().to_string();
    let wrong = |error: serde_json::Error| format!("{NOT} again: {shown}: {error}");
    let Version { format } = serde_json::from_str(&text).map_err(wrong)?;
    if format != FORMAT {
        return Err(format!("{NOT} again: {shown} has format {format}, expected {FORMAT}"));
    }
    let read: Calibration = serde_json::from_str(&text).map_err(wrong)?;
    if read.cores != cores {
        return Err(format!("{NOT} again: {shown} is of {} cores, and there are {cores}", read.cores));
    }
    if !read.is_sound() {
        return Err(format!("{NOT} again: {shown} has a rate that is not above zero"));
    }
    Ok((read, shown))
}

fn path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set(environment::CACHE_HOME.name).or_else(|| Some(set(environment::HOME.name)?.join(".cache")));
    Some(caches?.join(FILE))
}

impl Calibration {
    fn is_sound(&self) -> bool {
        let Calibration { bf16, fp32, attention_gflops, factors_gb_s, memory_gb_s, step_share, thread_share, link_gb_s, .. } =
            *self;
        let products = [bf16, fp32].into_iter().flat_map(|of| [of.products_gflops, of.gradients_gflops]);
        let shares = [step_share, thread_share];
        let others = [attention_gflops, factors_gb_s, memory_gb_s, link_gb_s, self.disk_gb_s.unwrap_or(1.0)];
        products.chain(shares).chain(others).all(|rate| rate.is_finite() && rate > 0.0)
    }

    /// Of one of `ranks` that share all cores.
    pub(crate) fn rates(&self, dtype: Dtype, ranks: u64) -> Rates {
        let Products { products_gflops, gradients_gflops } = match dtype {
            Dtype::Bf16 => self.bf16,
            Dtype::Fp32 => self.fp32,
        };
        Rates {
            products: products_gflops * 1e9,
            gradients: gradients_gflops * 1e9,
            attention: self.attention_gflops * 1e9,
            factors: self.factors_gb_s * 1e9,
            memory: self.memory_gb_s * 1e9,
            share: self.share((self.cores / ranks.max(1)).max(1)),
        }
        .divided(ranks)
    }

    /// The share of a rank with so many threads. What a step loses grows with the threads that wait for each other: both ends were measured, and a
    /// straight line of the time lies between them.
    fn share(&self, threads: u64) -> f64 {
        let more = self.cores.saturating_sub(1).max(1) as f64;
        let far = (threads - 1) as f64 / more;
        1.0 / ((1.0 - far) / self.thread_share + far / self.step_share)
    }

    /// From rank to rank of this machine.
    pub(crate) fn link(&self) -> Link {
        // What one message costs beside its bytes does not show at the sizes of a step.
        Link { bytes_per_s: self.link_gb_s * 1e9, latency_s: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_with_some_of_the_cores_lies_between_one_and_all() {
        let products = Products { products_gflops: 400.0, gradients_gflops: 400.0 };
        let four = Calibration {
            format: FORMAT,
            measured: String::new(),
            processor: String::new(),
            cores: 4,
            bf16: products,
            fp32: products,
            attention_gflops: 1.0,
            factors_gb_s: 1.0,
            memory_gb_s: 1.0,
            step_share: 0.5,
            thread_share: 0.8,
            link_gb_s: 1.0,
            disk_gb_s: None,
            base_bytes: 1,
        };
        let share = |ranks| four.rates(Dtype::Bf16, ranks).share;
        assert_eq!([share(1), share(4), share(8)], [0.5, 0.8, 0.8], "more ranks than cores have a thread each");
        assert!(share(2) > 0.5 && share(2) < 0.8);
        assert_eq!(four.rates(Dtype::Bf16, 4).products, 100e9);
    }
}
