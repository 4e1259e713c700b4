//! Tokens that only their issuer can read: it is asked about them (RFC 7662), and what it answers becomes the same facts
//! as a token's claims.
//!
//! ```text
//!   token ── cache of all tokens ──hit──> judged as any other
//!              │ miss
//!          refused a moment ago? ──yes──> refused
//!              │ no
//!          somebody asks already? ──yes──> the same answer
//!              │ no
//!          room for a question? ──no──> 503
//!              │ yes
//!          ask: endpoint, proof of who asks, form ─> answer ─(signature)─> active? ─> claims ─> kept until `exp`, and
//!                                                                                     for `cache` at most
//! ```
//! Questions are asked on the service runtime and outlive the request that began them: a client that goes away takes
//! nobody's answer along. What could not be asked is [`Verdict::Unavailable`], never a pass and never a refusal. There is no
//! circuit breaker: a token that makes the issuer fail must not shut out everybody else's.

mod answer;
mod client;
mod endpoint;
mod flight;
mod inactive;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::StatusCode;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};

use self::{
    answer::SIGNED_TYPE,
    client::{Client, Proof},
    endpoint::Endpoint,
    flight::{Boarding, Flights, Ticket},
    inactive::Inactive,
};
use super::{
    IntrospectionOutcome, SourceServices,
    cache::{Known, TokenCache, TokenDigest, TokenId},
    key_place::metadata_url,
    keys::LiveKey,
    verifier::{Verifier, fingerprint},
};
use crate::{
    client::{FetchFault, Fetcher, Form, authorities},
    clock::Now,
    config::{Introspection, Issuer, Materials, Problem, SignedAnswers},
    jose,
    policy::{Credential, Principal, Reason},
};

/// The largest answer that is read: the claims of a user with hundreds of roles are a quarter of it.
const ANSWER_BYTES: usize = 64 << 10;
/// When to try again after the issuer could not be asked, and after there was no room.
const RETRY_FAILED_SECS: u32 = 5;
const RETRY_BUSY_SECS: u32 = 1;

/// What asking came to.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// The token is active, and what the answer says of it holds.
    Pass(Arc<Known>),
    /// It is not active, or not good here.
    Refuse(Reason),
    /// That cannot be said now.
    Unavailable { retry_after_secs: u32 },
}

impl Verdict {
    /// Whether another issuer may know the token all the same.
    pub(super) fn is_strange(&self) -> bool {
        match self {
            Self::Pass(_) => false,
            Self::Refuse(reason) => matches!(reason, Reason::TokenInactive | Reason::TokenIssuerUnknown),
            Self::Unavailable { .. } => true,
        }
    }
}

/// Why there was no usable answer. The texts are for the operator and name no address; the log line names the issuer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer within {}ms", .0.as_millis())]
    Timeout(Duration),
    #[error("fetching the issuer's metadata: {0}")]
    Metadata(FetchFault),
    #[error("the issuer's metadata is not JSON with `issuer`")]
    MetadataFormat,
    #[error("the metadata is that of another issuer")]
    OtherIssuer,
    #[error("the metadata names no `introspection_endpoint`")]
    NoEndpoint,
    #[error("the metadata's endpoint is not https, nor on the machine that the metadata came from")]
    Endpoint,
    #[error("the system gives no randomness")]
    Randomness,
    #[error("the issuer does not take the gateway's proof of who asks: {0}")]
    Client(StatusCode),
    #[error("asking: {0}")]
    Call(FetchFault),
    #[error("the answer is not an introspection answer with `active`")]
    Format,
    #[error("the answer is not signed, and `signed` is `required`")]
    Unsigned,
    #[error("the answer's signature: {}", .0.name())]
    Signature(Reason),
    #[error("the signed answer is another issuer's, or for another client")]
    SignedFor,
    #[error("the signed answer is not of now")]
    SignedTime,
}

