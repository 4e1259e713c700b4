//! From a refusal to an answer. The only place that knows statuses, and what a caller may know of why.
//!
//! The body is a problem document (RFC 9457); the challenge is that of RFC 6750, RFC 9470 and RFC 9728. What is said is
//! chosen by [`Problem`], which is coarser than [`Reason`] wherever the difference would help somebody guess.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    config,
    identity::{Accepted, Kinds},
    jose::{Algorithm, Algorithms, PROOF_ALGORITHMS},
    policy::{Challenge, Denial, Factor, Reason, StepUp},
};

/// A request that is not forwarded, or whose answer never came.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why, for the records.
    pub reason: Reason,
    /// What would help the caller.
    pub challenge: Challenge,
    /// For the operator's log alone.
    pub detail: Option<Box<str>>,
    /// For the caller, in place of what the reason's problem says.
    pub said: Option<&'static str>,
    /// The methods that the path has, for `Allow`.
    pub allow: Box<[Method]>,
    /// The quota that is used up.
    pub limit: Option<Arc<str>>,
    /// Seconds to wait, for `Retry-After`.
    pub retry_after: Option<u64>,
    /// Whether the connection cannot be used again (RFC 9112 §6.3).
    pub close: bool,
}

/// What the caller is told: the `type` of the problem document is `urn:stepgate:problem:` and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// The stable name.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// A short title.
    pub title: &'static str,
    /// What happened and what to do next.
    pub detail: &'static str,
}

impl Refusal {
    /// A refusal for which a reason says everything.
    pub fn of(reason: Reason) -> Self {
        Self {
            reason,
            challenge: Challenge::Nothing,
            detail: None,
            said: None,
            allow: Box::default(),
            limit: None,
            retry_after: None,
            close: false,
        }
    }

    /// The same, with something for the operator.
    #[must_use]
    pub fn because(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same, for a connection that cannot be used again.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// A method that the path does not have, and those that it has.
    pub fn method_not_allowed(allow: Vec<Method>) -> Self {
        Self { allow: allow.into(), ..Self::of(Reason::MethodNotAllowed) }
    }

    /// A quota that is used up.
    pub fn quota(limit: Arc<str>, retry_after: u64) -> Self {
        Self { limit: Some(limit), retry_after: Some(retry_after), ..Self::of(Reason::QuotaExceeded) }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let retry_after = if let Challenge::Later(secs) = denial.challenge { Some(u64::from(secs)) } else { None };
        let detail = denial.detail.map(Into::into);
        Self { challenge: denial.challenge, detail, retry_after, ..Self::of(denial.reason) }
    }
}

/// Where a refusal happened, as far as its answer says.
#[derive(Debug, Clone, Copy)]
pub struct RefusalContext<'a> {
    /// The request's identifier.
    pub request_id: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// The host that the client asked for, port included; empty where it is not known.
    pub authority: &'a str,
    /// The caller's own authorization server, or all of the configuration.
    pub authorization_servers: &'a [Arc<str>],
    /// Whose credentials the route takes; `None` where there is no route.
    pub accepted: Option<&'a Accepted>,
    /// The gateway's own authority, where a second factor can be shown.
    pub second_factor: Option<&'a config::Authority>,
    /// What is said of DPoP.
    pub dpop: DpopOffer,
    /// The deletion that holds the caller's account.
    pub held: Option<&'a HeldAccount>,
}

/// A deletion that holds a caller's account, as far as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAccount {
    /// What the plan answers with meanwhile: 403 or 410.
    pub status: StatusCode,
    /// Where the deletion is seen.
    pub status_url: String,
    /// Where it is cancelled.
    pub cancel_url: String,
}

/// What a challenge says of DPoP (RFC 9449 §7.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct DpopOffer {
    /// What proofs may be signed with here; empty where clients are not told of them.
    pub algorithms: Algorithms,
    /// Whether the client sent its token by this scheme: what is wrong is then said under it.
    pub tried: bool,
}

/// The path of the protected resource's metadata (RFC 9728 §3).
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

impl Refusal {
    /// What the caller is told.
    pub fn problem(&self) -> Problem {
        problem(self.reason)
    }

    /// The same, where it depends on what the route takes (nobody is sent for a token that would not help) or on what holds the
    /// caller's account.
    pub(super) fn problem_at(&self, context: &RefusalContext<'_>) -> Problem {
        if let (Reason::SubjectHeld, Some(held)) = (self.reason, context.held) {
            return Problem { status: held.status, ..self.problem() };
        }
        let kinds = context.accepted.map_or(Kinds::TOKEN, Accepted::kinds);
        if self.reason != Reason::TokenMissing || kinds.has(Kinds::TOKEN) {
            return self.problem();
        }
        let detail = match (kinds.has(Kinds::API_KEY), kinds.has(Kinds::BASIC), kinds.has(Kinds::CERTIFICATE)) {
            (true, false, false) => "Send an API key.",
            (false, true, false) => "Send a user name and password (Basic).",
            (false, false, true) => "Show a client certificate.",
            (true, true, false) => "Send an API key, or a user name and password (Basic).",
            (true, false, true) => "Send an API key, or show a client certificate.",
            (false, true, true) => "Send a user name and password (Basic), or show a client certificate.",
            _ => "Send an API key, or a user name and password (Basic), or show a client certificate.",
        };
        Problem { name: "credentials-required", title: "Credentials required", detail, ..self.problem() }
    }

