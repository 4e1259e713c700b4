//! Whose: nothing that a caller writes decides what is deleted, unless it is bound to who they are. This is what keeps one caller from
//! deleting another's data (insecure direct object references).

use std::collections::BTreeSet;

use super::operation::Operations;
use crate::{
    config::{
        ClaimPath, Placeholder, Span, TOKEN_SUBJECT, ValueSource,
        document::{self, DeletionPlan},
        nearest,
        resolve::{Context, route},
    },
    policy::IssuerName,
};

use super::plan::Surroundings;

/// The values that templates of a plan may use.
pub(super) struct Values<'a> {
    /// Values of the request that are the subject, or bound to a claim.
    sources: Vec<&'a ValueSource>,
    /// Whether somebody may ask for another's deletion: the caller's claims are not the subject's then.
    others: bool,
    operations: &'a Operations,
}

impl<'a> Values<'a> {
    pub(super) fn of(written: &'a DeletionPlan, operations: &'a Operations) -> Self {
        let bound = written.bind.0.iter().map(|(source, _)| &source.value.0);
        let sources = [&written.subject.value.0].into_iter().chain(bound).collect();
        Self { sources, others: !written.others.is_empty(), operations }
    }

    /// Reports each value that a template must not use; `captured` are the values that were captured before.
    pub(super) fn check<'p>(
        &self,
        values: impl Iterator<Item = &'p Placeholder>,
        captured: &BTreeSet<&str>,
        span: &Span,
        to: &mut Context<'_>,
    ) {
        let mut seen = Vec::new();
        for value in values {
            if seen.contains(&value) {
                continue;
            }
            seen.push(value);
            match value {
                Placeholder::Subject | Placeholder::Deletion => {}
                Placeholder::Path(name) => self.check_source(value, &ValueSource::Path(name.clone()), span, to),
                Placeholder::Query(name) => self.check_source(value, &ValueSource::Query(name.clone()), span, to),
                Placeholder::Body(name) => self.check_source(value, &ValueSource::Body(name.clone()), span, to),
                Placeholder::Claim(_) if !self.others => {}
                Placeholder::Claim(_) => {
                    let message = format!(
                        "`{{{value}}}` is the caller's, and `others` lets callers ask for somebody else's deletion: it would be the wrong person's"
                    );
                    to.error_with_help(span, message, "capture it by a lookup of the subject");
                }
                Placeholder::Captured(name) if captured.contains(&**name) => {}
                Placeholder::Captured(name) => {
                    let message = format!("nothing captures `{}` before this", nearest::short(name));
                    let help = nearest::advice(name, captured.iter().copied())
                        .unwrap_or_else(|| "`capture` of a lookup or of an earlier step does".to_owned());
                    to.error_with_help(span, message, help);
                }
            }
        }
    }

    fn check_source(&self, value: &Placeholder, source: &ValueSource, span: &Span, to: &mut Context<'_>) {
        if self.sources.contains(&source) {
            return;
        }
        if let Placeholder::Path(name) = value
            && !self.operations.parameters().any(|(_, known)| **known == **name)
        {
            report_no_parameter(name, self.operations, span, to);
            return;
        }
        let message = format!("`{{{value}}}` is not bound to the caller: whoever asks could put another's there");
        to.error_with_help(span, message, format!("add `bind: {{{value}: CLAIM}}`, or capture it by a lookup"));
    }
}

/// Reports a plan that does not bind what it deletes to who asks.
pub(super) fn report(written: &DeletionPlan, operations: &Operations, to: &mut Context<'_>) {
    let subject = &written.subject;
    let others = written.others.first().map(|scope| &scope.span);
    match (&subject.value.0, others) {
        (ValueSource::Caller, Some(span)) => {
            let message = "`others` has no effect: with `subject: caller` a request names nobody else";
            to.error_with_help(span, message, "say where the request names the subject: `subject: path.id`");
        }
        (ValueSource::Caller | ValueSource::Path(_) | ValueSource::Query(_) | ValueSource::Body(_), _) => {
            report_parameter(subject, operations, to);
        }
    }
    for (source, _) in &written.bind.0 {
        if source.value.0 == ValueSource::Caller {
            let message = "the caller is no value of the request: there is nothing to bind";
            to.error_with_help(&source.span, message, "bind `path.NAME`, `query.NAME` or `body.NAME`");
        } else if source.value.0 == subject.value.0 {
            let message = format!("`{}` is the subject: which claim it must equal is said by `owner`", source.shown);
            to.error_with_help(&source.span, message, "leave it out here");
        } else {
            report_parameter(source, operations, to);
        }
    }
    report_unbound(written, operations, to);
}

/// A parameter of the path is one of every operation.
fn report_parameter(
    source: &crate::config::decode::At<document::SourceText>,
    operations: &Operations,
    to: &mut Context<'_>,
) {
    let ValueSource::Path(name) = &source.value.0 else { return };
    if !operations.has_parameter(name) {
        report_no_parameter(name, operations, &source.span, to);
    }
}

fn report_no_parameter(name: &str, operations: &Operations, span: &Span, to: &mut Context<'_>) {
    let lacking = operations.operations.iter().find(|operation| {
        !operations.parameters().any(|(other, known)| std::ptr::eq(other, *operation) && **known == *name)
    });
    let Some(lacking) = lacking else { return };
    let message = format!("`{}` has no parameter `{}`", nearest::short(&lacking.text), nearest::short(name));
    let known: BTreeSet<&str> = operations.parameters().map(|(_, name)| &**name).collect();
    let help = match known.contains(name) {
        true => Some("all operations of a plan have it; others need a plan of their own".to_owned()),
        false => nearest::advice(name, known),
    };
    let help = help.unwrap_or_else(|| "its path has no `{NAME}` at all".to_owned());
    to.error_with_help(span, message, help);
}

