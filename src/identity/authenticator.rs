//! The door of this room: what a request carries goes in, evidence comes out. Which credential it is, which source is
//! to be asked, and what must be proved besides.

use std::{collections::HashMap, sync::Arc};

use super::{
    IdentityObserver,
    accepted::{Accepted, Kinds},
    apikey::{ApiKeySources, Shown},
    basic::Passwords,
    certificate::Certificates,
    dpop::{Dpop, Unproved},
    events::{Delivery, Receipt, Receiver},
    presented::{Authorization, Field, Presented, has_query_token},
    revocation::Revocations,
    services::{SourceReadiness, SourceServices},
    tokens::Tokens,
};
use crate::{
    clock::Now,
    config::{Bound, Config, CredentialKind, DpopRules, Events, Issuer, Materials, Problem, Span},
    jose::Algorithms,
    policy::{Credential, Evidence, IssuerName, Possession, Principal, Reason},
};

/// Tells who is calling, by all sources of one configuration. What was learnt before survives a reload as far as the new
/// configuration would have learnt the same.
pub struct Authenticator {
    tokens: Tokens,
    passwords: Passwords,
    api_keys: ApiKeySources,
    certificates: Certificates,
    /// What each source vouches for.
    kinds: HashMap<IssuerName, Kinds>,
    /// What is taken from which provider. Not the verifiers' own copies: those outlive a reload that changes only this.
    events: Vec<(IssuerName, Events)>,
    revocations: Arc<Revocations>,
    observer: Arc<dyn IdentityObserver>,
    /// What issuers ask of proofs, where clients are told of it; any other has the defaults.
    proofs: HashMap<IssuerName, DpopRules>,
    default_proofs: DpopRules,
    /// One for all configurations: what was used stays used.
    dpop: Arc<Dpop>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// How a token was sent, and so what must stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

impl Authenticator {
    /// Finds what is wrong with the sources' material, without starting anything: for `check`.
    pub fn check(config: &Config, materials: &dyn Materials, now: Now) -> Vec<Problem> {
        let mut problems = Tokens::check(&config.issuers, materials);
        problems.extend(ApiKeySources::check(config));
        problems.extend(Passwords::check(config, materials));
        problems.extend(Certificates::check(&config.credentials, materials, now));
        problems
    }

    /// Prepares the sources; with a problem nothing was started and nothing has changed.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        services: &SourceServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        // Before anything is started.
        let dpop = match previous {
            Some(previous) => Arc::clone(&previous.dpop),
            None => Arc::new(Dpop::new().ok_or_else(no_randomness)?),
        };
        let tokens = Tokens::compile(&config.issuers, materials, services, previous.map(|previous| &previous.tokens));
        let passwords = Passwords::compile(config, materials, services, previous.map(|previous| &previous.passwords));
        let api_keys = ApiKeySources::compile(config, services, previous.map(|previous| &previous.api_keys));
        let before = previous.map(|previous| &previous.certificates);
        let certificates = Certificates::compile(&config.credentials, materials, services, before);
        let (tokens, passwords, api_keys, certificates) = match (tokens, passwords, api_keys, certificates) {
            (Ok(tokens), Ok(passwords), Ok(api_keys), Ok(certificates)) => (tokens, passwords, api_keys, certificates),
            (tokens, passwords, api_keys, certificates) => {
                let found = [tokens.err(), passwords.err(), api_keys.err(), certificates.err()];
                return Err(found.into_iter().flatten().flatten().collect());
            }
        };
        let rules = |issuer: &Arc<Issuer>| Some((issuer.name.clone(), proof_rules(issuer)?));
        Ok(Self {
            tokens,
            api_keys,
            passwords,
            certificates,
            kinds: kinds(config),
            proofs: config.issuers.iter().filter_map(rules).collect(),
            default_proofs: DpopRules::default(),
            dpop,
            events: events(config),
            revocations: Arc::clone(&services.revocations),
            observer: Arc::clone(&services.observer),
        })
    }