    /// The header fields of the answer.
    pub fn headers(&self, context: &RefusalContext<'_>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
        // One field for each scheme: some clients read no more than one challenge in a field.
        for challenge in [self.token_challenge(context), self.other_challenge(context), self.basic_challenge(context)] {
            if let Some(value) = challenge.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.append(WWW_AUTHENTICATE, value);
            }
        }
        if let Some(secs) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if !self.allow.is_empty() {
            let names: Vec<&str> = self.allow.iter().map(Method::as_str).collect();
            insert(&mut headers, header::ALLOW, Some(names.join(", ")));
        }
        if self.reason == Reason::UpgradeVersion {
            // RFC 6455 §4.4; RFC 9110 §15.5.22 wants to be told what to upgrade to.
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }

    /// The problem document.
    pub fn body(&self, context: &RefusalContext<'_>) -> Vec<u8> {
        let problem = self.problem_at(context);
        let mut text = Vec::with_capacity(BODY_BYTES);
        let mut body = Members::open(&mut text);
        body.put("type", &format_args!("urn:stepgate:problem:{}", problem.name));
        body.put("title", problem.title);
        body.put("status", &problem.status.as_u16());
        body.put("detail", &*self.next_step(self.said.unwrap_or(problem.detail), context));
        body.put("request_id", context.request_id);
        match &self.challenge {
            Challenge::StepUp(step_up) => {
                let mut members = Map::new();
                step_up_members(&mut members, step_up, context.authorization_servers);
                if let Some(authority) = context.second_factor {
                    members.insert("step_up".into(), second_factor_member(step_up, authority));
                }
                members.iter().for_each(|(name, value)| body.put(name, value));
            }
            Challenge::Scope(scopes) => body.put("scope", &scopes.join(" ")),
            Challenge::Token
            | Challenge::InvalidRequest
            | Challenge::InvalidToken
            | Challenge::Later(_)
            | Challenge::Nothing => {}
        }
        if let (Reason::SubjectHeld, Some(held)) = (self.reason, context.held) {
            body.put("status_url", held.status_url.as_str());
            body.put("cancel_url", held.cancel_url.as_str());
        }
        if let Some(limit) = &self.limit {
            body.put("limit", &**limit);
        }
        if let Some(secs) = self.retry_after {
            body.put("retry_after", &secs);
        }
        body.close();
        text.push(b'\n');
        text
    }

    /// What happened and what to do next, for the caller.
    pub(super) fn detail(&self, context: &RefusalContext<'_>) -> Cow<'static, str> {
        self.next_step(self.said.unwrap_or(self.problem_at(context).detail), context)
    }

    /// The challenge (RFC 6750 §3), each parameter once; `None` where authenticating would not help.
    fn token_challenge(&self, context: &RefusalContext<'_>) -> Option<String> {
        let kinds = context.accepted.map_or(Kinds::TOKEN, Accepted::kinds);
        if matches!(self.challenge, Challenge::Token | Challenge::InvalidToken) && !kinds.has(Kinds::TOKEN) {
            let is_basic = self.basic_challenge(context).is_some();
            return (!is_basic).then(|| other_scheme(kinds));
        }
        if matches!(self.challenge, Challenge::Nothing | Challenge::Later(_)) {
            return None;
        }
        let mut out = String::from(if context.dpop.tried { "DPoP" } else { "Bearer" });
        let mut separator = " ";
        let mut add = |name: &str, value: &str| {
            // Quoted strings hold neither of these two unescaped (RFC 9110 §5.6.4).
            let clean: String = value.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
            // Writing to a string cannot fail.
            let _ = write!(out, "{separator}{name}=\"{clean}\"");
            separator = ", ";
        };
        match &self.challenge {
            Challenge::Nothing | Challenge::Later(_) | Challenge::Token => {}
            // It was no token that was not valid, so nothing is said of one (RFC 6750 §3.1).
            Challenge::InvalidToken if self.problem().name == INVALID_CREDENTIALS => {}
            Challenge::InvalidRequest => {
                add("error", "invalid_request");
                add("error_description", "Send exactly one token, in the Authorization header");
            }
            Challenge::InvalidToken => {
                let (error, description) = token_error(self.reason);
                add("error", error);
                add("error_description", description);
            }
            Challenge::Scope(scopes) => {
                add("error", "insufficient_scope");
                add("error_description", "The token lacks a scope that this needs");
                add("scope", &scopes.join(" "));
            }
            Challenge::StepUp(step_up) => {
                add("error", "insufficient_user_authentication");
                add("error_description", step_up_description(step_up));
                if !step_up.acr_values.is_empty() {
                    add("acr_values", &step_up.acr_values.join(" "));
                }
                if let Some(max_age) = step_up.max_age {
                    add("max_age", &max_age.as_secs().to_string());
                }
            }
        }
        if context.dpop.tried {
            add("algs", &context.dpop.names());
        }
        if !context.authority.is_empty() {
            add("resource_metadata", &format!("{}://{}{METADATA_PATH}", context.scheme, context.authority));
        }
        Some(out)
    }

    /// The challenge of RFC 7617 §2, where a password would help and may be sent.
    fn basic_challenge(&self, context: &RefusalContext<'_>) -> Option<String> {
        let asks = matches!(self.challenge, Challenge::Token | Challenge::InvalidToken);
        let offer = context.accepted.and_then(Accepted::basic).filter(|_| asks)?;
        let may_be_sent = context.scheme == "https" || offer.cleartext;
        may_be_sent.then(|| format!("Basic realm=\"{}\", charset=\"UTF-8\"", offer.realm))
    }

    /// The other scheme by which a token may be sent, where the client has to send another request anyhow (RFC 9110
    /// §11.6.1: in a field of its own, so that no parser can mix them up).
    fn other_challenge(&self, context: &RefusalContext<'_>) -> Option<String> {
        match &self.challenge {
            Challenge::Token | Challenge::InvalidRequest | Challenge::InvalidToken => {}
            Challenge::Scope(_) | Challenge::StepUp(_) | Challenge::Later(_) | Challenge::Nothing => return None,
        }
        match context.dpop {
            DpopOffer { tried: true, .. } => Some("Bearer".to_owned()),
            DpopOffer { tried: false, algorithms } if algorithms.is_empty() => None,
            offer => Some(format!("DPoP algs=\"{}\"", offer.names())),
        }
    }

    /// The detail, with what this refusal in particular asks for.
    fn next_step(&self, detail: &'static str, context: &RefusalContext<'_>) -> Cow<'static, str> {
        let Challenge::StepUp(step_up) = &self.challenge else { return Cow::Borrowed(detail) };
        let here = context.second_factor.map(|authority| self.second_factor_step(step_up, authority));
        let (first, then) = match (here, provider_step(step_up, context.authorization_servers)) {
            (Some(here), Some(provider)) => (detail, format!("{here} Or {provider}")),
            (Some(here), None) => (detail, here),
            (None, Some(provider)) => (detail, capitalised(&provider)),
            (None, None) if self.is_of_authority() => {
                (detail, "No authority is configured that could give it.".to_owned())
            }
            (None, None) => {
                return Cow::Borrowed(
                    "The credentials are valid, but this operation needs a stronger or more recent authentication of a user, \
                     and no authorization server is configured that could give it.",
                );
            }
        };
        Cow::Owned(format!("{first} {then}"))
    }

