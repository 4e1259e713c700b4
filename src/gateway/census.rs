//! One look at each field of a request's head: which kinds are there that something must be done about. Most requests
//! have none of most kinds, and what is not there need not be looked up, nor taken away.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::{
    hygiene::{is_hop_by_hop, is_spoofable},
    method_override,
};

/// A kind of field that is not simply passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Authorization = 1,
    Expect = 2,
    HopByHop = 4,
    Override = 8,
    /// The proof beside a token (RFC 9449 §4.1).
    Proof = 16,
    RequestId = 32,
    /// The gateway's to say.
    Spoofable = 64,
    /// A second factor that came with the request.
    StepUp = 128,
    Trace = 256,
}

/// What kinds of fields a head has.
#[derive(Debug)]
pub(super) struct Census {
    /// As they were on the wire, with what separates them.
    pub(super) bytes: usize,
    kinds: u16,
    /// Whether a value begins or ends with a space: HTTP/1.1 knows no such value, so that a service would see another than was judged.
    pub(super) has_padding: bool,
}

impl Census {
    /// Looks at every field. `extra` is `server.drop_headers`, folded.
    pub(super) fn of(headers: &HeaderMap, extra: &[Arc<str>]) -> Self {
        let (mut bytes, mut kinds, mut has_padding) = (0, 0, false);
        for (name, value) in headers {
            bytes += name.as_str().len() + value.len() + 4;
            kinds |= kind_of(name).map_or(0, |kind| kind as u16);
            has_padding |= is_padded(value.as_bytes());
            if is_spoofable(name.as_str(), extra) {
                kinds |= Kind::Spoofable as u16;
            }
        }
        Self { bytes, kinds, has_padding }
    }

    /// Whether there is any of a kind.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds & kind as u16 != 0
    }
}

/// Whether there is a space or a tab at either end.
fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn kind_of(name: &HeaderName) -> Option<Kind> {
    match name.as_str() {
        "authorization" => Some(Kind::Authorization),
        "dpop" => Some(Kind::Proof),
        "expect" => Some(Kind::Expect),
        "stepgate-grant" | "stepgate-otp" => Some(Kind::StepUp),
        "traceparent" | "tracestate" => Some(Kind::Trace),
        "x-request-id" => Some(Kind::RequestId),
        _ if is_hop_by_hop(name) => Some(Kind::HopByHop),
        _ if method_override::HEADERS.contains(name) => Some(Kind::Override),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn every_kind_is_seen_and_nothing_else() {
        let all = [
            Kind::Authorization,
            Kind::Expect,
            Kind::HopByHop,
            Kind::Override,
            Kind::Proof,
            Kind::RequestId,
            Kind::Spoofable,
            Kind::StepUp,
            Kind::Trace,
        ];
        for (name, kinds) in [
            ("host", &[][..]),
            ("accept", &[]),
            ("authorization", &[Kind::Authorization]),
            ("expect", &[Kind::Expect]),
            ("dpop", &[Kind::Proof]),
            ("te", &[Kind::HopByHop]),
            ("connection", &[Kind::HopByHop]),
            ("proxy-connection", &[Kind::HopByHop]),
            ("x-http-method", &[Kind::Override, Kind::Spoofable]),
            ("x_http_method", &[Kind::Spoofable]),
            ("x-auth-subject", &[Kind::Spoofable]),
            ("tenant", &[Kind::Spoofable]),
            ("stepgate-otp", &[Kind::Spoofable, Kind::StepUp]),
            ("stepgate-grant", &[Kind::Spoofable, Kind::StepUp]),
            ("stepgate_grant", &[Kind::Spoofable]),
            ("x-request-id", &[Kind::RequestId]),
            ("x_request_id", &[Kind::Spoofable]),
            ("traceparent", &[Kind::Trace]),
            ("tracestate", &[Kind::Trace]),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), "v".parse().unwrap())]);
            let census = Census::of(&headers, &["tenant".into()]);
            let seen: Vec<Kind> = all.into_iter().filter(|kind| census.has(*kind)).collect();
            assert_eq!(seen, kinds, "{name}");
            assert_eq!(census.bytes, name.len() + 5);
        }
    }
}
