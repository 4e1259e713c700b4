//! `assurance.LEVEL.machines`: what a machine may prove in place of a level.

use super::dpop::ProofAlgorithm;
use crate::config::{
    decode::{At, Cx, Decode, NonEmpty, section},
    shape::Shape,
    text::Name,
    yaml::{Node, Value},
};

section! {
    /// What callers without a person behind them may prove in place of `acr`, `amr` and `max_age`: that they hold the private
    /// key that their credential is bound to. Any one of these; without this section none, and never for a person. Such a
    /// caller is a token of the client credentials grant (`sub` is the `client_id`), an API key or a client certificate.
    "proof by machines" Machines {
        /// A client certificate: as the credential itself, or as the key that a token is bound to. `true`, or only of certain
        /// sources.
        certificate: Switch<CertificateMachines> = "false",
        /// A DPoP proof. `true`, or only by certain algorithms.
        dpop: Switch<DpopMachines> = "false",
    }
}

section! {
    /// The client certificates that will do.
    "certificates of machines" CertificateMachines {
        /// The issuers or sources of credentials that vouch for the caller.
        sources: NonEmpty<At<Name>>,
    }
}

section! {
    /// The DPoP proofs that will do.
    "DPoP proofs of machines" DpopMachines {
        /// What they are signed with.
        algorithms: NonEmpty<At<ProofAlgorithm>>,
    }
}

/// `true`, `false`, or a section that says more than `true`.
#[derive(Debug, Clone)]
pub(in crate::config) enum Switch<T> {
    /// No.
    Off,
    /// Yes, all of it.
    On,
    /// Yes, as far as this goes.
    Only(T),
}

impl<T: Decode> Decode for Switch<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => T::decode(node, cx).map(Self::Only),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => {
                bool::decode(node, cx).map(|on| if on { Self::On } else { Self::Off })
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<bool as Decode>::shape(), T::shape()])
    }
}
