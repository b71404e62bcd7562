//! What a run will need and take, before it is started: memory of a rank, seconds of a step, hours, energy, and how it scales.
//!
//! Pure arithmetic over sizes: nothing is read, nothing is measured, nothing is printed. The order of the modules is that of the argument:
//! `model` and `work` say what is computed, `mesh` and `held` who holds what of it, `memory` how much that is; `flops` counts operations and
//! bytes, `device` and `machine` say how fast they go, `timeline` lays one step out in time; `candidates` compares meshes, `cost` adds up a
//! run.
//!
//! Letters as in the crate `model`: `T` tokens of a micro-batch, `D` model, `H` heads, `K` key/value heads, `E` head dim, `F` hidden, `V`
//! vocabulary, `R` LoRA rank.

mod candidates;
mod cost;
mod device;
mod flops;
mod held;
mod machine;
mod memory;
mod mesh;
mod model;
mod timeline;
mod work;

pub use candidates::{Candidate, Place, Scaled, candidates, evaluate, scaling};
pub use cost::{Cost, Saving, checkpoint_bytes, cost};
pub use device::{BASE_BYTES, DEVICES, Device, Fact, device};
pub use flops::{Flops, model_flops_per_token};
pub use held::{Held, Unit, held};
pub use machine::{Kind, Link, Machine, Rates};
pub use memory::{Memory, Part, Surroundings, memory};
pub use mesh::{PlanError, expect_legal, layers_of_stages, legal};
pub use model::Model;
pub use timeline::{Step, step};
pub use work::{Texture, Trained, Work};
