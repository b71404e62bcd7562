//! How a step is split over ranks: data parallelism and the global gradient norm.
