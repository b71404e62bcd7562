//! What GPUs can do at most, and what of it was seen to be reached: a table, each figure with where it was read.

use serde::Serialize;
use sirocco_config::Dtype;

use crate::machine::{Link, Rates};

/// A figure and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// The figure.
    pub value: f64,
    /// Where it was read, or why it is taken.
    pub source: &'static str,
}

/// A GPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Device {
    /// The name by which people call it.
    pub name: &'static str,
    /// What the kind begins with in a site's profile.
    #[serde(skip)]
    kind: &'static str,
    /// Memory, GB (10⁹ bytes).
    pub memory_gb: u64,
    /// Products in bf16 without sparsity, 10¹² operations per second.
    pub peak_tflops: Fact,
    /// Products in fp32, 10¹² operations per second.
    pub fp32_tflops: Fact,
    /// Of the peak in bf16, what the best product reaches.
    pub product_share: Fact,
    /// Of the peak in bf16, what attention forward and backward reach.
    pub attention_share: Fact,
    /// Memory bandwidth, 10⁹ bytes per second.
    pub bandwidth_gb_s: Fact,
    /// To the other GPUs of the node, 10⁹ bytes per second in one direction.
    pub link_gb_s: Fact,
    /// Most power, watts.
    pub watts: Option<Fact>,
}

/// Of the bandwidth on paper, what plain loops over memory reach: they are rarely long enough for more.
const BANDWIDTH_SHARE: f64 = 0.8;
/// Of a link on paper, what collectives reach.
const LINK_SHARE: f64 = 0.8;
/// What a whole step reaches of what its parts would reach alone: gaps between kernels, clocks under load, shapes that are not the best.
/// The mean of what two published runs reach, one of each generation (`calibrates` in `published.toml`: 0.77 and 0.81); used for all others.
const STEP_SHARE: f64 = 0.79;
/// A message within a node and between nodes, seconds: the order of NCCL's ring steps on NVLink and InfiniBand.
const LATENCIES: [f64; 2] = [4e-6, 10e-6];

/// What a rank on a GPU has before it loads a model: the CUDA context, kernels of libtorch, buffers of NCCL. Assumed: not measured yet.
pub const BASE_BYTES: u64 = 1_500_000_000;

const H100_PAGE: &str = "glennklockwood.com/garden/processors/h100 (2026-11-22), after NVIDIA's H100 white paper";
const A100_PAGE: &str = "upb-pc2.atlassian.net, NVIDIA A100 40GB with NVLINK (2026-11-22)";
const ENGINEERING: &str = "github.com/stas00/ml-engineering, compute/accelerator (2026-11-22)";
const MAMF: &str = "github.com/stas00/ml-engineering, compute/accelerator, best product found (MAMF; 2026-11-22)";
const FLASH_A100: &str = "taken as 0.6: FlashAttention-2 reaches up to 0.73 forward (Dao 2023), less backward";
const FLASH_H100: &str = "335 of 989: the best of FlashAttention-2, which libtorch has, on an H100 (Dao 2023)";

const fn fact(value: f64, source: &'static str) -> Fact {
    Fact { value, source }
}

const HOPPER: Device = Device {
    name: "NVIDIA H100 SXM",
    kind: "H100",
    memory_gb: 80,
    peak_tflops: fact(989.4, H100_PAGE),
    fp32_tflops: fact(66.9, H100_PAGE),
    product_share: fact(0.801, MAMF),
    attention_share: fact(0.34, FLASH_H100),
    bandwidth_gb_s: fact(3350.0, H100_PAGE),
    link_gb_s: fact(450.0, H100_PAGE),
    watts: Some(fact(700.0, H100_PAGE)),
};

const AMPERE: Device = Device {
    name: "NVIDIA A100 SXM, 40 GB",
    kind: "A100",
    memory_gb: 40,
    peak_tflops: fact(312.0, A100_PAGE),
    fp32_tflops: fact(19.5, A100_PAGE),
    product_share: fact(0.859, MAMF),
    attention_share: fact(0.6, FLASH_A100),
    bandwidth_gb_s: fact(1555.0, A100_PAGE),
    link_gb_s: fact(300.0, "NVIDIA A100 data sheet: 600 GB/s of NVLink, half in each direction"),
    watts: Some(fact(400.0, A100_PAGE)),
};

