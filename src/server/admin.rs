//! The operator's listener: health, metrics and public keys for everybody who can reach it, the rest for who has the token.
//! On a thread of its own, under the same bounds as any other listener.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};

use super::{
    EdgeObserver, Inherited, ListenerPlan, PlanMode, Prepared, Server, ServerError, ServerPlan,
    operators::{self, AdminVisit, Sessions, Turn},
};
use crate::{
    body::{Aside, BodyFault, ConnectionInfo, Received, RequestBody, ResponseBody, Serve},
    config::ServerLimits,
    endpoint::Fields,
    secret::Secret,
};

/// The longest body that the admin API takes.
const BODY_BYTES: u64 = 1 << 20;

/// Connections at once, and of one address: scrapers, probes, and operators at their desks. Few, as open files are for clients first.
const CONNECTIONS: usize = 128;
const CONNECTIONS_PER_ADDRESS: usize = 64;

/// What the admin listener asks of the rest of the gateway. Called on the admin thread, which may block.
pub trait AdminApi: Send + Sync + 'static {
    /// Whether requests can be served, and what stands in the way.
    fn ready(&self) -> (bool, serde_json::Value);
    /// All metrics, in Prometheus's text format.
    fn metrics(&self) -> String;
    /// The public keys of assertions, a JWK Set, if any are signed.
    fn jwks(&self) -> Option<String>;
    /// Carries out a call whose token has been checked; `None` when there is no such call.
    fn call(&self, method: &Method, path: &str, query: Option<&str>, body: Bytes) -> Option<AdminAnswer>;
    /// Answers a page's call by an operator who has signed in; `None` when there is no such page.
    fn page(&self, visit: &AdminVisit<'_>) -> Option<Response<Bytes>> {
        let _ = visit;
        None
    }
}

/// What a call of the admin API gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: serde_json::Value,
}

/// The admin listener, running.
#[derive(Debug)]
pub struct AdminServer {
    server: Server,
    token: Arc<ArcSwapOption<Secret>>,
}

impl AdminServer {
    /// Binds `address`, unless somebody else has opened it.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind(
        address: SocketAddr,
        limits: &ServerLimits,
        inherited: &Inherited,
        observer: &dyn EdgeObserver,
    ) -> Result<Prepared, ServerError> {
        let listener = ListenerPlan::plain(address.to_string().into(), address, PlanMode::Http1);
        let limits = ServerLimits {
            connections: limits.connections.min(CONNECTIONS),
            connections_per_ip: limits.connections_per_ip.min(CONNECTIONS_PER_ADDRESS),
            ..limits.clone()
        };
        let plan = ServerPlan { workers: 1, listeners: vec![listener], limits };
        super::prepare(("admin", inherited), &plan, 1, &[], observer)
    }

    /// Listens on what was bound. Without a token there is no admin API.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(
        prepared: Prepared,
        token: Option<Secret>,
        api: Arc<dyn AdminApi>,
        observer: Arc<dyn EdgeObserver>,
        inherited: &Arc<Inherited>,
    ) -> Result<Self, ServerError> {
        let token = Arc::new(ArcSwapOption::from_pointee(token));
        let gate_token = Arc::clone(&token);
        let factory = move |_| {
            Aside::new(AdminGate {
                api: Arc::clone(&api),
                token: Arc::clone(&gate_token),
                sessions: RefCell::default(),
            })
        };
        Ok(Self { server: Server::start_named("admin", prepared, inherited, factory, observer)?, token })
    }

    /// The address that it really listens on.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.server.local_addresses().first()?.socket()
    }

    /// Notified when its worker has failed.
    pub fn failed(&self) -> Arc<tokio::sync::Notify> {
        self.server.failed()
    }

    /// Asks for another token from now on, or turns the admin API off.
    pub fn set_token(&self, token: Option<Secret>) {
        self.token.store(token.map(Arc::new));
    }

    /// Its server, for handing it over.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Gives up the server, for draining it where others have taken its socket over.
    pub fn into_server(self) -> Server {
        self.server
    }

    /// Stops listening, and cuts what is not done by `deadline`.
    pub fn drain(self, deadline: Instant) {
        self.server.drain(deadline).wait();
    }
}

