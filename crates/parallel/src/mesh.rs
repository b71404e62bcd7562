//! The mesh: the ranks of a run arranged along named axes. Every group of ranks and every share of the data follows from it.
//!
//! Ranks are numbered in row-major order of (pp, dp, fsdp, tp): `rank = ((pp·DP + dp)·FSDP + fsdp)·TP + tp`. MPI fills one node after
//! another, so tp, which talks most, stays inside a node, and dp, which talks once a step, spans nodes.
//!
//! "Axis" is a word for the mesh; a tensor has dims.

use std::fmt;

use thiserror::Error;

/// What a mesh is divided along; in the order of ranks, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// Pipeline stages: ranks hold different layers.
    Pp,
    /// Data parallelism: ranks hold the same weights and read different data.
    Dp,
    /// Fully sharded data parallelism: ranks hold different pieces of the same weights and read different data.
    Fsdp,
    /// Tensor parallelism: ranks hold different slices of the same weights and work on the same data.
    Tp,
}

impl Axis {
    /// Every axis, outermost first.
    pub const ALL: [Axis; 4] = [Axis::Pp, Axis::Dp, Axis::Fsdp, Axis::Tp];

    /// The name that `[parallel]` of a run file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Pp => "pp",
            Axis::Dp => "dp",
            Axis::Fsdp => "fsdp",
            Axis::Tp => "tp",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a rank stands: its place on each axis, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinate {
    /// Pipeline stage.
    pub pp: usize,
    /// Which replica.
    pub dp: usize,
    /// Which piece of each weight.
    pub fsdp: usize,
    /// Which slice of each weight that is split.
    pub tp: usize,
}

impl Coordinate {
    /// The place on one axis.
    pub fn along(&self, axis: Axis) -> usize {
        match axis {
            Axis::Pp => self.pp,
            Axis::Dp => self.dp,
            Axis::Fsdp => self.fsdp,
            Axis::Tp => self.tp,
        }
    }
}

/// The length of each axis, each at least 1; made by [`Mesh::new`]. An axis of length 1 is an axis like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Mesh {
    /// Pipeline stages.
    pub pp: usize,
    /// Replicas of the (sharded) weights.
    pub dp: usize,
    /// Ranks that share one replica's weights, gradients and optimizer state.
    pub fsdp: usize,
    /// Ranks that share each matrix product.
    pub tp: usize,
}

impl Mesh {
    /// A mesh of these lengths.
    ///
    /// # Errors
    /// A length of zero; a product that no machine can count.
    pub fn new(pp: usize, dp: usize, fsdp: usize, tp: usize) -> Result<Mesh, MeshError> {
        let mesh = Mesh { pp, dp, fsdp, tp };
        if let Some(axis) = Axis::ALL.into_iter().find(|axis| mesh.size(*axis) == 0) {
            return Err(MeshError::Zero { axis });
        }
        let product = Axis::ALL.into_iter().try_fold(1_usize, |product, axis| product.checked_mul(mesh.size(axis)));
        product.map(|_| mesh).ok_or(MeshError::TooMany { mesh })
    }

    /// The length of one axis.
    pub fn size(&self, axis: Axis) -> usize {
        match axis {
            Axis::Pp => self.pp,
            Axis::Dp => self.dp,
            Axis::Fsdp => self.fsdp,
            Axis::Tp => self.tp,
        }
    }

    /// How many ranks the mesh has.
    pub fn ranks(&self) -> usize {
        self.pp * self.dp * self.fsdp * self.tp
    }

    /// Compares the mesh with the number of ranks that were started.
    ///
    /// # Errors
    /// The numbers differ.
    pub fn check_ranks(&self, found: usize) -> Result<(), MeshError> {
        if found == self.ranks() { Ok(()) } else { Err(MeshError::Ranks { mesh: *self, found }) }
    }