impl Fault {
    fn of_call(fault: FetchFault) -> Self {
        // RFC 7662 §2.3: 401 where the proof is not taken; several providers say 403.
        match fault.status() {
            Some(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => Self::Client(status),
            Some(_) | None => Self::Call(fault),
        }
    }
}

/// What asking needs besides the definition, as it was read. Equal means ask alike, so a reload keeps what it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Means {
    proof: Proof,
    ca: Option<Vec<CertificateDer<'static>>>,
}

impl Means {
    /// Reads what an issuer's introspection names, if it has one.
    pub(super) fn prepare(issuer: &Issuer, materials: &dyn Materials) -> Result<Option<Self>, Problem> {
        let Some(settings) = &issuer.introspection else { return Ok(None) };
        if settings.url.is_none() && metadata_url(&issuer.url).is_none() {
            return Err(Problem::error(&settings.span, "the issuer is not a URL, which discovery needs"));
        }
        Ok(Some(Self { proof: Proof::read(settings, materials)?, ca: authorities(issuer.ca.as_ref(), materials)? }))
    }
}

/// Asks one issuer.
pub(super) struct Introspector {
    means: Means,
    settings: Introspection,
    /// The issuer as its answers are judged.
    judging: Issuer,
    client: Client,
    endpoint: Endpoint,
    fetcher: Fetcher,
    flights: Arc<Flights>,
    inactive: Inactive,
    cache: Arc<TokenCache>,
    services: SourceServices,
    /// What went wrong last, until something goes well.
    fault: Mutex<Option<Box<str>>>,
}

impl std::fmt::Debug for Introspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspector").field("issuer", &self.judging.name).finish_non_exhaustive()
    }
}

impl Introspector {
    /// Makes ready to ask; asks nothing yet.
    pub(super) fn new(
        issuer: &Issuer,
        settings: &Introspection,
        means: Means,
        cache: &Arc<TokenCache>,
        services: &SourceServices,
    ) -> Result<Self, Problem> {
        let fault = |what: &str| Problem::error(&settings.span, what);
        let identity = means.proof.identity();
        let roots = services.roots.unless(means.ca.as_deref());
        let mutual = identity.is_some();
        Ok(Self {
            client: means
                .proof
                .client(&settings.client_id)
                .ok_or_else(|| fault("the client's secret cannot be sent in a header"))?,
            endpoint: Endpoint::new(settings.url.as_ref(), &issuer.url, mutual)
                .ok_or_else(|| fault("the issuer is not a URL, which discovery needs"))?,
            fetcher: Fetcher::with(roots, identity)
                .map_err(|error| fault(&format!("TLS to the introspection endpoint: {error}")))?,
            flights: Flights::new(settings.concurrent),
            inactive: Inactive::new(settings.negative_cache),
            judging: answer::judging(issuer, &settings.required),
            cache: Arc::clone(cache),
            services: services.clone(),
            settings: settings.clone(),
            means,
            fault: Mutex::default(),
        })
    }

    /// What asking needs.
    pub(super) fn means(&self) -> &Means {
        &self.means
    }

    /// Whether an opaque token can be one of this issuer's.
    pub(super) fn may_own(&self, token: &str) -> bool {
        token.len() <= self.judging.token_bytes
            && self.settings.prefix.as_deref().is_none_or(|prefix| token.starts_with(prefix))
    }

