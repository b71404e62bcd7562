//! One MPI rank of a run; also evaluation and export, which need tensors.
fn main() {}
