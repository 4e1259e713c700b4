//! Lookups, steps and probes: requests that the gateway makes with credentials of its own, in an order in which every value is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::{HeaderName, Method};
use serde_json::Value as Json;

use super::{plan::Surroundings, whose::Values};
use crate::config::{
    Call, ClaimPath, Placeholder, Probe, Span, Step, Template, TemplateFault,
    decode::{At, FromText},
    document::{CallText, DeletionPlan, Texts, Verify},
    nearest,
    resolve::{Context, upstream},
    template,
};

/// The most lookups: the caller waits for them.
const MAX_LOOKUPS: usize = 8;
/// The most steps, and the most probes.
const MAX_STEPS: usize = 32;
/// The most headers of a request, and the most values captured from an answer.
const MAX_TEXTS: usize = 16;
/// The longest body.
const MAX_BODY: usize = 16 * 1024;
/// The most looks.
const MAX_LOOKS: usize = 16;
/// Somebody waits for a lookup.
const LONGEST_LOOKUP: Duration = Duration::from_secs(30);
/// A lease is renewed meanwhile; what takes longer is for a job of the upstream's own.
const LONGEST_CALL: Duration = Duration::from_secs(10 * 60);
/// What is due after this is not a verification, and the record has to wait with it.
const LONGEST_LOOK: Duration = Duration::from_secs(400 * 86_400);
/// They say nothing of the data: who asks was refused, or is to ask again.
const SAYS_NOTHING: [u64; 6] = [401, 403, 408, 421, 425, 429];

/// What a plan asks, does, and looks at.
pub(super) struct Calls {
    pub(super) lookups: Vec<Call>,
    pub(super) steps: Vec<Step>,
    pub(super) probes: Vec<Probe>,
    pub(super) verify_after_secs: Vec<u64>,
    /// What lookups capture.
    pub(super) captured: Vec<String>,
}

/// One by one; `None` was reported.
pub(super) fn calls(
    written: &DeletionPlan,
    values: &Values<'_>,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Option<Calls> {
    let mut maker = Maker { values, around, names: BTreeSet::new(), captures: BTreeSet::new(), bare: BTreeSet::new() };
    let lookups = lookups(written, &mut maker, to);
    let of_lookups = maker.captures.clone();
    let steps = steps(written, &of_lookups, &mut maker, to);
    let probes = probes(&written.verify, &of_lookups, &mut maker, to);
    let verify_after_secs = looks(written, to);
    Some(Calls {
        lookups: lookups?,
        steps: steps?,
        probes: probes?,
        verify_after_secs,
        captured: of_lookups.into_iter().map(str::to_owned).collect(),
    })
}

struct Maker<'a> {
    values: &'a Values<'a>,
    around: &'a Surroundings<'a>,
    /// The names of all that was made.
    names: BTreeSet<&'a str>,
    /// The names of all that was captured.
    captures: BTreeSet<&'a str>,
    /// Upstreams without a credential that were warned of.
    bare: BTreeSet<&'a str>,
}

fn lookups<'a>(written: &'a DeletionPlan, maker: &mut Maker<'a>, to: &mut Context<'_>) -> Option<Vec<Call>> {
    at_most(&written.lookups, MAX_LOOKUPS, "lookups", &written.span, to);
    let mut calls = Vec::with_capacity(written.lookups.len());
    for lookup in &written.lookups {
        let text = lookup.call();
        only_asks(&text, to);
        let known = maker.captures.clone();
        calls.push(maker.call(&text, LONGEST_LOOKUP, &known, to));
    }
    calls.into_iter().collect()
}

