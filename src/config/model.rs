//! The configuration as the gateway uses it: valid, every name resolved, every default filled in.
//! Nothing here reads a file: secrets and certificates are still [`Source`]s, read when a `Config` is compiled.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::Span;
use crate::{
    jose::{Algorithms, PROOF_ALGORITHMS},
    policy::{IssuerName, Requirement},
    route::{HostPattern, PathPattern},
};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, as the user named it.
    pub file: PathBuf,
    /// Sockets that clients connect to.
    pub listeners: Vec<Listener>,
    /// The operator's listener.
    pub admin: Admin,
    /// What holds for all listeners.
    pub server: Server,
    /// Who may vouch for a caller, in the order of the file.
    pub issuers: Vec<Arc<Issuer>>,
    /// Who else may vouch for a caller, in the order of the file; no name is an issuer's.
    pub credentials: Vec<Arc<CredentialSource>>,
    /// Named quotas.
    pub limits: Vec<Arc<Limit>>,
    /// The services behind.
    pub upstreams: Vec<Arc<Upstream>>,
    /// How upstreams are told of callers in a way that they can verify.
    pub assertions: Option<Arc<Assertions>>,
    /// What protects deletions.
    pub deletion_guard: DeletionGuard,
    /// Where attempts at guarded operations are recorded.
    pub audit: Audit,
    /// Where requests are recorded.
    pub access_log: AccessLog,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
}

/// A socket that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it stands in the file.
    pub span: Span,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// What it does with a connection.
    pub mode: ListenerMode,
}

/// What a listener does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerMode {
    /// Terminates TLS and serves the gateway.
    Tls(ListenerTls),
    /// Answers every request with a 308 to `https` on this port.
    RedirectToHttps(u16),
    /// Serves the gateway without TLS.
    Cleartext,
}

/// How a listener terminates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificates, chosen by SNI; the first is the one for clients that send no name, or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// Whether the one certificate is of our own making, by `danger_self_signed: true`, made at the first start.
    pub self_signed: bool,
    /// The lowest version that is accepted.
    pub min_version: TlsVersion,
    /// The protocols offered by ALPN, in order of preference.
    pub alpn: Vec<Alpn>,
    /// The authorities of client certificates.
    pub client_ca: Option<File>,
    /// Lists of revoked client certificates, asked in the handshake; empty: it asks none.
    pub client_crl: Vec<File>,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: File,
    /// The private key.
    pub key: File,
}

