//! One issuer: everything that a token of it must be, in the order in which it is cheapest to refuse.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use super::{
    cache::Known,
    claims,
    introspection::{Introspector, Means},
    keys::{Bounds, KeyStore, LiveKey, NoKey},
};
use crate::{
    clock::Now,
    config::{ClientAuthentication, File, Issuer, KeySource, Source, Span},
    jose::{self, UnverifiedJws},
    policy::{Credential, Reason},
};

/// An issuer as tokens are judged by it. Its number is never used again, so what was verified by another definition of
/// the same issuer is not mistaken for this one's.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) number: u64,
    pub(super) issuer: Arc<Issuer>,
    pub(super) keys: Arc<KeyStore>,
    /// Asks the issuer about tokens that its keys do not tell about.
    pub(super) introspector: Option<Arc<Introspector>>,
}

/// What a key vouches for.
pub(super) struct Vouched {
    pub(super) claims: Map<String, Value>,
    pub(super) key: Arc<LiveKey>,
    pub(super) kid: Option<Arc<str>>,
}

impl Verifier {
    pub(super) fn new(issuer: Arc<Issuer>, keys: Arc<KeyStore>, introspector: Option<Arc<Introspector>>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { number: NUMBERS.fetch_add(1, Ordering::Relaxed), issuer, keys, introspector }
    }

    /// Whether this judges tokens as that definition with those keys and means would.
    pub(super) fn is(&self, issuer: &Issuer, keys: &Arc<KeyStore>, means: Option<&Means>) -> bool {
        Arc::ptr_eq(&self.keys, keys)
            && self.introspector.as_ref().map(|introspector| introspector.means()) == means
            && without_places(&self.issuer) == without_places(issuer)
    }

    /// Verifies a token that names this issuer.
    pub(super) async fn verify(&self, jws: UnverifiedJws<'_>, token: &str, now: Now) -> Result<Known, Credential> {
        let invalid = |reason| Err(Credential::Invalid(reason));
        if token.len() > self.issuer.token_bytes {
            return invalid(Reason::TokenTooLarge);
        }
        let typed = takes_type(&self.issuer.types, self.issuer.type_absent, jws.typ());
        // RFC 8417 §4.1: where a provider types neither, an event must not be taken for a caller's token.
        if !typed || jws.is_event() {
            return invalid(Reason::TokenType);
        }
        let vouched = self.vouch(jws, now).await?;
        let (mut principal, times) =
            claims::read(&self.issuer, vouched.claims, now.numeric_date()).map_err(Credential::Invalid)?;
        principal.marks.key = vouched.kid;
        principal.marks.fingerprint = Some(fingerprint(token));
        Ok(Known { principal: Arc::new(principal), times, key: Some(vouched.key), verifier: self.number })
    }

    /// Verifies that this issuer signed a token, of whatever type.
    pub(super) async fn vouch(&self, jws: UnverifiedJws<'_>, now: Now) -> Result<Vouched, Credential> {
        let invalid = |reason| Err(Credential::Invalid(reason));
        let kid = jws.kid().map(Arc::from);
        let Some(algorithm) = jws.algorithm().filter(|algorithm| self.issuer.algorithms.contains(*algorithm)) else {
            return invalid(Reason::TokenAlgorithm);
        };
        let bounds = Bounds { cooldown: self.issuer.jwks_cooldown, max_stale: self.issuer.jwks_max_stale };
        let keys = match self.keys.find(jws.kid(), algorithm, bounds, now).await {
            Ok(keys) => keys,
            Err(NoKey::Unknown) => return invalid(Reason::TokenKeyUnknown),
            Err(NoKey::Unavailable { retry_after_secs }) => {
                return Err(Credential::Unavailable { reason: Reason::KeysUnavailable, retry_after_secs });
            }
        };
        let (verified, index) = jose::verify_any(jws, keys.iter().map(|live| live.key()), self.issuer.algorithms)
            .map_err(|fault| Credential::Invalid(claims::reason(fault)))?;
        let Some(key) = keys.get(index) else { return invalid(Reason::TokenSignature) };
        // The key's own name: whoever stole the key could leave it out of the header, or write another.
        let kid = key.key().kid().map(Arc::from).or(kid);
        Ok(Vouched { claims: verified.into_claims(), key: Arc::clone(key), kid })
    }
}

/// What tells a token from every other, its signature included. Made once, where a token is not known yet; not the cache's name
/// for it, which is another in each process.
pub(super) fn fingerprint(token: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    digest
}

/// Whether a `typ` is one of those accepted. RFC 8725 §3.11 and RFC 7515 §4.1.9: a media type in any case, whose
/// `application/` may be left out.
pub(super) fn takes_type(accepted: &[Arc<str>], absent: bool, typ: Option<&str>) -> bool {
    let Some(typ) = typ else { return absent };
    let typ = match typ.split_at_checked(12) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") && !rest.contains('/') => rest,
        Some(_) | None => typ,
    };
    accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(typ))
}

/// The definition without the places in the file where it stands: moving a line changes nothing.
fn without_places(issuer: &Issuer) -> Issuer {
    let mut issuer = issuer.clone();
    issuer.span = Span::default();
    let clear_file = |file: &mut File| file.span = Span::default();
    let clear = |source: &mut Source| match source {
        Source::File(file) => file.span = Span::default(),
        Source::Env { span, .. } | Source::Inline { span, .. } => *span = Span::default(),
    };
    if let Some(file) = &mut issuer.ca {
        clear_file(file);
    }
    // Where events come changes nothing in what a caller's token is worth.
    issuer.events = None;
    match &mut issuer.keys {
        KeySource::Absent | KeySource::Authority | KeySource::Discovery | KeySource::JwksUrl(_) => {}
        KeySource::JwksFile(file) => clear_file(file),
        KeySource::PublicKey(source) | KeySource::Secret { source, .. } => clear(source),
    }
    if let Some(introspection) = &mut issuer.introspection {
        introspection.span = Span::default();
        match &mut introspection.client {
            ClientAuthentication::Secret { secret: source, .. }
            | ClientAuthentication::PrivateKey { key: source, .. } => clear(source),
            ClientAuthentication::Certificate(pair) => {
                clear_file(&mut pair.cert);
                clear_file(&mut pair.key);
            }
        }
    }
    issuer
}
