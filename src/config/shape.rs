//! What may be written, as data: the JSON Schema and the reference documentation are printed from the same
//! declarations that the document is decoded with, so that they cannot drift.

/// What may be written for a value.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer { min: u64, max: u64 },
    /// A text of a certain form.
    Text(TextShape),
    /// One of several words, each with its meaning.
    Words(Vec<(&'static str, &'static str)>),
    /// A list, perhaps of at least one.
    List { item: Box<Shape>, min: usize },
    /// A section whose keys are names of the user's own.
    Named(Box<Shape>),
    /// A section whose keys are texts of a certain form.
    Keyed { key: Box<Shape>, item: Box<Shape> },
    /// A section with known keys.
    Section(SectionShape),
    /// Any JSON.
    Json,
    /// Any of these.
    Either(Vec<Shape>),
}

/// A text of a certain form.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextShape {
    /// What it is, a noun: `duration`.
    pub(super) name: &'static str,
    /// What it looks like, for people.
    pub(super) about: &'static str,
    /// What it looks like, for editors: an ECMA-262 pattern; `None` where one would be misleading.
    pub(super) pattern: Option<&'static str>,
}

/// A section with known keys.
#[derive(Debug, Clone)]
pub(super) struct SectionShape {
    /// Its name in the reference and in the schema's `$defs`.
    pub(super) title: &'static str,
    /// What it is for.
    pub(super) about: String,
    /// Its keys, in the order of the reference.
    pub(super) fields: Vec<FieldShape>,
}

/// A key of a section.
#[derive(Debug, Clone)]
pub(super) struct FieldShape {
    pub(super) key: &'static str,
    pub(super) about: String,
    /// The value that stands for the key when it is left out, as YAML.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    pub(super) shape: Shape,
}
