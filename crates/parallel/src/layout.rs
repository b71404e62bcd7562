//! What each rank of a mesh holds of a model: layers, slices, pieces; and who holds the same. Pure arithmetic.

use std::ops::Range;

use sirocco_model::{ModelConfig, Placement, Slice};

use crate::ParallelError;
use crate::mesh::{Axis, Mesh};
use crate::pipeline::balance;
use crate::tensor::{self, CutSizes};

/// The embedding's name; with a tied head, the last stage holds it, too.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A model laid out on a mesh.
#[derive(Debug, Clone)]
pub struct Layout {
    mesh: Mesh,
    sizes: CutSizes,
    tied: bool,
    /// By stage.
    layers: Vec<Range<usize>>,
}

impl Layout {
    /// Lays a model out; layers go to stages so that the most expensive stage costs least.
    ///
    /// # Errors
    /// More stages than layers; a tp axis that does not divide what it splits.
    pub fn new(mesh: Mesh, config: &ModelConfig) -> Result<Self, ParallelError> {
        let tp = mesh.tp;
        let &ModelConfig { heads, kv_heads, intermediate, vocabulary, .. } = config;
        let divides = |size: i64| size % tp as i64 == 0;
        let shared = tp as i64 % kv_heads == 0;
        if !([heads, intermediate, vocabulary].into_iter().all(divides) && (divides(kv_heads) || shared)) {
            return Err(ParallelError::Tensor { tp, heads, kv_heads, intermediate, vocabulary });
        }
        let layers = costs(config).layers_of_stages(config.layers, mesh.pp);
        let layers = layers.ok_or(ParallelError::Stages { stages: mesh.pp, layers: config.layers })?;
        Ok(Self { mesh, sizes: CutSizes::from(config), tied: config.tied, layers })
    }

    /// The mesh.
    pub fn mesh(&self) -> Mesh {
        self.mesh
    }

    /// The layers of each stage.
    pub fn layers(&self) -> &[Range<usize>] {
        &self.layers
    }

    /// What `rank` holds.
    pub fn of_rank(&self, rank: usize) -> Held<'_> {
        Held { layout: self, rank }
    }
}

/// Tokens that a token attends to, in the estimate of a block's cost: the layout must not depend on the data.
const ATTENDED: u64 = 1024;

fn costs(config: &ModelConfig) -> balance::Costs {
    let [hidden, heads, kv_heads, head_dim, intermediate, vocabulary] =
        [config.hidden, config.heads, config.kv_heads, config.head_dim, config.intermediate, config.vocabulary]
            .map(i64::unsigned_abs);
    balance::Costs::of(&balance::CostSizes { hidden, heads, kv_heads, head_dim, intermediate, vocabulary, attended: ATTENDED })
}

/// Piece `index` of `count` of so many elements: equal chunks, the last ones shorter or empty.
pub(crate) fn piece(elements: usize, index: usize, count: usize) -> Range<usize> {
    let chunk = elements.div_ceil(count);
    (chunk * index).min(elements)..(chunk * (index + 1)).min(elements)
}

/// What one rank holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    layout: &'a Layout,
    rank: usize,
}

impl Held<'_> {
    /// The elements of a slice (flat, row-major) that are this rank's piece of it.
    pub fn piece(&self, slice: &Slice) -> Range<usize> {
        let elements = slice.shape().iter().product::<i64>() as usize;
        piece(elements, self.layout.mesh.coordinate(self.rank).fsdp, self.layout.mesh.fsdp)
    }

    /// Whether a slice of so many elements is in one piece: the same on every rank, also where a rank's piece is empty.
    pub fn in_one_piece(&self, elements: usize) -> bool {
        let count = self.layout.mesh.fsdp;
        piece(elements, count - 1, count).len() == elements
    }

    /// The ranks (rising) that hold the same piece of the tensor `name`: gradients are summed over them.
    pub fn replicas(&self, name: &str, slice: &Slice) -> Vec<usize> {
        let mesh = self.layout.mesh;
        let own = mesh.coordinate(self.rank);
        let same_slice = |tp: usize| tensor::slice(&self.layout.sizes, name, &slice.full, (tp, mesh.tp)) == *slice;
        let holds = |pp: usize| pp == own.pp || (self.layout.tied && name == EMBEDDING && (pp == 0 || pp + 1 == mesh.pp));
        let others = mesh.group(self.rank, &[Axis::Pp, Axis::Dp, Axis::Tp]).into_iter();
        let held = others.filter(|&other| {
            let other = mesh.coordinate(other);
            holds(other.pp) && same_slice(other.tp)
        });
        held.collect()
    }
}

