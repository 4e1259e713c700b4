//! A plain listener that only redirects: every request gets a 308 to the same host and path over `https`, and nothing
//! else is ever served here. Where it redirects to is what the client asked for, so that it leads nowhere else.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri::Authority};

use crate::body::{ConnectionInfo, Received, RequestBody, ResponseBody, Serve};

/// The port that an `https` URL leaves out.
const HTTPS: u16 = 443;

/// Redirects to `https` on one port.
#[derive(Debug)]
pub(super) struct Redirect {
    port: u16,
}

impl Redirect {
    pub(super) fn to_port(port: u16) -> Self {
        Self { port }
    }

    /// Where the request should go instead; `None` when it does not say plainly what it asks for.
    fn location(&self, uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if !path.starts_with('/') {
            return None;
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?;
        if hosts.next().is_some() {
            return None;
        }
        // RFC 9112 §3.2.2: an absolute target goes before the Host field; one that differs from it is refused.
        let authority = Authority::try_from(host.as_bytes()).ok()?;
        if uri.authority().is_some_and(|target| *target != authority) {
            return None;
        }
        let host = authority.host();
        let port = authority.as_str().strip_prefix(host)?;
        if !is_host(host) || !is_port(port) {
            return None;
        }
        let location = match self.port {
            HTTPS => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        };
        HeaderValue::try_from(location).ok()
    }
}

/// A name of letters, digits, dots and hyphens, or an IPv6 address in brackets: nothing that could end the host early.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Nothing, or a colon and a number.
fn is_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|number| number.is_empty() || number.parse::<u16>().is_ok())
}

impl Serve for Redirect {
    type Tail = ();

    async fn serve(&self, info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<()>> {
        let (head, body) = request.into_parts();
        // Dropped unread, it is read off by the connection within its bounds.
        drop(RequestBody::new(body, &info.watch, 0));
        let location = self.location(&head.uri, &head.headers);
        let mut response = match location {
            Some(location) => {
                let mut response = Response::new(ResponseBody::empty(()));
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                response.headers_mut().insert(header::LOCATION, location);
                response
            }
            None => {
                let mut response =
                    Response::new(ResponseBody::full(Bytes::from_static(b"Exactly one valid Host is needed.\n"), ()));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
        };
        // The client has no more business here.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn location(port: u16, target: &str, hosts: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        let location = Redirect::to_port(port).location(&target.parse().unwrap(), &headers)?;
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_host_and_the_path_stay_and_the_port_becomes_that_of_https() {
        assert_eq!(location(443, "/a?b=c", &["api.example:8080"]).unwrap(), "https://api.example/a?b=c");
        assert_eq!(location(8443, "/", &["api.example"]).unwrap(), "https://api.example:8443/");
        assert_eq!(location(8443, "/x", &["[::1]:80"]).unwrap(), "https://[::1]:8443/x");
        assert_eq!(location(443, "//evil.example/", &["api.example"]).unwrap(), "https://api.example//evil.example/");
        assert_eq!(location(443, "http://a.example/x", &["a.example"]).unwrap(), "https://a.example/x");
    }

    #[test]
    fn what_is_not_plainly_one_host_is_refused() {
        for hosts in [&[][..], &["a", "b"], &[""], &["user@a"], &["a/b"], &["a b"], &["a\\b"], &["[::1"], &["a?b"]] {
            assert_eq!(location(443, "/", hosts), None, "{hosts:?}");
        }
        assert_eq!(location(443, "*", &["a"]), None);
        assert_eq!(location(443, "/", &["a:x"]), None);
        assert_eq!(location(443, "http://a.example/x", &["b.example"]), None);
    }
}
