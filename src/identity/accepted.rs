//! Whose credentials a route takes, and so which parts of a request are credentials there at all.

use super::BasicOffer;
use crate::{jose::Algorithms, policy::IssuerName};

/// The kinds of credential, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// Tokens of an issuer, as bearer tokens or with a DPoP proof.
    pub const TOKEN: Self = Self(1);
    /// API keys.
    pub const API_KEY: Self = Self(2);
    /// User names and passwords.
    pub const BASIC: Self = Self(4);
    /// Client certificates.
    pub const CERTIFICATE: Self = Self(8);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of the others are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The sources that a route takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Their names; empty: all that there are.
    names: Box<[IssuerName]>,
    /// What they vouch for.
    kinds: Kinds,
    /// What a client is told where passwords are among them.
    basic: Option<BasicOffer>,
    /// What DPoP proofs may be signed with, as far as clients are to be told of them.
    dpop: Algorithms,
}

impl Accepted {
    pub(super) fn new(names: Box<[IssuerName]>, kinds: Kinds) -> Self {
        Self { names, kinds, basic: None, dpop: Algorithms::NONE }
    }

    /// The same, where clients are told of passwords.
    pub(super) fn with_basic(self, basic: Option<BasicOffer>) -> Self {
        Self { basic, ..self }
    }

    /// The same, where clients are told of DPoP.
    pub(super) fn with_dpop(self, dpop: Algorithms) -> Self {
        Self { dpop, ..self }
    }

    /// What any of them takes.
    pub fn union<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let (mut names, mut kinds, mut every) = (Vec::new(), Kinds::NONE, false);
        let (mut basic, mut dpop) = (None, Algorithms::NONE);
        for one in all {
            basic = basic.or_else(|| one.basic.clone());
            every |= one.names.is_empty();
            names.extend(one.names.iter().cloned());
            kinds = kinds.and(one.kinds);
            dpop = dpop.or(one.dpop);
        }
        Self { names: if every { Box::default() } else { names.into() }, kinds, basic, dpop }
    }

    /// The names; empty: all that there are.
    pub fn names(&self) -> &[IssuerName] {
        &self.names
    }

    /// What they vouch for.
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// What a client is told where passwords are taken.
    pub fn basic(&self) -> Option<&BasicOffer> {
        self.basic.as_ref()
    }

    /// What DPoP proofs may be signed with (RFC 9449 §7.1 `algs`); empty where no source says that it takes them.
    pub fn dpop(&self) -> Algorithms {
        self.dpop
    }

    /// Whether this source is one of them.
    pub fn takes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|one| **one == *name)
    }
}