impl Placement for Held<'_> {
    fn layers(&self, _: usize) -> Range<usize> {
        self.layout.layers[self.layout.mesh.coordinate(self.rank).pp].clone()
    }

    fn slice(&self, name: &str, full: &[i64]) -> Slice {
        let mesh = self.layout.mesh;
        tensor::slice(&self.layout.sizes, name, full, (mesh.coordinate(self.rank).tp, mesh.tp))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(name: &str) -> ModelConfig {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(name);
        ModelConfig::from_json(&std::fs::read_to_string(directory.join("config.json")).unwrap()).unwrap()
    }

    #[test]
    fn pieces_are_equal_chunks_that_tile() {
        assert_eq!((0..3).map(|index| piece(10, index, 3)).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
        assert_eq!((0..4).map(|index| piece(2, index, 4)).collect::<Vec<_>>(), [0..1, 1..2, 2..2, 2..2]);
        let layout = |fsdp| Layout::new(Mesh::new(1, 1, fsdp, 1).unwrap(), &config("tiny-mistral")).unwrap();
        // Of one element, the first rank holds all there is, and yet the others must be sent it.
        assert!(layout(1).of_rank(0).in_one_piece(1) && !layout(2).of_rank(0).in_one_piece(1));
    }

    #[test]
    fn replicas_are_those_that_hold_the_same_piece() {
        let layout = Layout::new(Mesh::new(1, 2, 2, 2).unwrap(), &config("tiny-mistral")).unwrap();
        let held = layout.of_rank(3);
        let replicas = |name: &str, full: &[i64]| held.replicas(name, &held.slice(name, full));
        // Rank 3 stands at dp 0, fsdp 1, tp 1: split weights are repeated along dp alone, norms along tp, too.
        assert_eq!(replicas("model.layers.0.mlp.up_proj.weight", &[96, 48]), [3, 7]);
        assert_eq!(replicas("model.norm.weight", &[48]), [2, 3, 6, 7]);
    }

    #[test]
    fn a_tied_embedding_is_repeated_on_the_first_and_the_last_stage() {
        let config = config("tiny-mistral-tied");
        let layout = Layout::new(Mesh::new(2, 1, 1, 2).unwrap(), &config).unwrap();
        let held = layout.of_rank(2);
        let full = [config.vocabulary, config.hidden];
        assert_eq!(held.replicas(EMBEDDING, &held.slice(EMBEDDING, &full)), [0, 2]);
    }

    #[test]
    fn a_tp_axis_that_cuts_a_head_is_refused() {
        let error = Layout::new(Mesh::new(1, 1, 1, 3).unwrap(), &config("tiny-mistral")).unwrap_err().to_string();
        assert!(error.starts_with("tp = 3: expected a divisor of 4 heads, 112 feed-forward and 320 vocabulary"), "{error}");
    }

    #[test]
    fn more_stages_than_layers_are_refused() {
        let config = config("tiny-mistral");
        let error = Layout::new(Mesh::new(config.layers + 1, 1, 1, 1).unwrap(), &config).unwrap_err().to_string();
        assert_eq!(error, format!("pp = {}: expected at most the {} layers of the model", config.layers + 1, config.layers));
    }
}
