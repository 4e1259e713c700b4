//! A GraphQL document: which fields its mutations have at their root.
//!
//! A field can only be reached by its name, and names have no escapes (GraphQL §2.1.9): a text without the name is harmless, whatever
//! else it is. A text with it is parsed; what cannot be parsed, or has the name where readers could disagree, is refused.

use std::{collections::HashMap, sync::Arc};

use apollo_parser::{
    Parser, SyntaxKind,
    cst::{CstNode, Definition, Document, Selection, SelectionSet},
};

use super::Fault;

/// The deepest nesting, and the most tokens, of a document that names a covered field.
const MAX_DEPTH: usize = 64;
const MAX_TOKENS: usize = 20_000;

/// Refuses a document of which any operation could be a mutation with one of these fields at its root, whichever operation is meant.
pub(super) fn judge(fields: &[Arc<str>], text: &str) -> Result<(), Fault> {
    let named: usize = fields.iter().map(|field| occurrences(text, field)).sum();
    if named == 0 {
        return Ok(());
    }
    let tree = Parser::new(text).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    if tree.errors().len() > 0 {
        return Err(Fault::Unreadable("it names a covered field, and is no GraphQL document"));
    }
    let document = tree.document();
    // In a string or a comment to us, it may be a field to a reader that ends lines or strings elsewhere.
    if named != names(&document, fields) {
        return Err(Fault::Unreadable("it names a covered field in a string or a comment"));
    }
    reaches(&document, fields)
}

/// How often a name stands in a text as a word.
fn occurrences(text: &str, name: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let places = text.match_indices(name).filter(|(at, _)| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at.saturating_add(name.len())..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    });
    places.count()
}

/// How often one of them is a name of the document.
fn names(document: &Document, fields: &[Arc<str>]) -> usize {
    let elements = document.syntax().descendants_with_tokens();
    let tokens = elements.filter_map(|element| element.into_token());
    let counted = tokens.filter(|token| {
        !matches!(token.kind(), SyntaxKind::STRING | SyntaxKind::COMMENT)
            && fields.iter().any(|field| **field == *token.text())
    });
    counted.count()
}

fn reaches(document: &Document, fields: &[Arc<str>]) -> Result<(), Fault> {
    let mut open: Vec<SelectionSet> = Vec::new();
    // Two fragments of one name are no valid document, but each may be the one.
    let mut fragments: HashMap<String, Vec<SelectionSet>> = HashMap::new();
    for definition in document.definitions() {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "all others define types; what a later parser adds is refused as well"
        )]
        match definition {
            Definition::OperationDefinition(operation) => {
                if operation.operation_type().is_some_and(|kind| kind.mutation_token().is_some()) {
                    open.extend(operation.selection_set());
                }
            }
            Definition::FragmentDefinition(fragment) => {
                let name = fragment.fragment_name().and_then(|name| name.name());
                let name = name.map(|name| name.text().to_string()).unwrap_or_default();
                fragments.entry(name).or_default().extend(fragment.selection_set());
            }
            _ => return Err(Fault::Unreadable("it names a covered field, and defines types")),
        }
    }
    while let Some(set) = open.pop() {
        for selection in set.selections() {
            match selection {
                Selection::Field(field) => {
                    let name = field.name().map(|name| name.text().to_string()).unwrap_or_default();
                    if fields.iter().any(|covered| **covered == *name) {
                        return Err(Fault::Mutation);
                    }
                }
                Selection::InlineFragment(inline) => open.extend(inline.selection_set()),
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name().and_then(|name| name.name());
                    let name = name.map(|name| name.text().to_string()).unwrap_or_default();
                    // Taken out: once is enough, and fragments may go round in circles.
                    open.extend(fragments.remove(&name).unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}
