//! Nodes → typed values. A section is declared once, with [`section!`]: its keys, their kinds, defaults and
//! documentation; decoding, unknown keys, the JSON Schema and the reference all come from that declaration.
//!
//! Decoding goes on after a problem, so that all of them are found: a key that cannot be read counts as left out,
//! and its section as [`broken`](section), so that what follows does not blame the user twice.

use std::{ops::Range, sync::Arc};

use super::{
    Problem, Severity, Span, nearest,
    shape::{FieldShape, Shape},
    yaml::{self, Entry, Node, Place, Scalar, Value},
};

/// After so many errors, or warnings, one more helps nobody.
const MAX_PROBLEMS: usize = 100;

/// What goes along while a document is read: where we are, and what was found.
#[derive(Debug, Default)]
pub(super) struct Cx {
    path: String,
    problems: Vec<Problem>,
    errors: usize,
    warnings: usize,
    masks: Vec<Range<usize>>,
}

impl Cx {
    /// The place of a node at the current path.
    #[inline(never)]
    pub(super) fn span(&self, place: Place) -> Span {
        Span { line: place.line, column: place.column, key: self.path.as_str().into() }
    }

    /// Notes a problem.
    pub(super) fn report(&mut self, problem: Problem) {
        let count = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Notes bytes that must not be shown.
    pub(super) fn mask(&mut self, bytes: Range<usize>) {
        self.masks.push(bytes);
    }

    /// Whether anything was wrong.
    pub(super) fn failed(&self) -> bool {
        self.errors > 0
    }

    /// Goes down into a key.
    pub(super) fn within<T>(&mut self, key: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.enter(key);
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    /// Gives the length that the path had.
    #[inline(never)]
    fn enter(&mut self, key: &str) -> usize {
        let length = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&nearest::key(key));
        length
    }

    /// Goes down into an item of a list.
    pub(super) fn within_index<T>(&mut self, index: usize, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    /// What was found, in the order of the file, and the bytes that must not be shown.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Range<usize>>) {
        self.problems.sort_by_key(|p| (p.span.line, p.span.column));
        let nowhere = Span::default();
        if let Some(more) = self.errors.checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            self.problems.push(Problem::error(&nowhere, format!("{more} more errors are not shown")));
        }
        if let Some(more) = self.warnings.checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            self.problems.push(Problem::warning(&nowhere, format!("{more} more warnings are not shown")));
        }
        (self.problems, self.masks)
    }

    #[inline(never)]
    fn wrong_type(&mut self, node: &Node, wanted: &str, help: Option<&str>) {
        let found = match &node.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) => {
                if is_delicate(scalar) {
                    self.mask(node.hidden());
                }
                "text"
            }
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
            Value::Faulty => return,
        };
        let span = self.span(node.place);
        let problem = Problem::error(&span, format!("{wanted} is expected here, not {found}"));
        self.report(Problem { help: help.map(str::to_owned), ..problem });
    }
}

/// What can be read from a node.
pub(super) trait Decode: Sized {
    /// Reads it, or reports why not.
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self>;

    /// What stands for it when its key is left out and there is no default; `None`: the key is needed.
    fn absent() -> Option<Self> {
        None
    }

    /// What stands for it once a problem with it was reported, so that reading goes on; `None`: nothing can.
    fn substitute() -> Option<Self> {
        Self::absent()
    }

    /// What may be written.
    fn shape() -> Shape;
}

/// Why a text is not of the form that it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why, a phrase; it may quote the text, and is dropped when that came from the environment.
    pub(super) why: Option<String>,
    /// What to do; dropped likewise.
    pub(super) help: Option<String>,
}

impl Refusal {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), help: None }
    }

    pub(super) fn advice(help: impl Into<String>) -> Self {
        Self { why: None, help: Some(help.into()) }
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What can be read from a scalar's text.
pub(super) trait FromText: Sized {
    /// What it is, with its article: `a duration`.
    const WHAT: &'static str;

    /// Reads it.
    fn from_text(text: &str) -> Result<Self, Refusal>;

    /// What may be written.
    fn shape() -> Shape;
}

impl<T: FromText> Decode for T {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Scalar(scalar) = &node.value else {
            cx.wrong_type(node, T::WHAT, None);
            return None;
        };
        T::from_text(&scalar.text).map_err(|refusal| report_refused(node, scalar, T::WHAT, refusal, cx)).ok()
    }

    fn shape() -> Shape {
        <T as FromText>::shape()
    }
}