/// What a path names, and nobody compares with anything.
fn report_unbound(written: &DeletionPlan, operations: &Operations, to: &mut Context<'_>) {
    let bound = |name: &str| {
        let named = |source: &ValueSource| matches!(source, ValueSource::Path(known) if **known == *name);
        named(&written.subject.value.0) || written.bind.0.iter().any(|(source, _)| named(&source.value.0))
    };
    for (operation, name) in operations.parameters().filter(|(_, name)| !bound(name)) {
        let text = nearest::short(&operation.text);
        let help = format!("add `bind: {{path.{name}: CLAIM}}`");
        if written.subject.value.0 == ValueSource::Caller {
            let message = format!(
                "`{{{name}}}` of `{text}` names somebody or something, and with `subject: caller` nobody looks at it"
            );
            to.error_with_help(&operation.span, message, format!("say `subject: path.{name}`, or {help}"));
        } else {
            to.warn(&operation.span, format!("`{{{name}}}` of `{text}` is bound to nothing: any value will do"), help);
        }
    }
}

/// Who vouches for the data's subject.
pub(super) fn issuer(
    written: &DeletionPlan,
    operations: &Operations,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Option<IssuerName> {
    let Some(name) = &written.issuer else {
        if let (Some(others), [_, _, ..], true) = (written.others.first(), &*operations.issuers, operations.complete) {
            let names: Vec<&str> = operations.issuers.iter().map(|name| &**name).collect();
            let message = format!(
                "callers may come from {}, and who asks for another's deletion says nothing of who vouches for that person",
                names.join(", ")
            );
            to.error_with_help(&others.span, message, "add `issuer: NAME`");
        } else if let ([_, _, ..], true) = (&*operations.issuers, operations.complete) {
            // The services behind know one `alice`; each issuer may have another.
            let names: Vec<&str> = operations.issuers.iter().map(|name| &**name).collect();
            let message = format!(
                "callers may come from {}, and who has the same subject with the one is somebody else with the other: either could \
                 delete the other's data",
                names.join(", ")
            );
            to.error_with_help(&written.subject.span, message, "add `issuer: NAME`: whose people's data it is");
        }
        return None;
    };
    let issuer = route::source(name, around.shared, to)?;
    if operations.complete && !operations.issuers.contains(&issuer) {
        let names: Vec<&str> = operations.issuers.iter().map(|name| &**name).collect();
        let message = format!(
            "no route of this plan's operations takes credentials of `{}`: nobody could ask for their own",
            name.shown
        );
        to.error_with_help(&name.span, message, format!("the routes take: {}", names.join(", ")));
    }
    Some(issuer)
}

/// A claim that a subject is compared with is one that says who somebody is.
pub(super) fn owner(written: &DeletionPlan, to: &mut Context<'_>) -> Option<ClaimPath> {
    let owner = written.owner.as_ref()?;
    let (ClaimPath::Name(claim) | ClaimPath::Pointer(claim)) = &owner.value;
    let name = claim.trim_start_matches('/');
    // Texts that many tokens share: an equal one would make everybody the owner.
    const SHARED: [&str; 14] = [
        "iss",
        "aud",
        "azp",
        "client_id",
        "scope",
        "scp",
        "acr",
        "amr",
        "typ",
        "tid",
        "tenant",
        "tenant_id",
        "org_id",
        "role",
    ];
    if SHARED.contains(&name) {
        let message = format!("many callers have the same `{name}`: each of them would own the others' data");
        to.error_with_help(&owner.span, message, "name the claim that says who the person is: `sub`, most often");
    }
    // Whoever can change their own address at the provider could write another's.
    const OF_ONES_OWN: [&str; 6] = ["email", "preferred_username", "name", "nickname", "upn", "phone_number"];
    if OF_ONES_OWN.contains(&name) {
        let message =
            format!("`{name}` is a claim that people can change, or that changes hands (OpenID Connect Core §5.7)");
        to.warn(&owner.span, message, "`sub` with the issuer is the only one that stays one person's");
    }
    Some(owner.value.clone())
}

/// The gateway's own data is found by the subject of the person's tokens: where another may ask for it, and knows the person by another
/// claim, somebody has to say which that is.
pub(super) fn report_own_data(written: &DeletionPlan, to: &mut Context<'_>) {
    let (Some(owner), true, true) = (&written.owner, written.own_data, !written.others.is_empty()) else { return };
    let is_subject = match &owner.value {
        ClaimPath::Name(claim) => &**claim == "sub",
        ClaimPath::Pointer(claim) => &**claim == "/sub",
    };
    let is_captured =
        written.lookups.iter().any(|one| one.capture.0.iter().any(|(name, _)| name.value == TOKEN_SUBJECT));
    if !is_subject && !is_captured {
        let message = format!(
            "with `others` and this claim nobody knows the subject of the person's tokens, by which the gateway's own data of them is \
             found: `{TOKEN_SUBJECT}` is captured nowhere"
        );
        let help = format!("capture it by a lookup: `capture: {{{TOKEN_SUBJECT}: /sub}}`; or add `own_data: false`");
        to.error_with_help(&owner.span, message, help);
    }
}
