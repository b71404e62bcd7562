//! One file per command: what it reads, what it prints.

pub(crate) mod check;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod status;
pub(crate) mod tokenize;
