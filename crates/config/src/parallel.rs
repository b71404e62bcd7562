//! `[parallel]`: the mesh, what is traded for memory, and whether both fit a number of ranks and the sizes of a model.
use serde::Serialize;

use crate::error::ConfigError;
use crate::place::Place;

/// More ranks than any run of this program has; keeps products of axes far from overflow.
pub(crate) const MOST_RANKS: u64 = 1 << 16;

/// `[parallel]`: the mesh, and what is traded for memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parallel {
    /// Replicas of the weights, each with a share of the batch.
    pub dp: u64,
    /// Ranks that hold the weights of a replica together, each a piece, and share its part of the batch.
    pub fsdp: u64,
    /// Ranks that share each matrix product.
    pub tp: u64,
    /// Stages: ranks that share the layers.
    pub pp: u64,
    /// What a block forgets in forward and computes again in backward.
    pub recompute: Recompute,
    /// Gradients are reduced over the ranks in buckets of this many MiB, each as soon as it is full.
    pub bucket_mb: u64,
    /// Seconds that a collective may stand still before it is an error, 1 to 86400.
    pub timeout_s: u64,
}

/// What a block forgets in forward and computes again in backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing.
    None,
    /// What attention keeps.
    Attention,
    /// Everything but its input.
    Full,
}

/// The sizes of a model that a mesh has to fit, as its config.json says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSizes {
    /// Transformer blocks.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; each is replicated on tp ÷ `kv_heads` ranks where tp exceeds them.
    pub kv_heads: u64,
    /// Width between the feed-forward projections.
    pub intermediate: u64,
    /// Rows of the embedding.
    pub vocabulary: u64,
}

impl Parallel {
    /// Ranks of the mesh: the product of its axes, at most 65536 in a checked run.
    pub fn ranks(&self) -> u64 {
        self.pp * self.dp * self.fsdp * self.tp
    }

    /// Ranks that read data of their own: dp × fsdp. The global batch is divided among them; tp and pp ranks see the same data.
    pub fn data_ranks(&self) -> u64 {
        self.dp * self.fsdp
    }

    /// The product as messages spell it: `pp × dp × fsdp × tp = 1 × 2 × 2 × 2 = 8`.
    pub fn product(&self) -> String {
        let Parallel { pp, dp, fsdp, tp, .. } = self;
        format!("pp × dp × fsdp × tp = {pp} × {dp} × {fsdp} × {tp} = {}", self.ranks())
    }

    /// Compares the mesh with the ranks that were started; `at` is where the mesh stands.
    ///
    /// # Errors
    /// [`ConfigError::Ranks`] with the product spelled out.
    pub fn check_ranks(&self, started: u64, at: Place) -> Result<(), ConfigError> {
        if started == self.ranks() {
            return Ok(());
        }
        Err(ConfigError::Ranks { at, product: self.product(), started })
    }

    /// Compares the mesh with the sizes of a model; `at` says where a setting such as `parallel.tp` was typed.
    ///
    /// # Errors
    /// [`ConfigError::TensorAxis`] or [`ConfigError::PipelineAxis`], with the values that would fit.
    pub fn check_model(&self, sizes: &ModelSizes, at: impl Fn(&str) -> Place) -> Result<(), ConfigError> {
        if !sizes.fit(self.tp) {
            let works = (1..=sizes.heads.min(MOST_RANKS)).filter(|tp| sizes.fit(*tp)).collect();
            return Err(ConfigError::TensorAxis { at: at("parallel.tp"), tp: self.tp, sizes: *sizes, works });
        }
        if self.pp > sizes.layers {
            return Err(ConfigError::PipelineAxis { at: at("parallel.pp"), pp: self.pp, layers: sizes.layers });
        }
        Ok(())
    }
}

impl ModelSizes {
    /// Whether `tp` ranks can share each matrix product.
    fn fit(&self, tp: u64) -> bool {
        let whole = [self.heads, self.intermediate, self.vocabulary].iter().all(|size| size.is_multiple_of(tp));
        whole && (self.kv_heads.is_multiple_of(tp) || tp.is_multiple_of(self.kv_heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: ModelSizes = ModelSizes { layers: 30, heads: 9, kv_heads: 3, intermediate: 1536, vocabulary: 49152 };
    const LARGE: ModelSizes = ModelSizes { layers: 88, heads: 96, kv_heads: 8, intermediate: 28672, vocabulary: 32768 };

    fn mesh(pp: u64, dp: u64, fsdp: u64, tp: u64) -> Parallel {
        Parallel { dp, fsdp, tp, pp, recompute: Recompute::None, bucket_mb: 25, timeout_s: 300 }
    }

    fn message(mesh: &Parallel, sizes: &ModelSizes) -> String {
        mesh.check_model(sizes, |setting| Place::Override(setting.to_owned())).unwrap_err().to_string()
    }

    #[test]
    fn the_product_is_spelled_out() {
        assert_eq!(mesh(1, 2, 2, 2).product(), "pp × dp × fsdp × tp = 1 × 2 × 2 × 2 = 8");
        assert!(mesh(2, 1, 1, 3).check_ranks(6, Place::Option("--ranks")).is_ok());
        let error = mesh(1, 2, 2, 2).check_ranks(4, Place::File("runs/x/run.toml".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "runs/x/run.toml: the mesh has pp × dp × fsdp × tp = 1 × 2 × 2 × 2 = 8 ranks: found 4 ranks started"
        );
    }

    #[test]
    fn a_mesh_that_does_not_divide_the_model_is_told_what_would() {
        assert_eq!(
            message(&mesh(1, 1, 1, 2), &SMALL),
            "--set parallel.tp: [parallel] tp = 2: expected a divisor of the model's 9 heads, feed-forward width 1536 and \
             vocabulary 49152 that divides its 3 key/value heads or is a multiple of them: 1 or 3"
        );
        assert!(message(&mesh(1, 1, 1, 12), &LARGE).ends_with(": 1, 2, 4, 8, 16 or 32"), "12 divides neither 8 nor the width");
        assert_eq!(
            message(&mesh(31, 1, 1, 3), &SMALL),
            "--set parallel.pp: [parallel] pp = 31: expected at most the model's 30 layers: 1 to 30"
        );
        assert!(mesh(30, 7, 5, 3).check_model(&SMALL, |_| Place::Option("")).is_ok(), "dp and fsdp need not divide anything");
        assert!(mesh(1, 1, 1, 16).check_model(&LARGE, |_| Place::Option("")).is_ok(), "key/value heads are replicated");
    }

    proptest! {
        #[test]
        fn the_values_that_are_offered_work_and_no_sizes_make_it_panic(
            sizes in (0u64..200, 0u64..200, 0u64..40, 0u64..400, 0u64..400), tp in 1u64..100, pp in 1u64..100,
        ) {
            let (layers, heads, kv_heads, intermediate, vocabulary) = sizes;
            let sizes = ModelSizes { layers, heads, kv_heads, intermediate, vocabulary };
            if let Err(ConfigError::TensorAxis { works, .. }) = mesh(pp, 1, 1, tp).check_model(&sizes, |_| Place::Option("")) {
                prop_assert!(!works.contains(&tp));
                for tp in works {
                    let again = mesh(1, 1, 1, tp).check_model(&sizes, |_| Place::Option(""));
                    let refused = matches!(again, Err(ConfigError::TensorAxis { .. }));
                    prop_assert!(!refused, "tp = {}", tp);
                }
            }
        }
    }
}
