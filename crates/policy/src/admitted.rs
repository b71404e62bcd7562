//! The capability that guarded stages take.

use std::marker::PhantomData;

use crate::decision::Decision;
use crate::verb::Verb;

/// Something that the gate has let pass for the action `A`, with its decision. Only [`crate::Guard::admit`] makes one, so a stage that takes
/// `Admitted<A, T>` cannot be reached without having asked about that action: a forgotten question does not compile.
///
/// ```
/// use sirocco_policy::{Admitted, verb};
///
/// struct Plan;
/// fn train(plan: Admitted<verb::Train, Plan>) -> bool {
///     plan.decision().allowed
/// }
/// ```
///
/// What was admitted for one action is nothing to a stage that does another:
///
/// ```compile_fail,E0308
/// use sirocco_policy::{Admitted, verb};
///
/// struct Plan;
/// fn train(_: Admitted<verb::Train, Plan>) {}
/// fn forget(prepared: Admitted<verb::Prepare, Plan>) {
///     train(prepared)
/// }
/// ```
///
/// Its fields are private, it has no public constructor, no `Default`, no `Clone` and no reader, and nobody else makes verbs:
///
/// ```compile_fail,E0451
/// use sirocco_policy::{Admitted, Decision, verb};
///
/// fn forge(decision: Decision) -> Admitted<verb::Train, u8> {
///     Admitted { thing: 1, decision: Box::new(decision), verb: std::marker::PhantomData }
/// }
/// ```
///
/// ```compile_fail,E0624
/// use sirocco_policy::{Admitted, Decision, verb};
///
/// fn forge(decision: Decision) -> Admitted<verb::Train, u8> {
///     Admitted::new(1, decision)
/// }
/// ```
///
/// ```compile_fail,E0277
/// use sirocco_policy::{Admitted, verb};
///
/// fn forge(text: &str) -> Admitted<verb::Train, u8> {
///     serde_json::from_str(text).unwrap()
/// }
/// ```
///
/// ```compile_fail,E0599
/// use sirocco_policy::{Admitted, verb};
///
/// fn forge(one: &Admitted<verb::Train, u8>) -> (Admitted<verb::Train, u8>, Admitted<verb::Train, u8>) {
///     (one.clone(), Admitted::default())
/// }
/// ```
///
/// ```compile_fail,E0603
/// struct Anything;
/// impl sirocco_policy::verb::sealed::Sealed for Anything {}
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was admitted is to be done, or dropped on purpose"]
pub struct Admitted<A: Verb, T> {
    thing: T,
    decision: Box<Decision>,
    verb: PhantomData<fn() -> A>,
}

impl<A: Verb, T> Admitted<A, T> {
    pub(crate) fn new(thing: T, decision: Decision) -> Admitted<A, T> {
        Admitted { thing, decision: Box::new(decision), verb: PhantomData }
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