/// A file that the configuration names, resolved against the configuration's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is named.
    pub span: Span,
    /// Its path.
    pub path: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A protocol that ALPN can choose (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`
    H2,
    /// `http/1.1`
    Http1,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked.
    Off,
    /// Asked; one that is sent must verify.
    Optional,
    /// The handshake fails without one.
    Required,
}

/// The operator's listener: metrics, health and the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address that it listens on, loopback by default.
    pub address: SocketAddr,
    /// What the admin API asks for; without it the admin API is off.
    pub token: Option<Source>,
}

/// What holds for all listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How many worker threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The one header of theirs that names the client, lower case.
    pub client_ip_header: Arc<str>,
    /// Where durable state lives.
    pub state_dir: PathBuf,
    /// The methods that are known, case-sensitive.
    pub methods: Vec<http::Method>,
    /// Request headers dropped on every route besides the built-in list, folded (lower case, `-` for `_`).
    pub drop_headers: Vec<Arc<str>>,
    /// Headers that carry API keys, folded likewise: taken away from every request.
    pub key_headers: Vec<Arc<str>>,
    /// Parameters of the query that carry API keys: taken away likewise.
    pub key_parameters: Vec<Arc<str>>,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
    /// The bounds on what a client may do.
    pub limits: ServerLimits,
}

/// The bounds on what a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the configuration reference documents each key under the same name")]
pub struct ServerLimits {
    pub header_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    pub body_idle_timeout: Duration,
    /// Bytes per second, averaged over 20 seconds of waiting for the client.
    pub body_min_rate: u64,
    pub keepalive_idle: Duration,
    pub write_stall_timeout: Duration,
    pub refused_body_timeout: Duration,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    pub body_bytes: u64,
    pub connections: usize,
    pub connections_per_ip: usize,
}

/// Who may vouch for a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in the configuration.
    pub name: IssuerName,
    /// Its identifier: the exact `iss` of its tokens.
    pub url: Arc<str>,
    /// The audiences of which a token's `aud` must hold one; empty: `aud` is not checked.
    pub audience: Vec<Arc<str>>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The only signature algorithms accepted; empty only without keys.
    pub algorithms: Vec<JwsAlgorithm>,
    /// How it is asked about tokens that are not verified by its keys.
    pub introspection: Option<Introspection>,
    /// For `exp`, `nbf`, `iat` and `auth_time`.
    pub leeway: Duration,
    /// The accepted values of `typ`, lower case and without `application/`.
    pub types: Vec<Arc<str>>,
    /// Whether a token without `typ` is accepted.
    pub type_absent: bool,
    /// The claims that must be there.
    pub required: Vec<Arc<str>>,
    /// The longest token that is looked at.
    pub token_bytes: usize,
    /// Between refetches for an unknown `kid`.
    pub jwks_cooldown: Duration,
    /// How long the last good keys serve while the endpoint is down.
    pub jwks_max_stale: Duration,
    /// Certificates that vouch for the issuer's https endpoints, instead of the machine's.
    pub ca: Option<File>,
    /// What proofs of possession beside its tokens must be; `None`: the defaults, which clients are not told of.
    pub dpop: Option<DpopRules>,
    /// Where the facts stand in a token.
    pub claims: ClaimLayout,
    /// How the provider writes `auth_time`.
    pub auth_time_format: AuthTimeFormat,
    /// What a token's claims must say besides, all of it: tells access tokens from the provider's other tokens.
    pub expect: Vec<ClaimRule>,
    /// What makes a caller a machine, any of it, besides a `sub` that is the client's own.
    pub machine: Vec<ClaimRule>,
    /// Where the provider reports what ended.
    pub events: Option<Events>,
    /// The key that its tokens must be bound to.
    pub bound: Bound,
}

/// What a claim must be, or have among its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    /// Where it stands.
    pub claim: ClaimPath,
    /// The values of which one is enough; never empty.
    pub values: Box<[Arc<str>]>,
}

/// Where a provider reports sessions and accounts that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Where it stands in the file.
    pub span: Span,
    /// The path of the endpoint, in normal form.
    pub path: Arc<str>,
    /// The audiences of which a token's `aud` must hold one, never empty.
    pub audience: Vec<Arc<str>>,
    /// The accepted values of `typ`, lower case and without `application/`.
    pub types: Vec<Arc<str>>,
    /// Whether a token without `typ` is accepted.
    pub type_absent: bool,
    /// What ends when a session does.
    pub sign_out: SignOut,
    /// How long what was revoked stays so.
    pub keep: Duration,
    /// How many an address may send.
    pub limit: Arc<Limit>,
}

/// What ends when a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOut {
    /// The session, and every token of its subject that was issued before.
    Subject,
    /// The session alone, where the event names one.
    Session,
}

/// What proofs of possession beside an issuer's tokens must be (RFC 9449 §4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpopRules {
    /// Whether they must hold a nonce of ours.
    pub nonce: DpopNonce,
    /// How old they may be, by `iat`; the issuer's leeway comes besides.
    pub max_age: Duration,
    /// What they may be signed with, never empty.
    pub algorithms: Algorithms,
    /// Where clients know us; empty: where we are asked.
    pub origins: Vec<Target>,
}

impl Default for DpopRules {
    /// A minute covers the way of any request; all algorithms that the standard allows and that are safe.
    fn default() -> Self {
        Self {
            nonce: DpopNonce::Off,
            max_age: Duration::from_secs(60),
            algorithms: PROOF_ALGORITHMS,
            origins: Vec::new(),
        }
    }
}

/// Whether proofs of possession must hold a nonce of ours (RFC 9449 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpopNonce {
    /// No.
    Off,
    /// Yes.
    Required,
}

/// The key that an issuer's tokens must be bound to. What a token says of itself holds besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bound {
    /// None: a token that is not bound is taken.
    #[default]
    None,
    /// That of a client certificate (RFC 8705 §3).
    Certificate,
    /// That of a DPoP proof (RFC 9449).
    Dpop,
    /// Either.
    Any,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// There are none: each of its tokens is introspected.
    Absent,
    /// `{issuer}/.well-known/openid-configuration`, then its `jwks_uri` (OpenID Connect Discovery 1.0 §4).
    Discovery,
    /// A JWK Set (RFC 7517 §5) over https.
    JwksUrl(Url),
    /// A JWK Set in a file, read again when it changes.
    JwksFile(File),
    /// One public key: PEM (SPKI or PKCS#1) or a JWK.
    PublicKey(Source),
    /// A shared secret for HMAC.
    Secret {
        /// Where it is.
        source: Source,
        /// How its bytes are written there.
        encoding: SecretEncoding,
    },
}

/// How an issuer is asked about tokens (RFC 7662).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Where it stands in the file.
    pub span: Span,
    /// The endpoint; `None`: the one that the issuer's metadata names.
    pub url: Option<Url>,
    /// The gateway's own client identifier.
    pub client_id: Arc<str>,
    /// How the gateway proves to be that client.
    pub client: ClientAuthentication,
    /// How long one question may take.
    pub timeout: Duration,
    /// How long an active token is believed; zero: not at all.
    pub cache: Duration,
    /// How long a token that is not active is refused without asking; zero: not at all.
    pub negative_cache: Duration,
    /// Whether answers are signed.
    pub signed: SignedAnswers,
    /// How many questions may be under way at once.
    pub concurrent: usize,
    /// The members that an answer must have.
    pub required: Vec<Arc<str>>,
    /// What the issuer's opaque tokens begin with.
    pub prefix: Option<Arc<str>>,
}

/// How the gateway proves to an issuer that it is its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// By a secret.
    Secret {
        /// The secret.
        secret: Source,
        /// How it is sent.
        method: SecretMethod,
    },
    /// By a signed assertion (RFC 7523 §2.2).
    PrivateKey {
        /// The key, PEM.
        key: Source,
        /// Its name at the issuer.
        key_id: Option<Arc<str>>,
    },
    /// By a certificate in the TLS handshake (RFC 8705 §2).
    Certificate(CertificateFiles),
}

/// How a client's secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMethod {
    /// As `Authorization: Basic` (RFC 6749 §2.3.1).
    Basic,
    /// In the form.
    Post,
}

/// Whether answers are JWTs that the issuer signed (RFC 9701).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedAnswers {
    /// They are plain JSON.
    Off,
    /// Asked for; plain JSON is believed, too.
    Preferred,
    /// Asked for, and nothing else is believed.
    Required,
}

/// How the bytes of a shared secret are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    /// As they are; one final newline is dropped.
    Raw,
    /// RFC 4648 §4, padded or not.
    Base64,
    /// RFC 4648 §5, padded or not.
    Base64Url,
    /// RFC 4648 §8, either case.
    Hex,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1); never `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum JwsAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// Where the facts stand in a token's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the place of the fact that it is named after")]
pub struct ClaimLayout {
    pub audience: ClaimPath,
    pub subject: ClaimPath,
    pub scopes: ClaimPath,
    pub acr: ClaimPath,
    pub amr: ClaimPath,
    pub auth_time: ClaimPath,
    /// Where the client stands; `None` is `azp`, else `client_id`.
    pub client: Option<ClaimPath>,
}

/// The place of a claim: a name, or a JSON pointer (RFC 6901) when it starts with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimPath {
    /// A member of the claims object, taken literally (`https://example/roles` is one).
    Name(Arc<str>),
    /// A JSON pointer into the claims object.
    Pointer(Arc<str>),
}

