//! The document as written: one struct a section, one file a subject. Names are not yet resolved, and nothing is known
//! to fit together; that is `resolve`'s.

mod acme;
mod address;
mod api_keys;
mod assertion;
mod authority;
mod balancing;
mod basic;
mod certificate;
mod cors;
mod credential;
mod deletion;
mod dpop;
mod events;
mod guard;
mod introspection;
mod issuer;
mod limit;
mod listener;
mod machine;
mod notify;
mod overload;
mod reach;
mod redirect;
mod route;
mod sealing;
mod secret;
mod security_headers;
mod server;
mod shaping;
mod streams;
mod target;
mod upstream;

pub(super) use acme::{Acme, ListenerCertificate, OrderedName};
pub(super) use address::{ListenAt, PeerText, UNIX_PATH_BYTES};
pub(super) use api_keys::{ApiKeys, KeyPrefix, ParameterName};
pub(super) use assertion::{Assertion, Assertions};
pub(super) use authority::{
    Accounts, Authority, FactorText, Guessing, Mode, Passkey, Totp, UserVerification, WebOrigin,
};
pub(super) use balancing::{BalanceText, Concurrency, Ejection, HealthCheck, Retries, RetryOn};
pub(super) use basic::{Basic, Lockout};
pub(super) use certificate::ClientCertificates;
pub(super) use cors::{Cors, OriginText};
pub(super) use credential::CredentialSource;
pub(super) use deletion::{
    CallText, CoveredText, DeletionPlan, Deletions, Grace, JsonText, RecipientText, Scope, SourceText, Status, Step,
    Texts, Verify,
};
pub(super) use dpop::{Dpop, ProofAlgorithm};
pub(super) use events::Events;
pub(super) use guard::DeletionGuard;
pub(super) use introspection::Introspection;
pub(super) use issuer::{ClaimRule, Claims, Issuer, Keys, TypeText};
pub(super) use limit::{AssuranceText, Level, Limit};
pub(super) use listener::{Certificate, Listener, Tls};
pub(super) use machine::{Machines, Switch};
pub(super) use notify::{Mail, Notify};
pub(super) use reach::{Dns, UpstreamTls};
pub(super) use redirect::Redirect;
pub(super) use route::{AuthText, Bind, Prefix, Rewrite, Route};
pub(super) use sealing::{Sealing, SealingKeyText};
pub(super) use secret::{SecretText, SharedSecret};
pub(super) use security_headers::{Hsts, SecurityHeaders};
pub(super) use server::{AccessLogText, AccessLogWord, Admin, Audit, Server, ServerLimits};
pub(super) use shaping::{Canary, HeaderFields, HeaderRules, Mirror};
pub(super) use streams::{GrpcWeb, UpgradeTo};
pub(super) use target::{Scheme, TargetSection, TargetText, TargetUrl};
pub(super) use upstream::{Credential, Upstream};

use super::{
    decode::{At, Named, NonEmpty, section},
    shape::{SectionShape, Shape},
};

section! {
    /// The whole file. Only `upstreams` and `routes` are needed.
    "gateway.yaml" Document {
        /// The sockets that clients connect to. Without this key: one plain listener that only this machine can reach.
        listeners: At<NonEmpty<Listener>> = "[{address: 127.0.0.1:8080, cleartext: true}]",
        /// Where certificates are ordered that listeners name by `{acme: […]}`.
        acme: Option<Acme>,
        /// The operator's listener: metrics, health and the admin API; never a public one.
        admin: Admin = "{}",
        /// What holds for all listeners.
        server: Server = "{}",
        /// Who may vouch for a caller, by name; a token is matched by its `iss`.
        issuers: Named<Issuer> = "{}",
        /// Who else may vouch for a caller, by name: API keys, passwords, client certificates.
        credentials: Named<CredentialSource> = "{}",
        /// Named levels of proof.
        assurance: Named<Level> = "{}",
        /// Named quotas. No quota applies that the file does not name.
        limits: Named<Limit> = "{}",
        /// The services behind, by name.
        upstreams: Named<Upstream>,
        /// Who is asked for the addresses of upstreams' names.
        dns: Dns = "{}",
        /// How the gateway signs what it tells upstreams of callers.
        assertions: Option<Assertions>,
        /// What people and systems are told by: mail and webhooks.
        notify: Option<Notify>,
        /// What durable state is encrypted with: needed where `authority` or `deletions` is.
        sealing: Option<Sealing>,
        /// A second factor of the gateway's own.
        authority: Option<Authority>,
        /// What protects deletions, on every route.
        deletion_guard: DeletionGuard = "{}",
        /// What becomes of account deletions. Without this section they are requests like others, under the guard.
        deletions: Option<Deletions>,
        /// Where attempts at guarded operations are recorded.
        audit: Audit = "{}",
        /// Where requests are recorded: `stdout`, `off`, or `{file: path}`.
        access_log: AccessLogText = "stdout",
        /// Which requests go where, and what they need. What no route names is a 404. Two routes that could tie are an error.
        routes: NonEmpty<Route>,
    }
}

/// The keys below which no secret can stand, in any section.
pub(super) fn harmless_keys() -> Vec<&'static str> {
    let mut fields = Vec::new();
    note_keys(&Document::section(), &mut fields);
    let secret: Vec<&str> = fields.iter().filter(|(_, secret)| *secret).map(|(key, _)| *key).collect();
    fields.into_iter().map(|(key, _)| key).filter(|key| !secret.contains(key)).collect()
}

/// Notes each key, and whether a secret can stand below it; says whether one can in the whole section.
fn note_keys(section: &SectionShape, fields: &mut Vec<(&'static str, bool)>) -> bool {
    let mut any = false;
    for field in &section.fields {
        let secret = holds_secret(&field.shape, fields);
        fields.push((field.key, secret));
        any |= secret;
    }
    any
}

fn holds_secret(shape: &Shape, fields: &mut Vec<(&'static str, bool)>) -> bool {
    match shape {
        Shape::Bool | Shape::Integer { .. } | Shape::Words(_) => false,
        // A body may hold what nobody thought of as one.
        Shape::Json => true,
        Shape::Text(text) => text.name == secret::INLINE,
        Shape::List { item, .. } | Shape::Named(item) | Shape::Keyed { item, .. } => holds_secret(item, fields),
        Shape::Section(section) => note_keys(section, fields),
        // Every one is looked at: each notes its keys.
        Shape::Either(shapes) => shapes.iter().filter(|shape| holds_secret(shape, fields)).count() > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_may_hold_a_secret_are_not_harmless() {
        let harmless = harmless_keys();
        for key in ["path", "routes", "targets", "leeway", "audience"] {
            assert!(harmless.contains(&key), "{key}");
        }
        for key in [
            "token",
            "admin",
            "secret",
            "keys",
            "issuers",
            "password",
            "basic",
            "header",
            "value",
            "credential",
            "upstreams",
        ] {
            assert!(!harmless.contains(&key), "{key}");
        }
    }
}