    /// The sources of a route by their names; none: all that there are.
    pub fn accepted(&self, names: &[IssuerName]) -> Accepted {
        let of = |name: &IssuerName| self.kinds.get(name).copied().unwrap_or(Kinds::NONE);
        let all = || self.kinds.values().copied().fold(Kinds::NONE, Kinds::and);
        let kinds = if names.is_empty() { all() } else { names.iter().map(of).fold(Kinds::NONE, Kinds::and) };
        let told = |name: &IssuerName| names.is_empty() || names.contains(name);
        let proofs = self.proofs.iter().filter(|(name, _)| told(name)).map(|(_, rules)| rules.algorithms);
        let accepted = Accepted::new(names.into(), kinds).with_basic(self.passwords.offer(names));
        accepted.with_dpop(proofs.fold(Algorithms::NONE, Algorithms::or))
    }

    /// How many DPoP proofs are remembered, so that none is used twice.
    pub fn remembered_proofs(&self) -> usize {
        self.dpop.remembered()
    }

    /// How each source that can fail stands, in the order of the configuration.
    pub fn readiness(&self, now: Now) -> Vec<SourceReadiness> {
        self.tokens.readiness(now).into_iter().chain(self.certificates.readiness(now)).collect()
    }

    /// How many users are locked at an address, by source.
    pub fn locked_users(&self, now: Now) -> impl Iterator<Item = (&str, usize)> {
        self.passwords.locked(now)
    }

    /// Lets go of what was noted of strangers and says nothing any more, and of tokens that are not shown any more; takes a while.
    pub fn sweep(&self, now: Now) {
        self.tokens.sweep(now);
        self.passwords.sweep(now);
    }

    /// Writes down what is kept in memory alone: when API keys were last used.
    pub fn write_down(&self) {
        self.api_keys.write_last_uses();
    }

    /// Finds out what a request's credentials are worth where these sources are taken. What is a credential of a kind
    /// that none of them takes is not looked at.
    pub async fn authenticate(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let evidence = self.verify(presented, accepted, now).await;
        match &evidence.credential {
            // Here and nowhere else, so that no kind of credential and no cache can pass it by.
            Credential::Valid(principal) if self.revocations.names(principal, now) => {
                let is_token = self.kinds.get(&principal.issuer).is_none_or(|kinds| *kinds == Kinds::TOKEN);
                let reason = if is_token { Reason::TokenRevoked } else { Reason::CredentialRevoked };
                Credential::Invalid(reason).into()
            }
            Credential::Absent | Credential::Valid(_) | Credential::Invalid(_) | Credential::Unavailable { .. } => {
                evidence
            }
        }
    }

    /// Takes what the provider of an issuer reports of sessions and accounts that have ended; `None` where nothing is
    /// taken from that one.
    pub async fn receive(&self, issuer: &str, delivery: Delivery<'_>, now: Now) -> Option<Receipt> {
        let verifier = self.tokens.named(issuer)?;
        let events = self.events.iter().find(|(name, _)| **name == *issuer).map(|(_, events)| events)?;
        let receiver = Receiver { verifier, events, revocations: &self.revocations, observer: &*self.observer };
        Some(receiver.receive(delivery, now).await)
    }

