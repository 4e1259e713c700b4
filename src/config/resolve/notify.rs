//! Mail and webhooks: nothing that is secret leaves without protection, and each webhook has a name of its own.

use std::time::Duration;

use url::Host;

use super::Context;
use crate::config::{
    Mail, MailLogin, MailProtection, MailServer, Notify, Problem, Webhook,
    decode::At,
    document::{self, Document},
    nearest,
    text::{FilePath, Name},
};

/// Whoever waits for a code waits no longer than this for one attempt.
const LONGEST: Duration = Duration::from_secs(2 * 60);

pub(super) fn notify(document: &Document, to: &mut Context<'_>) -> Option<Notify> {
    let written = document.notify.as_ref()?;
    if written.mail.is_none() && written.webhooks.entries.is_empty() && written.webhooks.complete && !written.broken {
        to.warn(&written.span, "nobody can be told anything", "add `mail` or `webhooks`");
    }
    let mail = written.mail.as_ref().map(|section| mail(section, to));
    let mut webhooks = Vec::with_capacity(written.webhooks.entries.len());
    for entry in &written.webhooks.entries {
        // It would be mixed up with mail in metrics and logs.
        if &*entry.name == "mail" {
            to.error(&entry.span, "a webhook cannot be named `mail`");
        }
        webhooks.extend(entry.value.as_ref().and_then(|section| {
            let (secret, previous) =
                (to.secret(&section.secret), section.previous_secret.as_ref().map(|it| to.secret(it)));
            report_long(&section.timeout, to);
            report_useless_ca(section.ca.as_ref(), section.url.value.0.scheme() == "https", to);
            Some(Webhook {
                span: entry.span.clone(),
                name: entry.name.clone(),
                url: section.url.value.0.clone(),
                secret: secret?,
                previous_secret: match previous {
                    Some(previous) => Some(previous?),
                    None => None,
                },
                timeout: section.timeout.value,
                ca: section.ca.as_ref().map(|ca| to.file(ca)),
            })
        }));
    }
    Some(Notify {
        span: written.span.clone(),
        mail: match mail {
            Some(mail) => Some(mail?),
            None => None,
        },
        webhooks,
    })
}

/// Reports the name of a webhook that there is not.
pub(super) fn report_unknown(name: &At<Name>, document: &Document, to: &mut Context<'_>) {
    let webhooks = document.notify.as_ref().map(|notify| &notify.webhooks);
    let entries = webhooks.map_or(&[][..], |webhooks| &webhooks.entries);
    let complete = document.notify.as_ref().is_none_or(|notify| notify.webhooks.complete && !notify.broken);
    if entries.iter().any(|entry| *entry.name == *name.value.0) || !complete {
        return;
    }
    let message = format!("no webhook is named `{}`", name.shown);
    let mut problem = Problem::error(&name.span, message);
    problem.help = match entries {
        [] => Some("name it under `notify.webhooks`".to_owned()),
        _ if *name.shown == *name.value.0 => nearest::advice(&name.value.0, entries.iter().map(|entry| &*entry.name)),
        _ => None,
    };
    to.cx.report(problem);
}

fn mail(written: &document::Mail, to: &mut Context<'_>) -> Option<Mail> {
    let server = server(written, to);
    let login = login(written, to);
    report_long(&written.timeout, to);
    let protected = server.as_ref().is_none_or(|server| server.protection != MailProtection::Cleartext);
    report_useless_ca(written.ca.as_ref(), protected, to);
    Some(Mail {
        span: written.span.clone(),
        server: server?,
        login: match login {
            Some(login) => Some(login?),
            None => None,
        },
        from: written.from.value.0.clone(),
        ca: written.ca.as_ref().map(|ca| to.file(ca)),
        timeout: written.timeout.value,
    })
}

fn server(written: &document::Mail, to: &mut Context<'_>) -> Option<MailServer> {
    let (server, cleartext) = (&written.server.value, &written.danger_cleartext);
    if !cleartext.value {
        return Some(server.clone());
    }
    if server.protection == MailProtection::Tls {
        to.error(&cleartext.span, "`danger_cleartext` is for `smtp://` alone: `smtps://` begins with TLS");
        return None;
    }
    if !is_loopback(&server.host) {
        let help = "use `smtps://`, or `smtp://` with STARTTLS; a relay on this machine can be had without";
        to.error_with_help(&cleartext.span, "mail without TLS is for loopback alone", help);
        return None;
    }
    let message = "`danger_cleartext`: codes and the password of the mail server can be read on the way";
    to.warn(&cleartext.span, message, "leave it out unless this is a relay on the same machine");
    Some(MailServer { protection: MailProtection::Cleartext, ..server.clone() })
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// A login; inside, `None` was reported.
fn login(written: &document::Mail, to: &mut Context<'_>) -> Option<Option<MailLogin>> {
    match (&written.username, &written.password) {
        (Some(username), Some(password)) => {
            let password = to.secret(password);
            Some(password.map(|password| MailLogin { username: username.value.as_str().into(), password }))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            if !written.broken {
                to.error(&written.span, "`username` and `password` come together, or the gateway does not log in");
            }
            Some(None)
        }
    }
}

fn report_long(timeout: &At<Duration>, to: &mut Context<'_>) {
    if timeout.value > LONGEST {
        to.error(&timeout.span, "an attempt takes 2m at most: somebody waits for the code");
    }
}

fn report_useless_ca(ca: Option<&At<FilePath>>, tls: bool, to: &mut Context<'_>) {
    if let (Some(ca), false) = (ca, tls) {
        to.warn(&ca.span, "`ca` has no effect: no TLS is spoken there", "leave it out");
    }
}
