//! `routes`: which requests go where, and what they need.

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{
    AssuranceText, GrpcWeb, UpgradeTo,
    cors::Cors,
    machine::Switch,
    redirect::Redirect,
    security_headers::SecurityHeaders,
    shaping::{Canary, HeaderRules, Mirror, RouteTimeouts},
};
use crate::{
    config::{
        Priority, Problem, condition,
        decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section, words},
        quantity::{ANY, Size},
        route_text::{Piece, Place, RouteText},
        shape::{Shape, TextShape},
        text::{LimitText, Name, RouteName, Scope, Zone},
        yaml::{Node, Value},
    },
    route::{HostPattern, NormalPath, PathPattern, Segment},
};

section! {
    /// Which requests go where, and what they need. Host: exact before wildcard before any. Path: segment by segment, literal
    /// before `{x}` before `*` before `**`. The path is chosen before the method: a method that its routes do not list is a 405,
    /// never a less specific path.
    "a route" Route {
        /// Its name in metrics, logs and `explain`; by default its path, with methods or host where that is not unique.
        name: Option<At<RouteName>>,
        /// The path. `/payments/**` also matches `/payments`.
        path: At<PathPattern>,
        /// The hosts; without this key, or with an empty list, any.
        hosts: Vec<At<HostPattern>> = "[]",
        /// The methods, GET with HEAD; without this key any of `server.methods`.
        methods: Option<At<NonEmpty<At<Method>>>>,
        /// The upstream's name. Exactly one of `upstream` and `redirect`.
        upstream: Option<At<Name>>,
        /// Where clients are sent, in place of an upstream.
        redirect: Option<Redirect>,
        /// Whose credentials it takes: names under `issuers` and `credentials`, or `none`; without this key the tokens of every issuer.
        auth: Option<At<AuthText>>,
        /// Scopes that a token must have, all of them.
        scopes: At<Vec<Scope>> = "[]",
        /// A condition in CEL over `claims`, `request`, `time` and `assurance`; false or an error = 403.
        when: Option<WhenText>,
        /// The proof that it needs.
        assurance: Option<At<AssuranceText>>,
        /// Names of quotas, all of which apply, in this order.
        limits: Vec<At<Name>> = "[]",
        /// Who is refused first under overload: see `server.overload`.
        priority: Priority = "normal",
        /// What changes in the path on its way to the upstream.
        rewrite: Option<Rewrite>,
        /// What the deletion guard asks for here, instead of its own.
        deletion: Option<RouteDeletion>,
        /// What connections may be switched to here. Without it `Upgrade` is dropped, and the request goes on as a plain one.
        upgrade: Vec<At<UpgradeTo>> = "[]",
        /// How long nothing may move on an upgraded stream, either way, before it is closed; `5m` without this key. Pings count.
        stream_idle: Option<At<Duration>>,
        /// Whether an upgraded stream is closed when the credential expires that opened it; it is, without this key. One that is
        /// revoked always closes it.
        close_on_expiry: Option<At<bool>>,
        /// What becomes of gRPC-Web here; it goes through as it is, without this key.
        grpc_web: Option<At<GrpcWeb>>,
        /// Takes this route out of the deletion guard.
        danger_unguarded_deletion: At<bool> = "false",
        /// What changes in the fields of requests.
        request_headers: Option<HeaderRules>,
        /// What changes in the fields of answers.
        response_headers: Option<HeaderRules>,
        /// Fields of answers that keep browsers from harm: `true`, or a section.
        security_headers: Switch<SecurityHeaders> = "false",
        /// Which pages of other origins may ask.
        cors: Option<Cors>,
        /// The longest body, in place of `server.limits.body_bytes`.
        body_bytes: Option<Size<0, ANY>>,
        /// Limits of time, in place of the upstream's.
        timeouts: Option<RouteTimeouts>,
        /// Who gets a copy of requests.
        mirror: Option<Mirror>,
        /// Who gets a share of the requests.
        canary: Option<Canary>,
    }
}

section! {
    /// What the deletion guard asks for on this route.
    "deletion" RouteDeletion {
        /// The proof, instead of `deletion_guard.assurance`; the route's own `assurance` holds besides.
        assurance: Option<AssuranceText>,
        /// The quota by issuer and subject, instead of the operation's.
        limit: Option<At<LimitText>>,
        /// What the proof must be bound to, whatever else was proved: needs `authority`.
        bind: Option<At<Bind>>,
    }
}

/// What a proof must be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Bind {
    /// One request.
    Request,
}

words! { Bind, "what a proof is bound to":
    "request" => Self::Request, "a grant for this very method, target and body";
}

section! {
    /// What changes in the path: exactly one of these. The result is judged, too.
    "rewrite" Rewrite {
        /// Takes these leading segments away; they must be literal segments of the route's path.
        strip_prefix: Option<At<Prefix>>,
        /// Takes leading segments away and puts others in their place.
        replace_prefix: Option<ReplacePrefix>,
        /// Puts another path in its place: `/v2/{path.id}`, with `{rest}` for what `**` stands for.
        path: Option<At<PathText>>,
    }
}

section! {
    /// Takes leading segments away and puts others in their place.
    "replace_prefix" ReplacePrefix {
        /// What is taken away; literal segments of the route's path.
        from: At<Prefix>,
        /// What is put there.
        to: At<Prefix>,
    }
}

section! {
    /// A condition and the time zone of its `time.hour` and `time.weekday`.
    "when" WhenSection {
        /// The condition in CEL.
        expr: At<Expression>,
        /// The time zone.
        zone: Zone = "UTC",
    }
}

