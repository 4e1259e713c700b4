//! The door of this room: what a request carries goes in, evidence comes out. Which credential it is, which source is
//! to be asked, and what must be proved besides.

use std::{collections::HashMap, sync::Arc};

use super::{
    accepted::{Accepted, Kinds},
    dpop::{Dpop, Unproved},
    presented::{Authorization, Field, Presented, has_query_token},
    tokens::{IssuerReadiness, IssuerServices, Tokens},
};
use crate::{
    clock::Now,
    config::{Config, CredentialKind, DpopRules, Issuer, Materials, Problem, Span},
    jose::Algorithms,
    policy::{Credential, Evidence, IssuerName, Possession, Principal, Reason},
};

/// Tells who is calling, by all sources of one configuration. What was learnt before survives a reload as far as the new
/// configuration would have learnt the same.
#[derive(Debug)]
pub struct Authenticator {
    tokens: Tokens,
    /// What each source vouches for.
    kinds: HashMap<IssuerName, Kinds>,
    /// What each issuer asks of proofs; one that says nothing has the defaults.
    proofs: HashMap<IssuerName, DpopRules>,
    default_proofs: DpopRules,
    /// One for all configurations: what was used stays used.
    dpop: Arc<Dpop>,
}

/// How a token was sent, and so what must stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

impl Authenticator {
    /// Finds what is wrong with the sources' material, without starting anything: for `check`.
    pub fn check(config: &Config, materials: &dyn Materials) -> Vec<Problem> {
        Tokens::check(&config.issuers, materials)
    }