/// How a provider writes `auth_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthTimeFormat {
    /// A JSON number, as OpenID Connect Core §2 has it; a string is not believed.
    Number,
    /// A JSON number, or a string of decimal digits.
    NumberOrString,
}

/// A source of callers that is no issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in the configuration.
    pub name: IssuerName,
    /// What its credentials are.
    pub kind: CredentialKind,
}

/// What the credentials of a source are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialKind {
    /// API keys.
    ApiKeys(ApiKeys),
    /// User names and passwords.
    Basic(Basic),
    /// Client certificates.
    ClientCertificates(ClientCertificates),
}

/// API keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Where they are kept, as hashes.
    pub file: File,
    /// The header that carries one, folded (lower case, `-` for `_`).
    pub header: Arc<str>,
    /// Whether one may be the user name of Basic credentials without a password.
    pub basic_username: bool,
    /// The parameter of the query that may carry one.
    pub danger_query: Option<Arc<str>>,
    /// Whether they are taken over connections without TLS.
    pub danger_cleartext: bool,
    /// What they begin with, before an underscore.
    pub prefix: Arc<str>,
}

/// User names and passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// Where the users are kept, with hashes of their passwords.
    pub file: File,
    /// What a client is told that the password is for.
    pub realm: Arc<str>,
    /// Scopes of every user.
    pub scopes: Vec<Arc<str>>,
    /// How many passwords are hashed at once.
    pub concurrent: usize,
    /// How many may wait for it.
    pub queue: usize,
    /// How long a right password is known; zero: not at all.
    pub cache: Duration,
    /// What guessing leads to.
    pub lockout: Lockout,
    /// `danger_cleartext: true`.
    pub cleartext: bool,
}

