//! The answer that a page is: its head keeps other sites out, and browsers from keeping anything.

use askama::Template;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use url::Url;

use super::{Asset, STYLE};

/// What a browser may do with a page, and tell of it.
#[derive(Debug, Clone, Copy)]
pub enum Look<'a> {
    /// It runs our script, and a form may lead to this address in the end.
    Scripted {
        /// The app's.
        back: Option<&'a str>,
    },
    /// It runs nothing; its forms say which origin they come from.
    Still,
    /// It runs nothing, and nobody is told its address, which is a secret.
    Secret,
}

/// What stands around a page that runs nothing.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// The path below which the pages are.
    pub base: &'a str,
    /// What the service is called.
    pub service: &'a str,
    /// What went wrong just before.
    pub problem: Option<&'a str>,
    /// What went well just before.
    pub good: Option<&'a str>,
    /// The style.
    pub style: &'static Asset,
}

impl<'a> Frame<'a> {
    /// Around a page of which there is nothing to say beforehand.
    pub fn new(base: &'a str, service: &'a str) -> Self {
        Self { base, service, problem: None, good: None, style: &STYLE }
    }
}

/// A page that says what is the matter, and what to do.
#[derive(Debug, Clone, Template)]
#[template(path = "said.html")]
pub struct Said<'a> {
    /// What stands around it.
    pub frame: Frame<'a>,
    /// Its title.
    pub title: &'a str,
    /// What is the matter.
    pub lead: &'a str,
    /// What to do.
    pub steps: &'a [&'a str],
    /// Where to go on: what the button says, and its address.
    pub go: Option<(&'a str, String)>,
    /// The request's number, where it may help; or empty.
    pub request_id: &'a str,
}

/// A page.
pub fn page(page: &impl Template, status: StatusCode, look: Look<'_>) -> Response<Bytes> {
    let Ok(text) = page.render() else {
        // Writing to a string cannot fail; were it to, nothing half-done is shown.
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    protect(headers, look);
    response
}

/// Sends the browser to another page.
pub fn see(url: &str, referrer: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    protect(headers, Look::Scripted { back: None });
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static(referrer));
    if let Ok(url) = HeaderValue::from_str(url) {
        headers.insert(header::LOCATION, url);
    }
    response
}

/// Adds a cookie to an answer.
pub fn set_cookie(response: &mut Response<Bytes>, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// The fields that keep other sites out, and browsers from keeping anything. `Referrer-Policy` is `same-origin` and not
/// `no-referrer` where that will do, since with the latter browsers hide the `Origin` of our own forms as well (Fetch, "append a
/// request Origin header").
fn protect(headers: &mut HeaderMap, look: Look<'_>) {
    let (runs, back, powers, referrer) = match look {
        Look::Scripted { back } => ("script-src 'self'; ", back, POWERS, "same-origin"),
        Look::Still => ("", None, NO_POWERS, "same-origin"),
        Look::Secret => ("", None, NO_POWERS, "no-referrer"),
    };
    // A form's redirection counts as its action: the app's own origin must be in the list, and no other one is.
    let back = back.and_then(|to| Url::parse(to).ok()).map(|to| format!(" {}", to.origin().ascii_serialization()));
    let csp = format!(
        "default-src 'none'; {runs}style-src 'self'; img-src 'self' data:; form-action 'self'{}; frame-ancestors 'none'; \
         base-uri 'none'",
        back.unwrap_or_default()
    );
    if let Ok(csp) = HeaderValue::from_str(&csp) {
        headers.insert(header::CONTENT_SECURITY_POLICY, csp);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, referrer),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), powers),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

const POWERS: &str = "publickey-credentials-get=(self), publickey-credentials-create=(self), clipboard-write=(self), \
     camera=(), microphone=(), geolocation=(), payment=(), usb=()";
const NO_POWERS: &str = "publickey-credentials-get=(), publickey-credentials-create=(), clipboard-write=(), camera=(), \
     microphone=(), geolocation=(), payment=(), usb=()";

/// A moment, for people and for machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// RFC 3339.
    pub iso: String,
    /// In words, in UTC.
    pub text: String,
}

impl At {
    /// Of seconds since the epoch.
    pub fn secs(secs: u64) -> Self {
        Self::of(i64::try_from(secs).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok()))
    }

    /// Of RFC 3339.
    pub fn read(text: &str) -> Self {
        Self::of(text.parse().ok())
    }

    fn of(moment: Option<jiff::Timestamp>) -> Self {
        let Some(moment) = moment else { return Self { iso: String::new(), text: "a time far away".to_owned() } };
        let utc = moment.to_zoned(jiff::tz::TimeZone::UTC);
        Self { iso: moment.to_string(), text: utc.strftime("%-d %B %Y, %H:%M UTC").to_string() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn said(look: Look<'_>, name: HeaderName) -> String {
        let mut headers = HeaderMap::new();
        protect(&mut headers, look);
        headers.get(name).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_page_without_a_script_may_run_none_and_a_secret_one_tells_nobody_where_it_is() {
        for look in [Look::Still, Look::Secret] {
            let csp = said(look, header::CONTENT_SECURITY_POLICY);
            assert!(csp.starts_with("default-src 'none'; style-src 'self';") && !csp.contains("script"), "{csp}");
            assert!(csp.contains("form-action 'self'; frame-ancestors 'none'; base-uri 'none'"), "{csp}");
            assert_eq!(said(look, header::CACHE_CONTROL), "no-store");
        }
        assert_eq!(said(Look::Secret, header::REFERRER_POLICY), "no-referrer");
    }

    #[test]
    fn a_form_leads_to_the_origin_of_the_app_alone() {
        let look = Look::Scripted { back: Some("https://app.example/after?x=1") };
        let csp = said(look, header::CONTENT_SECURITY_POLICY);
        assert!(csp.contains("script-src 'self'") && csp.contains("form-action 'self' https://app.example;"), "{csp}");
    }
}