    /// What went wrong last, until something goes well.
    pub(super) fn fault(&self) -> Option<Box<str>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks the issuer about a token, once for all who want to know at the same time.
pub(super) async fn ask(
    introspector: &Arc<Introspector>,
    verifier: &Arc<Verifier>,
    token: &str,
    id: TokenId<'_>,
    now: Now,
) -> Verdict {
    let digest = introspector.cache.digest(token.as_bytes());
    let issuer = &*verifier.issuer.name;
    let observer = &introspector.services.observer;
    if let Some(reason) = introspector.inactive.look(&digest, now) {
        observer.introspection(issuer, IntrospectionOutcome::Remembered, None);
        return Verdict::Refuse(reason);
    }
    let flight = match introspector.flights.board(digest) {
        Boarding::Under(flight) => flight,
        Boarding::First(ticket, flight) => {
            // Between the look into the cache and this one somebody else may have found the answer.
            match introspector.cache.look(&id, now).filter(|known| known.verifier == verifier.number) {
                Some(known) => ticket.land(Verdict::Pass(known)),
                None => begin(introspector, verifier, token, ticket, now),
            }
            flight
        }
        Boarding::Full => {
            observer.introspection(issuer, IntrospectionOutcome::Busy, None);
            return Verdict::Unavailable { retry_after_secs: RETRY_BUSY_SECS };
        }
    };
    flight.land().await.unwrap_or(Verdict::Unavailable { retry_after_secs: RETRY_BUSY_SECS })
}

/// Asks on the service runtime.
fn begin(introspector: &Arc<Introspector>, verifier: &Arc<Verifier>, token: &str, ticket: Ticket, now: Now) {
    let (this, verifier, token) = (Arc::clone(introspector), Arc::clone(verifier), token.to_owned());
    introspector.services.handle.spawn(async move {
        let verdict = this.find_out(&verifier, &token, ticket.id(), now).await;
        ticket.land(verdict);
    });
}

/// The members of an active token, and what vouches for them.
struct Found {
    answer: Map<String, Value>,
    bytes: usize,
    key: Option<Arc<LiveKey>>,
    kid: Option<Arc<str>>,
}

impl Introspector {
    async fn find_out(&self, verifier: &Verifier, token: &str, digest: TokenDigest, asked: Now) -> Verdict {
        let issuer = &*verifier.issuer.name;
        let (clock, observer) = (&self.services.clock, &self.services.observer);
        let begun = clock.instant();
        let result = match tokio::time::timeout(self.settings.timeout, self.question(verifier, token)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Timeout(self.settings.timeout)),
        };
        let took = Some(clock.instant().saturating_duration_since(begun));
        self.note(issuer, result.as_ref().err());
        let judged = match result {
            Ok(Some(found)) => self.judge(verifier, token, found, clock.now()),
            Ok(None) => Err(Reason::TokenInactive),
            Err(_) => {
                observer.introspection(issuer, IntrospectionOutcome::Failed, took);
                return Verdict::Unavailable { retry_after_secs: RETRY_FAILED_SECS };
            }
        };
        match judged {
            Ok((known, bytes)) => {
                observer.introspection(issuer, IntrospectionOutcome::Active, took);
                let known = Arc::new(known);
                let lifetime = self.lifetime(&known, asked);
                if !lifetime.is_zero() {
                    let id = self.cache.identify(token.as_bytes());
                    self.cache.keep_for(lifetime, id, Arc::clone(&known), bytes, asked);
                }
                Verdict::Pass(known)
            }
            Err(reason) => {
                observer.introspection(issuer, IntrospectionOutcome::Refused, took);
                self.inactive.keep(digest, reason, asked);
                Verdict::Refuse(reason)
            }
        }
    }

    fn judge(&self, verifier: &Verifier, token: &str, found: Found, now: Now) -> Result<(Known, usize), Reason> {
        let (mut principal, times) = answer::judge(&self.judging, found.answer, now)?;
        principal.marks.key = found.kid;
        principal.marks.fingerprint = Some(fingerprint(token));
        let known = Known { principal: Arc::new(principal), times, key: found.key, verifier: verifier.number };
        Ok((known, found.bytes))
    }

    /// How long an answer is kept: counted from the question, and never past `exp`, without any leeway.
    fn lifetime(&self, known: &Known, asked: Now) -> Duration {
        let left = known.times.exp.map(|exp| Duration::try_from_secs_f64(exp - asked.numeric_date()));
        match left {
            None => self.settings.cache,
            // Further away than a duration can say, or past: the first is no bound.
            Some(Err(_)) if known.times.exp.is_some_and(|exp| exp > asked.numeric_date()) => self.settings.cache,
            Some(Err(_)) => Duration::ZERO,
            Some(Ok(left)) => left.min(self.settings.cache),
        }
    }

