//! The head of a request that may be sent a second time, where it can't be had back from what it was sent on: hyper takes a request for
//! good.
//! Names and values are copied into one buffer: a clone of the map would count each of them once more and give it back again.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body;

use super::upload::Upload;

/// What names and values there usually are, so that the buffer need not grow.
const TEXT_BYTES: usize = 768;

/// The head of a request that may be sent a second time.
#[derive(Debug)]
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    fields: Vec<Field>,
    text: Vec<u8>,
}

/// A field whose name and value are what comes next.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: usize,
    value: usize,
    is_sensitive: bool,
}

impl Replay {
    /// Keeps the head of a request that does no harm when it arrives twice. Methods that are idempotent and not safe are
    /// left out: a deletion that is allowed is allowed once.
    pub(super) fn of<B: Body>(request: &Request<B>) -> Option<Self> {
        Self::is_harmless(request).then(|| Self::head(request))
    }

    /// Whether a request does no harm when it arrives twice.
    pub(super) fn is_harmless<B: Body>(request: &Request<B>) -> bool {
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        is_safe && request.body().is_end_stream()
    }

    /// Keeps the head of a request that is sent again only if it certainly was not looked at.
    pub(super) fn head<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let (mut fields, mut text) = (Vec::with_capacity(headers.len()), Vec::with_capacity(TEXT_BYTES));
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            text.extend_from_slice(name);
            text.extend_from_slice(value.as_bytes());
            fields.push(Field { name: name.len(), value: value.len(), is_sensitive: value.is_sensitive() });
        }
        Self { method: request.method().clone(), uri: request.uri().clone(), fields, text }
    }

    /// The request once more; `None` if that could not be had unchanged.
    pub(super) fn request<B>(self) -> Option<Request<Upload<B>>> {
        self.request_with(Upload::empty())
    }

    /// The same with a body.
    pub(super) fn request_with<B>(self, body: Upload<B>) -> Option<Request<Upload<B>>> {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        let mut rest = &*self.text;
        for Field { name, value, is_sensitive } in self.fields {
            let (name, after) = rest.split_at_checked(name)?;
            let (value, after) = after.split_at_checked(value)?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(is_sensitive);
            headers.append(HeaderName::from_lowercase(name).ok()?, value);
            rest = after;
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    #[test]
    fn a_request_comes_back_as_it_was() {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::OPTIONS;
        *request.uri_mut() = "/a?b=%20".parse().unwrap();
        let fields: [(&'static str, &[u8]); 5] = [
            ("accept", b"a"),
            ("x-own", b""),
            ("accept", b"b, c"),
            ("x-own", b"caf\xc3\xa9"),
            ("host", b"api.example"),
        ];
        for (name, value) in fields {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request.headers_mut().append("authorization", "Bearer secret".parse().unwrap());
        request.headers_mut().get_mut("authorization").unwrap().set_sensitive(true);
        let again = Replay::of(&request).unwrap().request::<Empty<Bytes>>().unwrap();
        assert_eq!(
            (again.method(), again.uri(), again.headers()),
            (request.method(), request.uri(), request.headers())
        );
        assert!(again.headers().get("authorization").unwrap().is_sensitive());
        assert!(!again.headers().get("host").unwrap().is_sensitive());
    }

    #[test]
    fn what_does_something_or_has_a_body_is_not_kept() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            let request = Request::builder().method(method).body(Empty::<Bytes>::new()).unwrap();
            assert!(Replay::of(&request).is_none());
        }
        assert!(Replay::of(&Request::new(Full::new(Bytes::from_static(b"query")))).is_none());
    }
}
