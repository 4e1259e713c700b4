//! `docs/configuration.md`, printed from the declarations that the document is decoded with; a test compares the two.

use std::fmt::Write as _;

use super::{
    decode::Decode,
    document::Document,
    schema::slug,
    shape::{SectionShape, Shape, TextShape},
};

const INTRODUCTION: &str = "\
# Configuration reference

This page is printed from the declarations in `src/config/document/`; a test keeps them alike. `gateway.yaml` is one YAML
document. A file needs only `upstreams` and `routes`; all else has a safe default. An unknown key anywhere is an error, and
all errors are reported together with file, line and column: `stepgate check gateway.yaml`.

- `${NAME}` in any value is replaced from the environment after parsing, so that it can never change the structure; a
  variable that is not set is an error. `$${` is a literal `${`.
- A key that is left out has its default. A key without a value (`issuers:` and nothing) is an error.
- Relative paths start at the folder of the configuration file.
- A key that begins with `danger_` takes protection away; each is a warning at start.
- Anchors and aliases work, within bounds. Tags, merge keys (`<<`), duplicate keys and a second document are errors.
- The file may have 1 MiB, 32 levels and 200,000 values, repeated ones included.
";

const WHAT_HOLDS_TOGETHER: &str = "\
## What else is checked

These are errors: a name that nothing has; two listeners, issuers or route names that are the same; a listener that is not
exactly one of `tls`, `redirect_to_https` and `cleartext: true`; `client_ca` without `client_auth`, or the reverse; an
algorithm that does not fit the source of keys; a `burst` on a quota for more than a second; routes that could tie (the same
host, the same shape of path, a method in common); a method of a route that is not in `server.methods`; `scopes` or
`assurance` on a route with `auth: none`; a route without `auth` where there is no issuer; a rewrite of segments that are not
the literal beginning of the route's path; a `when` that does not compile; `forward_authorization: true` beside a
`credential`.

Where the deletion guard's assurance and a route's own both hold, `acr` lists are intersected, `amr` lists likewise, and the
smaller `max_age` wins. A list that comes out empty is an error if a guarded operation can reach the route.

These are warnings: a secret that is written in the file; an issuer without `audience`, or that does not require `aud` or
`exp`; a leeway of more than 5m; plain HTTP beyond loopback; an admin listener beyond loopback; a redirect to a port where no
listener has `tls`; a quota by header without one by address beside it; a quota by what a token says on a route that takes
none; a deletion guard without a DELETE operation, or that asks for no second factor; every `danger_` key; and names that
nothing uses. `stepgate check` also lists each operation that looks destructive and is not guarded.
";

/// The reference, in Markdown.
pub fn reference() -> String {
    let mut printer = Printer::default();
    printer.collect(&Document::shape());
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## How values are written\n\n| value | form |\n|---|---|\n");
    for text in &printer.texts {
        let _ = writeln!(page, "| {} | {} |", text.name, cell(text.about));
    }
    for section in &printer.sections {
        page.push_str(&section_text(section));
    }
    page.push('\n');
    page.push_str(WHAT_HOLDS_TOGETHER);
    page
}

/// Every section and every form of text once, in the order in which a reader meets them.
#[derive(Default)]
struct Printer {
    sections: Vec<SectionShape>,
    texts: Vec<TextShape>,
}

impl Printer {
    fn collect(&mut self, shape: &Shape) {
        match shape {
            Shape::Section(section) => {
                if self.sections.iter().any(|known| known.title == section.title) {
                    return;
                }
                self.sections.push(section.clone());
                section.fields.iter().for_each(|field| self.collect(&field.shape));
            }
            Shape::List { item, .. } | Shape::Named(item) | Shape::Keyed { item, .. } => self.collect(item),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| self.collect(shape)),
            Shape::Text(text) => {
                if !self.texts.iter().any(|known| known.name == text.name) {
                    self.texts.push(*text);
                }
            }
            Shape::Bool | Shape::Integer { .. } | Shape::Json | Shape::Words(_) => {}
        }
    }
}

fn section_text(section: &SectionShape) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n", heading(section.title), section.about);
    text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for field in &section.fields {
        let default = match field.default {
            Some("{}") => String::new(),
            Some(default) => format!("`{default}`"),
            None if field.required => "needed".to_owned(),
            None => String::new(),
        };
        let value = cell(&value_text(&field.shape));
        let _ = writeln!(text, "| `{}` | {value} | {} | {} |", field.key, cell(&default), cell(&field.about));
    }
    text
}

fn heading(title: &str) -> String {
    slug(title).replace('_', " ").replace("access log", "access_log").replace("deletion guard", "deletion_guard")
}

fn value_text(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Json => "any JSON, written as YAML".to_owned(),
        Shape::Text(text) => text.name.to_owned(),
        Shape::Words(words) => {
            let words: Vec<String> = words.iter().map(|(word, about)| format!("`{word}` ({about})")).collect();
            words.join(", ")
        }
        Shape::List { item, .. } => format!("a list of: {}", value_text(item)),
        Shape::Named(item) => format!("names, each with: {}", value_text(item)),
        Shape::Keyed { item, .. } => format!("values, each with: {}", value_text(item)),
        Shape::Section(section) => {
            let heading = heading(section.title);
            format!("[{heading}](#{})", heading.replace('.', "").replace(' ', "-"))
        }
        Shape::Either(shapes) => shapes.iter().map(value_text).collect::<Vec<_>>().join("; or "),
    }
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_one_that_the_declarations_print() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let printed = reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let _ = std::fs::write(path, &printed);
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == printed,
            "docs/configuration.md is out of date; run the tests with UPDATE_DOCS=1 to print it anew"
        );
    }

    #[test]
    fn every_key_says_what_it_is_for() {
        let mut printer = Printer::default();
        printer.collect(&Document::shape());
        for section in &printer.sections {
            for field in &section.fields {
                assert!(field.about.ends_with('.') || field.about.ends_with(')'), "{}.{}", section.title, field.key);
            }
        }
    }
}
