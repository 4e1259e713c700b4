//! Requests that a deletion makes: lookups, steps and probes.

use std::time::Duration;

use http::Method;
use serde_json::Value as Json;

use crate::config::{
    Problem,
    decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section},
    nearest,
    quantity::Count,
    shape::{Shape, TextShape},
    template::TargetTemplate,
    text::Name,
    yaml::{Entry, Node, Value},
};

section! {
    /// A question to an upstream when the deletion is requested.
    "a lookup" Lookup {
        /// Its name, in evidence and metrics.
        name: At<Name>,
        /// The upstream's name.
        upstream: At<Name>,
        /// The request, with templates: `GET /accounts/{subject}`.
        request: At<RequestText>,
        /// Further headers, with templates.
        headers: Texts = "{}",
        /// The body, JSON, with templates in its texts.
        body: Option<At<JsonText>>,
        /// Values of its JSON answer, each by JSON pointer: `{email: /contact/email}` makes `{captured.email}`.
        capture: Texts = "{}",
        /// How long it may take: the caller waits.
        timeout: At<Duration> = "5s",
    }
}

section! {
    /// A step of the deletion.
    "a step" Step {
        /// Its name, in evidence and metrics.
        name: At<Name>,
        /// The upstream's name. It gets the credential that the upstream has, never the caller's.
        upstream: At<Name>,
        /// The request, with templates: `DELETE /accounts/{subject}`.
        request: At<RequestText>,
        /// Further headers, with templates.
        headers: Texts = "{}",
        /// The body, JSON, with templates in its texts.
        body: Option<At<JsonText>>,
        /// Values of its JSON answer for later steps, each by JSON pointer.
        capture: Texts = "{}",
        /// Statuses that mean that it is done. 404 and 410 belong to them, as an earlier attempt may have done it.
        done: NonEmpty<At<Status>> = "[200, 202, 204, 404, 410]",
        /// The steps that must be done before; without this key the one before. `[]`: none, so that it goes on beside others.
        after: Option<Vec<At<Name>>>,
        /// How long one attempt may take.
        timeout: At<Duration> = "30s",
    }
}

section! {
    /// A request that tells whether the data is there.
    "a probe" Probe {
        /// Its name, in evidence and metrics.
        name: At<Name>,
        /// The upstream's name.
        upstream: At<Name>,
        /// The request, with templates: `GET /accounts/{subject}`.
        request: At<RequestText>,
        /// Further headers, with templates.
        headers: Texts = "{}",
        /// The body, JSON, with templates in its texts.
        body: Option<At<JsonText>>,
        /// Statuses that mean that the data is there.
        there: NonEmpty<At<Status>> = "[200]",
        /// Statuses that mean that it is gone.
        gone: NonEmpty<At<Status>> = "[404, 410]",
        /// Whether the deletion goes on where it saw no data before; the evidence then says that it did not count.
        optional: bool = "false",
        /// How long one attempt may take.
        timeout: At<Duration> = "30s",
    }
}

/// A status of an answer.
pub(in crate::config) type Status = Count<200, 599>;

/// What lookups, steps and probes have in common.
pub(in crate::config) struct CallText<'a> {
    pub(in crate::config) name: &'a At<Name>,
    pub(in crate::config) upstream: &'a At<Name>,
    pub(in crate::config) request: &'a At<RequestText>,
    pub(in crate::config) headers: &'a Texts,
    pub(in crate::config) body: Option<&'a At<JsonText>>,
    pub(in crate::config) capture: Option<&'a Texts>,
    pub(in crate::config) timeout: &'a At<Duration>,
}

impl Lookup {
    pub(in crate::config) fn call(&self) -> CallText<'_> {
        let Self { name, upstream, request, headers, body, capture, timeout, .. } = self;
        CallText { name, upstream, request, headers, body: body.as_ref(), capture: Some(capture), timeout }
    }
}

impl Step {
    pub(in crate::config) fn call(&self) -> CallText<'_> {
        let Self { name, upstream, request, headers, body, capture, timeout, .. } = self;
        CallText { name, upstream, request, headers, body: body.as_ref(), capture: Some(capture), timeout }
    }
}

impl Probe {
    pub(in crate::config) fn call(&self) -> CallText<'_> {
        let Self { name, upstream, request, headers, body, timeout, .. } = self;
        CallText { name, upstream, request, headers, body: body.as_ref(), capture: None, timeout }
    }
}

/// A method and a target with templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct RequestText {
    pub(in crate::config) method: Method,
    pub(in crate::config) target: String,
    pub(in crate::config) template: TargetTemplate,
}

impl FromText for RequestText {
    const WHAT: &'static str = "a request";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write a method and a path: `DELETE /accounts/{subject}`";
        let (method, target) = text.split_once(' ').ok_or_else(|| Refusal::advice(HELP))?;
        let method = Method::from_text(method)?;
        if [Method::CONNECT, Method::TRACE, Method::OPTIONS].contains(&method) {
            return Err(Refusal::because("this method asks nothing of an API"));
        }
        let target = target.trim();
        match TargetTemplate::parse(target) {
            Ok(template) => Ok(Self { method, target: target.to_owned(), template }),
            Err(fault) => Err(Refusal::because(fault.to_string()).help(fault.help())),
        }
    }

    fn shape() -> Shape {
        let about = "`METHOD /path?query`, with templates: `DELETE /accounts/{subject}`";
        Shape::Text(TextShape { name: "request template", about, pattern: Some("[A-Z]+ +/.*") })
    }
}

/// Names and texts, in the order of the file: headers, or what is captured.
#[derive(Debug, Clone)]
pub(in crate::config) struct Texts(pub(in crate::config) Vec<(At<String>, At<String>)>);

impl Decode for Texts {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let span = cx.span(node.place);
            if !matches!(node.value, Value::Faulty) {
                cx.report(
                    Problem::error(&span, "names, each with a text, are expected here").with_help("write {name: text}"),
                );
            }
            return None;
        };
        let mut texts = Vec::with_capacity(entries.len());
        for Entry { key, place, node, .. } in entries {
            let read = cx.within(key, |cx| {
                let name = At { value: key.clone(), span: cx.span(*place), shown: nearest::key(key).into() };
                Some((name, At::decode(node, cx)?))
            });
            texts.extend(read);
        }
        Some(Self(texts))
    }

    fn substitute() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn shape() -> Shape {
        let text = || Box::new(<String as FromText>::shape());
        Shape::Keyed { key: text(), item: text() }
    }
}

/// Any JSON, as YAML has it: what is not quoted may be a number, `true`, `false` or `null`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct JsonText(pub(in crate::config) Json);

impl Decode for JsonText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        json(node, cx).map(Self)
    }

    fn shape() -> Shape {
        Shape::Json
    }
}

fn json(node: &Node, cx: &mut Cx) -> Option<Json> {
    match &node.value {
        Value::Null => Some(Json::Null),
        Value::Faulty => None,
        Value::Scalar(scalar) => Some(match (scalar.plain && !scalar.from_env, scalar.text.as_str()) {
            (true, "true") => Json::Bool(true),
            (true, "false") => Json::Bool(false),
            (true, text) => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Json::Number),
            (false, text) => text.into(),
        }),
        Value::List(items) => {
            let items = items.iter().enumerate().map(|(at, item)| cx.within_index(at, |cx| json(item, cx)));
            items.collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Json::Array)
        }
        Value::Map(entries) => {
            let members =
                entries.iter().map(|Entry { key, node, .. }| cx.within(key, |cx| Some((key.clone(), json(node, cx)?))));
            members.collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Json::Object)
        }
    }
}
