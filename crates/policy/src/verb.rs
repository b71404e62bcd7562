//! The actions as types: what was admitted for one action cannot be handed to a stage that does another.

use crate::name::Name;
use crate::request::Action;

/// An action as a type. Only the types of this module are verbs.
pub trait Verb: sealed::Sealed {
    /// The action that requests name.
    const ACTION: Action;
}

/// Something that a stage works on and that says itself which artefact it is, or makes.
pub trait Guarded {
    /// Its name, as the request has it.
    fn artefact(&self) -> &Name;
}

impl Guarded for Name {
    fn artefact(&self) -> &Name {
        self
    }
}

impl<T: Guarded + ?Sized> Guarded for &T {
    fn artefact(&self) -> &Name {
        (**self).artefact()
    }
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! verbs {
    ($($name:ident),*) => {$(
        #[doc = concat!("[`Action::", stringify!($name), "`] as a type.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl sealed::Sealed for $name {}

        impl Verb for $name {
            const ACTION: Action = Action::$name;
        }
    )*

        #[cfg(test)]
        const EVERY: &[Action] = &[$($name::ACTION),*];
    };
}

verbs!(Import, Prepare, Train, Resume, Export, Merge, Serve, AddAdapter, SendOut);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_a_type() {
        assert_eq!(EVERY, Action::ALL);
    }
}