    /// Whether what is missing is nothing that a provider's token could have.
    fn is_of_authority(&self) -> bool {
        matches!(self.reason, Reason::FactorInsufficient | Reason::FactorTooNew | Reason::GrantMissing)
    }

    /// What to do next with our own authority.
    fn second_factor_step(&self, step_up: &StepUp, authority: &config::Authority) -> String {
        let Places { page, challenges, token } = Places::of(authority);
        if self.reason == Reason::FactorTooNew {
            return "The factor was enrolled too lately to delete anything: use another one, or wait.".to_owned();
        }
        if step_up.grant {
            return format!(
                "Get a grant for this very request at {token} and repeat the request with it in Stepgate-Grant."
            );
        }
        if step_up.guarded || step_up.level.is_none() {
            return format!(
                "Repeat the request with a code of a second factor in Stepgate-OTP, or with a grant of {token} in Stepgate-Grant."
            );
        }
        format!(
            "Show a second factor at {page} or by {challenges}, then repeat the request with the same token; or repeat it with a \
             code in Stepgate-OTP."
        )
    }
}

/// What to do next with a provider, if one can give what is missing.
fn provider_step(step_up: &StepUp, servers: &[Arc<str>]) -> Option<String> {
    let mut wanted = Vec::new();
    if !step_up.acr_values.is_empty() {
        wanted.push(format!("acr_values={}", step_up.acr_values.join(" ")));
    }
    if let Some(max_age) = step_up.max_age {
        wanted.push(format!("max_age={}", max_age.as_secs()));
    }
    if !step_up.amr_values.is_empty() {
        wanted.push(format!("a method (amr) of: {}", step_up.amr_values.join(" ")));
    }
    let gives_all = !step_up.grant && step_up.factors.is_none();
    (gives_all && !wanted.is_empty() && !servers.is_empty()).then(|| {
        let wanted = wanted.join(", ");
        format!(
            "send the user to the authorization server again with {wanted}, then repeat the request with the new token."
        )
    })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Where the authority is, as clients know it.
struct Places {
    page: String,
    challenges: String,
    token: String,
}

impl Places {
    fn of(authority: &config::Authority) -> Self {
        let base = format!("{}{}", authority.url.as_str().trim_end_matches('/'), authority.path);
        Self {
            page: format!("{base}/"),
            challenges: format!("{base}/api/v1/challenges"),
            token: format!("{base}/token"),
        }
    }
}

/// What a client needs to step up here by itself.
fn second_factor_member(step_up: &StepUp, authority: &config::Authority) -> Value {
    let Places { page, challenges, token } = Places::of(authority);
    let factors: Vec<&str> = authority.taken_by(step_up.factors).iter().map(Factor::name).collect();
    let mut member = json!({
        "level": step_up.level.as_deref(),
        "page": page,
        "challenge": challenges,
        "token": token,
        "factors": factors,
        "categories": step_up.factors.map_or(0, |rule| rule.categories),
        // An elevation of the token does not satisfy the deletion guard.
        "grant": step_up.guarded || step_up.grant,
        "bind": step_up.grant,
    });
    if let (Value::Object(members), false) = (&mut member, step_up.grant) {
        members.insert("otp_header".into(), "Stepgate-OTP".into());
    }
    member
}

/// RFC 9110 §15.5.2 wants a challenge of every 401. No scheme is registered for these, and one that no client knows misleads
/// none, as that of a token would.
fn other_scheme(kinds: Kinds) -> String {
    let scheme = if kinds.has(Kinds::API_KEY) { "ApiKey" } else { "Certificate" };
    format!("{scheme} realm=\"stepgate\"")
}

impl DpopOffer {
    /// The names of the algorithms; of all that are ever taken, where no source says which.
    fn names(self) -> String {
        let algorithms = if self.algorithms.is_empty() { PROOF_ALGORITHMS } else { self.algorithms };
        algorithms.iter().map(Algorithm::name).collect::<Vec<_>>().join(" ")
    }
}

/// What is wrong with a token, or with the proof beside it (RFC 6750 §3.1; RFC 9449 §9, §12.2).
fn token_error(reason: Reason) -> (&'static str, &'static str) {
    if reason == Reason::TokenExpired {
        ("invalid_token", "The token expired")
    } else if reason == Reason::DpopNonce {
        ("use_dpop_nonce", "The proof needs the nonce in DPoP-Nonce")
    } else if reason == Reason::DpopInvalid || reason == Reason::DpopReplayed {
        ("invalid_dpop_proof", "The proof is not one for this request")
    } else {
        ("invalid_token", "The token is not valid here")
    }
}

/// Room for the usual document.
const BODY_BYTES: usize = 512;

/// The members of a JSON object, written one after the other.
struct Members<'a> {
    text: &'a mut Vec<u8>,
}