/// Who may ask for what.
struct AdminGate {
    api: Arc<dyn AdminApi>,
    token: Arc<ArcSwapOption<Secret>>,
    sessions: RefCell<Sessions>,
}

impl Serve for AdminGate {
    type Tail = ();

    async fn serve(&self, info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<()>> {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body, &info.watch, BODY_BYTES);
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        match head.uri.path() {
            "/livez" if is_read => json(StatusCode::OK, &serde_json::json!({"status": "alive"})),
            "/readyz" if is_read => {
                let (ready, detail) = self.api.ready();
                json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &detail)
            }
            "/metrics" if is_read => {
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.api.metrics())
            }
            "/jwks.json" if is_read => match self.api.jwks() {
                Some(keys) => answer(StatusCode::OK, "application/jwk-set+json", keys),
                None => problem(StatusCode::NOT_FOUND),
            },
            "/livez" | "/readyz" | "/metrics" | "/jwks.json" => {
                let mut response = problem(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            path => match operators::below(path) {
                Some(place) => self.page(&head, place, body).await,
                None => match self.refuse(&head.headers) {
                    Some(refusal) => refusal,
                    None => self.call(&head.method, path, head.uri.query(), body).await,
                },
            },
        }
    }
}

impl AdminGate {
    /// Keeps a request without the token from the admin API.
    fn refuse(&self, headers: &HeaderMap) -> Option<Response<ResponseBody<()>>> {
        let Some(token) = self.token.load_full() else { return Some(problem(StatusCode::NOT_FOUND)) };
        if bearer(headers).is_some_and(|given| is_token(given, &token)) {
            return None;
        }
        let mut response = problem(StatusCode::UNAUTHORIZED);
        let challenge = HeaderValue::from_static(r#"Bearer realm="stepgate admin""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Some(response)
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        body: RequestBody,
    ) -> Response<ResponseBody<()>> {
        match whole(body).await {
            Ok(body) => match self.api.call(method, path, query, body) {
                Some(answer) => json(answer.status, &answer.body),
                None => problem(StatusCode::NOT_FOUND),
            },
            Err(refusal) => refusal,
        }
    }

    /// Answers a call of a page for operators.
    async fn page(&self, head: &Parts, place: &str, body: RequestBody) -> Response<ResponseBody<()>> {
        let Some(token) = self.token.load_full() else { return problem(StatusCode::NOT_FOUND) };
        let body = match whole(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let fields = match head.method {
            Method::POST => Fields::of_form(&head.headers, &body),
            _ => Fields::read(head.uri.query().unwrap_or_default().as_bytes()),
        };
        let call = (&head.method, place);
        let turn = self.sessions.borrow_mut().turn(call, &head.headers, &fields, &token, Instant::now());
        let answer = match turn {
            Turn::Answered(answer) => answer,
            Turn::Inside { name, number } => {
                let visit = Turn::visit((&name, &number), call, &fields);
                self.api.page(&visit).unwrap_or_else(operators::no_page)
            }
        };
        answer.map(|body| ResponseBody::full(body, ()))
    }
}

async fn whole(body: RequestBody) -> Result<Bytes, Response<ResponseBody<()>>> {
    body.read_whole(BODY_BYTES).await.map_err(|fault| {
        problem(match fault {
            BodyFault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyFault::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyFault::ClientGone | BodyFault::Malformed => StatusCode::BAD_REQUEST,
        })
    })
}

/// The one bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case(b"bearer ")).then(|| token.trim_ascii())
}

/// Compares in a time that says nothing of where they differ; an empty token is nobody's.
pub(super) fn is_token(given: &[u8], token: &Secret) -> bool {
    !token.expose().is_empty() && aws_lc_rs::constant_time::verify_slices_are_equal(given, token.expose()).is_ok()
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<ResponseBody<()>> {
    answer(status, "application/json", format!("{body}\n"))
}

/// RFC 9457, with nothing but the status: who asks here knows the gateway.
fn problem(status: StatusCode) -> Response<ResponseBody<()>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16()});
    answer(status, "application/problem+json", format!("{body}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<ResponseBody<()>> {
    let mut response = Response::new(ResponseBody::full(body, ()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
