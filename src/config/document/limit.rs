//! `assurance` and `limits`: named levels of proof and named quotas.

use std::time::Duration;

use super::{Machines, authority::FactorText};
use crate::config::{
    LimitKey,
    decode::{At, Cx, Decode, NonEmpty, section},
    quantity::{Count, RateText},
    shape::Shape,
    text::{AssuranceValue, Name},
    yaml::{Node, Value},
};

section! {
    /// A level of proof. Every key that is given must hold; within a list any one value is enough. At least one key besides `machines`.
    "an assurance level" Level {
        /// The `acr` values that would do, in order of preference.
        acr: Option<NonEmpty<AssuranceValue>>,
        /// The `amr` values of which one must be there, case-sensitive.
        amr: Option<NonEmpty<AssuranceValue>>,
        /// How long ago the user may have authenticated, by `auth_time`.
        max_age: Option<Duration>,
        /// The factors of the authority of which one must have been shown to it; a provider's token never has any.
        factors: Option<NonEmpty<At<FactorText>>>,
        /// One that answers to no page but ours must have been shown to the authority: a passkey.
        phishing_resistant: Option<At<bool>>,
        /// How many of knowledge, possession and inherence must have been shown to the authority, the first factor's included.
        categories: Option<At<Count<1, 2>>>,
        /// What a caller without a person behind it may prove in place of all this.
        machines: Option<Machines>,
    }
}

/// A level of proof, by name or written out.
#[derive(Debug, Clone)]
pub(in crate::config) enum AssuranceText {
    /// The name of a level under `assurance`.
    Name(At<Name>),
    /// The level itself.
    Inline(Box<Level>),
}

impl Decode for AssuranceText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Level::decode(node, cx).map(Box::new).map(Self::Inline),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => At::decode(node, cx).map(Self::Name),
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<Name as Decode>::shape(), Level::shape()])
    }
}

section! {
    /// A quota. N per second is GCRA with a burst; N per any longer period: no interval of that length admits more than N. What
    /// was refused does not count. Requests without the key share one bucket.
    "a limit" Limit {
        /// What is counted by.
        key: At<LimitKey>,
        /// How much is admitted.
        rate: At<RateText>,
        /// How many at once, for a rate per second only; by default N.
        burst: Option<At<Count<1, 1_000_000_000>>>,
    }
}
