//! Before something is done with data or models: the policy is asked, and what it said is written down.

pub(crate) mod account;
mod failure;
mod measured;
mod own;
mod run;

pub(crate) use measured::{DataFile, expect_same};
pub(crate) use own::{Measured, OwnPolicy, custody};
pub(crate) use run::{AdmittedData, RunPolicy, made_by, next_action, remember};

pub(crate) use crate::confined::level as confinement;
