//! Tokens of all issuers: a token goes in, a credential comes out.

use std::{collections::HashMap, sync::Arc};

use super::{
    Accepted, CacheLookup, IdentityObserver, SourceReadiness, SourceServices,
    cache::{Known, TOKENS, TokenCache, TokenId},
    claims,
    introspection::{self, Introspector, Means, Verdict, is_broken_jws},
    key_place::KeyPlace,
    keys::KeyStore,
    presented::token68,
    refresh::Refresh,
    verifier::Verifier,
};
use crate::{
    client::Fetcher,
    clock::Now,
    config::{Issuer, KeySource, Materials, Problem},
    jose::{self, VerifyingKey},
    policy::{Credential, Reason},
};

/// Verifies bearer tokens by the issuers of one configuration. What was learnt before survives a reload as far as the
/// new configuration would have learnt the same.
pub(super) struct Tokens {
    issuers: Vec<Arc<Verifier>>,
    by_url: HashMap<Arc<str>, Arc<Verifier>>,
    /// The longest token that any issuer takes.
    token_bytes: usize,
    cache: Arc<TokenCache>,
    observer: Arc<dyn IdentityObserver>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuers", &self.by_url.keys()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Finds what is wrong with the issuers' key material, without starting anything: for `check`.
    pub(super) fn check(issuers: &[Arc<Issuer>], materials: &dyn Materials) -> Vec<Problem> {
        prepare(issuers, materials).err().unwrap_or_default()
    }

