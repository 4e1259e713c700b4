//! Log-out tokens (OpenID Connect Back-Channel Logout 1.0 §2.4 and §2.6), once their signature, audience and times are
//! known to be right.

use serde_json::{Map, Value};

use super::{EventKind, Finding, Report};
use crate::{identity::revocation::TargetKind, policy::Reason};

/// The one member that `events` must have.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Reads who logged out.
pub(super) fn read(claims: &Map<String, Value>) -> Result<Report, Reason> {
    let events = claims.get("events").and_then(Value::as_object).ok_or(Reason::TokenClaims)?;
    let is_logout = events.len() == 1 && events.get(EVENT).is_some_and(Value::is_object);
    // §2.4: so that an ID token cannot be taken for a log-out token.
    if !is_logout || claims.contains_key("nonce") {
        return Err(Reason::TokenClaims);
    }
    let issued_at = claims.get("iat").and_then(Value::as_f64).ok_or(Reason::TokenClaims)?;
    let mut targets = Vec::with_capacity(2);
    for (claim, kind) in [("sub", TargetKind::Subject), ("sid", TargetKind::Session)] {
        match claims.get(claim) {
            None => {}
            Some(Value::String(name)) if !name.is_empty() => targets.push((kind, name.as_str().into())),
            Some(_) => return Err(Reason::TokenClaims),
        }
    }
    if targets.is_empty() {
        return Err(Reason::TokenClaims);
    }
    Ok(Report { issued_at, findings: vec![Finding { kind: EventKind::Logout, targets }] })
}
