//! Introspection: one endpoint, one way to prove who asks, and a word about settings that keep revoked tokens alive.

use std::{sync::Arc, time::Duration};

use super::Context;
use crate::config::{
    CertificateFiles, ClaimPath, ClientAuthentication, Introspection, SecretMethod, SignedAnswers, document,
};

/// A cache that outlives this lets a stolen token pass for long after somebody revoked it.
const LONG_CACHE: Duration = Duration::from_secs(300);

pub(super) fn introspection(
    written: &document::Introspection,
    issuer: &document::Issuer,
    to: &mut Context<'_>,
) -> Option<Introspection> {
    let url = endpoint(written, to);
    let client = client(written, to);
    report_signed(written, issuer, to);
    report_weak(written, issuer, to);
    Some(Introspection {
        span: written.span.clone(),
        url: url?,
        client_id: written.client_id.value.as_str().into(),
        client: client?,
        timeout: written.timeout,
        cache: written.cache.value.0,
        negative_cache: written.negative_cache.0,
        signed: written.signed.value,
        concurrent: usize::try_from(written.concurrent.0).unwrap_or(usize::MAX),
        required: required(written, issuer),
        prefix: written.prefix.as_ref().map(|prefix| Arc::from(prefix.value.as_str())),
    })
}

/// The endpoint; inside, `None` is the one of the metadata.
fn endpoint(written: &document::Introspection, to: &mut Context<'_>) -> Option<Option<url::Url>> {
    match (&written.url, &written.discovery) {
        (Some(url), None) => Some(Some(url.value.0.clone())),
        (None, Some(discovery)) => {
            if !discovery.value {
                to.error(&discovery.span, "`discovery: false` leaves introspection without an endpoint");
            }
            Some(None)
        }
        (Some(_), Some(discovery)) => {
            to.error(&discovery.span, "the endpoint is either `url` or discovered, not both");
            None
        }
        (None, None) => {
            if !written.broken {
                let help = "write `url: …` or `discovery: true`";
                to.error_with_help(&written.span, "it is not said where this issuer is asked", help);
            }
            None
        }
    }
}

fn client(written: &document::Introspection, to: &mut Context<'_>) -> Option<ClientAuthentication> {
    if let (Some(method), None) = (&written.client_secret_method, &written.client_secret) {
        to.error(&method.span, "`client_secret_method` is for `client_secret` alone");
    }
    if let (Some(key_id), None) = (&written.key_id, &written.private_key) {
        to.error(&key_id.span, "`key_id` is for `private_key` alone");
    }
    match (&written.client_secret, &written.private_key, &written.certificate) {
        (Some(secret), None, None) => {
            let method = written.client_secret_method.as_ref().map_or(SecretMethod::Basic, |at| at.value);
            Some(ClientAuthentication::Secret { secret: to.secret(secret)?, method })
        }
        (None, Some(key), None) => {
            let key_id = written.key_id.as_ref().map(|at| at.value.as_str().into());
            Some(ClientAuthentication::PrivateKey { key: to.secret(key)?, key_id })
        }
        (None, None, Some(pair)) => {
            // RFC 8705 §2: there is no certificate without a handshake.
            if let Some(url) = written.url.as_ref().filter(|url| url.value.0.scheme() != "https") {
                to.error(&url.span, "a certificate proves who asks in a TLS handshake, which needs https");
            }
            let files = CertificateFiles { cert: to.file(&pair.cert), key: to.file(&pair.key) };
            Some(ClientAuthentication::Certificate(files))
        }
        (None, None, None) => {
            if !written.broken {
                // RFC 7662 §2.1: the endpoint must not answer whoever asks.
                let help = "write `client_secret: …`, `private_key: …` or `certificate: {cert: …, key: …}`";
                to.error_with_help(&written.span, "it is not said how the gateway proves who it is", help);
            }
            None
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            let message = "a client proves who it is in one way: `client_secret`, `private_key` or `certificate`";
            to.error(&written.span, message);
            None
        }
    }
}

fn required(written: &document::Introspection, issuer: &document::Issuer) -> Vec<Arc<str>> {
    match &written.required {
        Some(list) => list.value.iter().map(|claim| claim.0.as_str().into()).collect(),
        None => audience(issuer).into_iter().chain([Arc::from("exp")]).collect(),
    }
}

/// The member that holds the audience; one that a pointer leads to cannot be required.
fn audience(issuer: &document::Issuer) -> Option<Arc<str>> {
    match super::issuer::layout(&issuer.claims, &issuer.preset.defaults()).audience {
        ClaimPath::Name(name) => Some(name),
        ClaimPath::Pointer(_) => None,
    }
}

fn report_signed(written: &document::Introspection, issuer: &document::Issuer, to: &mut Context<'_>) {
    let signed = match written.signed.value {
        SignedAnswers::Off => false,
        SignedAnswers::Preferred | SignedAnswers::Required => true,
    };
    if signed && issuer.keys.is_none() {
        let help = "write `keys: …` and `algorithms: […]`";
        to.error_with_help(&written.signed.span, "signed answers are verified by the issuer's keys", help);
    }
}

fn report_weak(written: &document::Introspection, issuer: &document::Issuer, to: &mut Context<'_>) {
    if let (Some(list), Some(name), false) = (&written.required, audience(issuer), issuer.audience.value.is_empty())
        && !list.value.iter().any(|claim| claim.0 == *name)
    {
        let message = format!("`{name}` is not required: an active token that does not say for whom it is passes");
        to.warn(&list.span, message, format!("add `{name}`, if the provider tells it"));
    }
    if written.cache.value.0 > LONG_CACHE {
        let message = "a token that was revoked passes for as long as the answer is kept";
        to.warn(&written.cache.span, message, "60s spares the provider nearly as much");
    }
}
