//! One request and its answer: of bounded size, no redirects, no proxy, no cookies, no compression, a connection of its own.
//! Whoever calls bounds the time.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Full};
use hyper::{body, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::{Connector, Identity, open};

/// The largest document that is read: a set of a hundred RSA keys with their certificates is a fifth of it.
const ANSWER_BYTES: usize = 1 << 20;
/// The largest head that is read.
const HEAD_BYTES: usize = 64 << 10;

/// Why there is no answer, or none that can be used. The texts are for the operator and name no address; the log line names
/// the issuer or the webhook.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// No connection could be had.
    #[error("connecting: {0}")]
    Connect(io::Error),
    /// There is no name that TLS could check.
    #[error("the name in the URL is not one that TLS can check")]
    Name,
    /// The handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The server, or the way to it, broke the exchange off.
    #[error("speaking HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The URL or a field makes no request.
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
    /// Another status than 200, where a document was asked for.
    #[error("the answer's status is {0}, not 200")]
    Status(StatusCode),
    /// More bytes than are read.
    #[error("the answer is larger than {} KiB", .0 >> 10)]
    TooLarge(usize),
}

impl FetchFault {
    /// The status, where the answer was another than 200.
    pub fn status(&self) -> Option<StatusCode> {
        if let Self::Status(status) = self { Some(*status) } else { None }
    }

    /// Whether there was no connection, so that not a byte of the request was sent.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Name | Self::Tls(_) | Self::Request(_) => true,
            Self::Http(_) | Self::Status(_) | Self::TooLarge(_) => false,
        }
    }
}

/// A connection, with TLS or without.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A document, and how long it says that it is good for.
#[derive(Debug)]
pub struct Answer {
    /// The document.
    pub body: Vec<u8>,
    /// RFC 9111 §4.2: `max-age` less `Age`; zero for `no-store` and `no-cache`; `None` if the answer does not say.
    pub lifetime: Option<Duration>,
    /// Its media type without parameters, in lower case; empty if it does not say.
    pub media_type: String,
}

/// A form to be posted, and the fields that go with it. It holds secrets, so it cannot be shown.
pub struct Form {
    /// The fields, encoded.
    pub body: String,
    /// The media type that is wanted.
    pub accept: &'static str,
    /// The `Authorization` field.
    pub authorization: Option<HeaderValue>,
}

/// A request of any kind. Its fields may hold secrets, so it cannot be shown.
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query, as they are sent.
    pub target: String,
    /// The fields; a `Host` or `User-Agent` among them takes the place of the client's own.
    pub fields: HeaderMap,
    /// The body; empty: none, and no `Content-Length` for methods without one.
    pub body: Bytes,
    /// How much of the answer's body is read; `None`: nothing.
    pub most: Option<usize>,
    /// How long a connection (TCP and TLS) may take.
    pub connect_within: Duration,
}

/// An answer of any status.
pub struct Incoming {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub fields: HeaderMap,
    /// The body, where it was to be read.
    pub body: Vec<u8>,
}

/// The client, with the roots that it believes.
#[derive(Debug)]
pub struct Fetcher {
    connector: Connector,
}

impl Fetcher {
    /// A client that believes these roots.
    pub fn new(roots: Arc<RootCertStore>) -> Result<Self, rustls::Error> {
        Self::with(roots, None)
    }

    /// A client that shows a certificate to servers that ask for one.
    pub fn with(roots: Arc<RootCertStore>, identity: Option<Identity>) -> Result<Self, rustls::Error> {
        Ok(Self { connector: Connector::new(roots, identity, Some("http/1.1"))? })
    }

    /// Gets a JSON document.
    pub async fn get(&self, url: &Url) -> Result<Answer, FetchFault> {
        let request = head(url).header(header::ACCEPT, "application/json, application/jwk-set+json");
        self.send(url, request.body(Full::default())?, async |response| document(response, ANSWER_BYTES).await).await
    }

    /// Posts a form, for an answer of at most so many bytes.
    pub async fn post(&self, url: &Url, form: Form, most: usize) -> Result<Answer, FetchFault> {
        let mut request = head(url)
            .method(Method::POST)
            .header(header::ACCEPT, form.accept)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = form.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        self.send(url, request.body(Full::from(form.body))?, async |response| document(response, most).await).await
    }

    /// Posts something, of which nothing is to be had but the answer's status.
    pub async fn tell(&self, url: &Url, fields: HeaderMap, body: Bytes) -> Result<StatusCode, FetchFault> {
        let mut request = head(url).method(Method::POST).body(Full::from(body))?;
        request.headers_mut().extend(fields);
        self.send(url, request, async |response| Ok(response.status())).await
    }

