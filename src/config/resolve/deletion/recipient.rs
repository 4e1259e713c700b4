//! Who is told.

use std::collections::BTreeSet;

use super::whose::Values;
use crate::config::{
    Recipient, Template,
    decode::{At, FromText},
    document::{Document, RecipientText},
    resolve::{Context, authority, notify},
    text::Sender,
};

/// More are a list of their own, on the mail server.
const MAX_RECIPIENTS: usize = 16;

/// Operators: their addresses are fixed.
pub(super) fn operators(written: &[RecipientText], document: &Document, to: &mut Context<'_>) -> Vec<Recipient> {
    recipients(written, document, to, |template, at, to| {
        if template.fixed().is_none() {
            to.error_with_help(
                &at.span,
                "operators have a fixed address: no deletion is theirs",
                "write `dpo@example.com`",
            );
        }
    })
}

/// Who is told of each change of a deletion, by values that are known when it is asked for.
pub(super) fn told(
    written: &[RecipientText],
    document: &Document,
    values: &Values<'_>,
    captured: &BTreeSet<&str>,
    to: &mut Context<'_>,
) -> Vec<Recipient> {
    recipients(written, document, to, |template, at, to| values.check(template.values(), captured, &at.span, to))
}

fn recipients(
    written: &[RecipientText],
    document: &Document,
    to: &mut Context<'_>,
    check: impl Fn(&Template, &At<String>, &mut Context<'_>),
) -> Vec<Recipient> {
    if let Some(one) = written.get(MAX_RECIPIENTS) {
        to.error(&one.span, format!("at most {MAX_RECIPIENTS} are told"));
    }
    let mut recipients = Vec::with_capacity(written.len());
    for text in written {
        let recipient = match (&text.mail, &text.webhook) {
            (Some(mail), None) => {
                authority::needs_mail(&mail.span, document, to);
                address(mail, to).map(|template| {
                    check(&template, mail, to);
                    Recipient::Mail(mail.value.as_str().into())
                })
            }
            (None, Some(name)) => {
                notify::report_unknown(name, document, to);
                Some(Recipient::Webhook(name.value.0.as_str().into()))
            }
            (Some(_), Some(_)) => {
                to.error(&text.span, "a recipient is either `mail` or a `webhook`, not both");
                None
            }
            (None, None) => {
                if !text.broken {
                    to.error_with_help(
                        &text.span,
                        "it is not said who is told",
                        "write {mail: ADDRESS} or {webhook: NAME}",
                    );
                }
                None
            }
        };
        if recipient.as_ref().is_some_and(|recipient| recipients.contains(recipient)) {
            to.error(&text.span, "this recipient is listed twice");
        }
        recipients.extend(recipient);
    }
    recipients
}

/// An address, or a template that makes one; `None` was reported.
fn address(mail: &At<String>, to: &mut Context<'_>) -> Option<Template> {
    match Template::parse(&mail.value) {
        Ok(template) => {
            let fixed = template.fixed();
            if fixed.is_some_and(|text| Sender::from_text(text).map_or(true, |sender| sender.0.name.is_some())) {
                let help = "write `dpo@example.com`, or a template: \"{captured.email}\"";
                to.error_with_help(&mail.span, format!("`{}` is not a mail address", mail.shown), help);
                return None;
            }
            Some(template)
        }
        Err(fault) => {
            to.error_with_help(&mail.span, format!("`{}` is not a template: {fault}", mail.shown), fault.help());
            None
        }
    }
}