    /// Prepares the issuers. Keys that are fetched are fetched in the background, from now on. Keys whose source did
    /// not change since `previous` stay as they are, and so do verified tokens of issuers that did not change. With a
    /// problem nothing was started and nothing has changed.
    pub(super) fn compile(
        issuers: &[Arc<Issuer>],
        materials: &dyn Materials,
        services: &SourceServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let prepared = prepare(issuers, materials)?;
        let now = services.clock.now();
        let cache =
            previous.map_or_else(|| Arc::new(TokenCache::new(TOKENS, now)), |previous| Arc::clone(&previous.cache));
        let mut verifiers = Vec::with_capacity(issuers.len());
        let mut problems = Vec::new();
        for (issuer, Prepared { place, keys, means }) in issuers.iter().zip(prepared) {
            let before = previous.and_then(|previous| previous.named(&issuer.name));
            let store = match before.filter(|before| *before.keys.place() == place) {
                Some(before) => Arc::clone(&before.keys),
                None => match start(issuer, place, keys, services, now) {
                    Ok(store) => Arc::new(store),
                    Err(error) => {
                        problems.push(Problem::error(&issuer.span, format!("TLS to the issuer: {error}")));
                        continue;
                    }
                },
            };
            if let Some(before) = before.filter(|before| before.is(issuer, &store, means.as_ref())) {
                verifiers.push(Arc::clone(before));
                continue;
            }
            let introspector = match (&issuer.introspection, means) {
                (Some(settings), Some(means)) => Introspector::new(issuer, settings, means, &cache, services).map(Some),
                (Some(_) | None, Some(_) | None) => Ok(None),
            };
            match introspector {
                Ok(introspector) => {
                    verifiers.push(Arc::new(Verifier::new(Arc::clone(issuer), store, introspector.map(Arc::new))));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            by_url: verifiers.iter().map(|one| (Arc::clone(&one.issuer.url), Arc::clone(one))).collect(),
            token_bytes: verifiers.iter().map(|one| one.issuer.token_bytes).max().unwrap_or(0),
            issuers: verifiers,
            cache,
            observer: Arc::clone(&services.observer),
        })
    }

    /// Verifies a token for a route that takes the tokens of these issuers, or, with an empty list, of any.
    ///
    /// Waits only for keys that nobody has yet, and at most a few seconds; a token that was seen before, or whose key is
    /// known, is judged at once. Never [`Credential::Absent`].
    pub(super) async fn authenticate(&self, token: &[u8], accepted: &Accepted, now: Now) -> Credential {
        if token.len() > self.token_bytes {
            return self.refuse(None, Reason::TokenTooLarge);
        }
        let id = self.cache.identify(token);
        match self.recall(&id, accepted, now) {
            Some(credential) => credential,
            None => {
                // Only here, for what is known was well formed when it was verified.
                let Some(token) = token68(token) else { return self.refuse(None, Reason::TokenMalformed) };
                self.observer.cache(CacheLookup::Miss);
                // Boxed: rare, and large enough to make every request's future larger.
                Box::pin(self.verify(token, id, accepted, now)).await
            }
        }
    }

    #[cfg(test)]
    /// Answers what can be said without waiting and without cryptography; `None`: ask [`Self::authenticate`], which
    /// then counts the miss.
    pub(super) fn authenticate_cached(&self, token: &str, accepted: &Accepted, now: Now) -> Option<Credential> {
        if token.len() > self.token_bytes {
            return Some(self.refuse(None, Reason::TokenTooLarge));
        }
        self.recall(&self.cache.identify(token.as_bytes()), accepted, now)
    }

    /// Lets go of tokens that nobody has shown for long.
    pub(super) fn sweep(&self, now: Now) {
        self.cache.sweep(now);
    }

    /// How the keys of each issuer stand, in the order of the configuration.
    pub(super) fn readiness(&self, now: Now) -> Vec<SourceReadiness> {
        self.issuers.iter().map(|verifier| readiness(verifier, now)).collect()
    }

    /// What the cache knows, as far as it still holds.
    fn recall(&self, id: &TokenId<'_>, accepted: &Accepted, now: Now) -> Option<Credential> {
        let known = self.cache.look(id, now).filter(|known| self.holds(known, id, now))?;
        self.observer.cache(CacheLookup::Hit);
        if !accepted.takes(&known.principal.issuer) {
            return Some(Credential::Invalid(Reason::TokenIssuerNotAccepted));
        }
        Some(match known.times.check(now.numeric_date(), known.principal.leeway_secs) {
            Ok(()) => Credential::Valid(Arc::clone(&known.principal)),
            Err(fault) => Credential::Invalid(claims::reason(fault)),
        })
    }

    fn holds(&self, known: &Known, id: &TokenId<'_>, now: Now) -> bool {
        if known.key.as_ref().is_some_and(|key| !key.is_alive()) {
            self.cache.forget(id);
            return false;
        }
        self.by_url.get(&known.principal.issuer_url).is_some_and(|verifier| {
            let usable = || known.key.is_none() || verifier.keys.is_usable(now, verifier.issuer.jwks_max_stale);
            verifier.number == known.verifier && usable()
        })
    }

    async fn verify(&self, token: &str, id: TokenId<'_>, accepted: &Accepted, now: Now) -> Credential {
        let jws = match jose::inspect(token, self.token_bytes) {
            Ok(jws) => jws,
            Err(fault) => {
                let asked = if is_broken_jws(token) { None } else { self.ask_all(token, id, accepted, now).await };
                return asked.unwrap_or_else(|| self.refuse(None, claims::reason(fault)));
            }
        };
        let verifier = match jws.issuer() {
            Ok(url) => url.and_then(|url| self.by_url.get(url)),
            Err(fault) => return self.refuse(None, claims::reason(fault)),
        };
        let Some(verifier) = verifier else { return self.refuse(None, Reason::TokenIssuerUnknown) };
        let name = &verifier.issuer.name;
        // Before any cryptography: a stranger's token for another route costs nothing here.
        if !accepted.takes(name) {
            return self.refuse(Some(name), Reason::TokenIssuerNotAccepted);
        }
        if verifier.issuer.keys == KeySource::Absent
            && let Some(introspector) = &verifier.introspector
        {
            if token.len() > verifier.issuer.token_bytes {
                return self.refuse(Some(name), Reason::TokenTooLarge);
            }
            return self.credential(verifier, introspection::ask(introspector, verifier, token, id, now).await);
        }
        match verifier.verify(jws, token, now).await {
            Ok(known) => {
                self.observer.verification(Some(name), Ok(()));
                let principal = Arc::clone(&known.principal);
                self.cache.keep(id, Arc::new(known), token.len(), now);
                Credential::Valid(principal)
            }
            Err(credential) => {
                if let Credential::Invalid(reason) | Credential::Unavailable { reason, .. } = &credential {
                    self.observer.verification(Some(name), Err(*reason));
                }
                credential
            }
        }
    }

    /// Asks the accepted issuers about an opaque token, one after the other, until one knows it; `None`: there is none to
    /// ask. If none knows it, one that could not be asked might have.
    async fn ask_all(&self, token: &str, id: TokenId<'_>, accepted: &Accepted, now: Now) -> Option<Credential> {
        let mut answer = None;
        for verifier in self.in_order(accepted) {
            let Some(introspector) = verifier.introspector.as_ref().filter(|one| one.may_own(token)) else { continue };
            let verdict = introspection::ask(introspector, verifier, token, id, now).await;
            let (is_strange, credential) = (verdict.is_strange(), self.credential(verifier, verdict));
            if !is_strange {
                return Some(credential);
            }
            answer = match (answer, credential) {
                (Some(unavailable @ Credential::Unavailable { .. }), _) => Some(unavailable),
                (_, credential) => Some(credential),
            };
        }
        answer
    }

    /// The accepted issuers, in the order of the route where it names them.
    fn in_order<'a>(&'a self, accepted: &'a Accepted) -> impl Iterator<Item = &'a Arc<Verifier>> {
        let names = accepted.names();
        let first = |at: usize, name: &str| !names.iter().take(at).any(|earlier| **earlier == *name);
        let named = names.iter().enumerate().filter(move |(at, name)| first(*at, name));
        let all = self.issuers.iter().filter(|_| names.is_empty());
        named.filter_map(|(_, name)| self.named(name)).chain(all)
    }

    /// What a verdict is to the policy, told to whoever listens.
    fn credential(&self, verifier: &Verifier, verdict: Verdict) -> Credential {
        let (result, credential) = match verdict {
            Verdict::Pass(known) => (Ok(()), Credential::Valid(Arc::clone(&known.principal))),
            Verdict::Refuse(reason) => (Err(reason), Credential::Invalid(reason)),
            Verdict::Unavailable { retry_after_secs } => {
                let reason = Reason::IntrospectionUnavailable;
                (Err(reason), Credential::Unavailable { reason, retry_after_secs })
            }
        };
        self.observer.verification(Some(&verifier.issuer.name), result);
        credential
    }

    fn refuse(&self, issuer: Option<&str>, reason: Reason) -> Credential {
        self.observer.verification(issuer, Err(reason));
        Credential::Invalid(reason)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Verifier>> {
        self.issuers.iter().find(|verifier| *verifier.issuer.name == *name)
    }
}

/// What an issuer's definition names, as it was read.
struct Prepared {
    place: KeyPlace,
    keys: Vec<VerifyingKey>,
    means: Option<Means>,
}

/// Prepares every issuer's source of keys and means to ask, or says everything that is wrong.
fn prepare(issuers: &[Arc<Issuer>], materials: &dyn Materials) -> Result<Vec<Prepared>, Vec<Problem>> {
    let mut prepared = Vec::with_capacity(issuers.len());
    let mut problems = Vec::new();
    for (index, issuer) in issuers.iter().enumerate() {
        match (KeyPlace::prepare(issuer, materials), Means::prepare(issuer, materials)) {
            (Ok((place, keys)), Ok(means)) => prepared.push(Prepared { place, keys, means }),
            (place, means) => problems.extend(place.err().into_iter().chain(means.err())),
        }
        let twin = issuers.iter().take(index).find(|other| other.url == issuer.url);
        if let Some(twin) = twin {
            let message = format!("`{}` and `{}` have the same `issuer`", twin.name, issuer.name);
            let help = "a token is matched by its `iss`, so each issuer needs its own";
            problems.push(Problem::error(&issuer.span, message).with_help(help));
        }
    }
    if problems.is_empty() { Ok(prepared) } else { Err(problems) }
}

/// Starts a store of keys, with its task where the keys can change.
fn start(
    issuer: &Issuer,
    place: KeyPlace,
    keys: Vec<VerifyingKey>,
    services: &SourceServices,
    now: Now,
) -> Result<KeyStore, rustls::Error> {
    if matches!(place, KeyPlace::Absent | KeyPlace::Fixed(_)) {
        return Ok(KeyStore::fixed(place, keys, now));
    }
    let fetcher = Fetcher::new(place.roots(&services.roots))?;
    Ok(KeyStore::refreshed(place.clone(), keys, now, |shelf| {
        let refresh = Refresh {
            issuer: Arc::clone(&issuer.name),
            place,
            fetcher,
            clock: Arc::clone(&services.clock),
            observer: Arc::clone(&services.observer),
            own: services.authority_keys.clone(),
            shelf,
        };
        services.handle.spawn(refresh.run()).abort_handle()
    }))
}

fn readiness(verifier: &Verifier, now: Now) -> SourceReadiness {
    let status = verifier.keys.status(now, verifier.issuer.jwks_max_stale);
    let fault = status.attempts.fault.as_deref();
    let mut detail = match (status.usable, status.age, fault) {
        _ if verifier.issuer.keys == KeySource::Absent => "tokens are introspected".to_owned(),
        (true, _, None) => "keys are at hand".to_owned(),
        (true, _, Some(fault)) => format!("the last good keys serve; {fault}"),
        (false, None, None) => "keys have not been read yet".to_owned(),
        (false, None, Some(fault)) => format!("keys have never been read: {fault}"),
        (false, Some(_), fault) => format!("keys are too old to serve: {}", fault.unwrap_or("no newer ones")),
    };
    if let Some(fault) = verifier.introspector.as_ref().and_then(|introspector| introspector.fault()) {
        detail.push_str("; introspection fails: ");
        detail.push_str(&fault);
    }
    SourceReadiness {
        name: Arc::clone(&verifier.issuer.name),
        ready: status.usable,
        detail,
        keys: status.keys,
        age: status.age,
        failures: status.attempts.failures,
    }
}