impl<'a> Members<'a> {
    fn open(text: &'a mut Vec<u8>) -> Self {
        text.push(b'{');
        Self { text }
    }

    /// Writes a member whose name needs no escapes.
    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.text.extend_from_slice(if self.text.ends_with(b"{") { b"\"" } else { b",\"" });
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        let written = serde_json::to_writer(&mut *self.text, value);
        debug_assert!(written.is_ok(), "writing text and numbers to memory cannot fail");
    }

    fn close(self) {
        self.text.push(b'}');
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: Option<String>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.insert(name, value);
    }
}

fn step_up_description(step_up: &StepUp) -> &'static str {
    let level = !step_up.acr_values.is_empty() || !step_up.amr_values.is_empty();
    match (level, step_up.max_age) {
        // Nothing that a provider's token could say.
        (false, None) => "A second factor is required",
        (true, None) => "A stronger authentication is required",
        (false, Some(_)) => "A more recent authentication is required",
        (true, Some(_)) => "A stronger and more recent authentication is required",
    }
}

/// Machine-readable: the parameters of the authorization request to make next (RFC 9470 §4).
fn step_up_members(body: &mut Map<String, Value>, step_up: &StepUp, servers: &[Arc<str>]) {
    let mut request = Map::new();
    if !step_up.acr_values.is_empty() {
        request.insert("acr_values".into(), step_up.acr_values.join(" ").into());
    }
    if let Some(max_age) = step_up.max_age {
        request.insert("max_age".into(), max_age.as_secs().into());
    }
    if !step_up.amr_values.is_empty() {
        let values: Vec<&str> = step_up.amr_values.iter().map(|value| &**value).collect();
        body.insert("amr_values".into(), json!(values));
    }
    body.insert("authorization_request".into(), Value::Object(request));
    let servers: Vec<&str> = servers.iter().map(|server| &**server).collect();
    body.insert("authorization_servers".into(), json!(servers));
}

const INVALID_CREDENTIALS: &str = "invalid-credentials";