#[inline(never)]
fn report_refused(node: &Node, scalar: &Scalar, what: &str, refusal: Refusal, cx: &mut Cx) {
    let delicate = is_delicate(scalar);
    let mut message = match delicate {
        true => format!("this is not {what}"),
        false => format!("`{}` is not {what}", shown(scalar)),
    };
    let mut help = None;
    if delicate {
        cx.mask(node.hidden());
    }
    if scalar.shown.is_none() {
        if let Some(why) = refusal.why {
            message.push_str(": ");
            message.push_str(&why);
        }
        help = refusal.help;
    }
    let span = cx.span(node.place);
    cx.report(Problem { severity: Severity::Error, span, message, help });
}

/// Whether a text in a wrong place may be a secret from another: one of several lines, or a URL with a password.
fn is_delicate(scalar: &Scalar) -> bool {
    (scalar.shown.is_some() && !scalar.from_env) || (scalar.text.contains("://") && scalar.text.contains('@'))
}

/// A scalar as it may be shown, and not too much of it.
fn shown(scalar: &Scalar) -> String {
    nearest::short(scalar.shown.as_deref().unwrap_or(&scalar.text))
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn shape() -> Shape {
        T::shape()
    }
}

/// A value, where it stands, and how it may be quoted.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
    /// The text as written, if it is a scalar.
    pub(super) shown: Arc<str>,
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        Some(Self { value: T::decode(node, cx)?, span: cx.span(node.place), shown: as_shown(node) })
    }

    fn shape() -> Shape {
        T::shape()
    }
}

#[inline(never)]
fn as_shown(node: &Node) -> Arc<str> {
    match &node.value {
        Value::Scalar(scalar) => shown(scalar).into(),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Faulty => "".into(),
    }
}

/// A list; items that cannot be read are left out.
impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let help = matches!(node.value, Value::Scalar(_) | Value::Map(_)).then_some("put it into brackets: [ … ]");
            cx.wrong_type(node, "a list", help);
            return None;
        };
        let mut read = Self::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            read.extend(cx.within_index(at, |cx| T::decode(item, cx)));
        }
        Some(read)
    }

    fn shape() -> Shape {
        Shape::List { item: Box::new(T::shape()), min: 0 }
    }
}

/// A list of at least one. It can still be empty here when none of its items could be read.
#[derive(Debug, Clone)]
pub(super) struct NonEmpty<T>(pub(super) Vec<T>);

impl<T: Decode> Decode for NonEmpty<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            let span = cx.span(node.place);
            cx.report(Problem::error(&span, "this list is empty: it needs at least one item"));
            return None;
        }
        Vec::decode(node, cx).map(Self)
    }

    fn substitute() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn shape() -> Shape {
        Shape::List { item: Box::new(T::shape()), min: 1 }
    }
}

/// A section whose keys are names of the user's own, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Named<T> {
    pub(super) entries: Vec<NamedEntry<T>>,
    /// Whether the section could be read: if not, an unknown name is not the fault of who uses it.
    pub(super) complete: bool,
}

/// A name and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct NamedEntry<T> {
    pub(super) name: Arc<str>,
    pub(super) span: Span,
    /// `None` when it could not be read: the name exists all the same.
    pub(super) value: Option<T>,
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            cx.wrong_type(node, "a section of names", None);
            return None;
        };
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = cx.within(&entry.key, |cx| {
                let span = cx.span(entry.place);
                let (name, node) = (name_of(entry, &span, cx), &entry.node);
                NamedEntry { name, span, value: T::decode(node, cx) }
            });
            named.push(entry);
        }
        Some(Self { entries: named, complete: true })
    }

    fn substitute() -> Option<Self> {
        Some(Self { entries: Vec::new(), complete: false })
    }

    fn shape() -> Shape {
        Shape::Named(Box::new(T::shape()))
    }
}

