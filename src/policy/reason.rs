//! The closed list of why a request was let through or refused.
//!
//! One `Reason` is the metric label, the field in the access and audit records and the line that
//! `stepgate explain` prints. What the caller is told is coarser: several reasons share
//! one problem type wherever the difference would help somebody guess.

/// Why a request ended as it did. The names are public interface: dashboards and alerts use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Every requirement held.
    Allowed,
    // -- the wire: nothing was judged
    /// The request head breaks HTTP (RFC 9110, RFC 9112).
    MalformedRequest,
    /// The path cannot be normalised without doubt.
    AmbiguousPath,
    /// Not exactly one `Host`, or it differs from the request target's authority.
    InvalidHost,
    /// The request target is longer than `uri_bytes`.
    UriTooLong,
    /// The head is larger than `header_bytes`, or has more than `headers` fields.
    HeadersTooLarge,
    /// The body is larger than `body_bytes`, or than a form that must be read before the decision may be.
    BodyTooLarge,
    /// The client stopped sending, or sent too slowly.
    RequestTimeout,
    /// A page asked whether it may ask, and its origin, method or fields are not what the route's `cors` lists.
    CorsRefused,
    /// The method is not in `server.methods`.
    MethodUnknown,
    /// The path has routes, but none for this method.
    MethodNotAllowed,
    /// No route names this host and path.
    RouteNotFound,
    /// A handshake that is to switch protocols is not one (RFC 6455 §4.2.1).
    UpgradeMalformed,
    /// The handshake is one of another version than WebSocket's 13.
    UpgradeVersion,
    /// An extended CONNECT asks for a protocol that the route does not switch to.
    UpgradeNotOffered,
    /// Overrides that differ or are no method, or a form or query in which one could hide.
    ConflictingOverride,
    /// More than one credential was sent, or one in a form that can be read in two ways.
    InvalidCredentials,
    // -- the token
    /// The route needs a token and none was sent.
    TokenMissing,
    /// The token is not a compact JWS, or breaks RFC 7515 or RFC 8725.
    TokenMalformed,
    /// The token is longer than the issuer's `token_bytes`.
    TokenTooLarge,
    /// The token's `typ` is not one that the issuer's `types` lists.
    TokenType,
    /// The token's `alg` is not one of the issuer's `algorithms`.
    TokenAlgorithm,
    /// No issuer of the configuration has the token's `iss`.
    TokenIssuerUnknown,
    /// The token's issuer is configured, but this route does not take it.
    TokenIssuerNotAccepted,
    /// No key of the issuer matches the token.
    TokenKeyUnknown,
    /// The signature does not verify.
    TokenSignature,
    /// A required claim is missing or has the wrong type.
    TokenClaims,
    /// The token's `aud` does not name us.
    TokenAudience,
    /// The token has expired.
    TokenExpired,
    /// The token's `nbf` lies in the future.
    TokenNotYetValid,
    /// The token's `iat` lies in the future.
    TokenIssuedInFuture,
    /// The issuer's keys have never been fetched, or are too old to be trusted.
    KeysUnavailable,
    // -- other credentials, and what stands beside a token
    /// The issuer says that the token is not active (RFC 7662 §2.2).
    TokenInactive,
    /// The issuer could not be asked about the token, or did not answer in time or in form.
    IntrospectionUnavailable,
    /// The token, its subject, its session, its key or its issuer was revoked.
    TokenRevoked,
    /// The API key, password or certificate, its subject or its source was revoked.
    CredentialRevoked,
    /// It cannot be said whether the credential was revoked.
    RevocationUnavailable,
    /// The issuer's tokens must be bound to a key here, and this one is not.
    BindingRequired,
    /// The token is bound to a key, and nothing proves that the caller holds it.
    BindingMissing,
    /// The token is bound to another key than the caller proved to hold.
    BindingMismatch,
    /// The DPoP proof is not one for this request (RFC 9449 §4.3).
    DpopInvalid,
    /// The DPoP proof was used before.
    DpopReplayed,
    /// The DPoP proof lacks a nonce of ours, or has one that is too old (RFC 9449 §9).
    DpopNonce,
    /// The API key is not in the form of ours, or its checksum is wrong.
    ApiKeyMalformed,
    /// No API key of this source is that one.
    ApiKeyUnknown,
    /// The API key has expired.
    ApiKeyExpired,
    /// The API key was revoked.
    ApiKeyRevoked,
    /// The API key may not be used from this address.
    ApiKeyNetwork,
    /// The Basic credentials are not in the form of RFC 7617.
    PasswordMalformed,
    /// The password is not the user's.
    PasswordWrong,
    /// No user of this source has that name.
    UserUnknown,
    /// Too many failures for this user from this address, or in all.
    LockedOut,
    /// A password or key came over a connection without TLS.
    PasswordCleartext,
    /// More passwords wait to be hashed than may.
    PasswordsBusy,
    /// The route takes client certificates and none was shown.
    CertificateMissing,
    /// The client certificate is not one that this source takes, or names nobody in the way that it asks for.
    CertificateUnknown,
    /// A revocation list names the client certificate.
    CertificateRevoked,
    /// The client certificate, or one that vouches for it, has expired or is not valid yet.
    CertificateExpired,
    /// A deletion of the caller's own data is held, and blocks its credentials meanwhile.
    SubjectHeld,
    /// The caller's data was erased after the credential was made, or is being erased.
    SubjectErased,
    // -- the policy
    /// A scope of the route is not among the token's.
    ScopeMissing,
    /// The route's `when` is false.
    ConditionFalse,
    /// The route's `when` could not be evaluated.
    ConditionError,
    /// The token's `acr` is not one that the requirement lists.
    AcrInsufficient,
    /// The token's `amr` has none of the values that the requirement lists.
    AmrInsufficient,
    /// The requirement has a `max_age` and the token says nothing of when the user authenticated.
    AuthTimeMissing,
    /// The token says that the user authenticated in the future.
    AuthTimeInFuture,
    /// The user authenticated longer ago than `max_age`.
    AuthenticationTooOld,
    // -- the authority
    /// No second factor was shown here that the requirement's `factors` take.
    FactorInsufficient,
    /// The second factor was enrolled without another one, and too lately to delete anything.
    FactorTooNew,
    /// The operation takes a grant that is bound to the request, and none came.
    GrantMissing,
    /// The grant is not one of ours, has expired, or belongs to another holder or another request.
    GrantInvalid,
    /// The grant was used before.
    GrantSpent,
    /// The code in `Stepgate-OTP` is wrong, used, or not looked at as too many were wrong.
    CodeRefused,
    /// What was shown to the authority is wrong, used, expired, or not looked at as too much was wrong.
    ProofRefused,
    /// A factor was to be enrolled or removed without the right to.
    EnrolmentRefused,
    /// An account's name and password, a session or a refresh token do not let anybody in.
    SignInRefused,
    /// A call of the authority is not in the form that it takes.
    CallRefused,
    /// More codes were asked for than are sent.
    SendingLimited,
    /// The authority's store could not be asked or written.
    AuthorityUnavailable,
    // -- deletions that a plan takes over
    /// The request could pass for an operation that a deletion plan takes over, and is not in its exact form; or it does not say
    /// plainly whose data it is about.
    DeletionAmbiguous,
    /// The request is another way to what a deletion plan takes over.
    DeletionCovered,
    /// The data that is to be erased is not the caller's, nor has the caller a scope for that of others.
    DeletionNotOwner,
    /// Somebody said that a deletion of this account was not theirs: none is taken until an operator lifts that.
    DeletionFrozen,
    /// There is no such deletion, it is not the caller's to see, or there is nothing to erase.
    DeletionNotFound,
    /// A deletion is beyond what was asked of it: a step of it was sent, or it is over.
    DeletionTooLate,
    /// Another deletion of the same person is open, under another plan.
    DeletionOpen,
    /// A deletion was to be approved by whoever asked for it.
    DeletionOwnApproval,
    /// The store of deletions could not be asked or written.
    ErasureUnavailable,
    // -- enforcement
    /// A quota is used up.
    QuotaExceeded,
    /// The audit record could not be made durable, so a guarded operation is refused.
    AuditUnavailable,
    /// The gateway holds as many requests as it may.
    Overloaded,
    /// The gateway is draining or broken inside.
    InternalFault,
    // -- the upstream
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// TLS with the upstream failed.
    UpstreamTls,
    /// The upstream closed the connection before it answered.
    UpstreamReset,
    /// The upstream's answer is not HTTP.
    UpstreamInvalid,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The upstream has as many requests under way as it may, and too many wait.
    UpstreamBusy,
    /// The client went away before the answer.
    ClientGone,
    /// The gateway was told to end, and the request was not over in the time that it had for that.
    Drained,
}