    /// Sends any request to the origin of a URL, and gives the answer whatever its status. Where no connection was made (see
    /// [`FetchFault::is_unsent`]) nothing was sent, and another address may be tried.
    pub async fn call(&self, url: &Url, outgoing: Outgoing) -> Result<Incoming, FetchFault> {
        let Outgoing { method, target, fields, body, most, connect_within } = outgoing;
        let mut request = head(url).method(method).uri(target).body(Full::from(body))?;
        // One of a name replaces what the client says; several of a name stay several.
        let mut last = None;
        for (name, value) in fields {
            match name {
                Some(name) => {
                    request.headers_mut().insert(&name, value);
                    last = Some(name);
                }
                None => drop(last.as_ref().map(|name| request.headers_mut().append(name, value))),
            }
        }
        let read = async |response: Response<body::Incoming>| {
            let (head, body) = response.into_parts();
            let body = match most {
                Some(most) => whole(body, most).await?,
                None => Vec::new(),
            };
            Ok(Incoming { status: head.status, fields: head.headers, body })
        };
        match timeout(connect_within, self.connect(url)).await {
            Err(_) => Err(FetchFault::Connect(io::ErrorKind::TimedOut.into())),
            Ok(stream) => on(stream?, request, read).await,
        }
    }

    async fn send<T>(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        read: impl AsyncFnOnce(Response<body::Incoming>) -> Result<T, FetchFault>,
    ) -> Result<T, FetchFault> {
        on(self.connect(url).await?, request, read).await
    }

    async fn connect(&self, url: &Url) -> Result<Stream, FetchFault> {
        let tls = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        let host = url.host().ok_or(FetchFault::Name)?;
        let stream = open(host.clone(), port).await.map_err(FetchFault::Connect)?;
        if tls {
            self.connector
                .secure(host, stream)
                .await
                .map(|stream| Stream::Tls(Box::new(stream)))
                .map_err(FetchFault::Tls)
        } else {
            Ok(Stream::Plain(stream))
        }
    }
}

/// Whether keys may be fetched from there: https, or http that never leaves the machine.
pub fn is_trustworthy(url: &Url) -> bool {
    url.has_host() && (url.scheme() == "https" || is_loopback_http(url))
}

/// Whether this is http to the machine itself.
pub fn is_loopback_http(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
}

fn head(url: &Url) -> request::Builder {
    Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::USER_AGENT, concat!("stepgate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
}

async fn on<T>(
    stream: Stream,
    request: Request<Full<Bytes>>,
    read: impl AsyncFnOnce(Response<body::Incoming>) -> Result<T, FetchFault>,
) -> Result<T, FetchFault> {
    match stream {
        Stream::Plain(stream) => exchange(stream, request, read).await,
        Stream::Tls(stream) => exchange(stream, request, read).await,
    }
}

async fn exchange<S, T>(
    stream: S,
    request: Request<Full<Bytes>>,
    read: impl AsyncFnOnce(Response<body::Incoming>) -> Result<T, FetchFault>,
) -> Result<T, FetchFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let answer = async move { read(sender.send_request(request).await?).await };
    tokio::pin!(connection, answer);
    // The connection is driven here and not in a task of its own, so that dropping this future drops the socket.
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // What ended it is said by the answer.
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn document(response: Response<body::Incoming>, most: usize) -> Result<Answer, FetchFault> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(FetchFault::Status(head.status));
    }
    let body = whole(body, most).await?;
    Ok(Answer { body, lifetime: lifetime(&head.headers), media_type: media_type(&head.headers) })
}

async fn whole(mut body: body::Incoming, most: usize) -> Result<Vec<u8>, FetchFault> {
    let mut document = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if document.len() + data.len() > most {
                return Err(FetchFault::TooLarge(most));
            }
            document.extend_from_slice(&data);
        }
    }
    Ok(document)
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let mut max_age: Option<u64> = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                // RFC 9111 §4.2.1: of several the smallest is the careful one; nonsense counts as stale.
                "max-age" => {
                    let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                    max_age = Some(max_age.map_or(seconds, |other| other.min(seconds)));
                }
                _ => {}
            }
        }
    }
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    max_age.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn lifetime_of(fields: &[(&'static str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        lifetime(&headers).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn cache_control_says_how_long_an_answer_is_good_for() {
        assert_eq!(lifetime_of(&[]), None);
        assert_eq!(lifetime_of(&[("cache-control", "public")]), None);
        assert_eq!(lifetime_of(&[("cache-control", "public, Max-Age=600, must-revalidate")]), Some(600));
        assert_eq!(lifetime_of(&[("cache-control", "max-age=\"60\"")]), Some(60));
        assert_eq!(lifetime_of(&[("cache-control", "max-age=600"), ("cache-control", "max-age=60")]), Some(60));
        assert_eq!(lifetime_of(&[("cache-control", "max-age=600"), ("age", "590")]), Some(10));
        assert_eq!(lifetime_of(&[("cache-control", "max-age=600"), ("age", "9999")]), Some(0));
        for careful in ["no-store", "no-cache", "max-age=600, no-cache", "max-age=-1", "max-age=lots", "max-age"] {
            assert_eq!(lifetime_of(&[("cache-control", careful)]), Some(0), "{careful}");
        }
    }

    #[test]
    fn keys_come_over_https_or_from_the_machine_itself() {
        for good in ["https://idp.example/", "http://127.0.0.1:9/x", "http://[::1]/", "http://localhost:8080/"] {
            assert!(is_trustworthy(&good.parse().unwrap()), "{good}");
        }
        for bad in [
            "http://idp.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "file:///etc/keys",
            "ftp://127.0.0.1/",
            "data:,x",
        ] {
            assert!(!is_trustworthy(&bad.parse().unwrap()), "{bad}");
        }
    }
}