/// The name that a key gives; reports one that is not usable.
#[inline(never)]
fn name_of(Entry { key, start, node, .. }: &Entry, span: &Span, cx: &mut Cx) -> Arc<str> {
    if !is_name(key) {
        if nearest::key(key) != *key {
            cx.mask(*start..node.bytes.end);
        }
        let message = format!("`{}` is not usable as a name", nearest::key(key));
        let help = "use up to 64 letters, digits, `_`, `-` and `.`, a letter or digit first; `none` is taken";
        cx.report(Problem::error(span, message).with_help(help));
    }
    key.as_str().into()
}

/// Whether a text can name something in the configuration: names become metric labels and header parameters.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text != "none"
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The keys of a section while it is read.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    place: Place,
    title: &'static str,
    /// Whether a key could not be read.
    pub(super) broken: bool,
}

impl<'n> Fields<'n> {
    /// Opens a section; reports every key that it does not know.
    #[inline(never)]
    pub(super) fn open(node: &'n Node, title: &'static str, known: &[&'static str], cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            cx.wrong_type(node, &format!("a section ({title})"), None);
            return None;
        };
        let mut fields = Self { entries, place: node.place, title, broken: false };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            fields.broken = true;
            cx.within(&entry.key, |cx| report_unknown(entry, title, known, cx));
        }
        Some(fields)
    }

    /// Reads a key, its default, or what stands for its absence. Once for each type, and what does not depend on the type once for
    /// all: inlined into every section, this was a twentieth of the program.
    #[inline(never)]
    pub(super) fn take<T: Decode>(&mut self, cx: &mut Cx, key: &'static str, default: Option<&str>) -> Option<T> {
        let written = self.written(key);
        if let Some(entry) = written {
            if let Some(value) = cx.within(key, |cx| T::decode(&entry.node, cx)) {
                return Some(value);
            }
            self.broken = true;
        }
        if let Some(default) = default {
            let node = default_node(default)?;
            return cx.within(key, |cx| T::decode(&node, cx));
        }
        if written.is_some() {
            return T::substitute();
        }
        if let Some(absent) = T::absent() {
            return Some(absent);
        }
        self.miss(cx, key);
        T::substitute()
    }

    #[inline(never)]
    fn written(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    #[inline(never)]
    fn miss(&mut self, cx: &mut Cx, key: &str) {
        let span = cx.span(self.place);
        cx.report(Problem::error(&span, format!("`{key}` is missing in {}", self.title)));
        self.broken = true;
    }
}

/// Keys that are elsewhere now: the section that they were in, the key, and what is to be said of it.
const MOVED: &[(&str, &str, &str, &str)] = &[(
    "authority",
    "sealing",
    "`sealing` is a section of its own now",
    "move it out of `authority`, to the start of a line: deletions are sealed with it, too",
)];

/// Adds a key to those of a section's shape.
#[inline(never)]
pub(super) fn add_field<T: Decode>(
    fields: &mut Vec<FieldShape>,
    key: &'static str,
    about: &[&str],
    default: Option<&'static str>,
) {
    let required = default.is_none() && T::absent().is_none();
    fields.push(FieldShape { key, about: joined(about), default, required, shape: T::shape() });
}