fn steps<'a>(
    written: &'a DeletionPlan,
    of_lookups: &BTreeSet<&'a str>,
    maker: &mut Maker<'a>,
    to: &mut Context<'_>,
) -> Option<Vec<Step>> {
    at_most(&written.steps.0, MAX_STEPS, "steps", &written.span, to);
    let mut steps = Vec::with_capacity(written.steps.0.len());
    // What is captured when a step is done: by those before it, and by itself.
    let mut done: Vec<BTreeSet<&'a str>> = Vec::with_capacity(written.steps.0.len());
    for (at, step) in written.steps.0.iter().enumerate() {
        let after = match &step.after {
            Some(names) => before(names, written.steps.0.get(..at).unwrap_or_default(), to),
            None => at.checked_sub(1).into_iter().collect(),
        };
        let mut known = of_lookups.clone();
        known.extend(after.iter().filter_map(|before| done.get(*before)).flatten());
        let text = step.call();
        let call = maker.call(&text, LONGEST_CALL, &known, to);
        known.extend(step.capture.0.iter().map(|(name, _)| name.value.as_str()));
        done.push(known);
        let statuses = statuses(&step.done.0, to);
        for status in step.done.0.iter().filter(|status| status.value.0 >= 500) {
            to.error(
                &status.span,
                format!("{} is an error of the server: it is tried again, never done", status.shown),
            );
        }
        if let (false, Some(first)) = (statuses.iter().any(|status| [404, 410].contains(status)), step.done.0.first()) {
            let message = "neither 404 nor 410 counts as done: after a crash a step is sent again, and then the data may be gone already";
            to.warn(&first.span, message, "add 404 and 410");
        }
        steps.push(call.map(|call| Step { call, done: statuses, after }));
    }
    steps.into_iter().collect()
}

/// The places of the steps that come before: each stands before it in the file, so that there is no circle.
fn before(
    names: &[At<crate::config::text::Name>],
    earlier: &[crate::config::document::Step],
    to: &mut Context<'_>,
) -> Vec<usize> {
    let mut after = Vec::with_capacity(names.len());
    for name in names {
        match earlier.iter().position(|step| step.name.value == name.value) {
            Some(at) if after.contains(&at) => to.error(&name.span, format!("`{}` is listed twice", name.shown)),
            Some(at) => after.push(at),
            None => {
                let message = format!("no step before this one is named `{}`", name.shown);
                let known = earlier.iter().map(|step| step.name.value.0.as_str());
                let help = nearest::advice(&name.value.0, known)
                    .unwrap_or_else(|| "write the steps in their order".to_owned());
                to.error_with_help(&name.span, message, help);
            }
        }
    }
    after
}

fn probes<'a>(
    written: &'a Verify,
    of_lookups: &BTreeSet<&'a str>,
    maker: &mut Maker<'a>,
    to: &mut Context<'_>,
) -> Option<Vec<Probe>> {
    at_most(&written.probes, MAX_STEPS, "probes", &written.span, to);
    let mut probes = Vec::with_capacity(written.probes.len());
    for probe in &written.probes {
        let text = probe.call();
        only_asks(&text, to);
        // It is asked before the first step, too.
        let call = maker.call(&text, LONGEST_CALL, of_lookups, to);
        let (there, gone) = (statuses(&probe.there.0, to), statuses(&probe.gone.0, to));
        for status in probe.there.0.iter().filter(|status| status.value.0 >= 400) {
            to.error(&status.span, format!("{} does not mean that data is there", status.shown));
        }
        for status in probe.gone.0.iter().filter(|status| status.value.0 >= 500) {
            to.error(
                &status.span,
                format!("{} is an error of the server: it does not mean that data is gone", status.shown),
            );
        }
        if let Some(both) =
            probe.gone.0.iter().find(|status| probe.there.0.iter().any(|there| there.value == status.value))
        {
            let message = format!("{} means that the data is there, and that it is gone", both.shown);
            to.error_with_help(&both.span, message, "ask something whose status tells");
        }
        probes.push(call.map(|call| Probe { call, there, gone, optional: probe.optional }));
    }
    probes.into_iter().collect()
}

