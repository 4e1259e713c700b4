//! Whose data a request wants erased, and whether its caller may ask for that: pure, and strict. What is not there once, or makes no
//! value that a request could have, is refused; nothing is forwarded, so how a service behind would have read it does not matter.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use thiserror::Error;

use super::{
    record::{Personal, Selector},
    scrub,
};
use crate::{
    config::{ClaimPath, DeletionPlan, Placeholder, Recipient, TargetTemplate, Template, Terms, ValueSource},
    policy::Principal,
};

/// The longest value, in bytes.
pub const MOST_BYTES: usize = 512;

/// Where a request has its values.
#[derive(Clone, Copy, Default)]
pub struct RequestValues<'a> {
    /// The path, in normal form.
    pub whole: &'a str,
    /// The parameters of the path, decoded.
    pub path: &'a [(&'a str, Cow<'a, str>)],
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// The body.
    pub body: Option<RequestBody<'a>>,
}

/// A body that values are read from.
#[derive(Clone, Copy)]
pub enum RequestBody<'a> {
    /// `application/json`.
    Json(&'a [u8]),
    /// `application/x-www-form-urlencoded`.
    Form(&'a [u8]),
}

/// Whose data is to be erased, and what the steps need to know of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Who vouches for the person: the issuer's identifier.
    pub issuer_url: Box<str>,
    /// The claim that they are known by.
    pub claim: Selector,
    /// The person and the values.
    pub personal: Personal,
    /// Whether the caller is the person.
    pub own: bool,
    /// Then the keyed hashes of all that they are known by.
    pub also: Vec<Box<str>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Why a request says nothing that could be carried out for its caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetFault {
    /// It names somebody else, or something of somebody else.
    #[error("the request names what is not the caller's")]
    NotOwner,
    /// It does not say it, or the caller's token does not.
    #[error("a value is missing")]
    Missing(ValueSource),
    /// It says it twice, or in a way that could be read as something else.
    #[error("a value is not clear")]
    Ambiguous,
}

/// What the request wants erased, for a caller who may ask for that. `subject_issuer` is the identifier of the issuer that the plan
/// names, where it names one.
pub(super) fn target(
    plan: &DeletionPlan,
    subject_issuer: Option<&str>,
    principal: &Principal,
    values: &RequestValues<'_>,
) -> Result<Target, TargetFault> {
    let claim = Selector::of(plan.owner.as_ref());
    // A claim is worth what its issuer is: that of another one says nothing of this one's people.
    let is_theirs = subject_issuer.is_none_or(|issuer| issuer == &*principal.issuer_url);
    let caller = if is_theirs { claim_of(principal, &claim) } else { None };
    let subject = match &plan.subject {
        ValueSource::Caller => caller.clone().ok_or(TargetFault::NotOwner)?,
        source @ (ValueSource::Path(_) | ValueSource::Query(_) | ValueSource::Body(_)) => values.find(source)?,
    };
    if !is_value(&subject) {
        return Err(TargetFault::Ambiguous);
    }
    let own = caller.as_deref() == Some(&*subject);
    let is_entitled = plan.others.iter().any(|scope| principal.scopes.contains(scope));
    if !own && !is_entitled {
        return Err(TargetFault::NotOwner);
    }
    let mut found = BTreeMap::new();
    if let Some(name) = name_of(&plan.subject) {
        found.insert(name, subject.clone());
    }
    for (source, path) in &plan.bind {
        let value = values.find(source)?;
        let bound = claim_of(principal, &Selector::of(Some(path)));
        if bound.as_deref() != Some(&*value) {
            return Err(TargetFault::NotOwner);
        }
        if !is_value(&value) {
            return Err(TargetFault::Ambiguous);
        }
        if let Some(name) = name_of(source) {
            found.insert(name, value);
        }
    }
    // An administrator's claims are not the person's.
    if own {
        claims(&plan.terms, principal, &mut found)?;
    }
    let issuer_url = subject_issuer.unwrap_or(&principal.issuer_url).into();
    let token_subject = own.then(|| (&*principal.subject).into());
    let under = scrub::theirs(values.whole, &plan.subject, &subject);
    Ok(Target {
        issuer_url,
        claim,
        personal: Personal { subject, values: found, token_subject, under },
        own,
        also: Vec::new(),
    })
}

/// The claims that the terms' templates name. Those of calls must be there; a notice without its address goes nowhere.
fn claims(terms: &Terms, principal: &Principal, found: &mut BTreeMap<Box<str>, Box<str>>) -> Result<(), TargetFault> {
    let mut named: Vec<(ClaimPath, bool)> = Vec::new();
    for (placeholder, needed) in placeholders(terms) {
        match placeholder {
            Placeholder::Claim(path) => named.push((path, needed)),
            Placeholder::Subject
            | Placeholder::Deletion
            | Placeholder::Path(_)
            | Placeholder::Query(_)
            | Placeholder::Body(_)
            | Placeholder::Captured(_) => {}
        }
    }
    for (path, needed) in named {
        match claim_of(principal, &Selector::of(Some(&path))).filter(|value| is_value(value)) {
            Some(value) => drop(found.insert(Placeholder::Claim(path).to_string().into(), value)),
            None if needed => return Err(TargetFault::Missing(ValueSource::Caller)),
            None => {}
        }
    }
    Ok(())
}

/// The values that the terms' templates name, and whether a call needs them. A template that is none was refused when the plan was read;
/// whoever renders it says so again.
fn placeholders(terms: &Terms) -> Vec<(Placeholder, bool)> {
    let mut found = Vec::new();
    let steps = terms.steps.iter().map(|step| &step.call);
    for call in terms.lookups.iter().chain(steps).chain(terms.probes.iter().map(|probe| &probe.call)) {
        if let Ok(target) = TargetTemplate::parse(&call.target) {
            found.extend(target.values().cloned().map(|value| (value, true)));
        }
        for (_, header) in &call.headers {
            collect(header, true, &mut found);
        }
        if let Some(body) = &call.body {
            strings(body, &mut found);
        }
    }
    for recipient in &terms.notify {
        match recipient {
            Recipient::Mail(to) => collect(to, false, &mut found),
            Recipient::Webhook(_) => {}
        }
    }
    found
}

fn collect(text: &str, needed: bool, found: &mut Vec<(Placeholder, bool)>) {
    if let Ok(template) = Template::parse(text) {
        found.extend(template.values().cloned().map(|value| (value, needed)));
    }
}

fn strings(body: &Value, found: &mut Vec<(Placeholder, bool)>) {
    match body {
        Value::String(text) => collect(text, true, found),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|item| strings(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name of a value in templates.
fn name_of(source: &ValueSource) -> Option<Box<str>> {
    match source {
        ValueSource::Caller => None,
        ValueSource::Path(name) => Some(format!("path.{name}").into()),
        ValueSource::Query(name) => Some(format!("query.{name}").into()),
        ValueSource::Body(name) => Some(format!("body.{name}").into()),
    }
}

/// The value of a claim, as it would stand in a request: a string, or a whole number.
pub(super) fn claim_of(principal: &Principal, selector: &Selector) -> Option<Box<str>> {
    let value = match selector {
        Selector::Subject => return (!principal.subject.is_empty()).then(|| (&*principal.subject).into()),
        Selector::Name(name) => principal.claims.get(&**name)?,
        Selector::Pointer(pointer) => principal.claims.pointer(pointer)?,
    };
    text_of(value).filter(|text| !text.is_empty())
}

fn text_of(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        // 1.0 and 1e0 are ways to write a number, and no identifiers.
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string().into()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a request could have this value, and mean it.
pub fn is_value(text: &str) -> bool {
    !text.is_empty() && text.len() <= MOST_BYTES && !matches!(text, "." | "..") && !text.chars().any(char::is_control)
}

impl RequestValues<'_> {
    fn find(&self, source: &ValueSource) -> Result<Box<str>, TargetFault> {
        let missing = || TargetFault::Missing(source.clone());
        let once = |mut found: Vec<Box<str>>| match (found.pop(), found.is_empty()) {
            (Some(value), true) if is_value(&value) => Ok(value),
            (Some(_), _) => Err(TargetFault::Ambiguous),
            (None, _) => Err(missing()),
        };
        match source {
            ValueSource::Caller => Err(missing()),
            ValueSource::Path(name) => once(
                self.path.iter().filter(|(known, _)| *known == &**name).map(|(_, value)| (**value).into()).collect(),
            ),
            ValueSource::Query(name) => once(fields(self.query.unwrap_or_default().as_bytes(), name)?),
            ValueSource::Body(name) => match self.body {
                None => Err(missing()),
                Some(RequestBody::Form(bytes)) => once(fields(bytes, name)?),
                Some(RequestBody::Json(bytes)) => once(members(bytes, name)?),
            },
        }
    }
}

/// The values of a field of a form or a query. What is no UTF-8 is not clear.
fn fields(bytes: &[u8], name: &str) -> Result<Vec<Box<str>>, TargetFault> {
    let mut found = Vec::new();
    for (key, value) in url::form_urlencoded::parse(bytes) {
        if key == name {
            // It puts this character where a byte was no UTF-8.
            if value.contains(char::REPLACEMENT_CHARACTER) {
                return Err(TargetFault::Ambiguous);
            }
            found.push(value.as_ref().into());
        }
    }
    Ok(found)
}

/// The values of a member of a JSON object, each time that it is there.
fn members(bytes: &[u8], name: &str) -> Result<Vec<Box<str>>, TargetFault> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let found = Members(name).deserialize(&mut json).map_err(|_| TargetFault::Ambiguous)?;
    json.end().map_err(|_| TargetFault::Ambiguous)?;
    found.iter().map(|value| text_of(value).ok_or(TargetFault::Ambiguous)).collect()
}

struct Members<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.0 {
                found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