    /// Asks; `None`: the token is not active.
    async fn question(&self, verifier: &Verifier, token: &str) -> Result<Option<Found>, Fault> {
        let clock = &self.services.clock;
        let url = self.endpoint.url(&self.fetcher, &**clock).await?;
        let wants_signed = match self.settings.signed {
            SignedAnswers::Off => false,
            SignedAnswers::Preferred | SignedAnswers::Required => true,
        };
        let form = Form {
            body: self
                .client
                .form(&self.settings.client_id, &verifier.issuer.url, token, clock.now())
                .ok_or(Fault::Randomness)?,
            accept: if wants_signed { SIGNED_TYPE } else { "application/json" },
            authorization: self.client.authorization(),
        };
        let answer = self.fetcher.post(&url, form, ANSWER_BYTES).await.map_err(Fault::of_call)?;
        let bytes = answer.body.len();
        if wants_signed && answer.media_type == SIGNED_TYPE {
            return self.signed(verifier, &answer.body).await;
        }
        if self.settings.signed == SignedAnswers::Required {
            return Err(Fault::Unsigned);
        }
        Ok(answer::plain(&answer.body)?.map(|answer| Found { answer, bytes, key: None, kid: None }))
    }

    /// Verifies a signed answer (RFC 9701 §5) by the issuer's own keys.
    async fn signed(&self, verifier: &Verifier, body: &[u8]) -> Result<Option<Found>, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::Format)?.trim_ascii();
        let jws = jose::inspect(text, ANSWER_BYTES).map_err(|_| Fault::Format)?;
        // RFC 9701 §8.1: nothing but an answer may be taken for one.
        if !answer::is_signed_type(jws.typ()) {
            return Err(Fault::Signature(Reason::TokenType));
        }
        let now = self.services.clock.now();
        let vouched = verifier.vouch(jws, now).await.map_err(|credential| match credential {
            Credential::Invalid(reason) | Credential::Unavailable { reason, .. } => Fault::Signature(reason),
            Credential::Absent | Credential::Valid(_) => Fault::Format,
        })?;
        let members = answer::signed(vouched.claims, &verifier.issuer, &self.settings.client_id, now)?;
        let found = |answer| Found { answer, bytes: body.len(), key: Some(vouched.key), kid: vouched.kid };
        Ok(members.map(found))
    }

    /// Says what went wrong, once for each change, and that it is over.
    fn note(&self, issuer: &str, fault: Option<&Fault>) {
        let text = fault.map(|fault| Box::from(fault.to_string()));
        let mut last = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == text {
            return;
        }
        match &text {
            Some(fault) => tracing::warn!(issuer, %fault, "tokens cannot be introspected"),
            None => tracing::info!(issuer, "tokens can be introspected again"),
        }
        *last = text;
    }
}

/// Whether a text that is no JWS was meant to be one: three parts, the first a JSON object in base64. Such a text names its
/// issuer, if anything, where nobody can read it, so nobody is asked about it.
pub(super) fn is_broken_jws(token: &str) -> bool {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let mut parts = token.split('.');
    let first = parts.next().unwrap_or_default().replace('+', "-").replace('/', "_");
    let usable = first.trim_end_matches('=');
    let (whole, _) = usable.split_at_checked(usable.len() / 4 * 4).unwrap_or((usable, ""));
    parts.count() == 2 && LENIENT.decode(whole).is_ok_and(|header| header.trim_ascii_start().starts_with(b"{"))
}

/// What an unsigned answer makes of a token: for whoever wants to know what an endpoint's bytes can do.
pub fn judge_answer(issuer: &Issuer, body: &[u8], now: Now) -> Option<Result<Principal, Reason>> {
    let required = issuer.introspection.as_ref().map_or(&[][..], |settings| &settings.required);
    let members = answer::plain(body).ok()??;
    Some(answer::judge(&answer::judging(issuer, required), members, now).map(|(principal, _)| principal))
}
