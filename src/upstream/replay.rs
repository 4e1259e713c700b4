//! The head of a request that may be sent a second time. hyper takes a request for good, so it is written down before.
//! Names and values are copied into one buffer: a clone of the map would count each of them once more and give it back again.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body;

use super::upload::Upload;

/// What names and values there usually are, so that the buffer need not grow.
const TEXT_BYTES: usize = 768;
/// Room for more than that is not kept for the next head.
const SPARE_BYTES: usize = 4096;
const SPARE_FIELDS: usize = 100;

/// The head of a request that may be sent a second time.
#[derive(Debug, Default)]
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

/// The room of a head that is not needed any more, for the next one: nearly every request has one, and nearly none is sent again.
#[derive(Default)]
pub(super) struct Spare(Cell<Option<Box<Replay>>>);

impl Spare {
    /// Takes back the room of a head that will not be sent again.
    pub(super) fn put(&self, mut replay: Box<Replay>) {
        if replay.text.capacity() <= SPARE_BYTES && replay.fields.capacity() <= SPARE_FIELDS {
            replay.uri = Uri::default();
            replay.fields.clear();
            replay.text.clear();
            self.0.set(Some(replay));
        }
    }
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

    /// The same where there may be room from a head before.
    pub(super) fn of_in<B: Body>(spare: &Spare, request: &Request<B>) -> Option<Box<Self>> {
        Self::is_harmless(request).then(|| {
            let mut replay = spare.0.take().unwrap_or_default();
            replay.keep(request);
            replay
        })
    }

    /// Keeps the head of a request that is sent again only if it certainly was not looked at.
    pub(super) fn head<B>(request: &Request<B>) -> Self {
        let mut replay = Self::default();
        replay.keep(request);
        replay
    }

    fn keep<B>(&mut self, request: &Request<B>) {
        let headers = request.headers();
        self.fields.clear();
        self.text.clear();
        self.method.clone_from(request.method());
        self.uri.clone_from(request.uri());
        self.fields.reserve(headers.len());
        self.text.reserve(TEXT_BYTES);
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value.as_bytes());
            self.fields.push(Field { name: name.len(), value: value.len(), is_sensitive: value.is_sensitive() });
        }
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
    fn room_that_is_used_again_holds_nothing_of_before() {
        let spare = Spare::default();
        for (path, value) in [("/long?secret=1", "a value that is longer than the next"), ("/", "b")] {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.uri_mut() = path.parse().unwrap();
            request.headers_mut().append("x-own", value.parse().unwrap());
            let replay = Replay::of_in(&spare, &request).unwrap();
            assert!(spare.0.take().is_none());
            let kept = (replay.uri.to_string(), replay.fields.len(), &*replay.text);
            assert_eq!(kept, (path.to_owned(), 1, format!("x-own{value}").as_bytes()));
            spare.put(replay);
        }
        let kept = spare.0.take().unwrap();
        assert_eq!((kept.fields.len(), kept.text.len(), kept.uri), (0, 0, Uri::default()));
        spare.put(Box::new(Replay { text: Vec::with_capacity(SPARE_BYTES + 1), ..Replay::default() }));
        assert!(spare.0.take().is_none());
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