/// When it is looked: ascending seconds.
fn looks(written: &DeletionPlan, to: &mut Context<'_>) -> Vec<u64> {
    let verify = &written.verify;
    if verify.probes.is_empty() {
        // A section that is not written is a default without a place.
        let span = if verify.span.line > 0 { &verify.span } else { &written.span };
        if !verify.broken {
            let message = "nothing verifies that the data is gone: the evidence is the steps' word alone";
            to.warn(
                span,
                message,
                "add `verify: {probes: [{name: …, upstream: …, request: \"GET /accounts/{subject}\"}]}`",
            );
        }
        return Vec::new();
    }
    let times = &verify.after;
    at_most(&times.value, MAX_LOOKS, "looks", &times.span, to);
    if times.value.is_empty() {
        to.error_with_help(&times.span, "it is never looked", "leave `after` out, or write [0s, 1h, 24h, 30d]");
    }
    let mut last: Option<Duration> = None;
    for time in &times.value {
        if last.is_some_and(|last| last >= time.value.0) {
            to.error(&time.span, "these times ascend, and none is there twice");
        }
        if time.value.0 > LONGEST_LOOK {
            to.error(
                &time.span,
                "the last look is after 400d at most: until then the record of the deletion holds the person's values",
            );
        }
        last = Some(time.value.0);
    }
    times.value.iter().filter_map(|time| whole_secs(time.value.0, &time.span, to)).collect()
}

impl<'a> Maker<'a> {
    /// A call whose every value is known; `None` was reported.
    fn call(
        &mut self,
        text: &CallText<'a>,
        longest: Duration,
        known: &BTreeSet<&'a str>,
        to: &mut Context<'_>,
    ) -> Option<Call> {
        if !self.names.insert(&text.name.value.0) {
            to.error(
                &text.name.span,
                format!("`{}` is the name of a lookup, step or probe of this plan already", text.name.shown),
            );
        }
        let found = self.around.shared.upstreams.find(text.upstream, to);
        if let Some(why) = found.as_ref().and_then(|upstream| upstream::not_called(upstream)) {
            let help = "give the calls an upstream of their own, whose targets are `http://…` or `https://…`";
            to.error_with_help(
                &text.upstream.span,
                format!("`{}` can't be called by a plan: {why}", text.upstream.shown),
                help,
            );
        }
        if found.as_ref().is_some_and(|upstream| upstream.credential.is_none())
            && self.bare.insert(&text.upstream.value.0)
        {
            let message = format!(
                "the upstream `{}` has no `credential`, and the caller's token is never sent",
                text.upstream.shown
            );
            to.warn(
                &text.upstream.span,
                message,
                "give it one that may do this and nothing else; none is needed where the network alone decides",
            );
        }
        self.values.check(text.request.value.template.values(), known, &text.request.span, to);
        let headers = self.headers(text.headers, known, to);
        if let Some(body) = text.body {
            self.check_body(text, body, known, to);
        }
        let capture = text.capture.map_or_else(BTreeMap::new, |capture| self.capture(capture, to));
        if text.timeout.value > longest {
            to.error(&text.timeout.span, format!("this takes {}s at most", longest.as_secs()));
        }
        let timeout_secs = whole_secs(text.timeout.value, &text.timeout.span, to);
        Some(Call {
            name: text.name.value.0.as_str().into(),
            upstream: found?.name.as_ref().into(),
            method: text.request.value.method.as_str().into(),
            target: text.request.value.target.as_str().into(),
            headers,
            body: text.body.map(|body| body.value.0.clone()),
            capture,
            timeout_secs: timeout_secs?,
        })
    }

    fn headers(&self, texts: &Texts, known: &BTreeSet<&str>, to: &mut Context<'_>) -> Vec<(Box<str>, Box<str>)> {
        let mut headers: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(texts.0.len());
        for (at, (name, text)) in texts.0.iter().enumerate() {
            if at == MAX_TEXTS {
                to.error(&name.span, format!("there are more than {MAX_TEXTS} headers"));
            }
            let header = match HeaderName::from_text(&name.value) {
                Ok(header) => header,
                Err(_) => {
                    to.error(&name.span, format!("`{}` is not a header's name", name.shown));
                    continue;
                }
            };
            upstream::report_not_for_calls(&header, &name.span, to);
            if headers.iter().any(|(known, _)| **known == *header.as_str()) {
                to.error(&name.span, format!("`{}` is there twice", name.shown));
            }
            if let Some(template) = parsed(Template::parse_header(&text.value), &text.span, to) {
                self.values.check(template.values(), known, &text.span, to);
            }
            headers.push((header.as_str().into(), text.value.as_str().into()));
        }
        headers
    }