/// What guessing passwords leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockout {
    /// Wrong passwords for a user from an address until the first lock.
    pub failures: u32,
    /// How long the first lock lasts; each further one twice as long.
    pub first: Duration,
    /// The longest lock.
    pub longest: Duration,
    /// Wrong passwords for a user, wherever they come from, in a period.
    pub per_user: (NonZeroU32, Duration),
    /// Wrong passwords from an address, whomever they are for, in a period.
    pub per_address: (NonZeroU32, Duration),
    /// Networks in which every user is familiar.
    pub familiar: Vec<IpNet>,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities whose certificates this source takes.
    pub ca: File,
    /// Where a certificate names its subject.
    pub subject: CertificateSubject,
    /// Patterns of which one must match the subject; empty: any subject.
    pub allow: Vec<Arc<str>>,
    /// Lists of revoked certificates; empty: revocation is not checked.
    pub crl: Vec<File>,
    /// Which certificates must not be revoked.
    pub crl_depth: CrlDepth,
    /// Whether a list is believed after its `nextUpdate`.
    pub danger_expired_crl: bool,
    /// The scopes of its callers.
    pub scopes: Vec<Arc<str>>,
    /// Whether persons stand behind the certificates.
    pub person: bool,
}

/// Where a certificate names its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSubject {
    /// The whole subject, in the form of RFC 4514.
    SubjectDn,
    /// The subject's one common name.
    CommonName,
    /// The one DNS name among the subject's alternative names, lower case.
    SanDns,
    /// The one URI among them.
    SanUri,
    /// The one e-mail address among them.
    SanEmail,
}

/// Which certificates of a chain must not be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlDepth {
    /// All below the authority: each needs a list of its issuer.
    Chain,
    /// The client's own alone.
    Leaf,
}

