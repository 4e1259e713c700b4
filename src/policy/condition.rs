//! `when`: a condition in CEL over the claims, the request, the time and the assurance. Compiled once, at load; what
//! cannot be evaluated is not true.

use std::{
    collections::HashMap,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use cel::{Context, Env, Program, Value, objects::Key};
use http::HeaderMap;
use jiff::{Timestamp, tz::TimeZone};
use thiserror::Error;

use super::{Principal, names::Names};
use crate::clock::Now;

/// The variables that a condition can name.
pub const VARIABLES: [&str; 4] = ["claims", "request", "time", "assurance"];

/// How deep loops may stand inside each other. A list in a token can have thousands of elements, and a condition runs on
/// the thread that serves every other request, too.
const MAX_LOOPS: usize = 2;

/// Why a condition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionFault {
    /// It is not CEL. Line and column count from 1, within the expression.
    #[error("{message} (line {line}, column {column} of the expression)")]
    Syntax {
        /// The line.
        line: u32,
        /// The column.
        column: u32,
        /// What the parser says.
        message: String,
    },
    /// It names a variable that there is none of.
    #[error("`{0}` is not a variable here: claims, request, time and assurance are")]
    UnknownVariable(String),
    /// It loops inside a loop inside a loop.
    #[error("`all`, `exists`, `map` and `filter` stand inside each other more than {MAX_LOOPS} deep")]
    TooManyLoops,
    /// The zone is not in the IANA database.
    #[error("`{0}` is not a time zone of the IANA database")]
    UnknownZone(String),
}

/// What a condition sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct ConditionInput<'a> {
    /// The method that is judged.
    pub method: &'a str,
    /// The normal path.
    pub path: &'a str,
    /// The values of the route's `{x}`, decoded.
    pub path_params: &'a [(Arc<str>, String)],
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The header fields as the client sent them.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client_ip: IpAddr,
    /// Whoever was verified.
    pub principal: Option<&'a Principal>,
    /// The request's one moment.
    pub now: Now,
}

/// A compiled condition.
pub struct Condition {
    source: Arc<str>,
    program: Program,
    zone: TimeZone,
    uses: [bool; 4],
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// What came of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionOutcome {
    /// It is true.
    True,
    /// It is false.
    False,
    /// It is neither: for the operator, why.
    Error(String),
}

fn environment() -> Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib())).clone()
}

impl Condition {
    /// Compiles an expression; `zone` is the IANA name of the zone of `time.hour` and `time.weekday`.
    pub fn compile(source: &str, zone: &str) -> Result<Self, ConditionFault> {
        let compiled = catch_unwind(AssertUnwindSafe(|| Program::compile(source)));
        let syntax = |line, column, message| ConditionFault::Syntax { line, column, message };
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => {
                let first = errors.errors.first();
                let place = |n: isize| u32::try_from(n).unwrap_or(1).max(1);
                let (line, column) = first.map_or((1, 1), |error| (place(error.pos.0), place(error.pos.1)));
                let message = first.map_or_else(|| "not an expression".to_owned(), |error| error.msg.clone());
                return Err(syntax(line, column, message));
            }
            Err(_) => return Err(syntax(1, 1, "the expression cannot be read".to_owned())),
        };
        let names = Names::of(program.expression());
        if let Some(unknown) = names.free.iter().find(|name| !known_variable(name)) {
            return Err(ConditionFault::UnknownVariable((*unknown).to_owned()));
        }
        if names.loops > MAX_LOOPS {
            return Err(ConditionFault::TooManyLoops);
        }
        let uses = VARIABLES.map(|name| names.free.contains(name));
        let zone = TimeZone::get(zone).map_err(|_| ConditionFault::UnknownZone(zone.to_owned()))?;
        Ok(Self { source: source.into(), program, zone, uses })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates the condition. Anything but a boolean is an error, and so is a panic of the interpreter.
    pub fn evaluate(&self, input: &ConditionInput<'_>) -> ConditionOutcome {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(environment());
            let [claims, request, time, assurance] = self.uses;
            if claims {
                let value = input.principal.map_or_else(|| map::<&str>([]), |principal| from_json(&principal.claims));
                context.add_variable_from_value("claims", value);
            }
            if request {
                context.add_variable_from_value("request", request_value(input));
            }
            if time {
                context.add_variable_from_value("time", self.time_value(input.now));
            }
            if assurance {
                context.add_variable_from_value("assurance", assurance_value(input));
            }
            self.program.execute(&context)
        }));
        match result {
            Ok(Ok(Value::Bool(true))) => ConditionOutcome::True,
            Ok(Ok(Value::Bool(false))) => ConditionOutcome::False,
            Ok(Ok(other)) => ConditionOutcome::Error(format!("the result is a {:?}, not a boolean", other.type_of())),
            // An execution error's text can quote claims; its kind says enough.
            Ok(Err(error)) => ConditionOutcome::Error(error_kind(&error)),
            Err(_) => ConditionOutcome::Error("the expression cannot be evaluated".to_owned()),
        }
    }

    fn time_value(&self, now: Now) -> Value {
        let secs = i64::try_from(now.unix_secs()).unwrap_or(i64::MAX);
        let zoned = Timestamp::from_second(secs).unwrap_or_default().to_zoned(self.zone.clone());
        map([
            ("now", Value::Int(secs)),
            ("hour", Value::Int(zoned.hour().into())),
            ("minute", Value::Int(zoned.minute().into())),
            ("weekday", Value::Int(zoned.weekday().to_monday_one_offset().into())),
            ("date", text(&zoned.date().to_string())),
        ])
    }
}