/// Every reason's status and public face.
#[rustfmt::skip]
fn problem(reason: Reason) -> Problem {
    use Reason as R;
    let of = |name, status, title, detail| Problem { name, status, title, detail };
    match reason {
        R::MalformedRequest => of("malformed-request", StatusCode::BAD_REQUEST, "Malformed request",
            "The request breaks HTTP (RFC 9110, RFC 9112)."),
        R::InvalidHost => of("invalid-host", StatusCode::BAD_REQUEST, "Invalid host",
            "Send exactly one Host, and the same name in the request target if it has one."),
        R::AmbiguousPath => of("ambiguous-path", StatusCode::BAD_REQUEST, "Ambiguous path",
            "The path can be read in more than one way. Send it without empty or dot segments, encoded slashes, backslashes or control characters."),
        R::ConflictingOverride => of("conflicting-method-override", StatusCode::BAD_REQUEST, "Conflicting method override",
            "The request says more than one method, or a form or query that cannot be read without doubt."),
        R::InvalidCredentials => of("invalid-request", StatusCode::BAD_REQUEST, "Invalid credentials",
            "Send exactly one token, in one Authorization header and nowhere else."),
        R::UriTooLong => of("uri-too-long", StatusCode::URI_TOO_LONG, "URI too long",
            "The request target is longer than this gateway accepts."),
        R::HeadersTooLarge => of("headers-too-large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Header fields too large",
            "The header section is larger than this gateway accepts."),
        R::BodyTooLarge => of("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "Body too large",
            "The body is larger than this gateway accepts here."),
        R::RequestTimeout => of("request-timeout", StatusCode::REQUEST_TIMEOUT, "Request timeout",
            "The request was sent too slowly."),
        R::CorsRefused => of("cors-refused", StatusCode::FORBIDDEN, "Cross-origin request refused",
            "A page of this origin may not ask for that here: the origin, the method or a header field is not one that this route lists."),
        R::MethodUnknown => of("method-not-implemented", StatusCode::NOT_IMPLEMENTED, "Method not implemented",
            "The method is not one that this gateway knows. Methods are case-sensitive."),
        R::MethodNotAllowed => of("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed",
            "The Allow header lists the methods of this path."),
        R::RouteNotFound => of("not-found", StatusCode::NOT_FOUND, "Not found",
            "Nothing is served at this host and path."),
        R::UpgradeMalformed => of("malformed-upgrade", StatusCode::BAD_REQUEST, "Malformed upgrade",
            "The WebSocket handshake is not in the form of RFC 6455 §4.1."),
        R::UpgradeVersion => of("upgrade-version", StatusCode::UPGRADE_REQUIRED, "WebSocket version not supported",
            "Send Sec-WebSocket-Version: 13."),
        R::UpgradeNotOffered => of("upgrade-not-offered", StatusCode::NOT_IMPLEMENTED, "Protocol not offered",
            "The protocol of this CONNECT is not offered at this path."),
        R::TokenMissing => of("token-required", StatusCode::UNAUTHORIZED, "Token required",
            "Send an access token in the Authorization header. The resource metadata names who issues them."),
        R::ApiKeyMalformed | R::ApiKeyUnknown | R::ApiKeyExpired | R::ApiKeyRevoked | R::ApiKeyNetwork
        | R::PasswordMalformed | R::PasswordWrong | R::UserUnknown | R::LockedOut | R::PasswordCleartext
        | R::CertificateMissing | R::CertificateUnknown | R::CertificateRevoked | R::CertificateExpired
        | R::CredentialRevoked =>
            of(INVALID_CREDENTIALS, StatusCode::UNAUTHORIZED, "Invalid credentials",
            "The credentials are not valid here."),
        R::DpopNonce => of("dpop-nonce-required", StatusCode::UNAUTHORIZED, "DPoP nonce required",
            "Make a new DPoP proof with the nonce in DPoP-Nonce and repeat the request."),
        R::TokenExpired => of("token-expired", StatusCode::UNAUTHORIZED, "Token expired",
            "Get a new access token and repeat the request."),
        R::TokenMalformed | R::TokenTooLarge | R::TokenType | R::TokenAlgorithm | R::TokenIssuerUnknown
        | R::TokenIssuerNotAccepted | R::TokenKeyUnknown | R::TokenSignature | R::TokenClaims | R::TokenAudience
        | R::TokenNotYetValid | R::TokenIssuedInFuture | R::TokenInactive | R::TokenRevoked | R::BindingRequired
        | R::BindingMissing | R::BindingMismatch | R::DpopInvalid | R::DpopReplayed | R::SubjectErased => of("invalid-token", StatusCode::UNAUTHORIZED, "Invalid token",
            "The access token is not valid here. Get a new one from an issuer that the resource metadata names."),
        R::ScopeMissing => of("insufficient-scope", StatusCode::FORBIDDEN, "Insufficient scope",
            "The access token lacks a scope that this needs. Ask for a token with the scopes in `scope`."),
        R::ConditionFalse | R::ConditionError => of("forbidden", StatusCode::FORBIDDEN, "Forbidden",
            "The policy of this route does not allow the request."),
        R::AcrInsufficient | R::AmrInsufficient | R::AuthTimeMissing | R::AuthTimeInFuture | R::AuthenticationTooOld
        | R::FactorInsufficient | R::FactorTooNew | R::GrantMissing =>
            of("insufficient-user-authentication", StatusCode::UNAUTHORIZED, "Step-up authentication required",
            "The token is valid, but this operation needs a stronger or more recent authentication of the user."),
        // One face for all: whether a code was wrong, used or not looked at would help somebody guess.
        R::GrantInvalid | R::GrantSpent | R::CodeRefused | R::ProofRefused =>
            of("invalid-proof", StatusCode::FORBIDDEN, "Invalid proof",
            "The second factor that came with the request is not valid for it."),
        R::EnrolmentRefused => of("enrolment-refused", StatusCode::FORBIDDEN, "Enrolment refused",
            "Factors are enrolled with an invitation, or with a factor that is there."),
        R::SignInRefused => of("invalid-sign-in", StatusCode::UNAUTHORIZED, "Invalid sign-in",
            "This does not sign anybody in."),
        R::CallRefused => of("invalid-call", StatusCode::BAD_REQUEST, "Invalid call",
            "The request is not in the form that this endpoint takes."),
        R::SubjectHeld => of("account-held", StatusCode::FORBIDDEN, "Account held",
            "A deletion of this account was asked for, and it is closed meanwhile. The deletion can be cancelled at `cancel_url` with these credentials, as long as no request that deletes was sent."),
        R::DeletionAmbiguous => of("ambiguous-deletion", StatusCode::BAD_REQUEST, "Ambiguous deletion",
            "Send the deletion in exactly the form that the service documents, with each value once: another spelling is not taken for it."),
        R::DeletionCovered => of("deletion-covered", StatusCode::FORBIDDEN, "Deletion not possible this way",
            "This would erase what has a deletion operation of its own. Use that."),
        R::DeletionNotOwner => of("not-the-owner", StatusCode::FORBIDDEN, "Not the owner",
            "The deletion names what is not the caller's own."),
        R::DeletionFrozen => of("deletions-frozen", StatusCode::CONFLICT, "Deletions frozen",
            "A deletion of this account was disputed. None is taken until an operator of the service lifts that."),
        R::DeletionNotFound => of("not-found", StatusCode::NOT_FOUND, "Not found",
            "There is no such deletion here, or nothing to erase."),
        R::DeletionTooLate => of("deletion-too-late", StatusCode::CONFLICT, "Too late",
            "The deletion has begun, or is over."),
        R::DeletionOpen => of("deletion-open", StatusCode::CONFLICT, "Another deletion is open",
            "Another deletion of the same account is under way. Wait for its end, or cancel it."),
        R::DeletionOwnApproval => of("second-person-required", StatusCode::FORBIDDEN, "Second person required",
            "Somebody else than who asked for the deletion must approve it."),
        R::SendingLimited => of("quota-exceeded", StatusCode::TOO_MANY_REQUESTS, "Quota exceeded",
            "Wait as long as Retry-After says, then repeat the request."),
        R::QuotaExceeded => of("quota-exceeded", StatusCode::TOO_MANY_REQUESTS, "Quota exceeded",
            "Wait as long as Retry-After says, then repeat the request."),
        R::KeysUnavailable | R::IntrospectionUnavailable | R::RevocationUnavailable | R::PasswordsBusy | R::AuditUnavailable
        | R::AuthorityUnavailable | R::ErasureUnavailable | R::Overloaded | R::UpstreamBusy =>
            of("temporarily-unavailable", StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable",
            "The gateway cannot decide on this request now. Repeat it later."),
        R::InternalFault => of("internal-error", StatusCode::INTERNAL_SERVER_ERROR, "Internal error",
            "The gateway failed. The request id finds the cause in its log."),
        R::UpstreamUnreachable | R::UpstreamTls | R::UpstreamReset | R::UpstreamInvalid =>
            of("bad-gateway", StatusCode::BAD_GATEWAY, "Bad gateway",
            "The service behind the gateway did not give a usable answer."),
        R::UpstreamTimeout => of("gateway-timeout", StatusCode::GATEWAY_TIMEOUT, "Gateway timeout",
            "The service behind the gateway did not answer in time."),
        // Nobody is there to read the answer; the records say 499 as other proxies do.
        R::ClientGone | R::Drained => of("client-gone", StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), "Client gone",
            "The connection was closed."),
        // Never refused; a bug that made a refusal of it must not let anything through.
        R::Allowed => of("internal-error", StatusCode::INTERNAL_SERVER_ERROR, "Internal error",
            "The gateway failed. The request id finds the cause in its log."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

    use std::time::Duration;

    use super::*;
    use crate::policy::FactorRule;

    fn context() -> RefusalContext<'static> {
        RefusalContext {
            request_id: "r1",
            scheme: "https",
            authority: "api.example:8443",
            authorization_servers: &[],
            accepted: None,
            second_factor: None,
            dpop: DpopOffer::default(),
            held: None,
        }
    }

    #[test]
    fn whose_account_is_held_is_told_how_to_have_it_back() {
        let held = HeldAccount {
            status: StatusCode::GONE,
            status_url: "https://api.example/deletions/7".to_owned(),
            cancel_url: "https://api.example/deletions/7/cancel".to_owned(),
        };
        let refusal = Refusal::of(Reason::SubjectHeld);
        let context = RefusalContext { held: Some(&held), ..context() };
        assert_eq!(refusal.problem_at(&context).status, StatusCode::GONE);
        let body: Value = serde_json::from_slice(&refusal.body(&context)).unwrap();
        assert_eq!((&body["status"], &body["status_url"]), (&json!(410), &json!(held.status_url)));
        assert_eq!(body["cancel_url"], json!(held.cancel_url));
        assert!(!refusal.headers(&context).contains_key(WWW_AUTHENTICATE), "another token would not help");
        // Nobody else's refusal has it.
        let other: Value = serde_json::from_slice(&Refusal::of(Reason::ConditionFalse).body(&context)).unwrap();
        assert!(other.get("status_url").is_none());
    }

    #[test]
    fn whose_data_was_erased_is_told_what_every_bad_token_is_told() {
        let body = |reason| Refusal { challenge: Challenge::InvalidToken, ..Refusal::of(reason) }.body(&context());
        assert_eq!(body(Reason::SubjectErased), body(Reason::TokenSignature));
        assert_eq!(
            challenge(Challenge::InvalidToken, Reason::SubjectErased),
            challenge(Challenge::InvalidToken, Reason::TokenRevoked)
        );
    }

    fn challenges(dpop: DpopOffer, challenge: Challenge, reason: Reason) -> Vec<String> {
        let headers = Refusal { challenge, ..Refusal::of(reason) }.headers(&RefusalContext { dpop, ..context() });
        headers.get_all(WWW_AUTHENTICATE).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_route_that_takes_proofs_says_so_in_a_challenge_of_its_own() {
        let offer = DpopOffer { algorithms: Algorithm::ES256.into(), tried: false };
        let said = challenges(offer, Challenge::Token, Reason::TokenMissing);
        assert_eq!(said, [format!("Bearer {METADATA}"), r#"DPoP algs="ES256""#.to_owned()]);
        let scope = Challenge::Scope(Box::new(["a".into()]));
        assert_eq!(challenges(offer, scope, Reason::ScopeMissing).len(), 1);
        assert!(challenges(offer, Challenge::Nothing, Reason::ConditionFalse).is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_request_by_dpop_is_said_under_dpop() {
        let offer = DpopOffer { algorithms: Algorithm::ES256.into(), tried: true };
        for (reason, error, description) in [
            (Reason::DpopInvalid, "invalid_dpop_proof", "The proof is not one for this request"),
            (Reason::DpopReplayed, "invalid_dpop_proof", "The proof is not one for this request"),
            (Reason::DpopNonce, "use_dpop_nonce", "The proof needs the nonce in DPoP-Nonce"),
            (Reason::BindingMismatch, "invalid_token", "The token is not valid here"),
        ] {
            let dpop = format!(r#"DPoP error="{error}", error_description="{description}", algs="ES256", {METADATA}"#);
            assert_eq!(challenges(offer, Challenge::InvalidToken, reason), [dpop, "Bearer".to_owned()]);
        }
        let unsaid = DpopOffer { algorithms: Algorithms::NONE, tried: true };
        let said = challenges(unsaid, Challenge::InvalidToken, Reason::TokenSignature);
        assert!(said[0].contains(r#"algs="RS256 PS256 ES256 ES384 EdDSA""#), "{said:?}");
    }

    fn challenge(challenge: Challenge, reason: Reason) -> Option<String> {
        let refusal = Refusal { challenge, ..Refusal::of(reason) };
        refusal.headers(&context()).get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned())
    }

    const METADATA: &str = r#"resource_metadata="https://api.example:8443/.well-known/oauth-protected-resource""#;

    #[test]
    fn challenges_are_those_of_the_standards() {
        assert_eq!(challenge(Challenge::Token, Reason::TokenMissing), Some(format!("Bearer {METADATA}")));
        assert_eq!(
            challenge(Challenge::InvalidToken, Reason::TokenSignature),
            Some(format!(
                r#"Bearer error="invalid_token", error_description="The token is not valid here", {METADATA}"#
            ))
        );
        let step_up = StepUp {
            acr_values: Box::new(["gold".into(), "phr".into()]),
            amr_values: Box::default(),
            max_age: Some(Duration::from_secs(300)),
            ..StepUp::default()
        };
        assert_eq!(
            challenge(Challenge::StepUp(Box::new(step_up)), Reason::AcrInsufficient),
            Some(format!(
                "Bearer error=\"insufficient_user_authentication\", \
                 error_description=\"A stronger and more recent authentication is required\", \
                 acr_values=\"gold phr\", max_age=\"300\", {METADATA}"
            ))
        );
        assert_eq!(challenge(Challenge::Nothing, Reason::ConditionFalse), None);
    }

    #[test]
    fn a_password_that_is_not_valid_is_no_token_fault() {
        let said = challenge(Challenge::InvalidToken, Reason::PasswordWrong);
        assert_eq!(said, Some(format!("Bearer {METADATA}")));
        let body = |reason| Refusal { challenge: Challenge::InvalidToken, ..Refusal::of(reason) }.body(&context());
        for reason in [
            Reason::UserUnknown,
            Reason::LockedOut,
            Reason::PasswordMalformed,
            Reason::PasswordCleartext,
            Reason::ApiKeyUnknown,
        ] {
            assert_eq!(body(reason), body(Reason::PasswordWrong), "{reason:?}");
        }
    }

    #[test]
    fn every_reason_has_a_problem_whose_body_repeats_its_status() {
        for reason in Reason::ALL {
            let refusal = Refusal::of(reason);
            let body: Value = serde_json::from_slice(&refusal.body(&context())).unwrap();
            assert_eq!(body["status"], refusal.problem().status.as_u16());
            assert!(body["type"].as_str().unwrap().starts_with("urn:stepgate:problem:"));
            assert_eq!(body["request_id"], "r1");
        }
    }

    #[test]
    fn every_reason_and_every_problem_stands_in_the_document_of_refusals() {
        let document = include_str!("../../docs/refusals.md");
        let is_there = |name: &str| document.contains(&format!("`{name}`"));
        for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Allowed) {
            assert!(is_there(reason.name()), "{}", reason.name());
            assert!(
                matches!(reason, Reason::ClientGone | Reason::Drained) || is_there(problem(reason).name),
                "{}",
                problem(reason).name
            );
        }
    }

    #[test]
    fn token_faults_look_alike_but_for_expiry() {
        let body = |reason| Refusal { challenge: Challenge::InvalidToken, ..Refusal::of(reason) }.body(&context());
        let first = body(Reason::TokenSignature);
        for reason in [Reason::TokenKeyUnknown, Reason::TokenAudience, Reason::TokenIssuerUnknown, Reason::TokenType] {
            assert_eq!(body(reason), first);
        }
        assert_ne!(body(Reason::TokenExpired), first);
    }

    #[test]
    fn a_step_up_problem_says_what_to_ask_for() {
        let step_up = StepUp {
            acr_values: Box::new(["gold".into()]),
            amr_values: Box::default(),
            max_age: Some(Duration::from_secs(60)),
            ..StepUp::default()
        };
        let refusal =
            Refusal { challenge: Challenge::StepUp(Box::new(step_up)), ..Refusal::of(Reason::AcrInsufficient) };
        let said = |authorization_servers: &[Arc<str>]| -> Value {
            let context = RefusalContext { authorization_servers, ..context() };
            serde_json::from_slice(&refusal.body(&context)).unwrap()
        };
        let body = said(&["https://idp.example/".into()]);
        assert_eq!(body["authorization_request"], json!({"acr_values": "gold", "max_age": 60}));
        assert!(body["detail"].as_str().unwrap().contains("acr_values=gold, max_age=60"));
        assert!(said(&[])["detail"].as_str().unwrap().contains("no authorization server is configured"));
    }

    fn authority() -> std::sync::Arc<config::Authority> {
        let text = "
issuers: {main: {issuer: https://idp.example/, audience: [a], keys: {discovery: true}, algorithms: [RS256]}}
sealing: {key: {env: KEY}}
authority: {url: https://gate.example, path: /second, factors: {passkey: {}, totp: {}, recovery: {}}}
listeners: [{address: 127.0.0.1:1, tls: {danger_self_signed: true}}]
upstreams: {api: {targets: [http://127.0.0.1:9]}}
routes: [{path: /, upstream: api, auth: [main]}]
";
        let input = config::Input {
            file: std::path::Path::new("p.yaml"),
            text,
            base: std::path::Path::new("/"),
            env: &|_| Some("x".to_owned()),
        };
        config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config.authority.unwrap()
    }

    #[test]
    fn where_there_is_an_authority_the_problem_says_how_to_step_up_here() {
        let authority = authority();
        let said = |step_up: StepUp, reason| -> Value {
            let refusal = Refusal { challenge: Challenge::StepUp(Box::new(step_up)), ..Refusal::of(reason) };
            let servers = ["https://idp.example/".into()];
            let context =
                RefusalContext { authorization_servers: &servers, second_factor: Some(&authority), ..context() };
            serde_json::from_slice(&refusal.body(&context)).unwrap()
        };
        let plain = StepUp { acr_values: Box::new(["gold".into()]), level: Some("strong".into()), ..StepUp::default() };
        let body = said(plain.clone(), Reason::AcrInsufficient);
        assert_eq!(
            body["step_up"],
            json!({
                "level": "strong",
                "page": "https://gate.example/second/",
                "challenge": "https://gate.example/second/api/v1/challenges",
                "token": "https://gate.example/second/token",
                "factors": ["passkey", "totp", "recovery"],
                "categories": 0,
                "grant": false,
                "bind": false,
                "otp_header": "Stepgate-OTP",
            })
        );
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains("with the same token") && detail.contains("Or send the user"), "{detail}");

        let guarded = StepUp { guarded: true, ..plain.clone() };
        let body = said(guarded, Reason::AcrInsufficient);
        assert_eq!((&body["step_up"]["grant"], &body["step_up"]["bind"]), (&json!(true), &json!(false)));
        assert!(!body["detail"].as_str().unwrap().contains("same token"), "{body}");

        let bound = StepUp { guarded: true, grant: true, acr_values: Box::default(), ..plain.clone() };
        let body = said(bound, Reason::GrantMissing);
        assert_eq!((&body["step_up"]["grant"], &body["step_up"]["bind"]), (&json!(true), &json!(true)));
        assert!(body["step_up"].get("otp_header").is_none(), "a code could not stand for it");
        assert!(body["detail"].as_str().unwrap().contains("https://gate.example/second/token"));

        let rule = FactorRule { phishing_resistant: true, categories: 2, any_of: None };
        let keys = StepUp { factors: Some(rule), ..plain };
        let body = said(keys, Reason::FactorInsufficient);
        assert_eq!((&body["step_up"]["factors"], &body["step_up"]["categories"]), (&json!(["passkey"]), &json!(2)));
        assert!(!body["detail"].as_str().unwrap().contains("authorization server"), "no provider's token has factors");
    }

    #[test]
    fn the_challenge_of_a_second_factor_stays_that_of_rfc_9470() {
        let step_up = StepUp { grant: true, guarded: true, level: Some("a".into()), ..StepUp::default() };
        let said = challenge(Challenge::StepUp(Box::new(step_up)), Reason::GrantMissing);
        let expected = format!(
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A second factor is required\", {METADATA}"
        );
        assert_eq!(said, Some(expected));
    }

    #[test]
    fn every_proof_that_is_refused_looks_alike() {
        let body = |reason| Refusal::of(reason).body(&context());
        for reason in [Reason::GrantSpent, Reason::CodeRefused, Reason::ProofRefused] {
            assert_eq!(body(reason), body(Reason::GrantInvalid), "{reason:?}");
        }
    }
}
