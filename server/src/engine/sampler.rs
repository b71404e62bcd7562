//! From one row of logits to the next token, and the log probabilities that go with it. All arithmetic is in 64 bits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::EngineError;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// 0 takes the most probable token.
    pub(crate) temperature: f64,
    /// The most probable tokens that together reach this probability are candidates.
    pub(crate) top_p: f64,
    /// Makes the choice reproducible.
    pub(crate) seed: Option<u64>,
}

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    generator: ChaCha8Rng,
}

/// The log probability of a token and of the most probable ones in its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    /// Natural logarithm of the token's probability at temperature 1.
    pub(crate) logprob: f64,
    /// The most probable tokens with their log probabilities, best first.
    pub(crate) top: Vec<(u32, f64)>,
}

impl Sampler {
    /// A sampler with its own generator.
    pub(crate) fn new(sampling: Sampling) -> Sampler {
        let generator = match sampling.seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::from_os_rng(),
        };
        Sampler { sampling, generator }
    }

    /// The next token for `logits` [V].
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let best = most_probable(logits)?;
        if self.sampling.temperature == 0.0 {
            return Ok(best);
        }
        let highest = f64::from(logits[best as usize]);
        let weights: Vec<f64> = logits.iter().map(|&x| ((f64::from(x) - highest) / self.sampling.temperature).exp()).collect();
        // 53 random bits, the precision of an f64 in [0, 1).
        let uniform = (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Ok(if self.sampling.top_p < 1.0 {
            draw(nucleus(&weights, self.sampling.top_p).into_iter(), uniform)
        } else {
            draw(weights.iter().enumerate().map(|(id, &weight)| (id as u32, weight)), uniform)
        }
        .unwrap_or(best))
    }
}

/// The log probability of `id` and the `count` best tokens of `logits` [V].
pub(crate) fn score(logits: &[f32], id: u32, count: usize) -> Result<Score, EngineError> {
    if id as usize >= logits.len() {
        return Err(EngineError::TokenOutOfRange { id, vocabulary: logits.len() });
    }
    let best = most_probable(logits)?;
    let highest = f64::from(logits[best as usize]);
    let total: f64 = logits.iter().map(|&x| (f64::from(x) - highest).exp()).sum();
    let normaliser = highest + total.ln();
    let logprob_of = |id: u32| f64::from(logits[id as usize]) - normaliser;
    let count = count.min(logits.len());
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if count > 0 {
        ids.select_nth_unstable_by(count - 1, by_logit);
    }
    ids.truncate(count);
    ids.sort_unstable_by(by_logit);
    Ok(Score { logprob: logprob_of(id), top: ids.into_iter().map(|id| (id, logprob_of(id))).collect() })
}

/// The first of the tokens with the highest logit. Logits that are not numbers, or all minus infinity, are an error.
fn most_probable(logits: &[f32]) -> Result<u32, EngineError> {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(EngineError::NotFinite { id: id as u32, found: logit });
        }
        if logit > logits[best] {
            best = id;
        }
    }
    match logits.get(best) {
        Some(&logit) if logit.is_finite() => Ok(best as u32),
        other => Err(EngineError::NotFinite { id: best as u32, found: other.copied().unwrap_or(f32::NAN) }),
    }
}

/// The most probable tokens that together reach `top_p` of the weight, best first; at least one.
fn nucleus(weights: &[f64], top_p: f64) -> Vec<(u32, f64)> {
    let total: f64 = weights.iter().sum();
    // All tokens below this floor together weigh less than what may be left out, so they need not be sorted.
    let floor = (1.0 - top_p) * total / weights.len() as f64;
    let mut candidates: Vec<(u32, f64)> =
        weights.iter().enumerate().filter(|(_, w)| **w >= floor).map(|(id, &w)| (id as u32, w)).collect();
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut reached = 0.0;
    let enough = candidates.iter().position(|(_, weight)| {
        reached += weight;
        reached >= top_p * total
    });
    if let Some(last) = enough {
        candidates.truncate(last + 1);
    }
    candidates
}

/// The candidate at `uniform` ∈ [0, 1) of the cumulated weights.
fn draw(candidates: impl Iterator<Item = (u32, f64)> + Clone, uniform: f64) -> Option<u32> {
    let total: f64 = candidates.clone().map(|(_, weight)| weight).sum();
    let mut left = uniform * total;
    let mut last = None;
    for (id, weight) in candidates {
        if weight > 0.0 {
            last = Some(id);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_p: f64, seed: u64) -> Sampler {
        Sampler::new(Sampling { temperature, top_p, seed: Some(seed) })
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_best() {
        assert_eq!(sampler(0.0, 1.0, 0).choose(&[0.0, 3.0, 3.0, -1.0]).unwrap(), 1);
        assert_eq!(sampler(1e-300, 0.5, 0).choose(&[0.0, 3.0, 2.9]).unwrap(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let tokens = |seed| {
            let mut sampler = sampler(1.0, 0.9, seed);
            (0..40).map(|_| sampler.choose(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(tokens(7), tokens(7));
        assert_ne!(tokens(7), tokens(8));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let mut sampler = sampler(1.0, 1.0, 1);
        let mut counts = [0u32; 3];
        for _ in 0..20_000 {
            counts[sampler.choose(&logits).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000.0, 6_000.0, 4_000.0]) {
            assert!((f64::from(*count) - expected).abs() < 300.0, "{counts:?}");
        }
    }

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        let ids = |top_p| nucleus(&[0.1, 0.5, 0.1, 0.3], top_p).into_iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(ids(0.0), [1]);
        assert_eq!(ids(0.5), [1]);
        assert_eq!(ids(0.6), [1, 3]);
        assert_eq!(ids(0.85), [1, 3, 0]);
        let mut sampler = sampler(5.0, 0.5, 3);
        assert!((0..200).all(|_| sampler.choose(&[0.0, 20.0, 0.0]).unwrap() == 1));
    }

    #[test]
    fn scores_are_log_probabilities() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.2].iter().map(|p| p.ln() + 4.0).collect();
        let score = score(&logits, 2, 2).unwrap();
        assert!((score.logprob - 0.2f64.ln()).abs() < 1e-6);
        assert_eq!(score.top.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1]);
        assert!((score.top[1].1 - 0.3f64.ln()).abs() < 1e-6);
        assert!(super::score(&logits, 3, 0).is_err());
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error() {
        assert!(sampler(0.0, 1.0, 0).choose(&[0.0, f32::NAN]).is_err());
        assert!(sampler(1.0, 1.0, 0).choose(&[f32::NEG_INFINITY; 3]).is_err());
        assert!(sampler(1.0, 1.0, 0).choose(&[]).is_err());
        assert!(score(&[f32::INFINITY, 0.0], 0, 1).is_err());
    }
}
