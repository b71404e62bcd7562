//! A cluster and its rules, as one TOML file says them: [`Site::parse`] reads it, [`Site::refuses`] says why a run cannot work there.
//!
//! A site is data. Every group of facts names where it was read, and a fact that nobody knows is absent: it is never filled in. The library
//! asks no machine anything; whether a profile holds here is for the program to find out, which compares it with what it sees.

mod error;
mod groups;
mod needs;
mod read;
mod sections;
mod table;
mod types;

pub use error::SiteError;
pub use groups::{Disk, DiskKind, Energy, Internet, Modules, Mpi, MpiStart, Network, Note, Outbound, Required, Software, Submit};
pub use needs::{MostNodes, Needs, Reason, Runs};
pub use sirocco_config::WallTime;
pub use types::{Arch, Gpus, Known, Partition, Qos, Scheduler, Site, Source, Vendor};