impl Reason {
    /// Every reason, in the order of the request's path.
    pub const ALL: [Self; 101] = [
        Self::Allowed,
        Self::MalformedRequest,
        Self::AmbiguousPath,
        Self::InvalidHost,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::CorsRefused,
        Self::MethodUnknown,
        Self::MethodNotAllowed,
        Self::RouteNotFound,
        Self::UpgradeMalformed,
        Self::UpgradeVersion,
        Self::UpgradeNotOffered,
        Self::ConflictingOverride,
        Self::InvalidCredentials,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::TokenType,
        Self::TokenAlgorithm,
        Self::TokenIssuerUnknown,
        Self::TokenIssuerNotAccepted,
        Self::TokenKeyUnknown,
        Self::TokenSignature,
        Self::TokenClaims,
        Self::TokenAudience,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenIssuedInFuture,
        Self::KeysUnavailable,
        Self::TokenInactive,
        Self::IntrospectionUnavailable,
        Self::TokenRevoked,
        Self::CredentialRevoked,
        Self::RevocationUnavailable,
        Self::BindingRequired,
        Self::BindingMissing,
        Self::BindingMismatch,
        Self::DpopInvalid,
        Self::DpopReplayed,
        Self::DpopNonce,
        Self::ApiKeyMalformed,
        Self::ApiKeyUnknown,
        Self::ApiKeyExpired,
        Self::ApiKeyRevoked,
        Self::ApiKeyNetwork,
        Self::PasswordMalformed,
        Self::PasswordWrong,
        Self::UserUnknown,
        Self::LockedOut,
        Self::PasswordCleartext,
        Self::PasswordsBusy,
        Self::CertificateMissing,
        Self::CertificateUnknown,
        Self::CertificateRevoked,
        Self::CertificateExpired,
        Self::SubjectHeld,
        Self::SubjectErased,
        Self::ScopeMissing,
        Self::ConditionFalse,
        Self::ConditionError,
        Self::AcrInsufficient,
        Self::AmrInsufficient,
        Self::AuthTimeMissing,
        Self::AuthTimeInFuture,
        Self::AuthenticationTooOld,
        Self::FactorInsufficient,
        Self::FactorTooNew,
        Self::GrantMissing,
        Self::GrantInvalid,
        Self::GrantSpent,
        Self::CodeRefused,
        Self::ProofRefused,
        Self::EnrolmentRefused,
        Self::SignInRefused,
        Self::CallRefused,
        Self::SendingLimited,
        Self::AuthorityUnavailable,
        Self::DeletionAmbiguous,
        Self::DeletionCovered,
        Self::DeletionNotOwner,
        Self::DeletionFrozen,
        Self::DeletionNotFound,
        Self::DeletionTooLate,
        Self::DeletionOpen,
        Self::DeletionOwnApproval,
        Self::ErasureUnavailable,
        Self::QuotaExceeded,
        Self::AuditUnavailable,
        Self::Overloaded,
        Self::InternalFault,
        Self::UpstreamUnreachable,
        Self::UpstreamTls,
        Self::UpstreamReset,
        Self::UpstreamInvalid,
        Self::UpstreamTimeout,
        Self::UpstreamBusy,
        Self::ClientGone,
        Self::Drained,
    ];

