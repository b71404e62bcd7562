//! How fast a rank computes, and how fast ranks reach each other.

use serde::Serialize;

use crate::flops::Flops;

/// Where ranks compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// On cores of the host; ranks of a node share its memory.
    Cpu,
    /// On a GPU of their own.
    Gpu,
}

/// What one rank gets done in a second, for each class of operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Operations per second of products with weights.
    pub products: f64,
    /// The same, of products that make gradients of weights.
    pub gradients: f64,
    /// The same, in attention.
    pub attention: f64,
    /// Bytes per second in products with the factors of LoRA.
    pub factors: f64,
    /// Bytes per second between memory and processor.
    pub memory: f64,
    /// What a whole step reaches of what its parts would reach alone, 0 to 1.
    pub share: f64,
}

impl Rates {
    /// Seconds for so much work.
    pub fn seconds(&self, flops: &Flops) -> f64 {
        let products = flops.products / self.products + flops.gradients / self.gradients;
        let bytes = flops.factors / self.factors + flops.bytes / self.memory;
        (products + flops.attention / self.attention + bytes) / self.share
    }

    /// The rates of one of `ranks` that share what these rates are of.
    #[must_use]
    pub fn divided(&self, ranks: u64) -> Rates {
        let of = |rate: f64| rate / ranks.max(1) as f64;
        let Rates { products, gradients, attention, factors, memory, share } = *self;
        Rates {
            products: of(products),
            gradients: of(gradients),
            attention: of(attention),
            factors: of(factors),
            memory: of(memory),
            share,
        }
    }
}

/// A way from rank to rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Bytes per second in one direction.
    pub bytes_per_s: f64,
    /// Seconds until the first byte arrives.
    pub latency_s: f64,
}

/// Nodes of one kind and the network between them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Where ranks compute.
    pub kind: Kind,
    /// Of each rank.
    pub rates: Rates,
    /// Ranks on a node.
    pub ranks_per_node: u64,
    /// From a rank to others of its node.
    pub within: Link,
    /// From a node to others: its ranks share it.
    pub between: Link,
}

/// Ranks that take part in one collective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ring {
    ranks: f64,
    link: Link,
}

impl Machine {
    /// A group of `size` ranks that stand `stride` apart. On the way between nodes the groups of a node share its adapters.
    pub(crate) fn ring(&self, stride: u64, size: u64) -> Ring {
        let per_node = self.ranks_per_node.max(1);
        let here = (per_node / stride).clamp(1, size);
        let link = if here == size {
            self.within
        } else {
            let shared = self.between.bytes_per_s * here as f64 / per_node as f64;
            let inside = if here == 1 { f64::INFINITY } else { self.within.bytes_per_s };
            Link { bytes_per_s: shared.min(inside), latency_s: self.between.latency_s }
        };
        Ring { ranks: size as f64, link }
    }
}

impl Ring {
    /// Every rank gets what all have, `bytes` in all; or each its part of the sum of what all have, `bytes` on each. Around a ring each
    /// rank sends (n − 1)/n of it, in n − 1 turns.
    pub(crate) fn once(&self, bytes: f64) -> f64 {
        let turns = self.ranks - 1.0;
        if turns <= 0.0 { 0.0 } else { turns / self.ranks * bytes / self.link.bytes_per_s + turns * self.link.latency_s }
    }

    /// Every rank gets the sum of what all have, `bytes` on each: parts of it to each, then all of it to all.
    pub(crate) fn twice(&self, bytes: f64) -> f64 {
        2.0 * self.once(bytes)
    }

    /// A message from one rank to the next.
    pub(crate) fn message(&self, bytes: f64) -> f64 {
        if self.ranks > 1.0 { bytes / self.link.bytes_per_s + self.link.latency_s } else { 0.0 }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Four ranks on a node, 100 GB/s within and 40 GB/s between nodes, a round number of everything else.
    pub(crate) const MACHINE: Machine = Machine {
        kind: Kind::Gpu,
        rates: Rates { products: 1e14, gradients: 1e14, attention: 5e13, factors: 1e12, memory: 1e12, share: 1.0 },
        ranks_per_node: 4,
        within: Link { bytes_per_s: 100e9, latency_s: 0.0 },
        between: Link { bytes_per_s: 40e9, latency_s: 0.0 },
    };

    #[test]
    fn a_ring_goes_through_the_narrowest_place() {
        let seconds = |stride, size| MACHINE.ring(stride, size).once(1e9);
        assert_eq!(seconds(1, 1), 0.0);
        // Three quarters of it pass within a node; seven eighths between two nodes, whose one ring has all the adapters.
        assert!((seconds(1, 4) - 0.75 / 100.0).abs() < 1e-9);
        assert!((seconds(1, 8) - 0.875 / 40.0).abs() < 1e-9);
        // One rank of each of four nodes: four such groups share a node's adapters.
        assert!((seconds(4, 4) - 0.75 / 10.0).abs() < 1e-9);
        assert_eq!(MACHINE.ring(1, 8).twice(1e9), 2.0 * seconds(1, 8));
    }

    #[test]
    fn ranks_of_a_host_share_it() {
        let work = Flops { products: 1e12, gradients: 1e12, attention: 1e12, factors: 1e9, bytes: 1e10 };
        let (whole, half) = (MACHINE.rates.seconds(&work), MACHINE.rates.divided(2).seconds(&work));
        assert!((half - 2.0 * whole).abs() < 1e-12);
        let slower = Rates { share: 0.5, ..MACHINE.rates };
        assert_eq!(slower.seconds(&work), 2.0 * whole);
    }
}