    /// Where `rank` stands. A rank outside the mesh has a place outside on the pp axis.
    pub fn coordinate(&self, rank: usize) -> Coordinate {
        let (rest, tp) = (rank / self.tp, rank % self.tp);
        let (rest, fsdp) = (rest / self.fsdp, rest % self.fsdp);
        Coordinate { pp: rest / self.dp, dp: rest % self.dp, fsdp, tp }
    }

    /// The rank that stands there.
    pub fn rank(&self, at: Coordinate) -> usize {
        ((at.pp * self.dp + at.dp) * self.fsdp + at.fsdp) * self.tp + at.tp
    }

    /// Ranks, rising, that differ from `rank` along the given axes and nowhere else; `rank` itself among them. Without axes: only `rank`.
    pub fn group(&self, rank: usize, axes: &[Axis]) -> Vec<usize> {
        let own = self.coordinate(rank);
        let together = |other: &usize| {
            let at = self.coordinate(*other);
            Axis::ALL.iter().all(|axis| axes.contains(axis) || at.along(*axis) == own.along(*axis))
        };
        (0..self.ranks()).filter(together).collect()
    }

    /// Which share of the global batch `rank` reads, and of how many: dp and fsdp ranks read different data, tp and pp ranks the same.
    pub fn data_share(&self, rank: usize) -> (usize, usize) {
        let at = self.coordinate(rank);
        (at.dp * self.fsdp + at.fsdp, self.dp * self.fsdp)
    }
}

/// `pp 1 × dp 2 × fsdp 2 × tp 2 = 8 ranks`.
impl fmt::Display for Mesh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mesh { pp, dp, fsdp, tp } = self;
        write!(formatter, "pp {pp} × dp {dp} × fsdp {fsdp} × tp {tp} = {}", Counted(self.ranks()))
    }
}

/// The product spelled out: `pp × dp × fsdp × tp = 1 × 2 × 2 × 2`.
struct Product<'a>(&'a Mesh);

impl fmt::Display for Product<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mesh { pp, dp, fsdp, tp } = self.0;
        write!(formatter, "pp × dp × fsdp × tp = {pp} × {dp} × {fsdp} × {tp}")
    }
}

struct Counted(usize);

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.0, ["ranks", "rank"][usize::from(self.0 == 1)])
    }
}

