//! The values of a deletion, by the names that templates have for them.

use std::collections::BTreeMap;

use super::fill::Values;
use crate::config::Placeholder;

/// What is known of a deletion.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Its number.
    pub deletion: &'a str,
    /// Whose it is.
    pub subject: &'a str,
    /// All other values: `path.tenant`, `claims./email`, `captured.customer`.
    pub values: &'a BTreeMap<Box<str>, Box<str>>,
}

impl Values for Known<'_> {
    fn value(&self, name: &Placeholder) -> Option<&str> {
        match name {
            Placeholder::Subject => Some(self.subject),
            Placeholder::Deletion => Some(self.deletion),
            Placeholder::Path(_)
            | Placeholder::Query(_)
            | Placeholder::Body(_)
            | Placeholder::Claim(_)
            | Placeholder::Captured(_) => self.values.get(name.to_string().as_str()).map(|value| &**value),
        }
    }
}
