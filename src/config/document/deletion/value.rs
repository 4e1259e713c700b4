//! Whose a deletion is and who is told: where values stand in a request, the proof of a plan, recipients.

use crate::config::{
    ClaimPath, Problem, ValueSource,
    decode::{At, Cx, Decode, FromText, Refusal, section},
    document::{AssuranceText, Bind, Level},
    nearest,
    shape::{SectionShape, Shape, TextShape},
    template,
    text::Name,
    yaml::{Entry, Node, Value},
};

/// Where a value stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct SourceText(pub(in crate::config) ValueSource);

impl FromText for SourceText {
    const WHAT: &'static str = "a place in a request";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `path.NAME`, `query.NAME`, `body.NAME`, or `caller`";
        if text == "caller" {
            return Ok(Self(ValueSource::Caller));
        }
        let (root, name) = text.split_once('.').ok_or_else(|| Refusal::advice(HELP))?;
        if !template::is_value_name(name) {
            return Err(Refusal::because("its name has 1 to 64 letters, digits, `_`, `-`, `.`, `:` and `$`"));
        }
        match root {
            "path" => Ok(Self(ValueSource::Path(name.into()))),
            "query" => Ok(Self(ValueSource::Query(name.into()))),
            "body" => Ok(Self(ValueSource::Body(name.into()))),
            _ => Err(match nearest::nearest(root, ["path", "query", "body"]) {
                Some(meant) => Refusal::advice(format!("did you mean `{meant}.{}`?", nearest::short(name))),
                None => Refusal::advice(HELP),
            }),
        }
    }

    fn shape() -> Shape {
        let about = "`path.NAME`, `query.NAME`, `body.NAME`, or `caller`";
        let pattern = Some("caller|(path|query|body)\\.[A-Za-z0-9_.:$-]+");
        Shape::Text(TextShape { name: "value of a request", about, pattern })
    }
}

/// Values of the request, each with the claim that must equal it, in the order of the file.
#[derive(Debug, Clone)]
pub(in crate::config) struct Bindings(pub(in crate::config) Vec<(At<SourceText>, At<ClaimPath>)>);

impl Decode for Bindings {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let span = cx.span(node.place);
            if !matches!(node.value, Value::Faulty) {
                let problem = Problem::error(&span, "values of the request, each with a claim, are expected here");
                let asked = matches!(&node.value, Value::Scalar(scalar) if scalar.text == "request");
                cx.report(problem.with_help(match asked {
                    true => "the proof is bound to the request by `assurance: {level: NAME, bind: request}`",
                    false => "write {path.tenant: /tenant_id}",
                }));
            }
            return None;
        };
        let mut bindings = Vec::with_capacity(entries.len());
        for Entry { key, place, node, .. } in entries {
            let read = cx.within(key, |cx| {
                let span = cx.span(*place);
                let claim = At::<ClaimPath>::decode(node, cx);
                match SourceText::from_text(key) {
                    Ok(value) => Some((At { value, span, shown: nearest::key(key).into() }, claim?)),
                    Err(refusal) => {
                        let message = format!("`{}` is not a place in a request", nearest::key(key));
                        cx.report(Problem { help: refusal.help.or(refusal.why), ..Problem::error(&span, message) });
                        None
                    }
                }
            });
            bindings.extend(read);
        }
        Some(Self(bindings))
    }

    fn substitute() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn shape() -> Shape {
        let key = Box::new(<SourceText as FromText>::shape());
        Shape::Keyed { key, item: Box::new(<ClaimPath as FromText>::shape()) }
    }
}

/// The proof that a plan needs: a level by name or written out, and whether it is bound to the request.
#[derive(Debug, Clone)]
pub(in crate::config) struct Proof {
    /// The level; `None`: no further one than the guard's and the route's.
    pub(in crate::config) level: Option<AssuranceText>,
    pub(in crate::config) bind: Option<At<Bind>>,
}

section! {
    /// The proof that a plan needs: a level by its name or its keys, bound to the request or not.
    "a proof" ProofKeys {
        /// The name of a level under `assurance`, in place of the keys of one.
        level: Option<At<Name>>,
        /// What the proof must be bound to, whatever else was proved: needs `authority`.
        bind: Option<At<Bind>>,
    }
}

impl Decode for Proof {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return AssuranceText::decode(node, cx).map(|level| Self { level: Some(level), bind: None });
        };
        let is_own = |entry: &&Entry| matches!(entry.key.as_str(), "level" | "bind");
        let part = |entries: Vec<Entry>| Node { value: Value::Map(entries), ..node.clone() };
        let rest: Vec<Entry> = entries.iter().filter(|entry| !is_own(entry)).cloned().collect();
        let own = ProofKeys::decode(&part(entries.iter().filter(is_own).cloned().collect()), cx)?;
        let level = match (own.level, rest.is_empty()) {
            (Some(name), true) => Some(AssuranceText::Name(name)),
            (Some(name), false) => {
                let problem = Problem::error(&name.span, "a level is either named or written out, not both");
                cx.report(problem);
                return None;
            }
            (None, true) if own.bind.is_some() => None,
            (None, _) => Some(AssuranceText::Inline(Box::new(Level::decode(&part(rest), cx)?))),
        };
        Some(Self { level, bind: own.bind })
    }

    fn shape() -> Shape {
        let mut keys: SectionShape = ProofKeys::section();
        keys.fields.extend(Level::section().fields);
        Shape::Either(vec![<Name as Decode>::shape(), Shape::Section(keys)])
    }
}

section! {
    /// Who is told: exactly one of these.
    "a recipient" RecipientText {
        /// A mail address, or a template that makes one: `{captured.email}`, `{claims./email}`. Needs `notify.mail`.
        mail: Option<At<String>>,
        /// A webhook, by its name under `notify.webhooks`.
        webhook: Option<At<Name>>,
    }
}
