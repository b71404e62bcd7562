//! What share of what its devices could do a run makes use of.
use sirocco_config::Run;

use crate::train::metrics::Step;

/// From 0 to 1: operations of the step's tokens in its time, over those that the devices of the run could do. None where the devices or what they
/// could do are not known, which is so of every CPU.
pub(crate) fn share(_run: &Run, _step: &Step) -> Option<f64> {
    None
}
