//! Pages for operators, on the admin listener: who may see them, and whose forms are taken. What they show is the business of
//! [`AdminApi::page`](super::AdminApi::page).
//!
//! ```text
//!   a form takes the token, once ──> session: a quarter of an hour since its last use, eight hours in all ── leave ──> gone
//! ```
//!
//! Browsers cannot send a bearer token by themselves, and passwords of HTTP's own (RFC 7617) are sent with every request of every
//! site until the browser is closed. So a form asks for the admin token, and a cookie has the number of a session that is kept here, in
//! memory. The cookie is `HttpOnly` and `SameSite=Strict`, for the pages' path alone; it cannot be `Secure`, as this listener has
//! no TLS. Cookies know no ports: other servers of the same host get it, and hence the gateway itself takes it out of requests to
//! services. Another site's form is refused thrice: it has no cookie, a foreign `Origin` and `Sec-Fetch-Site`, and not the token that
//! is in each form. Another admin token ends all sessions.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use askama::Template;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use url::Url;

use super::admin::is_token;
use crate::{
    endpoint::{self, Asset, Fields, Look, OPERATORS_COOKIE as COOKIE, STYLE, Said},
    secret::Secret,
};

/// Below this path are the pages.
pub(super) const BASE: &str = "/pages";
/// How long a session lives that is not used.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// How long one lives.
const LONGEST: Duration = Duration::from_secs(8 * 60 * 60);
/// How many there may be; the one that was used longest ago makes room.
const SESSIONS: usize = 32;
/// The longest name of an operator.
const NAME_BYTES: usize = 128;

/// The place of a path among the pages; `None`: it is none of theirs.
pub(super) fn below(path: &str) -> Option<&str> {
    match path.strip_prefix(BASE)? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

/// What stands around a page for operators.
#[derive(Debug, Clone)]
pub struct AdminFrame<'a> {
    /// The path below which the pages are.
    pub base: &'a str,
    /// What the service is called.
    pub service: &'a str,
    /// Who has signed in.
    pub who: Option<&'a str>,
    /// What each form has in it.
    pub token: String,
    /// What went wrong just before.
    pub problem: Option<&'a str>,
    /// What went well just before.
    pub good: Option<&'a str>,
    /// The style.
    pub style: &'static Asset,
}

impl<'a> AdminFrame<'a> {
    fn outside() -> Self {
        Self {
            base: BASE,
            service: "Stepgate",
            who: None,
            token: String::new(),
            problem: None,
            good: None,
            style: &STYLE,
        }
    }
}

/// A call of a page by somebody who has signed in, whose form, where it is one, is ours.
pub struct AdminVisit<'a> {
    /// The method: GET, HEAD or POST.
    pub method: &'a Method,
    /// The path below that of the pages, beginning with `/`.
    pub path: &'a str,
    /// The query, or the form that was sent.
    pub fields: &'a Fields<'a>,
    /// The name that the operator gave; nobody has proved it.
    pub name: &'a str,
    number: &'a str,
}

impl<'a> AdminVisit<'a> {
    /// The frame of a page for them.
    pub fn frame(&self) -> AdminFrame<'a> {
        AdminFrame { who: Some(self.name), token: endpoint::form_token(self.number), ..AdminFrame::outside() }
    }

    /// Sends the browser to another page.
    pub fn see(&self, place: &str) -> Response<Bytes> {
        endpoint::see(&format!("{BASE}{place}"), "same-origin")
    }
}

/// The page to sign in.
#[derive(Template)]
#[template(path = "operator-sign-in.html")]
struct SignIn<'a> {
    frame: AdminFrame<'a>,
    name: &'a str,
}

struct Session {
    name: String,
    /// The token that it was made with.
    token: Arc<Secret>,
    made: Instant,
    used: Instant,
}

/// Who has signed in.
#[derive(Default)]
pub(super) struct Sessions(HashMap<Vec<u8>, Session>);

/// What is to be done with a call of a page.
pub(super) enum Turn {
    /// This is the answer.
    Answered(Response<Bytes>),
    /// The pages' own content, for whom.
    Inside {
        /// The name that the operator gave.
        name: String,
        /// The session's number.
        number: String,
    },
}

