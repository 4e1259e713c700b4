//! The configuration: YAML text → document as written → [`Config`], valid and with every name resolved.
//! All problems are found together and none of this reads a file, the environment or a clock.
//!
//! ```text
//! text ─yaml─> nodes with places ─env─> filled in ─decode─> Document ─resolve─> Config
//! ```
//! Every section of the file is declared once, in `document/`; the JSON Schema and docs/configuration.md are printed from
//! the same declarations.

mod braces;
mod condition;
mod decode;
mod document;
mod env;
mod materials;
mod model;
mod nearest;
mod preset;
mod problem;
mod quantity;
mod redact;
mod reference;
mod render;
mod reserved;
mod resolve;
mod route_text;
mod schema;
mod shape;
mod template;
mod text;
mod uncovered;
mod unguarded;
mod yaml;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

pub use materials::{LIST_BYTES, Materials};
pub use model::*;
pub use problem::{Problem, Problems, Severity, Span};
pub use reference::reference;
pub use render::Color;
pub use reserved::{RuleKind, folded, not_for_request_rules, not_for_response_rules};
pub use route_text::{Piece, RouteText, RouteValue};
pub use schema::schema;
pub use template::{Part, Placeholder, TargetTemplate, Template, TemplateFault};
pub use uncovered::{described, uncovered};
pub use unguarded::unguarded;

use decode::{Cx, Decode, FromText};

/// A configuration to load, and all that it depends on.
pub struct Input<'a> {
    /// The file, as the user named it: for messages.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// The folder that relative paths start at.
    pub base: &'a Path,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// A configuration that loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What an operator should know, in the order of the file.
    pub warnings: Vec<Problem>,
    text: Arc<str>,
}

impl Loaded {
    /// A configuration that was found good before, whatever the file says by now.
    pub fn again(config: Config) -> Self {
        Self { config, warnings: Vec::new(), text: "".into() }
    }

    /// The warnings, and more of them, ready to be rendered with their lines.
    pub fn report(&self, more: Vec<Problem>) -> Problems {
        let mut list = self.warnings.clone();
        list.extend(more);
        list.sort_by_key(|problem| (problem.span.line, problem.span.column));
        Problems { file: self.config.file.clone(), text: self.text.clone(), list }
    }
}

/// A duration as the configuration writes it: `30s`, `3d`.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    std::time::Duration::from_text(text).ok()
}

/// Reads a configuration; reports everything that is wrong with it at once, errors and warnings.
pub fn load(input: &Input<'_>) -> Result<Loaded, Problems> {
    let mut cx = Cx::default();
    let parsed = yaml::parse(input.text);
    for fault in parsed.faults {
        let span = Span { line: fault.place.line, column: fault.place.column, key: fault.path.as_str().into() };
        let problem = Problem::error(&span, fault.message);
        cx.report(Problem { help: fault.help, ..problem });
    }
    parsed.masks.into_iter().for_each(|bytes| cx.mask(bytes));
    let readable = parsed.root.is_some();
    let config = parsed.root.and_then(|mut root| {
        env::substitute(&mut root, input.env, &mut cx);
        let document = document::Document::decode(&root, &mut cx)?;
        resolve::config(&document, input.file, input.base, &mut cx)
    });
    let failed = cx.failed();
    let (list, masks) = cx.finish();
    let text: Arc<str> = match readable {
        true => redact::redact(input.text, &masks).into(),
        false => redact::redact_unparsed(input.text, &document::harmless_keys()).into(),
    };
    match config {
        Some(config) if !failed => Ok(Loaded { config, warnings: list, text }),
        Some(_) | None => Err(Problems { file: input.file.to_owned(), text, list }),
    }
}
