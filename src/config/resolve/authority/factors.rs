//! The factors that people can have: each with what it needs.

use std::sync::Arc;

use url::Host;

use super::{LONGEST_CODE, at_most, needs_mail, origins, webhook};
use crate::config::{
    Passkey, SentCode, Totp,
    document::{self, Document, UserVerification},
    resolve::Context,
};

/// Which factors are on.
pub(super) struct Factors {
    pub(super) passkey: Option<Passkey>,
    pub(super) totp: Option<Totp>,
    pub(super) email: Option<SentCode>,
    pub(super) webhook: Option<SentCode>,
    pub(super) push: Option<SentCode>,
    pub(super) recovery: Option<u32>,
}

pub(super) fn factors(written: &document::Authority, document: &Document, to: &mut Context<'_>) -> Factors {
    let on = &written.factors;
    let host = written.url.value.0.host_str().unwrap_or_default();
    let primary = on.passkey.is_some() || on.totp.is_some();
    if !primary && on.email.is_none() && on.webhook.is_none() && on.push.is_none() && !on.broken {
        let help = "switch one on: {passkey: {}, totp: {}, recovery: {}}";
        let message = "no factor is on that anybody could enrol";
        to.error_with_help(&on.span, message, help);
    }
    Factors {
        passkey: on.passkey.as_ref().map(|passkey| self::passkey(passkey, written, to)),
        totp: on.totp.as_ref().map(|totp| self::totp(totp, host, to)),
        email: on.email.as_ref().map(|email| {
            needs_mail(&email.span, document, to);
            at_most(&email.ttl, LONGEST_CODE, "a code is good for 30m at most", to);
            SentCode { ttl: email.ttl.value, webhook: None, claim: email.claim.clone() }
        }),
        webhook: on.webhook.as_ref().map(|sent| {
            at_most(&sent.ttl, LONGEST_CODE, "a code is good for 30m at most", to);
            let name = webhook(&sent.webhook, document, to);
            SentCode { ttl: sent.ttl.value, webhook: Some(name), claim: sent.claim.clone() }
        }),
        push: on.push.as_ref().map(|push| {
            at_most(&push.ttl, LONGEST_CODE, "an approval is waited for 30m at most", to);
            SentCode { ttl: push.ttl.value, webhook: Some(webhook(&push.webhook, document, to)), claim: None }
        }),
        recovery: on.recovery.as_ref().map(|recovery| u32::try_from(recovery.codes.0).unwrap_or(u32::MAX)),
    }
}

fn passkey(passkey: &document::Passkey, written: &document::Authority, to: &mut Context<'_>) -> Passkey {
    let url = &written.url.value.0;
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.host(), Some(Host::Domain(_))) {
        let message = "passkeys are made for a name, and this is an address: no browser runs a ceremony here";
        let help = "use a name (`localhost` on this machine), or leave `passkey` out of `factors`";
        to.error_with_help(&written.url.span, message, help);
    }
    let rp_id = match &passkey.rp_id {
        None => host,
        Some(rp_id) => {
            let id = rp_id.value.as_str();
            // Whether a domain can be registered is the browser's to say; a single label never is one.
            if !is_at_or_below(host, id) || (host != id && !id.contains('.')) {
                let message = format!("`{}` is not the host of `url`, nor a domain above it", rp_id.shown);
                let help = format!("the host is `{host}`; passkeys that are made for another domain are never offered");
                to.error_with_help(&rp_id.span, message, help);
            }
            id
        }
    };
    for origin in &passkey.origins {
        if !origin.value.0.host_str().is_some_and(|host| is_at_or_below(host, rp_id)) {
            let message =
                format!("`{}` is not at `{rp_id}` or below it: no browser lets it use these passkeys", origin.shown);
            to.error_with_help(&origin.span, message, "set `rp_id` to a domain above both");
        }
    }
    let name = passkey.rp_name.as_ref().map_or(host, |name| name.value.as_str());
    Passkey {
        rp_id: rp_id.into(),
        rp_name: name.into(),
        origins: origins(&passkey.origins, to),
        user_verification: passkey.user_verification.value == UserVerification::Required,
    }
}

fn is_at_or_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| !domain.is_empty() && (rest.is_empty() || rest.ends_with('.')))
}

fn totp(totp: &document::Totp, host: &str, to: &mut Context<'_>) -> Totp {
    if totp.digits.value.0 == 7 {
        to.error_with_help(&totp.digits.span, "a code has 6 or 8 digits", "every app knows 6");
    }
    Totp {
        label: totp.label.as_ref().map_or_else(|| Arc::from(host), |label| label.value.0.as_str().into()),
        digits: u32::try_from(totp.digits.value.0).unwrap_or(6),
        skew: u32::try_from(totp.skew.value.0).unwrap_or(1),
    }
}
