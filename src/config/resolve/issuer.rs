//! Issuers: keys that fit the algorithms, an `iss` of their own, and a word about weak settings.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Context, dpop, introspection::introspection, table::Table};
use crate::{
    config::{
        AuthTimeFormat, ClaimLayout, ClaimPath, ClaimRule, Issuer, KeySource, SecretEncoding, Source, Span,
        document::{self, Document, Keys, Mode, SecretText, SharedSecret, TypeText},
        issuer_url,
        preset::Defaults,
    },
    jose::Algorithm,
};

/// More leeway than this is a longer life for stolen tokens, not a slow clock.
const MUCH_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn issuers(document: &Document, to: &mut Context<'_>) -> Table<Issuer> {
    let mut lines: HashMap<String, u32> = HashMap::new();
    Table::new("issuer", "issuers", &document.issuers, |entry, written| {
        let url = &written.issuer;
        if let Some(line) = lines.get(&url.value.0) {
            let message = format!("the issuer on line {line} has this identifier already: a token's `iss` chooses one");
            to.error(&url.span, message);
        } else {
            lines.insert(url.value.0.clone(), url.span.line);
        }
        issuer(entry.name.clone(), &entry.span, written, to)
    })
}

/// Adds the issuer that the authority is, where it keeps accounts. One of its name was reported; see `authority::accounts`.
pub(super) fn add_own(document: &Document, issuers: &mut Table<Issuer>, to: &mut Context<'_>) {
    let Some(authority) = &document.authority else { return };
    let Some(accounts) = authority.accounts.as_ref().filter(|_| authority.mode.value == Mode::Accounts) else { return };
    let name: Arc<str> = accounts.issuer.value.0.as_str().into();
    let url = issuer_url(&authority.url.value.0, authority.path.value.0.as_str());
    if issuers.values().iter().any(|other| other.url == url) {
        let message = "an issuer has the authority's identifier, `url` and `path`: a token's `iss` chooses one";
        to.error(&authority.url.span, message);
    }
    let own = Issuer::own(&accounts.span, name.clone(), url, accounts.audience.value.as_str().into());
    issuers.add(&name, &accounts.span, own);
}

fn issuer(name: Arc<str>, span: &Span, written: &document::Issuer, to: &mut Context<'_>) -> Option<Issuer> {
    let introspection = written.introspection.as_ref().map(|section| introspection(section, written, to));
    let keys = match &written.keys {
        Some(keys) => key_source(keys, to),
        None if introspection.is_some() => Some(KeySource::Absent),
        None => {
            if !written.broken {
                let help = "write `keys: …`, `introspection: …` or both";
                to.error_with_help(span, "it is not said how this issuer's tokens are verified", help);
            }
            None
        }
    };
    let listed = written.algorithms.as_ref().map_or(&[][..], |list| &list.0);
    report_without(span, written, to);
    if let Some(keys) = &keys {
        listed.iter().for_each(|algorithm| report_unfit(algorithm.value.0, keys, &algorithm.span, to));
    }
    report_weak(span, written, to);
    let (types, type_absent) = types(written, to);
    let preset = written.preset.defaults();
    let auth_time_format: AuthTimeFormat = written.auth_time_format.unwrap_or(preset.auth_time_format);
    let name_of_events = name.clone();
    Some(Issuer {
        span: span.clone(),
        name,
        url: written.issuer.value.0.as_str().into(),
        audience: written.audience.value.iter().map(|audience| audience.as_str().into()).collect(),
        keys: keys?,
        algorithms: listed.iter().map(|algorithm| algorithm.value.0).collect(),
        introspection: match introspection {
            Some(introspection) => Some(introspection?),
            None => None,
        },
        leeway: written.leeway.value.0,
        types,
        type_absent,
        required: match &written.required {
            Some(required) => required.value.iter().map(|claim| claim.0.as_str().into()).collect(),
            None => preset.required.iter().map(|claim| Arc::from(*claim)).collect(),
        },
        token_bytes: written.token_bytes.bytes(),
        jwks_cooldown: written.jwks_cooldown,
        jwks_max_stale: written.jwks_max_stale,
        ca: written.ca.as_ref().map(|ca| to.file(ca)),
        dpop: written.dpop.as_ref().map(|written| dpop::rules(written, to)),
        claims: layout(&written.claims, &preset),
        auth_time_format,
        expect: written.expect.as_deref().map_or_else(|| preset.expect(), rules),
        machine: written.machine.as_deref().map_or_else(|| preset.machine(), rules),
        events: written.events.as_ref().and_then(|events| super::events::events(&name_of_events, events, to)),
        bound: written.bound.value,
    })
}