/// A condition.
#[derive(Debug, Clone)]
pub(in crate::config) struct WhenText {
    pub(in crate::config) expr: At<Expression>,
    pub(in crate::config) zone: Zone,
}

/// A condition's text, which compiles.
#[derive(Debug, Clone)]
pub(in crate::config) struct Expression(pub(in crate::config) String);

impl Decode for Expression {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Scalar(scalar) = &node.value else {
            // Says what was found instead.
            String::decode(node, cx)?;
            return None;
        };
        match condition::check(&scalar.text) {
            Ok(()) => Some(Self(scalar.text.clone())),
            Err(fault) => {
                // As long as its text: plain. By two longer: quoted, with nothing escaped.
                let offset = match node.bytes.len().checked_sub(scalar.text.len()) {
                    _ if scalar.text.contains('\n') => None,
                    Some(0) => Some(0),
                    Some(2) => Some(1),
                    Some(_) | None => None,
                };
                cx.report(fault.into_problem(cx.span(node.place), offset, scalar.from_env));
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "condition", about: "an expression in CEL that is true or false", pattern: None })
    }
}

impl Decode for WhenText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {
                let WhenSection { expr, zone, .. } = WhenSection::decode(node, cx)?;
                Some(Self { expr, zone })
            }
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => {
                Some(Self { expr: At::decode(node, cx)?, zone: Zone("UTC".into()) })
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![Expression::shape(), WhenSection::shape()])
    }
}

/// Whose credentials a route takes.
#[derive(Debug, Clone)]
pub(in crate::config) enum AuthText {
    None,
    Issuers(Vec<At<Name>>),
}

impl Decode for AuthText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let help = match &node.value {
            Value::List(items) if !items.is_empty() => return Vec::decode(node, cx).map(Self::Issuers),
            Value::Faulty => return None,
            Value::Scalar(scalar) if scalar.text == "none" => return Some(Self::None),
            Value::Scalar(_) => "put the issuer's name into brackets: [main]",
            Value::List(_) | Value::Null | Value::Map(_) => "write `none` for a route that asks for no token",
        };
        let span = cx.span(node.place);
        cx.report(Problem::error(&span, "a list of issuers, or `none`, is expected here").with_help(help));
        None
    }

    fn shape() -> Shape {
        Shape::Either(vec![
            Shape::Words(vec![("none", "no token is asked for")]),
            Shape::List { item: Box::new(<Name as Decode>::shape()), min: 1 },
        ])
    }
}

/// A path with parts of another in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct PathText(pub(in crate::config) RouteText);

impl FromText for PathText {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if !text.starts_with('/') {
            return Err(Refusal::because("a path starts with `/`"));
        }
        let parsed = RouteText::parse(text, Place::Path)
            .map_err(|fault| Refusal::because(fault.to_string()).help(fault.help()))?;
        // With any segment in the place of each value, it is a path that can be forwarded as it stands.
        let filled: String = parsed
            .pieces()
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Value(_) => "x",
            })
            .collect();
        match NormalPath::parse(&filled) {
            Ok(path) if path.as_str() == filled => Ok(Self(parsed)),
            Ok(_) => {
                Err(Refusal::because("it is not in normal form: no escapes of plain letters, escapes in upper case"))
            }
            Err(fault) => Err(Refusal::because(fault.to_string())),
        }
    }

    fn shape() -> Shape {
        let about = "a path; `{path.NAME}` and `{rest}` stand for parts of the request's";
        Shape::Text(TextShape { name: "path text", about, pattern: Some("/.*") })
    }
}

/// Leading segments of a path, all literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Prefix {
    /// Decoded, as patterns have them; none is the root.
    pub(in crate::config) segments: Vec<Arc<str>>,
    /// In normal form, without a final slash: `/reports`, or nothing for the root.
    pub(in crate::config) normal: Arc<str>,
}

impl FromText for Prefix {
    const WHAT: &'static str = "a path prefix";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let pattern = PathPattern::from_text(text)?;
        let mut literals = Vec::new();
        for segment in pattern.segments() {
            match segment {
                Segment::Literal(literal) => literals.push(literal.clone()),
                Segment::Parameter(_) | Segment::Any | Segment::Rest => {
                    return Err(Refusal::because("only literal segments can be rewritten"));
                }
            }
        }
        if literals.last().is_some_and(|last| last.is_empty()) {
            literals.pop();
        }
        // What is forwarded is the normal form, never the decoded one.
        let encode = |c: char| if c.is_ascii() { c.to_string() } else { utf8_percent(c) };
        let ascii: String = text.chars().map(encode).collect();
        let normal = NormalPath::parse(&ascii).map_err(|fault| Refusal::because(fault.to_string()))?;
        let normal = normal.as_str().trim_end_matches('/').into();
        Ok(Self { segments: literals, normal })
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "path prefix", about: "literal segments: `/reports`", pattern: Some("/[^*{}]*") })
    }
}

fn utf8_percent(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prefixes_are_literal_and_forwarded_in_normal_form() {
        let normal = |text: &str| Prefix::from_text(text).unwrap().normal.to_string();
        assert_eq!(normal("/reports/"), "/reports");
        assert_eq!(normal("/"), "");
        assert_eq!(normal("/café"), "/caf%C3%A9");
        for wrong in ["reports", "/*", "/a/**", "/{x}", "/a//b", "/..", "/a?b", "/a/%2e%2e", ""] {
            assert!(Prefix::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