    fn check_body(
        &self,
        text: &CallText<'_>,
        body: &At<crate::config::document::JsonText>,
        known: &BTreeSet<&str>,
        to: &mut Context<'_>,
    ) {
        if [Method::GET, Method::HEAD].contains(&text.request.value.method) {
            to.error(&body.span, format!("a {} has no body (RFC 9110 §9.3.1)", text.request.value.method));
        }
        if body.value.0.to_string().len() > MAX_BODY {
            to.error(&body.span, "the body has more than 16 KiB");
        }
        let mut values: Vec<Placeholder> = Vec::new();
        each_text(&body.value.0, &mut |text| {
            if let Some(template) = parsed(Template::parse(text), &body.span, to) {
                values.extend(template.values().cloned());
            }
        });
        self.values.check(values.iter(), known, &body.span, to);
    }

    fn capture(&mut self, texts: &'a Texts, to: &mut Context<'_>) -> BTreeMap<Box<str>, Box<str>> {
        let mut capture = BTreeMap::new();
        for (at, (name, pointer)) in texts.0.iter().enumerate() {
            if at == MAX_TEXTS {
                to.error(&name.span, format!("more than {MAX_TEXTS} values are captured"));
            }
            if !template::is_value_name(&name.value) {
                to.error(
                    &name.span,
                    "a captured value has a name of up to 64 letters, digits, `_`, `-`, `.`, `:` and `$`",
                );
            }
            if !self.captures.insert(&name.value) {
                to.error(&name.span, format!("`{}` is captured twice in this plan", name.shown));
            }
            match ClaimPath::from_text(&pointer.value) {
                Ok(ClaimPath::Pointer(_)) => {}
                Ok(ClaimPath::Name(_)) | Err(_) => {
                    let message = format!("`{}` is not a JSON pointer (RFC 6901)", pointer.shown);
                    to.error_with_help(&pointer.span, message, "write `/email`, or `/contact/email`");
                }
            }
            capture.insert(name.value.as_str().into(), pointer.value.as_str().into());
        }
        capture
    }
}

fn parsed(template: Result<Template, TemplateFault>, span: &Span, to: &mut Context<'_>) -> Option<Template> {
    template.map_err(|fault| to.error_with_help(span, format!("this is not a template: {fault}"), fault.help())).ok()
}

fn each_text(json: &Json, look: &mut impl FnMut(&str)) {
    match json {
        Json::String(text) => look(text),
        Json::Array(items) => items.iter().for_each(|item| each_text(item, look)),
        Json::Object(members) => members.values().for_each(|member| each_text(member, look)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Lookups and probes change nothing.
fn only_asks(text: &CallText<'_>, to: &mut Context<'_>) {
    let request = text.request;
    if ![Method::GET, Method::HEAD, Method::POST].contains(&request.value.method) {
        let message = format!("{} does not ask, it changes something", request.value.method);
        to.error_with_help(&request.span, message, "write GET or HEAD; POST where a search needs it");
    } else if request.value.method == Method::HEAD && text.capture.is_some_and(|capture| !capture.0.is_empty()) {
        to.error(&request.span, "the answer to a HEAD has nothing to capture from (RFC 9110 §9.3.2)");
    }
}

fn statuses(written: &[At<crate::config::document::Status>], to: &mut Context<'_>) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(written.len());
    for status in written {
        let number = u16::try_from(status.value.0).unwrap_or(u16::MAX);
        if SAYS_NOTHING.contains(&status.value.0) {
            let message =
                format!("{} says nothing of the data: who asked was refused, or is to ask again", status.shown);
            to.error(&status.span, message);
        } else if statuses.contains(&number) {
            to.error(&status.span, format!("{} is listed twice", status.shown));
        }
        statuses.push(number);
    }
    statuses
}

fn at_most<T>(list: &[T], most: usize, what: &str, span: &Span, to: &mut Context<'_>) {
    if list.len() > most {
        to.error(span, format!("there are more than {most} {what}"));
    }
}

/// A time in whole seconds, as records have it.
pub(super) fn whole_secs(time: Duration, span: &Span, to: &mut Context<'_>) -> Option<u64> {
    if time.subsec_nanos() != 0 {
        to.error(span, "times of a plan are whole seconds");
        return None;
    }
    Some(time.as_secs())
}