/// Reports an unknown key. Its value may be shown if it is certain to be none of a misspelt `password`; the key itself, if it
/// is not a value that slipped out of its place (`token:s3cret`, `{token, s3cret}`).
fn report_unknown(entry: &Entry, title: &str, known: &[&'static str], cx: &mut Cx) {
    const SECRET: [&str; 8] =
        ["secret", "password", "token", "value", "public_key", "username", "client_secret", "private_key"];
    let Entry { key, place, start, node } = entry;
    let span = cx.span(*place);
    let meant = nearest::nearest(key, known.iter().copied());
    let is_key = nearest::key(key) == *key && (meant.is_some() || !matches!(node.value, Value::Null));
    if !is_key {
        cx.mask(*start..node.bytes.end.max(*start));
        let problem = Problem::error(&Span { key: "".into(), ..span }, format!("this is no key of {title}"));
        cx.report(problem.with_help("write `key: value`, with a blank behind the colon"));
        return;
    }
    if !matches!(node.value, Value::Scalar(_)) || meant.is_none_or(|meant| SECRET.contains(&meant)) {
        cx.mask(node.hidden());
    }
    if let Some((_, _, message, help)) = MOVED.iter().find(|(of, moved, ..)| *of == title && moved == key) {
        cx.mask(node.hidden());
        cx.report(Problem::error(&span, *message).with_help(*help));
        return;
    }
    let help = match key.as_str() {
        "<<" => Some("merge keys are not part of YAML 1.2; repeat the keys".into()),
        _ => nearest::advice(key, known.iter().copied()),
    };
    let problem = Problem::error(&span, format!("unknown key `{key}` in {title}"));
    cx.report(Problem { help, ..problem });
}

/// A default, written as YAML, as a tree that stands in no file.
fn default_node(text: &str) -> Option<Node> {
    let mut root = yaml::parse(text).root?;
    forget_places(&mut root);
    Some(root)
}

fn forget_places(node: &mut Node) {
    node.place = Place::default();
    node.bytes = 0..0;
    node.hide_from = 0;
    match &mut node.value {
        Value::Null | Value::Scalar(_) | Value::Faulty => {}
        Value::List(items) => items.iter_mut().for_each(forget_places),
        Value::Map(entries) => {
            for entry in entries {
                entry.place = Place::default();
                forget_places(&mut entry.node);
            }
        }
    }
}

/// A key as YAML has it: `match` is written `r#match` in Rust.
pub(super) const fn key_name(ident: &'static str) -> &'static str {
    match ident.as_bytes() {
        [b'r', b'#', ..] => ident.split_at(2).1,
        _ => ident,
    }
}

/// Joins the lines of a doc comment.
pub(super) fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a section: a struct with a field for each key. `key: Type = "yaml"` has a default, `key: Option<Type>` may
/// be left out, any other key is needed. The struct also gets `span`, where it stands, and `broken`, whether a key of it
/// could not be read.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $title:literal $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident : $type:ty $(= $default:literal)? , )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        #[allow(dead_code, reason = "every section has its span and its state, and not every one is asked for them")]
        pub(in crate::config) struct $name {
            pub(in crate::config) span: $crate::config::Span,
            pub(in crate::config) broken: bool,
            $( $(#[doc = $doc])+ pub(in crate::config) $key: $type, )*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::yaml::Node,
                cx: &mut $crate::config::decode::Cx,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$( $crate::config::decode::key_name(stringify!($key)) ),*];
                let mut fields = $crate::config::decode::Fields::open(node, $title, KEYS, cx)?;
                $(
                    let default: Option<&str> = None $(.or(Some($default)))?;
                    let $key = fields.take::<$type>(cx, $crate::config::decode::key_name(stringify!($key)), default);
                )*
                Some(Self { span: cx.span(node.place), broken: fields.broken, $( $key: $key?, )* })
            }

            fn shape() -> $crate::config::shape::Shape {
                $crate::config::shape::Shape::Section(Self::section())
            }
        }

        impl $name {
            /// The section's keys, for the schema and the reference.
            pub(in crate::config) fn section() -> $crate::config::shape::SectionShape {
                let mut fields = Vec::new();
                $(
                    let default: Option<&'static str> = None $(.or(Some($default)))?;
                    let key = $crate::config::decode::key_name(stringify!($key));
                    $crate::config::decode::add_field::<$type>(&mut fields, key, &[$($doc),+], default);
                )*
                $crate::config::shape::SectionShape {
                    title: $title,
                    about: $crate::config::decode::joined(&[$($about),+]),
                    fields,
                }
            }
        }
    };
}
pub(super) use section;

/// Declares the words that stand for the values of an enum, each with its meaning.
macro_rules! words {
    ($type:ty, $what:literal: $( $word:literal => $value:expr, $doc:literal; )+) => {
        impl $crate::config::decode::FromText for $type {
            const WHAT: &'static str = $what;

            fn from_text(text: &str) -> Result<Self, $crate::config::decode::Refusal> {
                match text {
                    $( $word => Ok($value), )+
                    _ => Err($crate::config::decode::unknown_word(text, &[$($word),+])),
                }
            }

            fn shape() -> $crate::config::shape::Shape {
                $crate::config::shape::Shape::Words(vec![$( ($word, $doc) ),+])
            }
        }
    };
}
pub(super) use words;

/// Refuses a word, with the nearest known one.
pub(super) fn unknown_word(text: &str, known: &[&'static str]) -> Refusal {
    Refusal { why: None, help: nearest::advice(text, known.iter().copied()) }
}
