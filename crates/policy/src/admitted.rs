//! The capability that guarded stages take.

use crate::decision::Decision;

/// Something that the gate has let pass, with its decision. Only [`crate::Gate::admit`] makes one, so a stage that takes
/// `Admitted<T>` cannot be reached without having asked: a forgotten question does not compile.
///
/// ```
/// use sirocco_policy::Admitted;
///
/// struct Plan;
/// fn train(plan: Admitted<Plan>) -> bool {
///     plan.decision().allowed
/// }
/// ```
///
/// Its fields are private, it has no public constructor, no `Default`, no `Clone` and no reader:
///
/// ```compile_fail,E0451
/// use sirocco_policy::{Admitted, Decision};
///
/// fn forge(decision: Decision) -> Admitted<u8> {
///     Admitted { thing: 1, decision: Box::new(decision) }
/// }
/// ```
///
/// ```compile_fail,E0624
/// use sirocco_policy::{Admitted, Decision};
///
/// fn forge(decision: Decision) -> Admitted<u8> {
///     Admitted::new(1, decision)
/// }
/// ```
///
/// ```compile_fail,E0277
/// use sirocco_policy::Admitted;
///
/// fn forge(text: &str) -> Admitted<u8> {
///     serde_json::from_str(text).unwrap()
/// }
/// ```
///
/// ```compile_fail,E0599
/// use sirocco_policy::Admitted;
///
/// fn forge(one: &Admitted<u8>) -> (Admitted<u8>, Admitted<u8>) {
///     (one.clone(), Admitted::default())
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was admitted is to be done, or dropped on purpose"]
pub struct Admitted<T> {
    thing: T,
    decision: Box<Decision>,
}

impl<T> Admitted<T> {
    pub(crate) fn new(thing: T, decision: Decision) -> Admitted<T> {
        Admitted { thing, decision: Box::new(decision) }
    }

    /// What was admitted.
    pub fn thing(&self) -> &T {
        &self.thing
    }

    /// The decision that let it pass, for the record.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Takes both apart; what comes out is no longer admitted.
    pub fn into_parts(self) -> (T, Decision) {
        (self.thing, *self.decision)
    }
}
