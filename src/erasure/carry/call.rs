//! One call to a service: a request made of a template and values, and what its answer is worth. It carries the gateway's own
//! credential where there is one, and never the caller's: when it is sent, that may be long gone.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use thiserror::Error;
use tokio::time::timeout;

use super::{
    fill::{self, Unfit, Values},
    upstreams::{Upstream, Upstreams},
};
use crate::{
    client::{FetchFault, Incoming, Outgoing},
    config::{Call, TargetTemplate, Template},
};

/// draft-ietf-httpapi-idempotency-key-header-07 §2.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest answer that values are looked for in: a profile of an account has a few KiB.
const ANSWER_BYTES: usize = 256 << 10;
/// The longest pause that a service may ask for by `Retry-After`.
const LONGEST_WISH: Duration = Duration::from_secs(60 * 60);

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// The status.
    pub(super) status: u16,
    /// The values that were to be captured, by their names.
    pub(super) captured: BTreeMap<Box<str>, Box<str>>,
    /// Whether some value that was to be captured is not in the answer, or is nothing that a template could take.
    pub(super) lacks_values: bool,
    /// How long it wants not to be asked again (RFC 9110 §10.2.3), where it says so in seconds.
    pub(super) retry_after: Option<Duration>,
}

/// Why there is no answer. None names a value.
#[derive(Debug, Error)]
pub(super) enum CallFault {
    /// The configuration has no such upstream any more.
    #[error("the configuration has no such upstream")]
    NoUpstream,
    /// A value makes no request.
    #[error("no request can be made: {0}")]
    Unfit(#[from] Unfit),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The connection could not be had, or broke.
    #[error("{0}")]
    Fetch(#[from] FetchFault),
}

impl CallFault {
    /// Whether nothing will change as long as neither values nor configuration do.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::NoUpstream | Self::Unfit(_) | Self::Fetch(FetchFault::Name | FetchFault::Request(_)) => true,
            Self::Timeout | Self::Fetch(_) => false,
        }
    }
}

/// What a call is told apart by: the deletion's number, the name of the step, probe or lookup, and how often a person wanted it again.
/// What is sent again because nothing is known of the answer is the same; what a person has sent again must not be answered with what
/// the service keeps of the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) deletion: &'a str,
    pub(super) name: &'a str,
    pub(super) again: u32,
}

impl Key<'_> {
    /// `ID-name`, then `ID-name:2`: no name has a colon, so that no two are the same.
    fn text(&self) -> String {
        let Self { deletion, name, again } = self;
        match again {
            0 => format!("{deletion}-{name}"),
            _ => format!("{deletion}-{name}:{}", u64::from(*again) + 1),
        }
    }
}

/// A request that can be sent, again and again, always the same.
pub(super) struct Prepared<'a> {
    upstream: &'a Upstream,
    method: Method,
    target: String,
    fields: HeaderMap,
    body: Bytes,
    capture: &'a BTreeMap<Box<str>, Box<str>>,
    within: Duration,
}