fn known_variable(name: &str) -> bool {
    VARIABLES.contains(&name)
}

/// The kind of an execution error without the values in it.
fn error_kind(error: &cel::ExecutionError) -> String {
    use cel::ExecutionError as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is non-exhaustive, and the rest may quote values")]
    match error {
        E::NoSuchKey(name) => format!("there is no `{name}`"),
        E::UndeclaredReference(name) => format!("`{name}` is not declared"),
        E::NoSuchOverload(overload) => format!("`{}` does not take values of these types", overload.function()),
        E::DivisionByZero(_) | E::RemainderByZero(_) => "division by zero".to_owned(),
        E::Overflow(..) => "overflow".to_owned(),
        E::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        E::FunctionError { function, .. } => format!("`{function}` failed"),
        _ => "the values cannot be used like this".to_owned(),
    }
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn map<K: Into<Key>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
    let map = entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
    Value::Map(cel::objects::Map { map: Arc::new(map) })
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(Arc::new(values.into_iter().collect()))
}

/// JSON numbers without a fraction are CEL ints, so that they compare with the literals that people write.
fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Value::Int(int),
            (None, Some(uint), _) => Value::UInt(uint),
            (None, None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(string) => text(string),
        serde_json::Value::Array(values) => list(values.iter().map(from_json)),
        serde_json::Value::Object(members) => {
            map(members.iter().map(|(name, value)| (name.as_str(), from_json(value))))
        }
    }
}

fn request_value(input: &ConditionInput<'_>) -> Value {
    map([
        ("method", text(input.method)),
        ("path", text(input.path)),
        ("path_params", map(input.path_params.iter().map(|(name, value)| (&**name, text(value))))),
        ("query", query_value(input.query.unwrap_or_default())),
        ("headers", headers_value(input.headers)),
        ("client_ip", text(&input.client_ip.to_canonical().to_string())),
    ])
}

/// Each field by its name, its lines joined. Spellings that a lax server takes for one name (`x_tier`, `x.tier`) are
/// joined, too, and stand under `x-tier` besides, so that a rule for one of them sees what the upstream may see.
fn headers_value(headers: &HeaderMap) -> Value {
    let is_usual = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut entries: HashMap<String, Vec<String>> = HashMap::new();
    if headers.keys().all(|name| is_usual(name.as_str())) {
        for (name, line) in headers {
            entries.entry(name.as_str().to_owned()).or_default().push(value(line));
        }
    } else {
        let fold = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        for (name, line) in headers {
            entries.entry(fold(name.as_str())).or_default().push(value(line));
        }
        for name in headers.keys().filter(|name| !is_usual(name.as_str())) {
            let lines = entries.get(&fold(name.as_str())).cloned().unwrap_or_default();
            entries.insert(name.as_str().to_owned(), lines);
        }
    }
    map(entries.into_iter().map(|(name, lines)| (name, text(&lines.join(", ")))))
}

/// Each parameter by its name; one that appears more than once is a list, so that a rule written for one value does not
/// pass on the strength of whichever the upstream ignores. Where `;` may separate parameters for the upstream, both
/// readings count.
fn query_value(query: &str) -> Value {
    let mut entries: HashMap<String, Vec<Value>> = HashMap::new();
    let pairs = query.split('&').filter(|pair| pair.contains(';'));
    let readings = std::iter::once(query).chain(pairs.flat_map(|pair| pair.split(';')));
    for (name, value) in readings.flat_map(|reading| url::form_urlencoded::parse(reading.as_bytes())) {
        entries.entry(name.into_owned()).or_default().push(text(&value));
    }
    map(entries.into_iter().map(|(name, mut values)| {
        let value = if values.len() == 1 { values.pop().unwrap_or(Value::Null) } else { list(values) };
        (name, value)
    }))
}