/// A named quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name; for a guarded operation's own quota, a name made from the operation.
    pub name: Arc<str>,
    /// What is counted.
    pub key: LimitKey,
    /// How much is admitted.
    pub rate: Rate,
}

/// How much a quota admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// N per second: GCRA with a burst.
    PerSecond {
        /// N.
        count: NonZeroU32,
        /// How many at once.
        burst: NonZeroU32,
    },
    /// N per longer period: no interval of that length admits more.
    PerPeriod {
        /// N.
        count: NonZeroU32,
        /// The period, more than a second.
        period: Duration,
    },
}

/// What a quota counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// Issuer and subject.
    Subject,
    /// The issuer's name.
    Issuer,
    /// Issuer and client (`azp`, else `client_id`).
    Client,
    /// Issuer and a claim.
    Claim(ClaimPath),
    /// The client's address, IPv6 by /64.
    Ip,
    /// A request header, lower case: unverified.
    Header(http::HeaderName),
    /// The route.
    Route,
    /// One bucket for all.
    Global,
}

/// A service behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name.
    pub name: Arc<str>,
    /// Where it answers: scheme, host and port, without a path; never empty.
    pub targets: Vec<Target>,
    /// How long a connection (TCP and TLS) may take.
    pub connect_timeout: Duration,
    /// How long the head of the answer may take once the request was sent.
    pub response_timeout: Duration,
    /// Whether the identity headers are added.
    pub identity_headers: bool,
    /// Whether the caller's `Authorization` goes through.
    pub forward_authorization: bool,
    /// A credential of the gateway's own, put in the caller's place.
    pub credential: Option<UpstreamCredential>,
    /// A signed token about the caller; only where there are [`Config::assertions`].
    pub assertion: Option<Assertion>,
    /// Which method overrides the service honours; empty: none.
    pub method_override: Vec<MethodOverride>,
    /// The longest form that is read before the decision, where `method_override` has `form`.
    pub form_bytes: usize,
    /// What it is told as `Host`.
    pub host: UpstreamHost,
    /// Certificates that vouch for https targets, instead of the machine's.
    pub ca: Option<File>,
}

/// A signed token about the caller, for one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Whom it is for.
    pub audience: Arc<str>,
    /// How long it lives, at least a moment.
    pub ttl: Duration,
    /// The header that carries it.
    pub header: http::HeaderName,
}

/// How assertions are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertions {
    /// Where it stands in the file.
    pub span: Span,
    /// The gateway's identifier.
    pub issuer: Arc<str>,
    /// The signature algorithm.
    pub algorithm: AssertionAlgorithm,
    /// The key.
    pub key: AssertionKey,
    /// Where the public keys are served, in normal form.
    pub jwks_path: Arc<str>,
}

/// A signature algorithm for assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum AssertionAlgorithm {
    ES256,
    EdDSA,
}