/// Makes a request of a call and values. Whenever the same is to be done, it is the same.
pub(super) fn prepare<'a>(
    call: &'a Call,
    upstreams: &'a Upstreams,
    values: &impl Values,
    key: Key<'_>,
) -> Result<Prepared<'a>, CallFault> {
    let upstream = upstreams.get(&call.upstream).ok_or(CallFault::NoUpstream)?;
    let malformed = |_| CallFault::Unfit(Unfit::NotATemplate);
    let target = TargetTemplate::parse(&call.target).map_err(malformed)?;
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| Unfit::NotATemplate)?;
    let mut fields = HeaderMap::new();
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unfit::NotATemplate)?;
        let value = fill::header(&Template::parse_header(value).map_err(malformed)?, values)?;
        fields.append(name, HeaderValue::from_str(&value).map_err(|_| Unfit::NotVisible)?);
    }
    let body = match &call.body {
        None => Bytes::new(),
        Some(body) => {
            let body = fill::json(body, values)?;
            fields.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            serde_json::to_vec(&body).map_err(|_| Unfit::NotATemplate)?.into()
        }
    };
    fields.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json, */*;q=0.5"));
    if let Some((name, value)) = &upstream.credential {
        fields.insert(name.clone(), value.clone());
    }
    let id = key.text();
    // A string of a structured field (RFC 9651 §3.3.3); names have no character that would have to be escaped in it. What
    // changes nothing needs none.
    if !method.is_safe() {
        fields.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&format!("\"{id}\"")).map_err(|_| Unfit::NotVisible)?);
    }
    fields.insert(REQUEST_ID, HeaderValue::from_str(&id).map_err(|_| Unfit::NotVisible)?);
    let target = fill::target(&target, values)?;
    let within = Duration::from_secs(call.timeout_secs);
    Ok(Prepared { upstream, method, target, fields, body, capture: &call.capture, within })
}

impl Prepared<'_> {
    /// Sends it to the first address that a connection can be made to.
    pub(super) async fn send(&self) -> Result<Answered, CallFault> {
        timeout(self.within, self.send_to_one()).await.unwrap_or(Err(CallFault::Timeout))
    }

    async fn send_to_one(&self) -> Result<Answered, CallFault> {
        let mut last = CallFault::NoUpstream;
        for base in &self.upstream.targets {
            let outgoing = Outgoing {
                method: self.method.clone(),
                target: self.target.clone(),
                fields: self.fields.clone(),
                body: self.body.clone(),
                most: (!self.capture.is_empty()).then_some(ANSWER_BYTES),
                connect_within: self.upstream.connect_timeout,
            };
            match self.upstream.fetcher.call(base, outgoing).await {
                Ok(answer) => return Ok(self.read(&answer)),
                // Another address is only for what has not been sent: the first may have done it.
                Err(fault) if fault.is_unsent() => last = CallFault::Fetch(fault),
                Err(fault) => return Err(CallFault::Fetch(fault)),
            }
        }
        Err(last)
    }

    fn read(&self, answer: &Incoming) -> Answered {
        let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
        let retry_after = answer.fields.get(header::RETRY_AFTER).and_then(seconds);
        let mut answered = Answered {
            status: answer.status.as_u16(),
            captured: BTreeMap::new(),
            lacks_values: false,
            retry_after: retry_after.map(|secs| Duration::from_secs(secs).min(LONGEST_WISH)),
        };
        if self.capture.is_empty() {
            return answered;
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        for (name, pointer) in self.capture {
            match body.pointer(pointer).and_then(captured) {
                Some(value) => drop(answered.captured.insert(name.clone(), value)),
                None => answered.lacks_values = true,
            }
        }
        answered
    }
}

/// A string that a template can take, or a whole number. One that is too large to be read exactly, or has a fraction, would be sent
/// as something else than the service wrote: as somebody else's, perhaps.
fn captured(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => fill::usable(text).ok().map(Into::into),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string().into()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should say where")]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            testing::{Service, answer, call, credential, upstream, upstreams},
            values::Known,
        },
        *,
    };

    const KEY: Key<'static> = Key { deletion: "0011", name: "primary", again: 0 };

    async fn send(call: &Call, upstreams: &Upstreams) -> Result<Answered, CallFault> {
        let values = BTreeMap::from([("captured.customer".into(), "c/7".into())]);
        prepare(call, upstreams, &Known { deletion: "0011", subject: "a 42", values: &values }, KEY)?.send().await
    }

    #[tokio::test]
    async fn a_request_is_what_the_template_says_with_the_gateways_own_credential_and_a_key_of_its_own() {
        let service = Service::start(|_| answer(204, ""));
        let mut with = service.upstream("api");
        with.credential = credential("authorization", "Bearer of-the-gateway");
        let mut step = call("primary", "api", "POST /accounts/{subject}/close?customer={captured.customer}&by='x'");
        step.headers = vec![("X-Customer".into(), "n {deletion}".into()), ("Authorization".into(), "no".into())];
        step.body = Some(json!({"id": "{subject}", "n": 1}));
        let answered = send(&step, &upstreams(vec![with])).await.unwrap();
        assert_eq!((answered.status, answered.lacks_values), (204, false));
        let got = &service.got()[0];
        assert_eq!(got.line, "POST /accounts/a%2042/close?customer=c%2F7&by='x' HTTP/1.1");
        let field = |name: &str| got.fields.get(name).map(String::as_str);
        assert_eq!(field("idempotency-key"), Some("\"0011-primary\""));
        assert_eq!(field("x-request-id"), Some("0011-primary"));
        assert_eq!(field("authorization"), Some("Bearer of-the-gateway"));
        assert_eq!(field("x-customer"), Some("n 0011"));
        assert_eq!(field("content-type"), Some("application/json"));
        assert_eq!(field("host"), Some(format!("127.0.0.1:{}", service.port).as_str()));
        assert!(field("user-agent").unwrap().starts_with("stepgate/"));
        assert_eq!(got.body, r#"{"id":"a 42","n":1}"#);
        // Whenever it is sent, it is the same.
        send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap();
        assert_eq!(service.got()[1].fields["idempotency-key"], "\"0011-primary\"");
        send(&call("there", "api", "GET /accounts/{subject}"), &upstreams(vec![service.upstream("api")]))
            .await
            .unwrap();
        assert!(!service.got()[2].fields.contains_key("idempotency-key"), "what changes nothing needs none");
        assert!(!service.got()[2].fields.contains_key("authorization"), "and nothing is sent but the gateway's own");
    }

    #[tokio::test]
    async fn values_are_captured_by_pointer_and_what_is_missing_is_said() {
        let service = Service::start(|_| {
            answer(200, r#"{"email":"a@example.com","nested":[{"n":42}],"flag":true,"dots":"..","long":{}}"#)
        });
        let asked = async |pointers: &[(&str, &str)]| {
            let mut step = call("look", "api", "GET /accounts/{subject}");
            step.capture = pointers.iter().map(|(name, pointer)| ((*name).into(), (*pointer).into())).collect();
            send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap()
        };
        let found = asked(&[("email", "/email"), ("n", "/nested/0/n")]).await;
        assert_eq!((&*found.captured["email"], &*found.captured["n"]), ("a@example.com", "42"));
        assert!(!found.lacks_values);
        for missing in ["/nothing", "/flag", "/nested", "/long", "/dots", ""] {
            assert!(asked(&[("x", missing)]).await.lacks_values, "{missing}");
        }
    }

    #[tokio::test]
    async fn a_number_that_cannot_be_sent_as_it_was_written_is_not_captured() {
        let service = Service::start(|got| {
            let number = got.line.split(['/', ' ']).nth(2).unwrap();
            answer(200, &format!(r#"{{"customer":{number}}}"#))
        });
        let asked = async |number: &str| {
            let mut step = call("look", "api", &format!("GET /{number}"));
            step.capture = BTreeMap::from([("customer".into(), "/customer".into())]);
            send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap()
        };
        for whole in ["0", "42", "-7", "9007199254740993", "18446744073709551615", "-9223372036854775808"] {
            let answered = asked(whole).await;
            assert_eq!(&*answered.captured["customer"], whole);
        }
        for other in ["18446744073709551616", "123456789012345678901234567890", "1.0", "42.5", "1e3", "-0", "1e999"] {
            assert!(asked(other).await.lacks_values, "{other}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_or_too_long_lacks_what_was_to_be_captured() {
        let service = Service::start(|got| match got.line.contains("long") {
            true => answer(200, &format!("\"{}\"", "x".repeat(ANSWER_BYTES))),
            false => answer(200, "<html>"),
        });
        let mut step = call("look", "api", "GET /accounts/{subject}");
        step.capture = BTreeMap::from([("x".into(), "/x".into())]);
        assert!(send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap().lacks_values);
        step.target = "/long".into();
        let fault = send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap_err();
        assert!(matches!(fault, CallFault::Fetch(FetchFault::TooLarge(_))));
        step.capture.clear();
        assert_eq!(
            send(&step, &upstreams(vec![service.upstream("api")])).await.unwrap().status,
            200,
            "nobody reads it"
        );
    }

    #[tokio::test]
    async fn another_address_is_for_what_was_never_sent() {
        let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let broken = Service::start(|_| String::new());
        let service = Service::start(|_| answer(200, ""));
        let step = call("primary", "api", "DELETE /accounts/{subject}");
        let answered = send(&step, &upstreams(vec![upstream("api", &[closed, service.port])])).await.unwrap();
        assert_eq!(answered.status, 200);
        let fault = send(&step, &upstreams(vec![upstream("api", &[broken.port, service.port])])).await.unwrap_err();
        assert!(matches!(fault, CallFault::Fetch(FetchFault::Http(_))) && !fault.is_lasting());
        assert_eq!((broken.got().len(), service.got().len()), (1, 1), "it may have been done");
        let fault = send(&step, &upstreams(vec![upstream("api", &[closed])])).await.unwrap_err();
        assert!(matches!(fault, CallFault::Fetch(FetchFault::Connect(_))) && !fault.is_lasting());
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_given_up_in_time_and_a_redirect_is_not_followed() {
        let silent = Service::start(|_| {
            std::thread::park_timeout(Duration::from_secs(5));
            String::new()
        });
        let mut step = call("primary", "api", "DELETE /accounts/{subject}");
        step.timeout_secs = 1;
        assert!(matches!(send(&step, &upstreams(vec![silent.upstream("api")])).await, Err(CallFault::Timeout)));
        let elsewhere = Service::start(|_| answer(200, ""));
        let to = elsewhere.port;
        let moved = Service::start(move |_| {
            format!("HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:{to}/\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        });
        let answered = send(&step, &upstreams(vec![moved.upstream("api")])).await.unwrap();
        assert_eq!((answered.status, answered.retry_after), (307, Some(Duration::from_secs(7))));
        assert!(elsewhere.got().is_empty());
    }

    #[tokio::test]
    async fn what_makes_no_request_is_not_sent_and_no_pause_mends_it() {
        let service = Service::start(|_| answer(200, ""));
        let ready = upstreams(vec![service.upstream("api")]);
        let mut bad_header = call("a", "api", "DELETE /a");
        bad_header.headers = vec![("X-Name".into(), "{subject}".into())];
        let mut bad_body = call("a", "api", "DELETE /a");
        bad_body.body = Some(json!(["{captured.nothing}"]));
        for step in [
            call("a", "elsewhere", "DELETE /accounts/{subject}"),
            call("a", "api", "DELETE /accounts/{captured.nothing}"),
            call("a", "api", "DELETE /accounts/{subject"),
            call("a", "api", "DEL\tETE /accounts"),
            bad_header,
            bad_body,
        ] {
            match send(&step, &ready).await {
                Err(fault) => assert!(fault.is_lasting(), "{fault}"),
                Ok(answered) => panic!("{} was sent: {answered:?}", step.target),
            }
        }
        assert!(service.got().is_empty());
    }
}
