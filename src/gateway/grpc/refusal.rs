//! A refusal as a gRPC client reads it: HTTP 200 and a status in the header section alone (`Trailers-Only`); in gRPC-Web the same as
//! the one frame of the body. What HTTP says in fields beside stays there, as metadata: the challenge, the quotas, the request's name.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, CONTENT_TYPE},
};

use super::{Dialect, web::trailers_frame};

/// The status of a gRPC answer.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What it says to people, percent-encoded.
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When it may be tried again, in milliseconds (gRFC A6); what `Retry-After` says.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The problem's type, which is stable; the message is not.
const PROBLEM: HeaderName = HeaderName::from_static("stepgate-problem");

/// The fields of a problem document that mean nothing, or something else, in gRPC.
const OF_DOCUMENTS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::X_CONTENT_TYPE_OPTIONS, header::ALLOW];

/// Makes a refusal one of gRPC's; gives its body. `headers` are those of the problem document with its `status`.
pub(in crate::gateway) fn refused(
    dialect: Dialect,
    (problem, detail): (&str, &str),
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Vec<u8> {
    for name in OF_DOCUMENTS {
        headers.remove(name);
    }
    let pushback = headers.get(header::RETRY_AFTER).and_then(|secs| secs.to_str().ok()?.parse::<u64>().ok());
    let mut said = HeaderMap::with_capacity(4);
    said.insert(GRPC_STATUS, HeaderValue::from(code(status)));
    insert(&mut said, GRPC_MESSAGE, &percent_encoded(detail));
    insert(headers, PROBLEM, &format!("urn:stepgate:problem:{problem}"));
    if let Some(secs) = pushback {
        insert(&mut said, PUSHBACK, &secs.saturating_mul(1000).to_string());
    }
    let media_type = match dialect {
        Dialect::Grpc => "application/grpc",
        Dialect::Web => "application/grpc-web+proto",
        Dialect::WebText => "application/grpc-web-text+proto",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    match dialect {
        Dialect::Grpc => {
            headers.extend(said);
            Vec::new()
        }
        Dialect::Web => trailers_frame(&said),
        Dialect::WebText => STANDARD.encode(trailers_frame(&said)).into_bytes(),
    }
}

/// The gRPC status that says best what an HTTP status says. Not the table of how clients read HTTP statuses of proxies that know
/// nothing of gRPC: that makes 400 INTERNAL and 429 UNAVAILABLE, which clients would try again at once.
fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 | 414 | 426 | 431 => 3,  // INVALID_ARGUMENT
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 | 405 | 415 | 501 => 12, // UNIMPLEMENTED
        408 | 504 => 4,              // DEADLINE_EXCEEDED
        409 | 410 | 412 | 428 => 9,  // FAILED_PRECONDITION
        413 | 429 => 8,              // RESOURCE_EXHAUSTED
        499 => 1,                    // CANCELLED
        502 | 503 => 14,             // UNAVAILABLE
        400..=499 => 9,              // FAILED_PRECONDITION
        _ => 13,                     // INTERNAL
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// As `grpc-message` is written: everything but printable ASCII, and `%` itself.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

    use super::*;
    use crate::{gateway::Refusal, policy::Reason};

    fn fields() -> HeaderMap {
        let all = [
            (CONTENT_TYPE, "application/problem+json"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""),
            (header::RETRY_AFTER, "7"),
        ];
        all.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn every_reason_has_a_status_of_grpc_that_is_no_ok() {
        for reason in Reason::ALL {
            let code = code(Refusal::of(reason).problem().status);
            assert!((1..=16).contains(&code), "{reason:?} {code}");
        }
    }

    #[test]
    fn a_refusal_is_in_the_header_section_and_keeps_what_stands_beside() {
        let mut headers = fields();
        let body = refused(
            Dialect::Grpc,
            ("quota-exceeded", "Wait: 100 % of it\n"),
            StatusCode::TOO_MANY_REQUESTS,
            &mut headers,
        );
        assert!(body.is_empty());
        let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(of("content-type"), Some("application/grpc"));
        assert_eq!((of("grpc-status"), of("grpc-message")), (Some("8"), Some("Wait: 100 %25 of it%0A")));
        assert_eq!((of("grpc-retry-pushback-ms"), of("retry-after")), (Some("7000"), Some("7")));
        assert_eq!(of("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        assert_eq!(of("stepgate-problem"), Some("urn:stepgate:problem:quota-exceeded"));
        assert_eq!(of("x-content-type-options"), None);
    }

    #[test]
    fn in_grpc_web_it_is_the_one_frame_of_the_body() {
        let mut headers = fields();
        let body = refused(Dialect::Web, ("token-required", "Send one."), StatusCode::UNAUTHORIZED, &mut headers);
        assert_eq!(body[0], 0x80);
        let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
        let text = std::str::from_utf8(&body[5..]).unwrap();
        assert_eq!(length, text.len());
        assert_eq!(text, "grpc-status: 16\r\ngrpc-message: Send one.\r\ngrpc-retry-pushback-ms: 7000\r\n");
        let encoded =
            refused(Dialect::WebText, ("token-required", "Send one."), StatusCode::UNAUTHORIZED, &mut fields());
        assert_eq!(STANDARD.decode(encoded).unwrap(), body);
        assert!(headers.contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(headers[CONTENT_TYPE], "application/grpc-web+proto");
    }
}
