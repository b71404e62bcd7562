//! What ranks tell each other at the end of every backward, in one collective: small numbers, summed and compared in rank order.

use sirocco_comm::Communicator;

use crate::failure::Failure;
use crate::median::median;

/// What one rank knows of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Told {
    /// Its part of Σ loss.
    pub(crate) loss_sum: f64,
    /// Its part of Σ gradient².
    pub(crate) squares: f64,
    /// Seconds of computing, without waiting for others.
    pub(crate) seconds: f64,
    /// Its highest resident memory so far.
    pub(crate) memory: f64,
    /// Whether it was asked to stop.
    pub(crate) stop: bool,
    /// Whether it has done what the checkpoint under way wants of it now.
    pub(crate) settled: bool,
}

impl Told {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [
            self.loss_sum,
            self.squares,
            self.seconds,
            self.memory,
            f64::from(u8::from(self.stop)),
            f64::from(u8::from(self.settled)),
        ];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let numbers: Vec<f64> =
            bytes.chunks_exact(8).filter_map(|eight| Some(f64::from_le_bytes(eight.try_into().ok()?))).collect();
        let [loss_sum, squares, seconds, memory, stop, settled] = numbers[..] else { return None };
        Some(Self { loss_sum, squares, seconds, memory, stop: stop > 0.0, settled: settled > 0.0 })
    }
}

/// What all ranks told, by rank; the same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreed(Vec<Told>);

/// Tells the others and hears them.
pub(crate) fn agree(communicator: &dyn Communicator, own: Told) -> Result<Agreed, Failure> {
    let all = communicator.all_gather_bytes("step", own.to_bytes()).wait().map_err(Failure::collective)?;
    let all: Option<Vec<Told>> = all.iter().map(|bytes| Told::from_bytes(bytes)).collect();
    all.map(Agreed).ok_or_else(|| Failure::failed("the ranks' agreement on a step has another length than was sent"))
}

impl Agreed {
    /// Σ loss over all ranks.
    pub(crate) fn loss_sum(&self) -> f64 {
        self.0.iter().map(|told| told.loss_sum).sum()
    }

    /// The norm of the whole gradient.
    pub(crate) fn norm(&self) -> f64 {
        self.0.iter().map(|told| told.squares).sum::<f64>().sqrt()
    }

    /// Whether any rank was asked to stop.
    pub(crate) fn stop(&self) -> bool {
        self.0.iter().any(|told| told.stop)
    }

    /// Whether every rank has done what the checkpoint under way wants of it now.
    pub(crate) fn all_settled(&self) -> bool {
        self.0.iter().all(|told| told.settled)
    }

    /// Seconds of computing of the rank that took longest.
    pub(crate) fn slowest_seconds(&self) -> f64 {
        self.0.iter().map(|told| told.seconds).fold(0.0, f64::max)
    }

    /// The highest memory, and whose it is.
    pub(crate) fn memory(&self) -> (usize, u64) {
        let highest =
            |best: (usize, f64), (rank, told): (usize, &Told)| if told.memory > best.1 { (rank, told.memory) } else { best };
        let (rank, bytes) = self.0.iter().enumerate().fold((0, 0.0), highest);
        (rank, bytes as u64)
    }

    /// The rank that computes longest, if it takes more than `factor` times the median of the others: with it among them, of two ranks none could
    /// ever take twice as long.
    pub(crate) fn straggler(&self, factor: f64) -> Option<Straggler> {
        let (rank, told) = self.0.iter().enumerate().max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds))?;
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != rank);
        let others: Vec<f64> = others.map(|(_, told)| told.seconds).collect();
        let median_seconds = median(&others)?;
        (told.seconds > factor * median_seconds).then_some(Straggler { rank, seconds: told.seconds, median_seconds })
    }
}

/// A rank that the others wait for.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Straggler {
    pub(crate) rank: usize,
    /// Of computing, in this step.
    pub(crate) seconds: f64,
    /// Of the other ranks.
    pub(crate) median_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seconds: f64, memory: f64) -> Told {
        Told { seconds, memory, loss_sum: 1.5, squares: 4.0, ..Told::default() }
    }

    #[test]
    fn what_is_told_arrives() {
        let own = Told { stop: true, settled: true, ..told(0.25, 1e9) };
        assert_eq!(Told::from_bytes(&own.to_bytes()), Some(own));
        assert_eq!(Told::from_bytes(&[0; 40]), None);
        let agreed = Agreed(vec![own, told(0.25, 2e9)]);
        assert_eq!((agreed.loss_sum(), agreed.norm(), agreed.memory()), (3.0, 8.0f64.sqrt(), (1, 2_000_000_000)));
        assert_eq!(agreed.slowest_seconds(), 0.25);
        assert!(agreed.stop() && !agreed.all_settled());
    }

    #[test]
    fn a_rank_is_slow_beside_the_median() {
        let agreed = |seconds: &[f64]| Agreed(seconds.iter().map(|&seconds| told(seconds, 0.0)).collect());
        assert_eq!(agreed(&[1.0]).straggler(1.5), None);
        assert_eq!(agreed(&[1.0, 1.4]).straggler(1.5), None);
        assert_eq!(agreed(&[1.0, 1.1, 4.0, 0.9]).straggler(1.5), Some(Straggler { rank: 2, seconds: 4.0, median_seconds: 1.0 }));
        assert_eq!(agreed(&[2.0, 1.0]).straggler(1.5), Some(Straggler { rank: 0, seconds: 2.0, median_seconds: 1.0 }));
        assert_eq!(agreed(&[1.0, 3.5, 2.0]).straggler(1.5), Some(Straggler { rank: 1, seconds: 3.5, median_seconds: 1.5 }));
        assert_eq!(agreed(&[1.0, 2.0, 2.2]).straggler(1.5), None, "half way between the others is 1.5 s");
    }
}