/// Why there is no such mesh.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MeshError {
    /// An axis without ranks.
    #[error("mesh: {axis} is 0, expected at least 1")]
    Zero {
        /// The axis.
        axis: Axis,
    },
    /// More ranks than can be counted.
    #[error("mesh: {} ranks are more than can be counted", Product(mesh))]
    TooMany {
        /// The lengths as they were given; their product does not exist.
        mesh: Mesh,
    },
    /// Another number of ranks was started.
    #[error("mesh: {} = {}, {found} {} started", Product(mesh), Counted(mesh.ranks()), ["were", "was"][usize::from(*found == 1)])]
    Ranks {
        /// The mesh.
        mesh: Mesh,
        /// Ranks that were started.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    fn any_mesh() -> impl Strategy<Value = Mesh> {
        (1..4_usize, 1..4_usize, 1..4_usize, 1..4_usize).prop_map(|(pp, dp, fsdp, tp)| Mesh::new(pp, dp, fsdp, tp).unwrap())
    }

    #[test]
    fn ranks_run_along_tp_first_and_along_pp_last() {
        let mesh = Mesh::new(2, 2, 2, 2).unwrap();
        assert_eq!(mesh.coordinate(1), Coordinate { pp: 0, dp: 0, fsdp: 0, tp: 1 });
        assert_eq!(mesh.coordinate(2), Coordinate { pp: 0, dp: 0, fsdp: 1, tp: 0 });
        assert_eq!(mesh.coordinate(4), Coordinate { pp: 0, dp: 1, fsdp: 0, tp: 0 });
        assert_eq!(mesh.coordinate(8), Coordinate { pp: 1, dp: 0, fsdp: 0, tp: 0 });
        assert_eq!(mesh.group(5, &[Axis::Tp]), [4, 5]);
        assert_eq!(mesh.group(5, &[Axis::Fsdp]), [5, 7]);
        assert_eq!(mesh.group(5, &[Axis::Dp]), [1, 5]);
        assert_eq!(mesh.group(5, &[Axis::Pp]), [5, 13]);
        assert_eq!(mesh.group(5, &[Axis::Fsdp, Axis::Dp]), [1, 3, 5, 7]);
    }

    #[test]
    fn words_spell_the_product_out() {
        let mesh = Mesh::new(1, 2, 2, 2).unwrap();
        assert_eq!(mesh.to_string(), "pp 1 × dp 2 × fsdp 2 × tp 2 = 8 ranks");
        assert_eq!(mesh.check_ranks(8), Ok(()));
        let words = mesh.check_ranks(6).unwrap_err().to_string();
        assert_eq!(words, "mesh: pp × dp × fsdp × tp = 1 × 2 × 2 × 2 = 8 ranks, 6 were started");
        let words = Mesh::new(1, 1, 1, 1).unwrap().check_ranks(2).unwrap_err().to_string();
        assert_eq!(words, "mesh: pp × dp × fsdp × tp = 1 × 1 × 1 × 1 = 1 rank, 2 were started");
    }

    #[test]
    fn a_mesh_that_cannot_be_is_refused() {
        assert_eq!(Mesh::new(1, 1, 0, 1), Err(MeshError::Zero { axis: Axis::Fsdp }));
        assert_eq!(Mesh::new(1, 1, 0, 1).unwrap_err().to_string(), "mesh: fsdp is 0, expected at least 1");
        let words = Mesh::new(usize::MAX, 1, 2, 1).unwrap_err().to_string();
        assert_eq!(words, format!("mesh: pp × dp × fsdp × tp = {} × 1 × 2 × 1 ranks are more than can be counted", usize::MAX));
        assert!(Mesh::new(usize::MAX, 2, 0, 1).is_err());
    }

    proptest! {
        #[test]
        fn coordinate_and_rank_are_inverse(mesh in any_mesh()) {
            for rank in 0..mesh.ranks() {
                let at = mesh.coordinate(rank);
                prop_assert!(Axis::ALL.iter().all(|axis| at.along(*axis) < mesh.size(*axis)));
                prop_assert_eq!(mesh.rank(at), rank);
            }
        }

        #[test]
        fn groups_partition_the_ranks(mesh in any_mesh(), axes in subsequence(Axis::ALL.to_vec(), 0..=4)) {
            let length: usize = axes.iter().map(|axis| mesh.size(*axis)).product();
            for rank in 0..mesh.ranks() {
                let group = mesh.group(rank, &axes);
                prop_assert_eq!(group.len(), length);
                prop_assert!(group.contains(&rank) && group.is_sorted());
                // Every member names the same group, so two groups are the same or have no rank in common.
                prop_assert!(group.iter().all(|member| mesh.group(*member, &axes) == group));
            }
        }

        #[test]
        fn a_group_of_several_axes_is_the_union(mesh in any_mesh(), axes in subsequence(Axis::ALL.to_vec(), 1..=4)) {
            for rank in 0..mesh.ranks() {
                let mut union = vec![rank];
                for axis in &axes {
                    union = union.into_iter().flat_map(|member| mesh.group(member, &[*axis])).collect();
                }
                union.sort_unstable();
                prop_assert_eq!(mesh.group(rank, &axes), union);
            }
        }

        #[test]
        fn shares_of_data_differ_along_dp_and_fsdp_only(mesh in any_mesh()) {
            for rank in 0..mesh.ranks() {
                let (_, shares) = mesh.data_share(rank);
                let readers = mesh.group(rank, &[Axis::Dp, Axis::Fsdp]);
                let read: Vec<_> = readers.into_iter().map(|rank| mesh.data_share(rank)).collect();
                prop_assert_eq!(read, (0..shares).map(|share| (share, shares)).collect::<Vec<_>>());
                let same = mesh.group(rank, &[Axis::Pp, Axis::Tp]);
                prop_assert!(same.into_iter().all(|other| mesh.data_share(other) == mesh.data_share(rank)));
            }
        }
    }
}