    /// What the credentials of a request are worth, revoked or not.
    async fn verify(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let kinds = accepted.kinds();
        if kinds.has(Kinds::API_KEY) && presented.authorization != Field::Several {
            match self.api_keys.shown(presented, accepted) {
                Shown::Nothing => {}
                Shown::Several => return Credential::Invalid(Reason::InvalidCredentials).into(),
                Shown::Key(_) if has_token_besides(presented, kinds) => {
                    return Credential::Invalid(Reason::InvalidCredentials).into();
                }
                Shown::Key(key) => return self.api_keys.authenticate(&key, presented, accepted, now).into(),
            }
        }
        let value = match presented.authorization {
            Field::Absent => return self.by_certificate(presented, accepted, now),
            Field::Several => return Credential::Invalid(Reason::InvalidCredentials).into(),
            Field::One(value) => value,
        };
        let (token, scheme) = match Authorization::parse(value) {
            Authorization::Bearer(token) if kinds.has(Kinds::TOKEN) => (token, Scheme::Bearer),
            Authorization::Dpop(token) if kinds.has(Kinds::TOKEN) => (token, Scheme::Dpop),
            Authorization::Basic(encoded) if kinds.has(Kinds::BASIC) => {
                if has_token_besides(presented, kinds) {
                    return Credential::Invalid(Reason::InvalidCredentials).into();
                }
                // Boxed: rare, and large enough to make every request's future larger.
                return Box::pin(self.passwords.authenticate(encoded, presented, accepted, now)).await.into();
            }
            Authorization::Bearer(_)
            | Authorization::Dpop(_)
            | Authorization::Basic(_)
            | Authorization::OtherScheme => return self.by_certificate(presented, accepted, now),
        };
        if has_token_besides(presented, kinds) {
            return Credential::Invalid(Reason::InvalidCredentials).into();
        }
        match self.tokens.authenticate(token, accepted, now).await {
            Credential::Valid(principal) => self.prove_possession(principal, token, scheme, presented, now),
            credential @ (Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. }) => {
                credential.into()
            }
        }
    }

    /// A client certificate is there on every request of its connection: it counts where no other credential was sent.
    fn by_certificate(&self, presented: &Presented<'_>, accepted: &Accepted, now: Now) -> Evidence {
        let kinds = accepted.kinds();
        match presented.certificate {
            Some(_) if kinds.has(Kinds::CERTIFICATE) && has_token_besides(presented, kinds) => {
                Credential::Invalid(Reason::InvalidCredentials).into()
            }
            Some(shown) if kinds.has(Kinds::CERTIFICATE) => {
                let credential = self.certificates.authenticate(shown, accepted, now);
                let possession = matches!(credential, Credential::Valid(_)).then_some(Possession::Certificate);
                Evidence { possession, ..credential.into() }
            }
            None if kinds == Kinds::CERTIFICATE => Credential::Invalid(Reason::CertificateMissing).into(),
            Some(_) | None => Credential::Absent.into(),
        }
    }

    /// A token that is bound to a key is good only beside the proof that the caller holds it.
    fn prove_possession(
        &self,
        principal: Arc<Principal>,
        token: &[u8],
        scheme: Scheme,
        presented: &Presented<'_>,
        now: Now,
    ) -> Evidence {
        let (possession, fresh_nonce) = match self.prove(&principal, token, scheme, presented, now) {
            Ok(proved) => proved,
            Err(Unproved { credential, fresh_nonce }) => return Evidence { fresh_nonce, ..credential.into() },
        };
        Evidence { possession, fresh_nonce, ..Credential::Valid(principal).into() }
    }

    fn prove(
        &self,
        principal: &Principal,
        token: &[u8],
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

/// RFC 6750 §2: a client uses one way a request. A token in the query is none of ours, and a credential all the same: a
/// service may look at it, and see somebody else than we did.
fn has_token_besides(presented: &Presented<'_>, kinds: Kinds) -> bool {
    kinds.has(Kinds::TOKEN) && presented.query.is_some_and(has_query_token)
}

/// What an issuer asks of proofs, where its clients are to be told of them.
fn proof_rules(issuer: &Issuer) -> Option<DpopRules> {
    let is_bound = match issuer.bound {
        Bound::Dpop | Bound::Any => true,
        Bound::None | Bound::Certificate => false,
    };
    issuer.dpop.clone().or_else(|| is_bound.then(DpopRules::default))
}

fn no_randomness() -> Vec<Problem> {
    vec![Problem::error(&Span::default(), "the system gives no randomness, which nonces are made of")]
}

fn events(config: &Config) -> Vec<(IssuerName, Events)> {
    config.issuers.iter().filter_map(|issuer| Some((issuer.name.clone(), issuer.events.clone()?))).collect()
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
    if wanted == shown.fingerprint() { Ok(()) } else { Err(Reason::BindingMismatch) }
}