    /// The name in metrics, logs and `explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::MalformedRequest => "malformed_request",
            Self::AmbiguousPath => "ambiguous_path",
            Self::InvalidHost => "invalid_host",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::CorsRefused => "cors_refused",
            Self::MethodUnknown => "method_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RouteNotFound => "route_not_found",
            Self::UpgradeMalformed => "upgrade_malformed",
            Self::UpgradeVersion => "upgrade_version",
            Self::UpgradeNotOffered => "upgrade_not_offered",
            Self::ConflictingOverride => "conflicting_override",
            Self::InvalidCredentials => "invalid_credentials",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "token_malformed",
            Self::TokenTooLarge => "token_too_large",
            Self::TokenType => "token_type",
            Self::TokenAlgorithm => "token_algorithm",
            Self::TokenIssuerUnknown => "token_issuer_unknown",
            Self::TokenIssuerNotAccepted => "token_issuer_not_accepted",
            Self::TokenKeyUnknown => "token_key_unknown",
            Self::TokenSignature => "token_signature",
            Self::TokenClaims => "token_claims",
            Self::TokenAudience => "token_audience",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenIssuedInFuture => "token_issued_in_future",
            Self::KeysUnavailable => "keys_unavailable",
            Self::TokenInactive => "token_inactive",
            Self::IntrospectionUnavailable => "introspection_unavailable",
            Self::TokenRevoked => "token_revoked",
            Self::CredentialRevoked => "credential_revoked",
            Self::RevocationUnavailable => "revocation_unavailable",
            Self::BindingRequired => "binding_required",
            Self::BindingMissing => "binding_missing",
            Self::BindingMismatch => "binding_mismatch",
            Self::DpopInvalid => "dpop_invalid",
            Self::DpopReplayed => "dpop_replayed",
            Self::DpopNonce => "dpop_nonce",
            Self::ApiKeyMalformed => "api_key_malformed",
            Self::ApiKeyUnknown => "api_key_unknown",
            Self::ApiKeyExpired => "api_key_expired",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::ApiKeyNetwork => "api_key_network",
            Self::PasswordMalformed => "password_malformed",
            Self::PasswordWrong => "password_wrong",
            Self::UserUnknown => "user_unknown",
            Self::LockedOut => "locked_out",
            Self::PasswordCleartext => "password_cleartext",
            Self::PasswordsBusy => "passwords_busy",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateUnknown => "certificate_unknown",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateExpired => "certificate_expired",
            Self::SubjectHeld => "subject_held",
            Self::SubjectErased => "subject_erased",
            Self::ScopeMissing => "scope_missing",
            Self::ConditionFalse => "condition_false",
            Self::ConditionError => "condition_error",
            Self::AcrInsufficient => "acr_insufficient",
            Self::AmrInsufficient => "amr_insufficient",
            Self::AuthTimeMissing => "auth_time_missing",
            Self::AuthTimeInFuture => "auth_time_in_future",
            Self::AuthenticationTooOld => "authentication_too_old",
            Self::FactorInsufficient => "factor_insufficient",
            Self::FactorTooNew => "factor_too_new",
            Self::GrantMissing => "grant_missing",
            Self::GrantInvalid => "grant_invalid",
            Self::GrantSpent => "grant_spent",
            Self::CodeRefused => "code_refused",
            Self::ProofRefused => "proof_refused",
            Self::EnrolmentRefused => "enrolment_refused",
            Self::SignInRefused => "sign_in_refused",
            Self::CallRefused => "call_refused",
            Self::SendingLimited => "sending_limited",
            Self::AuthorityUnavailable => "authority_unavailable",
            Self::DeletionAmbiguous => "deletion_ambiguous",
            Self::DeletionCovered => "deletion_covered",
            Self::DeletionNotOwner => "deletion_not_owner",
            Self::DeletionFrozen => "deletion_frozen",
            Self::DeletionNotFound => "deletion_not_found",
            Self::DeletionTooLate => "deletion_too_late",
            Self::DeletionOpen => "deletion_open",
            Self::DeletionOwnApproval => "deletion_own_approval",
            Self::ErasureUnavailable => "erasure_unavailable",
            Self::QuotaExceeded => "quota_exceeded",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Overloaded => "overloaded",
            Self::InternalFault => "internal_fault",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamBusy => "upstream_busy",
            Self::ClientGone => "client_gone",
            Self::Drained => "drained",
        }
    }
}
