//! `Document` → `Config`: what was written fits together, or every reason why not is reported. Pure: files are named
//! here and read later.

mod acme;
mod api_keys;
mod assertion;
mod authority;
mod balancing;
mod basic;
mod certificate;
mod credential;
mod deletion;
mod dpop;
mod events;
mod guard;
mod introspection;
mod issuer;
mod level_name;
mod limit;
mod listener;
mod machine;
mod name;
mod notify;
mod planned;
mod reach;
mod route;
mod sealing;
mod server;
mod shaping;
mod streams;
mod table;
mod target;
mod tie;
mod upstream;

use std::path::Path;

use super::{
    AccessLog, Config, CredentialKind, File, Problem, Source, Span,
    decode::{At, Cx},
    document::{AccessLogText, Document, SecretText},
    text::FilePath,
};
use crate::policy::IssuerName;

/// What the subjects of a document need of each other while they are resolved.
struct Context<'a> {
    base: &'a Path,
    cx: &'a mut Cx,
    /// The names of all who may vouch for a caller, as written.
    sources: Vec<IssuerName>,
    /// Whether no such name could not be read.
    sources_complete: bool,
    /// What the authority can give.
    ways: authority::Ways,
}

/// Resolves a document. The result counts only if nothing was reported as an error.
pub(super) fn config(document: &Document, file: &Path, base: &Path, cx: &mut Cx) -> Option<Config> {
    let (issuers, credentials) = (&document.issuers, &document.credentials);
    let mut context = Context {
        base,
        cx,
        sources: issuers
            .entries
            .iter()
            .map(|entry| entry.name.clone())
            .chain(credentials.entries.iter().map(|entry| entry.name.clone()))
            .collect(),
        sources_complete: issuers.complete && credentials.complete,
        ways: authority::Ways::of(document),
    };
    let to = &mut context;
    let listeners = listener::listeners(document, to);
    let acme = acme::acme(document, &listeners, to);
    let admin = server::admin(&document.admin, &listeners, to);
    let mut server = server::server(&document.server, to);
    let levels = limit::levels(document, to);
    let limits = limit::limits(document, to);
    let mut issuers = issuer::issuers(document, to);
    let credentials = credential::credentials(document, &issuers, basic::any_tls(&listeners), to);
    issuer::add_own(document, &mut issuers, to);
    certificate::report_unasked(document, &listeners, to);
    let sources = credentials.values();
    api_keys::take_away(&sources, &limits.values(), &mut server, to);
    if sources.iter().any(|source| matches!(source.kind, CredentialKind::ApiKeys(_))) {
        // Keys name limits, too.
        limits.use_all();
    }
    let upstreams = upstream::upstreams(document, to);
    let mut guard = guard::guard(document, &server, &levels, &limits, to);
    let quotas = deletion::guard(document, guard.as_mut(), &limits, to);
    let dns = reach::dns(document, to);
    let assertions = assertion::assertions(document, to);
    let notify = notify::notify(document, to).map(std::sync::Arc::new);
    let sealing = sealing::sealing(document, to);
    let audit = server::audit(&document.audit, &server, to);
    let access_log = match &document.access_log {
        AccessLogText::Word(word) => server::access_log(*word),
        AccessLogText::File(section) => AccessLog::File(to.file(&section.file)),
    };
    let shared =
        route::Shared { document, server: &server, guard: &guard, levels, limits, issuers, credentials, upstreams };
    let routes = route::routes(&shared, to);
    events::report_conflicts(&shared, &routes, to);
    let neighbours = authority::Neighbours {
        listeners: &listeners,
        routes: &routes,
        jwks_path: assertions.as_ref().map(|assertions| &*assertions.jwks_path),
    };
    let authority = authority::authority(document, &shared, &neighbours, to);
    let neighbours = deletion::Neighbours {
        listeners: &listeners,
        routes: &routes,
        jwks_path: assertions.as_ref().map(|assertions| &*assertions.jwks_path),
    };
    let deletions = deletion::deletions(document, &quotas, &shared, &neighbours, to);
    // What is unused may be so because of the error.
    if !to.cx.failed() {
        shared.report_unused(to.cx);
    }
    Some(Config {
        file: file.to_owned(),
        listeners,
        acme,
        admin,
        issuers: shared.issuers.values(),
        credentials: shared.credentials.values(),
        limits: shared.limits.values(),
        upstreams: shared.upstreams.values(),
        server,
        dns,
        assertions,
        notify,
        authority,
        deletion_guard: guard?,
        deletions,
        sealing,
        audit,
        access_log,
        routes,
    })
}

impl Context<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>) {
        self.cx.report(Problem::error(span, message));
    }

    fn error_with_help(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.cx.report(Problem::error(span, message).with_help(help));
    }

    fn warn(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.cx.report(Problem::warning(span, message).with_help(help));
    }

    /// A file, against the configuration's folder.
    fn file(&self, path: &At<FilePath>) -> File {
        File { span: path.span.clone(), path: self.base.join(&path.value.0) }
    }

    /// Where a secret is; one that is written out is a warning.
    fn secret(&mut self, secret: &SecretText) -> Option<Source> {
        let source = self.source(secret)?;
        if let (Source::Inline { span, .. }, SecretText::Inline { from_env: false, .. }) = (&source, secret) {
            self.warn_written_out(&span.clone());
        }
        Some(source)
    }

    fn warn_written_out(&mut self, span: &Span) {
        let message = "this secret is written in the configuration itself";
        self.warn(span, message, "write {file: path}, {env: NAME} or ${NAME}, and let this file be public");
    }

    /// Where a value is that may be secret or not.
    fn source(&mut self, text: &SecretText) -> Option<Source> {
        match text {
            SecretText::Inline { span, value, .. } => Some(Source::Inline { span: span.clone(), value: value.clone() }),
            SecretText::Place(place) => self.place(&place.span, place.broken, place.file.as_ref(), place.env.as_ref()),
        }
    }

    /// Exactly one of a file and a variable.
    fn place(
        &mut self,
        span: &Span,
        broken: bool,
        file: Option<&At<FilePath>>,
        env: Option<&At<super::text::EnvName>>,
    ) -> Option<Source> {
        match (file, env) {
            (Some(file), None) => Some(Source::File(self.file(file))),
            (None, Some(env)) => Some(Source::Env { span: env.span.clone(), name: env.value.0.as_str().into() }),
            (Some(_), Some(_)) => {
                self.error(span, "a secret is either in a file or in the environment, not both");
                None
            }
            (None, None) => {
                if !broken {
                    self.error_with_help(
                        span,
                        "it is not said where this secret is",
                        "write {file: path} or {env: NAME}",
                    );
                }
                None
            }
        }
    }
}