impl Sessions {
    /// Looks at who calls a page. `path` is below that of the pages.
    pub(super) fn turn(
        &mut self,
        (method, path): (&Method, &str),
        headers: &HeaderMap,
        fields: &Fields<'_>,
        token: &Arc<Secret>,
        now: Instant,
    ) -> Turn {
        let is_sent = *method == Method::POST;
        if !is_sent && !matches!(*method, Method::GET | Method::HEAD) {
            let mut response =
                said(StatusCode::METHOD_NOT_ALLOWED, "There is no such call", "Pages are read, or sent a form.");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            return Turn::Answered(response);
        }
        if path == STYLE.path && !is_sent {
            return Turn::Answered(STYLE.answer().response);
        }
        if is_sent && !is_own(headers) {
            return Turn::Answered(foreign());
        }
        let number = endpoint::cookie(headers, COOKIE).unwrap_or_default();
        if path == "/sign-in" {
            return Turn::Answered(if is_sent {
                self.sign_in(number, fields, token, now)
            } else {
                sign_in_page("", None)
            });
        }
        let Some(name) = self.find(number, token, now) else {
            return Turn::Answered(if is_sent {
                foreign()
            } else {
                endpoint::see(&format!("{BASE}/sign-in"), "same-origin")
            });
        };
        if is_sent && !endpoint::is_made(number, fields.text("token")) {
            return Turn::Answered(foreign());
        }
        if is_sent && path == "/leave" {
            self.0.remove(&endpoint::hidden("operator", number));
            let mut response = endpoint::see(&format!("{BASE}/sign-in"), "same-origin");
            endpoint::set_cookie(&mut response, &cookie("", 0));
            return Turn::Answered(response);
        }
        Turn::Inside { name, number: number.to_owned() }
    }

    /// The name of whom a number stands for.
    fn find(&mut self, number: &str, token: &Arc<Secret>, now: Instant) -> Option<String> {
        let alive = |session: &Session| {
            now.saturating_duration_since(session.used) < IDLE
                && now.saturating_duration_since(session.made) < LONGEST
                && is_token(session.token.expose(), token)
        };
        self.0.retain(|_, session| alive(session));
        let session = self.0.get_mut(&endpoint::hidden("operator", number))?;
        session.used = now;
        Some(session.name.clone())
    }

    fn sign_in(&mut self, before: &str, fields: &Fields<'_>, token: &Arc<Secret>, now: Instant) -> Response<Bytes> {
        let name = fields.text("name");
        if !is_token(fields.text("token").as_bytes(), token) {
            return sign_in_page(name, Some("That is not the token."));
        }
        if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            return sign_in_page("", Some("Say who you are, in 128 bytes at most: it stands beside what you do."));
        }
        let mut number = [0; 32];
        if aws_lc_rs::rand::fill(&mut number).is_err() {
            return said(StatusCode::SERVICE_UNAVAILABLE, "Not now", "The system gives no randomness.");
        }
        let number = BASE64_URL_SAFE_NO_PAD.encode(number);
        // A number that somebody else chose, or had before, is none from now on.
        self.0.remove(&endpoint::hidden("operator", before));
        while self.0.len() >= SESSIONS {
            let Some(oldest) = self.0.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone()) else {
                break;
            };
            self.0.remove(&oldest);
        }
        let session = Session { name: name.to_owned(), token: Arc::clone(token), made: now, used: now };
        self.0.insert(endpoint::hidden("operator", &number), session);
        let mut response = endpoint::see(&format!("{BASE}/"), "same-origin");
        endpoint::set_cookie(&mut response, &cookie(&number, LONGEST.as_secs()));
        response
    }
}

impl Turn {
    /// The visit of somebody inside.
    pub(super) fn visit<'a>(
        (name, number): (&'a str, &'a str),
        (method, path): (&'a Method, &'a str),
        fields: &'a Fields<'a>,
    ) -> AdminVisit<'a> {
        AdminVisit { method, path, fields, name, number }
    }
}

fn cookie(number: &str, secs: u64) -> String {
    format!("{COOKIE}={number}; Path={BASE}; Max-Age={secs}; HttpOnly; SameSite=Strict")
}

/// Whether a form was sent by a page of this very host and port, whichever scheme it is seen under from outside.
fn is_own(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter().filter_map(|host| host.to_str().ok());
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let own = |scheme: &str| Url::parse(&format!("{scheme}://{host}")).ok();
    ["http", "https"].into_iter().filter_map(own).any(|own| endpoint::is_same_origin(headers, &own))
}

fn sign_in_page(name: &str, problem: Option<&str>) -> Response<Bytes> {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let page = SignIn { frame: AdminFrame { problem, ..AdminFrame::outside() }, name };
    endpoint::page(&page, status, Look::Still)
}

fn foreign() -> Response<Bytes> {
    let lead = "The form was not one of ours, or you have been away for too long. Nothing was changed.";
    said(StatusCode::BAD_REQUEST, "That did not come from this page", lead)
}

/// A page that says that there is none.
pub(super) fn no_page() -> Response<Bytes> {
    said(StatusCode::NOT_FOUND, "There is no such page", "It was never there, or what it showed is gone.")
}