    /// Prepares the sources; with a problem nothing was started and nothing has changed.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        services: &IssuerServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let tokens = Tokens::compile(&config.issuers, materials, services, previous.map(|previous| &previous.tokens))?;
        let dpop = match previous {
            Some(previous) => Arc::clone(&previous.dpop),
            None => Arc::new(Dpop::new().ok_or_else(no_randomness)?),
        };
        let rules = |issuer: &Arc<Issuer>| Some((issuer.name.clone(), issuer.dpop.clone()?));
        Ok(Self {
            tokens,
            kinds: kinds(config),
            proofs: config.issuers.iter().filter_map(rules).collect(),
            default_proofs: DpopRules::default(),
            dpop,
        })
    }

    /// The sources of a route by their names; none: all that there are.
    pub fn accepted(&self, names: &[IssuerName]) -> Accepted {
        let of = |name: &IssuerName| self.kinds.get(name).copied().unwrap_or(Kinds::NONE);
        let all = || self.kinds.values().copied().fold(Kinds::NONE, Kinds::and);
        let kinds = if names.is_empty() { all() } else { names.iter().map(of).fold(Kinds::NONE, Kinds::and) };
        let told = |name: &IssuerName| names.is_empty() || names.contains(name);
        let proofs = self.proofs.iter().filter(|(name, _)| told(name)).map(|(_, rules)| rules.algorithms);
        Accepted::new(names.into(), kinds).with_dpop(proofs.fold(Algorithms::NONE, Algorithms::or))
    }

    /// How many DPoP proofs are remembered, so that none is used twice.
    pub fn remembered_proofs(&self) -> usize {
        self.dpop.remembered()
    }

    /// How the keys of each issuer stand, in the order of the configuration.
    pub fn readiness(&self, now: Now) -> Vec<IssuerReadiness> {
        self.tokens.readiness(now)
    }

    /// Finds out what a request's credentials are worth where these sources are taken. What is a credential of a kind
    /// that none of them takes is not looked at.
    pub async fn authenticate(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let kinds = accepted.kinds();
        let value = match presented.authorization {
            Field::Absent => return Credential::Absent.into(),
            Field::Several => return Credential::Invalid(Reason::InvalidCredentials).into(),
            Field::One(value) => value,
        };
        let (token, scheme) = match Authorization::parse(value) {
            Authorization::Bearer(token) if kinds.has(Kinds::TOKEN) => (token, Scheme::Bearer),
            Authorization::Dpop(token) if kinds.has(Kinds::TOKEN) => (token, Scheme::Dpop),
            Authorization::Malformed if kinds.has(Kinds::TOKEN) => {
                return Credential::Invalid(Reason::TokenMalformed).into();
            }
            Authorization::Bearer(_)
            | Authorization::Dpop(_)
            | Authorization::Malformed
            | Authorization::Basic(_)
            | Authorization::OtherScheme => return Credential::Absent.into(),
        };
        if presented.query.is_some_and(has_query_token) {
            return Credential::Invalid(Reason::InvalidCredentials).into();
        }
        match self.tokens.authenticate(token, accepted, now).await {
            Credential::Valid(principal) => self.prove_possession(principal, token, scheme, presented, now),
            credential @ (Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. }) => {
                credential.into()
            }
        }
    }

    /// A token that is bound to a key is good only beside the proof that the caller holds it.
    fn prove_possession(
        &self,
        principal: Arc<Principal>,
        token: &str,
        scheme: Scheme,
        presented: &Presented<'_>,
        now: Now,
    ) -> Evidence {
        let (possession, fresh_nonce) = match self.prove(&principal, token, scheme, presented, now) {
            Ok(proved) => proved,
            Err(Unproved { credential, fresh_nonce }) => return Evidence { credential, possession: None, fresh_nonce },
        };
        Evidence { credential: Credential::Valid(principal), possession, fresh_nonce }
    }

    fn prove(
        &self,
        principal: &Principal,
        token: &str,
        scheme: Scheme,
        presented: &Presented<'_>,
        now: Now,
    ) -> Result<(Option<Possession>, Option<Box<str>>), Unproved> {
        let binding = principal.binding.as_deref();
        let by_certificate = match binding.and_then(|binding| binding.certificate.as_ref()) {
            Some(wanted) => {
                prove_certificate(wanted, presented)?;
                true
            }
            None => false,
        };
        let by_key = match (binding.and_then(|binding| binding.dpop.as_ref()), scheme) {
            // RFC 9449 §7.2: a bound token is never a bearer token.
            (Some(_), Scheme::Bearer) => return Err(Reason::BindingMissing.into()),
            (None, Scheme::Dpop) => return Err(Reason::BindingRequired.into()),
            (None, Scheme::Bearer) => None,
            (Some(key), Scheme::Dpop) => {
                let rules = self.proofs.get(&principal.issuer).unwrap_or(&self.default_proofs);
                Some(self.dpop.prove(presented, token, principal, key, rules, now)?)
            }
        };
        Ok(match (by_certificate, by_key) {
            (false, None) => (None, None),
            (true, None) => (Some(Possession::Certificate), None),
            (false, Some(proved)) => (Some(Possession::Dpop(proved.algorithm)), proved.fresh_nonce),
            (true, Some(proved)) => (Some(Possession::CertificateAndDpop(proved.algorithm)), proved.fresh_nonce),
        })
    }
}

fn no_randomness() -> Vec<Problem> {
    vec![Problem::error(&Span::default(), "the system gives no randomness, which nonces are made of")]
}

fn kinds(config: &Config) -> HashMap<IssuerName, Kinds> {
    let issuers = config.issuers.iter().map(|issuer| (issuer.name.clone(), Kinds::TOKEN));
    let others = config.credentials.iter().map(|source| (source.name.clone(), kind(&source.kind)));
    issuers.chain(others).collect()
}

fn kind(source: &CredentialKind) -> Kinds {
    match source {
        CredentialKind::ApiKeys(_) => Kinds::API_KEY,
        CredentialKind::Basic(_) => Kinds::BASIC,
        CredentialKind::ClientCertificates(_) => Kinds::CERTIFICATE,
    }
}

/// RFC 8705 §3: the certificate of this very connection.
fn prove_certificate(wanted: &[u8; 32], presented: &Presented<'_>) -> Result<(), Reason> {
    let shown = presented.certificate.ok_or(Reason::BindingMissing)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, shown);
    if *wanted == *digest.as_ref() { Ok(()) } else { Err(Reason::BindingMismatch) }
}
