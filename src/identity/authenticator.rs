//! The door of this room: what a request carries goes in, evidence comes out. Which credential it is, which source is
//! to be asked, and what must be proved besides.

use std::collections::HashMap;

use super::{
    accepted::{Accepted, Kinds},
    certificate::Certificates,
    presented::{Authorization, Field, Presented, has_query_token},
    tokens::{IssuerReadiness, IssuerServices, Tokens},
};
use crate::{
    clock::Now,
    config::{Config, CredentialKind, Materials, Problem},
    policy::{Binding, Credential, Evidence, IssuerName, Possession, Reason},
};

/// Tells who is calling, by all sources of one configuration. What was learnt before survives a reload as far as the new
/// configuration would have learnt the same.
#[derive(Debug)]
pub struct Authenticator {
    tokens: Tokens,
    certificates: Certificates,
    /// What each source vouches for.
    kinds: HashMap<IssuerName, Kinds>,
}

impl Authenticator {
    /// Finds what is wrong with the sources' material, without starting anything: for `check`.
    pub fn check(config: &Config, materials: &dyn Materials, now: Now) -> Vec<Problem> {
        let mut found = Tokens::check(&config.issuers, materials);
        found.extend(Certificates::check(&config.credentials, materials, now));
        found
    }

    /// Prepares the sources; with a problem nothing was started and nothing has changed.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        services: &IssuerServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let tokens = Tokens::compile(&config.issuers, materials, services, previous.map(|previous| &previous.tokens));
        let before = previous.map(|previous| &previous.certificates);
        let certificates = Certificates::compile(&config.credentials, materials, services, before);
        match (tokens, certificates) {
            (Ok(tokens), Ok(certificates)) => Ok(Self { tokens, certificates, kinds: kinds(config) }),
            (tokens, certificates) => Err([tokens.err(), certificates.err()].into_iter().flatten().flatten().collect()),
        }
    }

    /// The sources of a route by their names; none: all that there are.
    pub fn accepted(&self, names: &[IssuerName]) -> Accepted {
        let of = |name: &IssuerName| self.kinds.get(name).copied().unwrap_or(Kinds::NONE);
        let all = || self.kinds.values().copied().fold(Kinds::NONE, Kinds::and);
        let kinds = if names.is_empty() { all() } else { names.iter().map(of).fold(Kinds::NONE, Kinds::and) };
        Accepted::new(names.into(), kinds)
    }

    /// How each source that can fail stands, in the order of the configuration.
    pub fn readiness(&self, now: Now) -> Vec<IssuerReadiness> {
        self.tokens.readiness(now).into_iter().chain(self.certificates.readiness(now)).collect()
    }

    /// Finds out what a request's credentials are worth where these sources are taken. What is a credential of a kind
    /// that none of them takes is not looked at.
    pub async fn authenticate(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let kinds = accepted.kinds();
        let value = match presented.authorization {
            Field::Absent => return self.by_certificate(presented, accepted, now),
            Field::Several => return Credential::Invalid(Reason::InvalidCredentials).into(),
            Field::One(value) => value,
        };
        match Authorization::parse(value) {
            Authorization::Bearer(token) if kinds.has(Kinds::TOKEN) => {
                if presented.query.is_some_and(has_query_token) {
                    return Credential::Invalid(Reason::InvalidCredentials).into();
                }
                let credential = self.tokens.authenticate(token, accepted, now).await;
                prove_possession(credential, presented)
            }
            // Another credential was sent, which a certificate does not make up for.
            Authorization::Dpop(_) if kinds.has(Kinds::TOKEN) => Credential::Absent.into(),
            Authorization::Basic(_) if kinds.has(Kinds::BASIC) => Credential::Absent.into(),
            Authorization::Malformed if kinds.has(Kinds::TOKEN) => Credential::Invalid(Reason::TokenMalformed).into(),
            Authorization::Bearer(_)
            | Authorization::Dpop(_)
            | Authorization::Malformed
            | Authorization::Basic(_)
            | Authorization::OtherScheme => self.by_certificate(presented, accepted, now),
        }
    }

    /// A client certificate is there on every request of its connection: it counts where no other credential was sent.
    fn by_certificate(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let kinds = accepted.kinds();
        match presented.certificate {
            Some(shown) if kinds.has(Kinds::CERTIFICATE) => {
                let credential = self.certificates.authenticate(shown, accepted, now);
                let possession = matches!(credential, Credential::Valid(_)).then_some(Possession::Certificate);
                Evidence { credential, possession }
            }
            None if kinds == Kinds::CERTIFICATE => Credential::Invalid(Reason::CertificateMissing).into(),
            Some(_) | None => Credential::Absent.into(),
        }
    }
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

/// A token that is bound to a key is good only beside the proof that the caller holds it.
fn prove_possession(credential: Credential, presented: &Presented<'_>) -> Evidence {
    let Some(binding) = bound(&credential) else { return credential.into() };
    match prove(binding, presented) {
        Ok(possession) => Evidence { credential, possession: Some(possession) },
        Err(reason) => Credential::Invalid(reason).into(),
    }
}

fn bound(credential: &Credential) -> Option<&Binding> {
    match credential {
        Credential::Valid(principal) => principal.binding.as_deref(),
        Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => None,
    }
}

fn prove(binding: &Binding, presented: &Presented<'_>) -> Result<Possession, Reason> {
    if binding.dpop.is_some() {
        return Err(Reason::BindingMissing);
    }
    let shown = presented.certificate.ok_or(Reason::BindingMissing)?;
    let ours = binding.certificate.is_some_and(|wanted| wanted == *shown.fingerprint());
    if ours { Ok(Possession::Certificate) } else { Err(Reason::BindingMismatch) }
}
