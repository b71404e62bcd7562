//! How far the work is: whoever started it may show that, and may end it.

use std::ops::ControlFlow;

use crate::error::BundleError;

/// Is told the file at work and how many bytes more are done; may break off.
pub type Pulse<'a> = dyn FnMut(&str, u64) -> ControlFlow<()> + 'a;

/// For whoever wants neither.
pub fn silent(_: &str, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn beat(pulse: &mut Pulse<'_>, file: &str, bytes: usize) -> Result<(), BundleError> {
    match pulse(file, bytes as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(BundleError::Stopped),
    }
}
