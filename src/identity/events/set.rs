//! Security event tokens (RFC 8417 §2): which events, and whom they are about by RFC 9493 and the Shared Signals Framework.
//! The subject stands in the token (`sub_id`, SSF 1.0) or in each event (`subject`, the drafts before). What is not
//! understood is acknowledged and said to be so: a provider may report more than a gateway can act on.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{EventKind, Finding, Report, text};
use crate::{identity::revocation::TargetKind, policy::Reason};

/// A token tells of one thing that happened, seldom in more than two ways; more than these are somebody's game.
const MAX_EVENTS: usize = 16;
/// A subject by so many names at most.
const MAX_ALIASES: usize = 16;

type Targets = Vec<(TargetKind, Arc<str>)>;

/// Reads what happened to whom. A subject of another issuer is none of ours.
pub(super) fn read(claims: &Map<String, Value>, issuer: &str) -> Result<Report, Reason> {
    let events = claims.get("events").and_then(Value::as_object).ok_or(Reason::TokenClaims)?;
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(Reason::TokenClaims);
    }
    let issued_at = claims.get("iat").and_then(Value::as_f64).ok_or(Reason::TokenClaims)?;
    let mut findings = Vec::with_capacity(events.len());
    for (uri, payload) in events {
        let payload = payload.as_object().ok_or(Reason::TokenClaims)?;
        let kind = EventKind::of(uri);
        let mut targets = Targets::new();
        if kind.ends_something() {
            let identifier = payload.get("subject").or_else(|| claims.get("sub_id"));
            match identifier {
                Some(Value::Object(identifier)) => subject(identifier, kind, issuer, &mut targets),
                Some(_) => return Err(Reason::TokenClaims),
                // RFC 8417 §2.2: `sub` may name the subject where it is one of this issuer.
                None => targets.extend(text(claims, "sub").map(|sub| (TargetKind::Subject, sub.into()))),
            }
        }
        findings.push(Finding { kind, targets });
    }
    Ok(Report { issued_at, findings })
}

/// A subject identifier (RFC 9493 §3), simple or complex (SSF 1.0 §3.2).
fn subject(identifier: &Map<String, Value>, kind: EventKind, issuer: &str, targets: &mut Targets) {
    let format = identifier.get("format").or_else(|| identifier.get("subject_type")).and_then(Value::as_str);
    match format {
        Some("aliases") => {
            let list = identifier.get("identifiers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            // RFC 9493 §3.2.8: aliases do not nest.
            for alias in list.iter().take(MAX_ALIASES).filter_map(Value::as_object) {
                simple(alias, issuer, targets);
            }
        }
        None | Some("complex") => {
            if let Some(user) = identifier.get("user").and_then(Value::as_object) {
                simple(user, issuer, targets);
            }
            if let Some(session) = identifier.get("session").and_then(Value::as_object) {
                targets.extend(text(session, "id").map(|id| (TargetKind::Session, id.into())));
            }
        }
        Some(_) => {
            simple(identifier, issuer, targets);
            // What an opaque identifier of a session event names is between the two sides: a session, or whose it is.
            if let (Some("opaque"), true, Some(id)) = (format, kind.is_about_a_session(), text(identifier, "id")) {
                targets.push((TargetKind::Session, id.into()));
            }
        }
    }
}

fn simple(identifier: &Map<String, Value>, issuer: &str, targets: &mut Targets) {
    let format = identifier.get("format").or_else(|| identifier.get("subject_type")).and_then(Value::as_str);
    match format {
        // The drafts of RISC wrote `iss-sub` and `iss_sub`.
        Some("iss_sub" | "iss-sub") if text(identifier, "iss") == Some(issuer) => {
            targets.extend(text(identifier, "sub").map(|sub| (TargetKind::Subject, sub.into())));
        }
        Some("opaque") => {
            targets.extend(text(identifier, "id").map(|id| (TargetKind::Subject, id.into())));
        }
        // SSF 1.0 §3.3: one token.
        Some("jwt_id") if text(identifier, "iss") == Some(issuer) => {
            targets.extend(text(identifier, "jti").map(|jti| (TargetKind::Jti, jti.into())));
        }
        Some(_) | None => {}
    }
}
