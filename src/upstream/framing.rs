//! How a request's end is told to the upstream (RFC 9112 §6). Decided by the body that is really there, never by what a
//! client's header claimed: a head that promises a body which does not follow would let the next request on the
//! connection be read as that body.

use http::{
    HeaderMap, HeaderValue, Method, Request, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Body;

/// Sets the version and the framing fields of a request.
pub(super) fn frame<B: Body>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    let length = if request.body().is_end_stream() { Some(0) } else { request.body().size_hint().exact() };
    let wants_length = length != Some(0) || expects_body(request.method());
    let headers = request.headers_mut();
    match length {
        Some(_) if !wants_length => {
            headers.remove(TRANSFER_ENCODING);
            headers.remove(CONTENT_LENGTH);
        }
        Some(length) => {
            headers.remove(TRANSFER_ENCODING);
            set_length(headers, length);
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Methods for which an empty body is said as such (RFC 9110 §8.6): the meaning of the others anticipates none.
fn expects_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// Keeps the field as it came when it is right already, which it nearly always is.
fn set_length(headers: &mut HeaderMap, length: u64) {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let said = fields.next().filter(|field| is_plain(field)).and_then(|field| field.to_str().ok()?.parse::<u64>().ok());
    if said != Some(length) || fields.next().is_some() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Whether a number is written in the one way in which nobody takes it for another: some read what begins with 0 as octal.
pub(super) fn is_plain(number: &HeaderValue) -> bool {
    matches!(number.as_bytes(), [b'0'] | [b'1'..=b'9', ..])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{Empty, Full};

    use super::*;

    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Pending
        }
    }

    fn framed<B: Body>(method: Method, headers: &[(&'static str, &'static str)], body: B) -> HeaderMap {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        frame(&mut request);
        assert_eq!(request.version(), Version::HTTP_11);
        request.headers().clone()
    }

    #[test]
    fn a_promise_of_a_body_that_is_not_there_is_taken_back() {
        for claim in [("content-length", "5"), ("transfer-encoding", "chunked")] {
            assert!(framed(Method::GET, &[claim], Empty::<Bytes>::new()).is_empty());
            let headers = framed(Method::POST, &[claim], Empty::<Bytes>::new());
            assert_eq!(headers.len(), 1);
            assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "0");
        }
    }

    #[test]
    fn a_known_length_is_said_once_and_right() {
        let claims = [("content-length", "9"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        let headers = framed(Method::DELETE, &claims, Full::new(Bytes::from_static(b"abc")));
        assert_eq!(headers.len(), 1);
        assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "3");
    }

    #[test]
    fn a_length_that_some_would_read_as_octal_is_said_in_the_usual_way() {
        for (claim, said) in [("03", "3"), ("0000003", "3"), ("+3", "3"), ("3", "3")] {
            let headers = framed(Method::POST, &[("content-length", claim)], Full::new(Bytes::from_static(b"abc")));
            assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), said, "{claim}");
        }
        let headers = framed(Method::POST, &[("content-length", "00")], Empty::<Bytes>::new());
        assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "0");
    }

    #[test]
    fn an_unknown_length_is_chunked_for_every_method() {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let headers = framed(method, &[("content-length", "5"), ("transfer-encoding", "gzip")], Endless);
            assert_eq!(headers.len(), 1);
            assert_eq!(headers.get(TRANSFER_ENCODING).unwrap(), "chunked");
        }
    }
}
