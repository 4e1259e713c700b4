//! Pages of other origins that call the API (Fetch §3.2): those of the configuration, exactly, and no others. The credential
//! is a header, never a cookie, so none is allowed along.

use http::{HeaderMap, HeaderValue, Method, header};

use crate::authority::{Authority, Call};

/// How long a browser may remember what it was allowed, in seconds.
const REMEMBERED: &str = "600";
/// What a page may send.
const MAY_SEND: &str = "authorization, content-type, dpop";
/// What a page may read besides what every page may.
const MAY_READ: &str = "www-authenticate, retry-after, dpop-nonce, x-request-id";

impl Authority {
    /// The origin of a call, if the configuration lets its pages call.
    fn origin<'c>(&self, call: &Call<'c>) -> Option<&'c HeaderValue> {
        let mut said = call.headers.get_all(header::ORIGIN).iter();
        let origin = said.next()?;
        let text = origin.to_str().ok().filter(|_| said.next().is_none())?;
        let config = self.config();
        let passkeys = config.passkey.iter().flat_map(|passkey| &passkey.origins);
        let mut listed = std::iter::once(&config.url).chain(&config.return_to).chain(passkeys);
        listed.any(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text).then_some(origin)
    }

    /// Says which origin may read an answer.
    pub(in crate::authority) fn allow_origin(&self, call: &Call<'_>, headers: &mut HeaderMap) {
        // Whatever the answer is, it is another one for another origin.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.origin(call) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(MAY_READ));
        }
    }

    /// Says what pages of an allowed origin may send.
    pub(in crate::authority) fn preflight(&self, call: &Call<'_>, methods: &[Method], headers: &mut HeaderMap) {
        if self.origin(call).is_none() {
            return;
        }
        let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
        if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(MAY_SEND));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
    }
}