pub(super) fn layout(written: &document::Claims, preset: &Defaults) -> ClaimLayout {
    let place = |written: &Option<ClaimPath>, known: &str| written.clone().unwrap_or(ClaimPath::Name(known.into()));
    ClaimLayout {
        audience: place(&written.audience, preset.audience),
        subject: place(&written.subject, preset.subject),
        scopes: place(&written.scopes, preset.scopes),
        acr: place(&written.acr, preset.acr),
        amr: place(&written.amr, preset.amr),
        auth_time: place(&written.auth_time, preset.auth_time),
        client: written.client.clone().or_else(|| preset.client.map(|known| ClaimPath::Name(known.into()))),
    }
}

fn rules(written: &[document::ClaimRule]) -> Vec<ClaimRule> {
    let rule = |rule: &document::ClaimRule| ClaimRule {
        claim: rule.claim.clone(),
        values: rule.values.0.iter().map(|value| value.as_str().into()).collect(),
    };
    written.iter().map(rule).collect()
}

/// Keys and algorithms stand together.
fn report_without(span: &Span, written: &document::Issuer, to: &mut Context<'_>) {
    match (&written.keys, &written.algorithms) {
        (Some(_), None) if !written.broken => to.error(span, "`algorithms` is missing in an issuer"),
        (None, Some(algorithms)) if written.introspection.is_some() => {
            if let Some(first) = algorithms.0.first() {
                to.error(&first.span, "`algorithms` are for `keys`, and this issuer has none");
            }
        }
        (Some(_) | None, Some(_) | None) => {}
    }
}

fn types(written: &document::Issuer, to: &mut Context<'_>) -> (Vec<Arc<str>>, bool) {
    let Some(list) = &written.types else {
        let preset = written.preset.defaults();
        return (preset.types.iter().map(|known| Arc::from(*known)).collect(), preset.type_absent);
    };
    let (mut types, mut absent) = (Vec::new(), false);
    for item in &list.0 {
        let twice = match &item.value {
            TypeText::Absent => std::mem::replace(&mut absent, true),
            TypeText::Type(name) if super::events::is_event_type(name) => {
                let message =
                    format!("`{}` is the type of what a provider reports: never a caller's token", item.shown);
                to.error_with_help(&item.span, message, "list it under `events.types`");
                continue;
            }
            TypeText::Type(name) if types.contains(name) => true,
            TypeText::Type(name) => {
                types.push(name.clone());
                false
            }
        };
        if twice {
            to.error(&item.span, format!("`{}` is listed twice", item.shown));
        }
    }
    (types, absent)
}

fn key_source(keys: &Keys, to: &mut Context<'_>) -> Option<KeySource> {
    let given = [
        ("discovery", keys.discovery.as_ref().map(|at| &at.span)),
        ("jwks_url", keys.jwks_url.as_ref().map(|at| &at.span)),
        ("jwks_file", keys.jwks_file.as_ref().map(|at| &at.span)),
        ("public_key", keys.public_key.as_ref().map(|at| &at.span)),
        ("secret", keys.secret.as_ref().map(|at| &at.span)),
    ];
    let count = given.iter().filter(|(_, span)| span.is_some()).count();
    if count > 1 {
        let names: Vec<&str> = given.iter().filter(|(_, span)| span.is_some()).map(|(name, _)| *name).collect();
        to.error_with_help(
            &keys.span,
            format!("an issuer's keys come from one place, not from {}", names.join(" and ")),
            "a second issuer with another `iss` can have another place",
        );
        return None;
    }
    if count == 0 {
        if !keys.broken {
            let message = "it is not said where this issuer's keys come from";
            let help = "write {discovery: true}, {jwks_url: …}, {jwks_file: …}, {public_key: …} or {secret: …}";
            to.error_with_help(&keys.span, message, help);
        }
        return None;
    }
    if let (Some(encoding), None) = (&keys.encoding, &keys.secret) {
        to.error(&encoding.span, "`encoding` is for `secret` alone");
    }
    if let Some(discovery) = &keys.discovery {
        if !discovery.value {
            to.error(&discovery.span, "`discovery: false` leaves this issuer without keys");
        }
        return Some(KeySource::Discovery);
    }
    if let Some(url) = &keys.jwks_url {
        return Some(KeySource::JwksUrl(url.value.0.clone()));
    }
    if let Some(file) = &keys.jwks_file {
        return Some(KeySource::JwksFile(to.file(file)));
    }
    if let Some(key) = &keys.public_key {
        return public_key(&key.value, to).map(KeySource::PublicKey);
    }
    let (source, encoding) = shared_secret(keys, &keys.secret.as_ref()?.value, to)?;
    Some(KeySource::Secret { source, encoding })
}