/// The key that signs assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionKey {
    /// Of our own making, in the state directory.
    Own {
        /// How often another follows.
        rotate: Duration,
    },
    /// The user's.
    Given {
        /// PKCS#8 PEM.
        source: Source,
        /// JWK Sets of other public keys to publish.
        besides: Vec<File>,
    },
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name or an address, as a URL's host has it (IPv6 in brackets).
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What an upstream is told as `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client said.
    Preserve,
    /// The target's own host and port.
    Target,
}

/// A credential of the gateway's own for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamCredential {
    /// RFC 7617.
    Basic {
        /// The user name.
        username: Arc<str>,
        /// The password.
        password: Source,
    },
    /// A header with a secret value.
    Header {
        /// Its name.
        name: http::HeaderName,
        /// Its value.
        value: Source,
    },
}

/// A way to say another method than the request line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodOverride {
    /// `X-HTTP-Method-Override`, `X-HTTP-Method` or `X-Method-Override`.
    Header,
    /// `_method` in the query.
    Query,
    /// `_method` in a form body.
    Form,
}

/// A secret value's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file.
    File(File),
    /// In the environment.
    Env {
        /// Where it is named.
        span: Span,
        /// The variable.
        name: Arc<str>,
    },
    /// In the configuration itself.
    Inline {
        /// Where it stands.
        span: Span,
        /// The value.
        value: crate::secret::Secret,
    },
}

impl Source {
    /// Where it is named.
    pub fn span(&self) -> &Span {
        match self {
            Self::File(file) => &file.span,
            Self::Env { span, .. } | Self::Inline { span, .. } => span,
        }
    }
}

/// What protects deletions.
#[derive(Debug, Clone)]
pub struct DeletionGuard {
    /// `false` only by `danger_disabled: true`.
    pub enabled: bool,
    /// The operations that are guarded.
    pub operations: Vec<GuardedOperation>,
    /// The proof they need.
    pub assurance: Requirement,
}

/// An operation under the deletion guard.
#[derive(Debug, Clone)]
pub struct GuardedOperation {
    /// Where it stands in the file.
    pub span: Span,
    /// As written: `DELETE /**`.
    pub text: Arc<str>,
    /// The method, or `None` for any.
    pub method: Option<http::Method>,
    /// The path, matched folded.
    pub path: PathPattern,
    /// Its own quota, by issuer and subject.
    pub limit: Option<Arc<Limit>>,
}

/// Where attempts at guarded operations are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The JSONL file; its head, key and public key stand beside it.
    pub file: File,
    /// How often the signed head is written.
    pub head_interval: Duration,
}

/// Where requests are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON object a line on standard output.
    Stdout,
    /// The same, appended to a file (opened again on SIGHUP).
    File(File),
    /// Not at all.
    Off,
}

/// Which requests go where, and what they need.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in metrics, logs and `explain`: the `name` key, else its path (with method or host where that is not unique).
    pub name: Arc<str>,
    /// The path.
    pub path: PathPattern,
    /// The hosts; empty: any.
    pub hosts: Vec<HostPattern>,
    /// The methods; `None`: any of `server.methods`. GET includes HEAD.
    pub methods: Option<Vec<http::Method>>,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// Whose tokens it takes.
    pub auth: Auth,
    /// Scopes that a token must have, all of them.
    pub scopes: Vec<Arc<str>>,
    /// A condition in CEL.
    pub when: Option<When>,
    /// The proof it needs.
    pub assurance: Option<Requirement>,
    /// Its quotas, in order.
    pub limits: Vec<Arc<Limit>>,
    /// What changes in the path.
    pub rewrite: Option<Rewrite>,
    /// What the deletion guard does here.
    pub deletion: RouteDeletion,
}

/// Whose tokens a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No token is asked for, and none is looked at.
    None,
    /// One of these issuers, never empty.
    Issuers(Vec<IssuerName>),
}

/// A condition in CEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// Where it stands in the file.
    pub span: Span,
    /// The expression.
    pub source: Arc<str>,
    /// The zone of `time.hour` and `time.weekday`, an IANA name; UTC by default.
    pub zone: Arc<str>,
}

/// A declared change of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Takes these leading segments away (`/reports` in normal form); what is left starts with `/`.
    StripPrefix(Arc<str>),
    /// Takes the first away and puts the second before the rest; the second is empty for the root.
    ReplacePrefix(Arc<str>, Arc<str>),
}

/// What the deletion guard does on a route.
#[derive(Debug, Clone)]
pub enum RouteDeletion {
    /// What `deletion_guard` says.
    Guarded {
        /// The effective requirement where the guard and the route's own assurance both hold: `acr` lists intersected,
        /// the smaller `max_age`; validation refuses an empty intersection.
        requirement: Requirement,
        /// The route's own quota for guarded operations, instead of the operation's.
        limit: Option<Arc<Limit>>,
    },
    /// `danger_unguarded_deletion: true`, or the guard is off altogether.
    Unguarded,
}
