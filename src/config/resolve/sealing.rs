//! `sealing`: one place for each key, and a key wherever something is kept.

use super::Context;
use crate::config::{
    Sealing, SealingKey, Source, Span,
    document::{self, Document, SealingKeyText},
};

pub(super) fn sealing(document: &Document, to: &mut Context<'_>) -> Option<Sealing> {
    // Of a section with a key that is not known more may be missing: it may be this.
    let authority = document.authority.as_ref().map(|written| ("authority", &written.span, written.broken));
    let deletions = document.deletions.as_ref().map(|written| ("deletions", &written.span, written.broken));
    let needed = authority.or(deletions);
    match (&document.sealing, needed) {
        (Some(written), needed) => {
            // A section that could not be read may be the one that needs it.
            if needed.is_none() && !document.broken {
                let help = "it is for what `authority` and `deletions` keep: leave it out";
                to.warn(&written.span, "`sealing` has no effect, as nothing is kept", help);
            }
            keys(written, to)
        }
        (None, Some((section, span, false))) => {
            let message = format!("`{section}` needs the section `sealing`: all that it keeps is encrypted");
            let help = "make a key by `openssl rand -base64 32 > sealing.key`, and write `sealing: {key: {file: sealing.key}}` beside it";
            to.error_with_help(span, message, help);
            None
        }
        (None, _) => None,
    }
}

fn keys(written: &document::Sealing, to: &mut Context<'_>) -> Option<Sealing> {
    let current = key(&written.key, &written.span, to);
    let previous = written.previous.iter().map(|before| key(before, &written.span, to)).collect::<Vec<_>>();
    let sealing = Sealing { key: current?, previous: previous.into_iter().collect::<Option<_>>()? };
    if sealing.previous.iter().any(|previous| place(previous) == place(&sealing.key)) {
        to.error(&written.span, "the key is among the previous ones: it cannot be followed by itself");
    }
    Some(sealing)
}

/// Where a key is, for comparing; the text of one that is written out is not compared.
fn place(key: &SealingKey) -> Option<String> {
    match key {
        SealingKey::Source(Source::File(file)) => Some(format!("file {}", file.path.display())),
        SealingKey::Source(Source::Env { name, .. }) => Some(format!("env {name}")),
        SealingKey::Source(Source::Inline { span, .. }) => Some(format!("inline {}:{}", span.line, span.column)),
        SealingKey::Command { argv, .. } => Some(format!("command {argv:?}")),
    }
}

fn key(text: &SealingKeyText, section: &Span, to: &mut Context<'_>) -> Option<SealingKey> {
    match text {
        SealingKeyText::Inline { span, value, from_env } => {
            if !from_env {
                to.warn_written_out(span);
            }
            Some(SealingKey::Source(Source::Inline { span: span.clone(), value: value.clone() }))
        }
        SealingKeyText::Place(written) => {
            let Some(command) = &written.command else {
                let span = if written.span.line > 0 { &written.span } else { section };
                return to
                    .place(span, written.broken, written.file.as_ref(), written.env.as_ref())
                    .map(SealingKey::Source);
            };
            if written.file.is_some() || written.env.is_some() {
                let message = "a sealing key is in one place: a file, the environment, or printed by a command";
                to.error(&written.span, message);
                return None;
            }
            Some(SealingKey::Command { span: command.span.clone(), argv: command.value.0.clone() })
        }
    }
}