fn said(status: StatusCode, title: &str, lead: &str) -> Response<Bytes> {
    let go = Some(("To the start", format!("{BASE}/")));
    let frame = endpoint::Frame::new(BASE, "Stepgate");
    let page = Said { frame, title, lead, steps: &["Begin again from the start."], go, request_id: "" };
    endpoint::page(&page, status, Look::Still)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    struct Browser {
        sessions: Sessions,
        token: Arc<Secret>,
        cookie: Option<String>,
        now: Instant,
    }

    impl Browser {
        fn new() -> Self {
            let token = Arc::new(Secret::new(*b"the-admin-token"));
            Self { sessions: Sessions::default(), token, cookie: None, now: Instant::now() }
        }

        fn ask(&mut self, method: &Method, path: &str, body: &str, site: Option<&str>) -> Turn {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:9090".parse().unwrap());
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            if let Some(cookie) = &self.cookie {
                headers.insert(header::COOKIE, format!("{COOKIE}={cookie}").parse().unwrap());
            }
            let fields = Fields::read(body.as_bytes());
            self.sessions.turn((method, path), &headers, &fields, &self.token, self.now)
        }

        fn enter(&mut self) {
            let body = "name=Olga&token=the-admin-token";
            let Turn::Answered(answer) = self.ask(&Method::POST, "/sign-in", body, Some("same-origin")) else {
                panic!()
            };
            assert_eq!(answer.status(), StatusCode::SEE_OTHER);
            let cookie = answer.headers().get(header::SET_COOKIE).unwrap().to_str().unwrap();
            assert!(cookie.ends_with("; Path=/pages; Max-Age=28800; HttpOnly; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(['=', ';']).nth(1).map(str::to_owned);
        }

        fn is_inside(&mut self) -> bool {
            matches!(self.ask(&Method::GET, "/", "", None), Turn::Inside { name, .. } if name == "Olga")
        }

        fn sent(&mut self, body: &str, site: Option<&str>) -> Option<StatusCode> {
            match self.ask(&Method::POST, "/deletions/1/hold", body, site) {
                Turn::Answered(answer) => Some(answer.status()),
                Turn::Inside { .. } => None,
            }
        }
    }

    #[test]
    fn who_has_the_token_is_let_in_for_a_while() {
        let mut browser = Browser::new();
        assert!(!browser.is_inside());
        browser.enter();
        assert!(browser.is_inside());
        browser.now += Duration::from_secs(14 * 60);
        assert!(browser.is_inside());
        browser.now += IDLE;
        assert!(!browser.is_inside());
        browser.enter();
        for _ in 0..40 {
            browser.now += Duration::from_secs(12 * 60);
            browser.is_inside();
        }
        assert!(!browser.is_inside(), "eight hours in all");
    }

    #[test]
    fn a_wrong_token_or_none_lets_nobody_in() {
        let mut browser = Browser::new();
        for body in [
            "name=Olga&token=wrong",
            "name=Olga&token=",
            "name=Olga",
            "name=Olga&token=the-admin-token&token=the-admin-token",
        ] {
            let Turn::Answered(answer) = browser.ask(&Method::POST, "/sign-in", body, Some("same-origin")) else {
                panic!()
            };
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{body}");
            assert!(!answer.headers().contains_key(header::SET_COOKIE));
        }
        let nameless = browser.ask(&Method::POST, "/sign-in", "name=&token=the-admin-token", Some("same-origin"));
        assert!(matches!(nameless, Turn::Answered(answer) if answer.status() == StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_form_of_another_site_or_without_the_sessions_token_does_nothing() {
        let mut browser = Browser::new();
        browser.enter();
        let good = format!("token={}", endpoint::form_token(browser.cookie.as_deref().unwrap()));
        assert_eq!(browser.sent(&good, Some("same-origin")), None);
        for site in [Some("cross-site"), Some("same-site"), Some("none"), None] {
            assert_eq!(browser.sent(&good, site), Some(StatusCode::BAD_REQUEST), "{site:?}");
        }
        for body in ["", "token=", "token=the-admin-token"] {
            assert_eq!(browser.sent(body, Some("same-origin")), Some(StatusCode::BAD_REQUEST), "{body}");
        }
        browser.cookie = None;
        assert_eq!(browser.sent(&good, Some("same-origin")), Some(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn leaving_and_another_token_end_a_session_and_signing_in_anew_changes_its_number() {
        let mut browser = Browser::new();
        browser.enter();
        let first = browser.cookie.clone();
        browser.enter();
        assert_ne!(browser.cookie, first);
        let second = std::mem::replace(&mut browser.cookie, first);
        assert!(!browser.is_inside(), "the number from before is none any more");
        browser.cookie = second;
        assert!(browser.is_inside());
        let body = format!("token={}", endpoint::form_token(browser.cookie.as_deref().unwrap()));
        let left = browser.ask(&Method::POST, "/leave", &body, Some("same-origin"));
        assert!(matches!(left, Turn::Answered(answer) if answer.status() == StatusCode::SEE_OTHER));
        assert!(!browser.is_inside());
        browser.enter();
        browser.token = Arc::new(Secret::new(*b"another-admin-token"));
        assert!(!browser.is_inside());
    }

    #[test]
    fn sessions_are_bounded_and_the_one_unused_for_longest_makes_room() {
        let mut browser = Browser::new();
        browser.enter();
        let first = browser.cookie.take();
        for _ in 0..SESSIONS {
            browser.now += Duration::from_secs(1);
            browser.cookie = None;
            browser.enter();
        }
        assert_eq!(browser.sessions.0.len(), SESSIONS);
        assert!(browser.is_inside());
        browser.cookie = first;
        assert!(!browser.is_inside());
    }
}
