//! Which meshes a model and a batch allow, and which stage of a pipeline takes which layers.

use sirocco_config::{Parallel, Place, Recompute};
use thiserror::Error;

use crate::model::Model;
use crate::work::Work;

/// Why there is nothing to plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A mesh that cuts a head, or has more stages than there are layers.
    #[error("{0}")]
    Mesh(String),
    /// Ranks over which the global batch cannot be divided.
    #[error(
        "global_batch = {global_batch} in micro-batches of {micro_batch}: found {data_ranks} ranks with data of their own, expected a \
         number that divides {} micro-batches", global_batch / micro_batch
    )]
    Batch {
        /// Sequences of a step.
        global_batch: u64,
        /// Sequences of a forward.
        micro_batch: u64,
        /// dp × fsdp.
        data_ranks: u64,
    },
}

/// Tokens that a token attends to, where layers are given to stages: the same number as in `crates/parallel/src/layout.rs`.
const ATTENDED: u64 = 1024;

/// The number of layers of each stage: the most expensive stage costs as little as possible, and later stages take what is left over, as
/// `crates/parallel/src/pipeline/balance.rs` divides them. `tests/plan.rs` compares the two through the programs.
///
/// All blocks cost the same, so a layer at a time goes to the stage that costs least so far (the last of equals). `pp` is at least 1 and at
/// most the number of layers.
pub fn layers_of_stages(model: &Model, pp: u64) -> Vec<u64> {
    let weights: u64 = model.linears(1).iter().map(|linear| 2 * linear.elements()).sum();
    let block = u128::from(weights + 4 * ATTENDED * model.heads * model.head_dim);
    let stages = pp.clamp(1, model.layers.max(1)) as usize;
    let mut costs = vec![block; stages];
    costs[0] += u128::from(model.hidden);
    costs[stages - 1] += u128::from(2 * model.vocabulary * model.hidden);
    let mut layers = vec![1; stages];
    for _ in stages as u64..model.layers {
        let least = (0..stages).rev().min_by_key(|stage| costs[*stage]).unwrap_or(0);
        costs[least] += block;
        layers[least] += 1;
    }
    layers
}

/// Refuses a mesh that does not fit the model or the batch.
///
/// # Errors
/// Both variants of [`PlanError`].
pub fn expect_legal(model: &Model, work: &Work, parallel: &Parallel) -> Result<(), PlanError> {
    let fits = parallel.check_model(&model.sizes(), |setting| Place::Override(setting.to_owned()));
    fits.map_err(|error| PlanError::Mesh(error.to_string()))?;
    let (global_batch, micro_batch, data_ranks) = (work.global_batch, work.micro_batch, parallel.data_ranks());
    if !global_batch.is_multiple_of(micro_batch * data_ranks) {
        return Err(PlanError::Batch { global_batch, micro_batch, data_ranks });
    }
    Ok(())
}

/// Every mesh of `ranks` ranks, `per_node` of them on a node, that fits the model and the batch, with each choice of recomputation. What is
/// not an axis is as in `like`. The ranks of a tp axis talk within every product, so they stay within a node.
pub fn legal(model: &Model, work: &Work, like: &Parallel, (ranks, per_node): (u64, u64)) -> Vec<Parallel> {
    let divisors = |number: u64| (1..=number).filter(move |divisor| number.is_multiple_of(*divisor));
    let mut found = Vec::new();
    for tp in divisors(ranks).filter(|tp| per_node.is_multiple_of(*tp)) {
        for pp in divisors(ranks / tp).take_while(|pp| *pp <= model.layers) {
            for fsdp in divisors(ranks / tp / pp) {
                let dp = ranks / tp / pp / fsdp;
                let mesh = Parallel { dp, fsdp, tp, pp, ..like.clone() };
                if expect_legal(model, work, &mesh).is_ok() {
                    let choices = [Recompute::None, Recompute::Attention, Recompute::Full];
                    found.extend(choices.map(|recompute| Parallel { recompute, ..mesh.clone() }));
                }
            }
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::tests::{LARGE, SEVEN, SMALL};
    use crate::work::tests::lora;

    /// A mesh by its axes.
    pub(crate) fn mesh(pp: u64, dp: u64, fsdp: u64, tp: u64) -> Parallel {
        Parallel { dp, fsdp, tp, pp, recompute: Recompute::None, bucket_mb: 25, timeout_s: 300 }
    }

    #[test]
    fn an_expensive_head_takes_layers_off_the_last_stage() {
        // The divisions that the tests of `crates/parallel` hold for blocks without attention are those of this one, too.
        assert_eq!(layers_of_stages(&SMALL, 1), [30]);
        assert_eq!(layers_of_stages(&SMALL, 2), [18, 12]);
        assert_eq!(layers_of_stages(&SEVEN, 4), [8, 8, 8, 8]);
        assert_eq!(layers_of_stages(&LARGE, 88), vec![1; 88]);
        assert_eq!(layers_of_stages(&SEVEN, 3).iter().sum::<u64>(), 32);
    }

    #[test]
    fn a_mesh_must_fit_model_batch_and_node() {
        let meshes = legal(&SMALL, &lora(), &mesh(1, 1, 1, 1), (2, 2));
        // Nine heads cannot be shared by two; four micro-batches can.
        let shapes: Vec<_> = meshes.iter().map(|mesh| (mesh.pp, mesh.dp, mesh.fsdp, mesh.tp)).collect();
        assert_eq!(shapes.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert!(shapes.iter().all(|(.., tp)| *tp == 1) && shapes.contains(&(2, 1, 1, 1)) && meshes.len() == 9);
        assert!(legal(&SEVEN, &lora(), &mesh(1, 1, 1, 1), (8, 4)).iter().all(|mesh| mesh.tp <= 4));
        let wide = expect_legal(&SMALL, &lora(), &mesh(1, 8, 1, 1)).unwrap_err();
        assert_eq!(
            wide.to_string(),
            "global_batch = 8 in micro-batches of 2: found 8 ranks with data of their own, expected a number that divides 4 micro-batches"
        );
        assert!(matches!(expect_legal(&SMALL, &lora(), &mesh(1, 1, 1, 2)), Err(PlanError::Mesh(_))));
    }
}