/// Every GPU that is known.
pub const DEVICES: [Device; 7] = [
    HOPPER,
    Device {
        name: "NVIDIA H100, 64 GB",
        memory_gb: 64,
        peak_tflops: fact(989.4, "taken as an H100 SXM's: not published for this one"),
        bandwidth_gb_s: fact(2000.0, "taken as that of NVIDIA's H100 with HBM2e, the PCIe card's: not published for this one"),
        watts: None,
        ..HOPPER
    },
    Device {
        name: "NVIDIA GH200, its Hopper GPU",
        kind: "GH200",
        memory_gb: 96,
        product_share: fact(0.83, MAMF),
        bandwidth_gb_s: fact(4000.0, ENGINEERING),
        watts: None,
        ..HOPPER
    },
    Device { name: "NVIDIA H200 SXM", kind: "H200", memory_gb: 141, bandwidth_gb_s: fact(4800.0, ENGINEERING), ..HOPPER },
    AMPERE,
    Device {
        name: "NVIDIA A100, custom, 64 GB",
        memory_gb: 64,
        peak_tflops: fact(
            358.2,
            "312 × 124/108 multiprocessors, as TOP500's peak of Leonardo has it for fp64: 306.31 PFLOP/s of 13,824 GPUs",
        ),
        bandwidth_gb_s: fact(1555.0, "taken as the 40 GB card's: not published where we could read it"),
        watts: None,
        ..AMPERE
    },
    Device { name: "NVIDIA A100 SXM, 80 GB", memory_gb: 80, bandwidth_gb_s: fact(2000.0, ENGINEERING), ..AMPERE },
];

/// The GPU that a site's profile means.
pub fn device(kind: &str, memory_gb: Option<u64>) -> Option<&'static Device> {
    let same_kind = |device: &&Device| kind.split([',', ' ']).next() == Some(device.kind);
    DEVICES.iter().filter(same_kind).find(|device| memory_gb.is_none_or(|memory| memory == device.memory_gb))
}

impl Device {
    /// Operations per second on paper of products of this type.
    pub fn peak(&self, dtype: Dtype) -> f64 {
        1e12 * match dtype {
            Dtype::Bf16 => self.peak_tflops.value,
            Dtype::Fp32 => self.fp32_tflops.value,
        }
    }

    /// What is reached of it in a run of this type.
    pub fn rates(&self, dtype: Dtype) -> Rates {
        let products = self.peak(dtype) * self.product_share.value;
        Rates {
            products,
            gradients: products,
            attention: (self.peak(Dtype::Bf16) * self.attention_share.value).min(products),
            factors: self.bandwidth_gb_s.value * 1e9 * BANDWIDTH_SHARE,
            memory: self.bandwidth_gb_s.value * 1e9 * BANDWIDTH_SHARE,
            share: STEP_SHARE,
        }
    }

    /// To the other GPUs of its node.
    pub fn within(&self) -> Link {
        Link { bytes_per_s: self.link_gb_s.value * 1e9 * LINK_SHARE, latency_s: LATENCIES[0] }
    }

    /// From its node to others over `ports` adapters of `port_gbit` gigabits per second.
    pub fn between(ports: u64, port_gbit: u64) -> Link {
        Link { bytes_per_s: (ports * port_gbit) as f64 * 1e9 / 8.0 * LINK_SHARE, latency_s: LATENCIES[1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpus_of_the_sites_are_found() {
        let name = |kind, memory| device(kind, memory).map(|device| device.name);
        assert_eq!(name("A100", Some(40)), Some("NVIDIA A100 SXM, 40 GB"));
        assert_eq!(name("A100, custom", Some(64)), Some("NVIDIA A100, custom, 64 GB"));
        assert_eq!(name("GH200, its Hopper GPU", Some(96)), Some("NVIDIA GH200, its Hopper GPU"));
        assert_eq!(name("H100", Some(64)), Some("NVIDIA H100, 64 GB"));
        assert_eq!(name("MI250X, one of its two dies", Some(64)), None);
        assert_eq!(name("A100", Some(41)), None);
    }

    #[test]
    fn every_figure_has_a_source_and_no_part_reaches_more_than_the_peak() {
        for device in &DEVICES {
            let facts =
                [device.peak_tflops, device.bandwidth_gb_s, device.link_gb_s, device.product_share, device.attention_share];
            assert!(facts.iter().all(|fact| fact.source.len() > 20 && fact.value > 0.0), "{}", device.name);
            let rates = device.rates(Dtype::Bf16);
            assert!(rates.products <= device.peak_tflops.value * 1e12 && rates.attention <= rates.products);
            assert!(device.rates(Dtype::Fp32).products < rates.products);
        }
    }
}