/// A public key may be written out: it is no secret.
fn public_key(key: &SecretText, to: &mut Context<'_>) -> Option<Source> {
    to.source(key)
}

fn shared_secret(keys: &Keys, secret: &SharedSecret, to: &mut Context<'_>) -> Option<(Source, SecretEncoding)> {
    let beside = keys.encoding.as_ref();
    match secret {
        SharedSecret::Inline { span, value, from_env } => {
            if !from_env {
                to.warn_written_out(span);
            }
            let source = Source::Inline { span: span.clone(), value: value.clone() };
            Some((source, beside.map_or(SecretEncoding::Raw, |at| at.value)))
        }
        SharedSecret::Place(place) => {
            if let (Some(beside), Some(_)) = (beside, &place.encoding) {
                to.error(&beside.span, "`encoding` is given twice: here and with the secret");
            }
            let encoding = place.encoding.as_ref().or(beside).map_or(SecretEncoding::Raw, |at| at.value);
            let source = to.place(&place.span, place.broken, place.file.as_ref(), place.env.as_ref())?;
            Some((source, encoding))
        }
    }
}

/// A public key must never verify an HMAC, nor a secret anything else (RFC 8725 §2.1, §3.1).
fn report_unfit(algorithm: Algorithm, keys: &KeySource, span: &Span, to: &mut Context<'_>) {
    let hmac = algorithm.secret_bytes().is_some();
    let secret = matches!(keys, KeySource::Secret { .. });
    if hmac && !secret {
        let message = format!(
            "{algorithm:?} needs a shared secret, and this issuer's keys are public: whoever knows them could sign"
        );
        to.error_with_help(span, message, "use `keys: {secret: …}`, or an algorithm with a key pair");
    }
    if !hmac && secret {
        let message = format!("{algorithm:?} needs a key pair, and this issuer has a shared secret");
        to.error_with_help(span, message, "use HS256, HS384 or HS512, or another source of keys");
    }
}

fn report_weak(span: &Span, written: &document::Issuer, to: &mut Context<'_>) {
    if written.audience.value.is_empty() && !written.broken {
        let message = "this issuer has no `audience`: tokens that it made out for any other API are accepted";
        to.warn(span, message, "add `audience: […]`");
    }
    // Without keys no token is read here: what an answer must have is said there.
    if let Some(required) = written.required.as_ref().filter(|_| written.keys.is_some()) {
        let requires =
            |claim: &ClaimPath| required.value.iter().any(|name| *claim == ClaimPath::Name(name.0.as_str().into()));
        let audience = layout(&written.claims, &written.preset.defaults()).audience;
        if let (false, ClaimPath::Name(name), false) =
            (written.audience.value.is_empty(), &audience, requires(&audience))
        {
            let message = format!("`{name}` is not required: a token without an audience is accepted");
            to.warn(&required.span, message, format!("add `{name}`"));
        }
        if !requires(&ClaimPath::Name("exp".into())) {
            to.warn(&required.span, "`exp` is not required: a token without it never expires", "add `exp`");
        }
    }
    if written.leeway.value.0 > MUCH_LEEWAY {
        let message = "a leeway of more than 5m keeps expired tokens, and old logins, alive";
        to.warn(&written.leeway.span, message, "30s covers clocks that are set by the network");
    }
}
