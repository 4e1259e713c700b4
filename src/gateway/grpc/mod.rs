//! gRPC, as far as a gateway has to know of it: refusals that its clients understand, a request's own deadline, and gRPC-Web for
//! services that know nothing of it. A gRPC client reads `grpc-status` and little else: a problem document with 401 would be
//! "unknown" to it.

mod refusal;
mod timeout;
mod web;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Version, header::CONTENT_TYPE, request::Parts};

use self::web::{TextBody, to_grpc};
pub(super) use self::{
    refusal::refused,
    timeout::deadline,
    web::{WebBody, to_web},
};
use crate::{body::RequestBody, runtime::CompiledRoute};

/// How long a gRPC client may send nothing of a request that has not ended: a stream of messages is silent while there is nothing to
/// say. As long as an upgraded stream may be, for the same reasons.
pub(super) const SILENCE: Duration = Duration::from_secs(300);

/// Which gRPC a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web: trailers at the end of the body.
    Web,
    /// The same in base64.
    WebText,
}

/// Whether a client may be silent for longer in the middle of a request: where messages are streamed, which gRPC does over HTTP/2 and
/// HTTP/3 alone, and gRPC-Web's clients not at all. To others the content type would be a way to be slow.
fn may_be_silent(dialect: Dialect, version: Version) -> bool {
    dialect == Dialect::Grpc && matches!(version, Version::HTTP_2 | Version::HTTP_3)
}

/// Makes a request ready that speaks gRPC; gives whether it was translated from gRPC-Web.
pub(super) fn prepare(
    dialect: Dialect,
    version: Version,
    route: &CompiledRoute,
    headers: &mut HeaderMap,
    body: &mut RequestBody,
) -> bool {
    if may_be_silent(dialect, version) {
        // Its client was let in, and nothing bounds how much it has to say but the limit on the body.
        body.be_patient(SILENCE);
    }
    if !dialect.is_web() || !route.translates_grpc_web {
        return false;
    }
    to_grpc(headers);
    if dialect == Dialect::WebText {
        body.change(Box::<TextBody>::default());
    }
    true
}

impl Dialect {
    /// What a request speaks; only a POST does.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        if parts.method != Method::POST {
            return None;
        }
        Self::of_headers(&parts.headers)
    }

    /// What a head says that its content is.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        Self::of_type(headers.get(CONTENT_TYPE)?)
    }

    /// What a content type says, parameters aside; what stands behind `+` is the message format, and none of our business.
    fn of_type(value: &HeaderValue) -> Option<Self> {
        let value = value.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
        let name = value.split(|byte| *byte == b'+').next()?;
        [Self::Grpc, Self::Web, Self::WebText]
            .into_iter()
            .find(|dialect| name.eq_ignore_ascii_case(dialect.media_type().as_bytes()))
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }

    /// Whether it is gRPC-Web's.
    pub(super) const fn is_web(self) -> bool {
        match self {
            Self::Grpc => false,
            Self::Web | Self::WebText => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_request_speaks_what_its_content_type_says() {
        let of = |method: Method, value: &'static str| {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.method = method;
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            Dialect::of(&parts)
        };
        for (value, dialect) in [
            ("application/grpc", Some(Dialect::Grpc)),
            ("application/grpc+proto", Some(Dialect::Grpc)),
            ("Application/gRPC+json; charset=utf-8", Some(Dialect::Grpc)),
            ("application/grpc-web", Some(Dialect::Web)),
            ("application/grpc-web+proto", Some(Dialect::Web)),
            ("application/grpc-web-text+proto", Some(Dialect::WebText)),
            ("application/grpc-websocket", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(of(Method::POST, value), dialect, "{value}");
        }
        assert_eq!(of(Method::GET, "application/grpc"), None);
    }

    #[test]
    fn a_content_type_alone_lets_nobody_be_slow() {
        for (dialect, version, silent) in [
            (Dialect::Grpc, Version::HTTP_2, true),
            (Dialect::Grpc, Version::HTTP_3, true),
            (Dialect::Grpc, Version::HTTP_11, false),
            (Dialect::Web, Version::HTTP_2, false),
            (Dialect::WebText, Version::HTTP_11, false),
        ] {
            assert_eq!(may_be_silent(dialect, version), silent, "{dialect:?} {version:?}");
        }
    }
}