fn assurance_value(input: &ConditionInput<'_>) -> Value {
    let Some(principal) = input.principal else { return map::<&str>([]) };
    let assurance = &principal.assurance;
    let mut entries = vec![("amr", list(assurance.amr.iter().map(|value| text(value))))];
    entries.extend(assurance.acr.as_deref().map(|acr| ("acr", text(acr))));
    if let Some(auth_time) = assurance.auth_time {
        entries.push(("auth_time", Value::Float(auth_time)));
        entries.push(("age", Value::Float(input.now.numeric_date() - auth_time)));
    }
    map(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

    use std::time::Instant;

    use serde_json::json;

    use super::*;
    use crate::policy::{Assurance, Kind, Marks};

    fn evaluate(source: &str) -> ConditionOutcome {
        let principal = Principal {
            issuer: "main".into(),
            issuer_url: "https://idp.example/".into(),
            subject: "alice".into(),
            client: None,
            scopes: Box::default(),
            assurance: Assurance {
                acr: Some("gold".into()),
                amr: Box::new(["mfa".into()]),
                auth_time: Some(1_000.0),
                ..Assurance::default()
            },
            expires_at: None,
            leeway_secs: 0.0,
            claims: json!({"department": "finance", "level": 3, "ratio": 0.5, "roles": ["a", "b"]}),
            kind: Kind::Person,
            marks: Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-tier", "gold".parse().unwrap());
        Condition::compile(source, "Europe/Berlin").unwrap().evaluate(&ConditionInput {
            method: "GET",
            path: "/reports/2024",
            path_params: &[("year".into(), "2024".to_owned())],
            query: Some("a=1&b=2&b=3"),
            headers: &headers,
            client_ip: "::ffff:192.0.2.7".parse().unwrap(),
            principal: Some(&principal),
            // 1970-01-05, a Monday, 00:30 UTC, 01:30 in Berlin.
            now: Now { unix_ms: (4 * 86_400 + 1_800) * 1000, instant: Instant::now() },
        })
    }

    #[test]
    fn conditions_see_claims_request_time_and_assurance() {
        for source in [
            r#"claims.department == "finance" && request.path_params.year >= "2024""#,
            "claims.level >= 3 && claims.ratio < 1.0",
            r#""b" in claims.roles"#,
            r#"request.method == "GET" && request.path.startsWith("/reports/")"#,
            r#"request.query.a == "1" && request.query.b == ["2", "3"]"#,
            r#"request.headers["x-tier"] == "gold""#,
            r#"request.client_ip == "192.0.2.7""#,
            "time.hour == 1 && time.weekday == 1 && time.now == 347400",
            r#"assurance.acr == "gold" && "mfa" in assurance.amr && assurance.age > 60.0"#,
            r#"!has(claims.nothing)"#,
            r#"claims.roles.exists(role, role == "b")"#,
            r#"claims.roles.all(role, ["a", "b"].exists(known, known == role))"#,
        ] {
            assert_eq!(evaluate(source), ConditionOutcome::True, "{source}");
        }
    }

    #[test]
    fn what_is_not_true_is_false_or_an_error_without_values() {
        assert_eq!(evaluate(r#"claims.department == "sales""#), ConditionOutcome::False);
        for source in ["claims.nothing == 1", "claims.department", "claims.department > 3", "1 / 0 == 1"] {
            let ConditionOutcome::Error(why) = evaluate(source) else { panic!("{source}") };
            assert!(!why.contains("finance"), "{why}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_says_where() {
        let fault = Condition::compile("claims.a ==", "UTC").unwrap_err();
        assert!(matches!(fault, ConditionFault::Syntax { line: 1, .. }), "{fault}");
        assert_eq!(Condition::compile("user.a", "UTC").unwrap_err(), ConditionFault::UnknownVariable("user".into()));
        let deep = "claims.l.all(a, claims.l.all(b, claims.l.all(c, a == c)))";
        assert_eq!(Condition::compile(deep, "UTC").unwrap_err(), ConditionFault::TooManyLoops);
        assert_eq!(Condition::compile("true", "Mars").unwrap_err(), ConditionFault::UnknownZone("Mars".into()));
    }

    #[test]
    fn what_the_upstream_may_read_otherwise_does_not_satisfy_a_rule() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
            }
            map
        };
        let outcome = |source: &str, query: &str, lines: &[(&'static str, &'static str)]| {
            let input = ConditionInput {
                method: "GET",
                path: "/",
                path_params: &[],
                query: Some(query),
                headers: &headers(lines),
                client_ip: IpAddr::from([192, 0, 2, 7]),
                principal: None,
                now: Now { unix_ms: 0, instant: std::time::Instant::now() },
            };
            Condition::compile(source, "UTC").unwrap().evaluate(&input)
        };
        let role = r#"request.query.role == "user" && !("debug" in request.query)"#;
        assert_eq!(outcome(role, "a=1&role=user", &[]), ConditionOutcome::True);
        for query in ["role=user&a=1;role=admin", "role=user&a=1;debug=1", "role=user;x", "role=user&debug"] {
            assert_ne!(outcome(role, query, &[]), ConditionOutcome::True, "{query}");
        }
        let tier = r#"request.headers["x-tier"] == "basic" && !("x-debug" in request.headers)"#;
        assert_eq!(outcome(tier, "", &[("x-tier", "basic"), ("x_other", "1")]), ConditionOutcome::True);
        for lines in [
            [("x-tier", "basic"), ("x_tier", "gold")],
            [("x-tier", "basic"), ("x-tier", "gold")],
            [("x-tier", "basic"), ("x_debug", "1")],
        ] {
            assert_ne!(outcome(tier, "", &lines), ConditionOutcome::True, "{lines:?}");
        }
        assert_eq!(
            outcome(r#"request.headers["x_tier"] == "basic""#, "", &[("x_tier", "basic")]),
            ConditionOutcome::True
        );
    }
}
