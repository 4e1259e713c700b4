//! YAML text → a tree of nodes that remember where they stand. It decides nothing about meaning: scalars keep
//! their source text, so that `1.2`, `on` and `0x10` are whatever the key that holds them says they are.
//!
//! serde-saphyr's `Spanned` was tried first: on an untyped tree it resolves plain scalars to numbers and booleans, and it
//! stops at the first duplicate key. Its own parser, which it exports, gives the events that both need.
//! What it never does: include files, apply tags, merge keys, read a second document, or grow beyond its bounds.

use std::{collections::HashMap, ops::Range};

use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle};

use super::nearest;

/// The longest document: a thousand times a large configuration, and still parsed in well under a second.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest nesting: the configuration itself needs eight.
const MAX_DEPTH: usize = 32;
/// The most nodes, those that aliases repeat included: the bound on YAML bombs.
const MAX_NODES: usize = 200_000;
/// The longest key path that a problem names.
const MAX_PATH: usize = 200;

/// A place in the text: line and column in characters, from 1; zeros for what stands in no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where a problem with it is shown: its key for a block collection, else its first character.
    pub(super) place: Place,
    /// Its bytes in the text.
    pub(super) bytes: Range<usize>,
    /// Where blanking it begins: behind its key, so that an anchor or a stray sign before it goes as well.
    pub(super) hide_from: usize,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// Anything else that is one word or more.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file, each key once.
    Map(Vec<Entry>),
    /// A scalar whose problem was reported already.
    Faulty,
}

/// The text of a scalar.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// Its value, unquoted and with the environment filled in.
    pub(super) text: String,
    /// The form that may be shown, where that is not the value: as it was before the environment was filled in, or nothing
    /// of a text of several lines, which a forgotten line or blank can join with a secret.
    pub(super) shown: Option<String>,
    /// Whether some of it came from the environment.
    pub(super) from_env: bool,
    /// Whether it is written without quotes, on one line: it may then stand for a number, `true` or `false`.
    pub(super) plain: bool,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    /// The key's first byte in the text.
    pub(super) start: usize,
    pub(super) node: Node,
}

impl Node {
    /// The bytes to blank when it must not be shown.
    pub(super) fn hidden(&self) -> Range<usize> {
        self.hide_from..self.bytes.end.max(self.hide_from)
    }
}

/// What is wrong with the text as YAML.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A tree, what is wrong with it, and the bytes that must not be shown.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The root, unless the text is no YAML at all.
    pub(super) root: Option<Node>,
    /// Duplicate keys and the like; or why there is no root.
    pub(super) faults: Vec<Fault>,
    /// Values of keys that were put aside: nobody will ever know whether they were secrets.
    pub(super) masks: Vec<Range<usize>>,
}

/// Reads one document.
pub(super) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    if let Err(fault) = builder.read(text) {
        builder.parsed.faults.push(fault);
        builder.parsed.root = None;
    }
    builder.parsed
}

#[derive(Default)]
struct Builder {
    parsed: Parsed,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: usize,
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    start: usize,
    flow: bool,
    anchor: usize,
    nodes_before: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, u32>, key: Option<PendingKey> },
}

/// How a node is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// A scalar on its line, or a collection in brackets.
    Inline,
    /// A collection or a text by indentation.
    Block,
    /// By the name of its anchor.
    Alias,
}

struct PendingKey {
    text: String,
    place: Place,
    bytes: Range<usize>,
    duplicate_of: Option<u32>,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Fault> {
        if text.len() > MAX_BYTES {
            return Err(self.fault(Place { line: 1, column: 1 }, "the file is longer than 1 MiB"));
        }
        let options = granit_parser::options! {
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|e| self.syntax(&e, text))?;
            let place = place(&span.start);
            let start = span.start.byte_offset().unwrap_or_default();
            let end = span.end.byte_offset().unwrap_or_default();
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Anchor(..) => {}
                Event::DocumentStart(..) => {
                    self.documents += 1;
                    if self.documents > 1 {
                        return Err(self
                            .fault(place, "a second document (`---`) begins here")
                            .help("a configuration is one document; put the other into a file of its own"));
                    }
                }
                Event::Scalar(value, style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), place)?;
                    let source = text.get(start..end).unwrap_or_default();
                    self.scalar(value.into_owned(), style, anchor, place, start..end, source)?;
                }
                Event::SequenceStart(style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), place)?;
                    self.start(OpenKind::List(Vec::new()), style, anchor, place, start)?;
                }
                Event::MappingStart(style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), place)?;
                    let kind = OpenKind::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                    self.start(kind, style, anchor, place, start)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(end)?,
                Event::Alias(anchor) => self.alias(anchor, place)?,
                Event::UnresolvedAlias(_) => return Err(self.fault(place, "this alias has no anchor before it")),
                // The parser may learn more kinds of events; what is not understood is refused.
                _ => return Err(self.fault(place, "this kind of YAML is not understood here")),
            }
        }
        if self.parsed.root.is_none() {
            let fault = self.fault(Place { line: 1, column: 1 }, "the file is empty");
            return Err(fault.help("a configuration needs `upstreams` and `routes`"));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        place: Place,
        bytes: Range<usize>,
        source: &str,
    ) -> Result<(), Fault> {
        if self.awaits_key() {
            return self.key(text, place, bytes);
        }
        let null = style == ScalarStyle::Plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let shown = (block || source.lines().nth(1).is_some()).then(|| "…".to_owned());
        let plain = style == ScalarStyle::Plain;
        let value = if null { Value::Null } else { Value::Scalar(Scalar { text, shown, from_env: false, plain }) };
        self.count(1, place)?;
        let node = Node { place, hide_from: bytes.start, bytes, value };
        self.remember(anchor, &node, 1);
        self.place_node(node, if block { Written::Block } else { Written::Inline });
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: String, place: Place, bytes: Range<usize>) -> Result<(), Fault> {
        let Some(Open { kind: OpenKind::Map { seen, key, .. }, .. }) = self.open.last_mut() else { return Ok(()) };
        let duplicate_of = seen.get(&text).copied();
        seen.entry(text.clone()).or_insert(place.line);
        *key = Some(PendingKey { text, place, bytes, duplicate_of });
        Ok(())
    }

    fn start(
        &mut self,
        kind: OpenKind,
        style: StructureStyle,
        anchor: usize,
        place: Place,
        start: usize,
    ) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(place, "a key is a single word here, not a list or a section"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fault(place, format!("this is nested more than {MAX_DEPTH} levels deep")));
        }
        self.count(1, place)?;
        let flow = style == StructureStyle::Flow;
        self.open.push(Open { place, start, flow, anchor, nodes_before: self.nodes, kind });
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { entries, .. } => Value::Map(entries),
        };
        let node = Node { place: open.place, bytes: open.start..end.max(open.start), hide_from: open.start, value };
        let nodes = self.nodes.saturating_sub(open.nodes_before).saturating_add(1);
        self.remember(open.anchor, &node, nodes);
        self.place_node(node, if open.flow { Written::Inline } else { Written::Block });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(place, "a key cannot be an alias here"));
        }
        let Some((node, nodes)) = self.anchors.get(&anchor) else {
            return Err(self.fault(place, "this alias stands inside what it repeats"));
        };
        let (nodes, node) = (*nodes, node.clone());
        self.count(nodes, place)?;
        // Blanked where it is defined, not where it is repeated.
        self.place_node(node, Written::Alias);
        Ok(())
    }

    /// Puts a finished node where it belongs: into the collection that is open, or at the root.
    fn place_node(&mut self, mut node: Node, written: Written) {
        match self.open.last_mut() {
            None => self.parsed.root = Some(node),
            Some(Open { kind: OpenKind::List(items), .. }) => items.push(node),
            Some(Open { kind: OpenKind::Map { entries, key, .. }, .. }) => {
                let Some(PendingKey { text, place, bytes, duplicate_of }) = key.take() else { return };
                if written == Written::Block || matches!(node.value, Value::Null) {
                    node.place = place;
                }
                if written != Written::Alias {
                    node.hide_from = bytes.end;
                }
                match duplicate_of {
                    None => entries.push(Entry { key: text, place, start: bytes.start, node }),
                    Some(line) => {
                        self.parsed.masks.push(bytes.end..node.bytes.end.max(bytes.end));
                        let fault = self.fault(place, format!("the key `{}` appears twice", nearest::key(&text)));
                        self.parsed.faults.push(fault.help(format!("it was first given on line {line}")));
                    }
                }
            }
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node, nodes: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.fault(place, format!("the file has more than {MAX_NODES} values, repeated ones included")));
        }
        Ok(())
    }

    fn refuse_tag(&self, tagged: bool, place: Place) -> Result<(), Fault> {
        if tagged {
            return Err(self.fault(place, "tags (`!…`) mean nothing here").help("leave it out"));
        }
        Ok(())
    }

    fn syntax(&self, error: &granit_parser::ScanError, text: &str) -> Fault {
        let info = error.info();
        let message = info.lines().next().unwrap_or_default();
        let place = place(error.marker());
        let fault = self.fault(place, format!("not valid YAML: {message}"));
        let line = text.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or_default();
        match advice(message, line) {
            Some(advice) => fault.help(advice),
            None => fault,
        }
    }

    fn fault(&self, place: Place, message: impl Into<String>) -> Fault {
        Fault { place, path: self.path(), message: message.into(), help: None }
    }

    /// The path of keys to what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.kind {
                OpenKind::List(items) => path.push_str(&format!("[{}]", items.len())),
                OpenKind::Map { key: Some(key), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&nearest::key(&key.text));
                }
                OpenKind::Map { key: None, .. } => {}
            }
            if path.len() > MAX_PATH {
                break;
            }
        }
        path
    }
}

impl Fault {
    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn place(marker: &granit_parser::Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(marker.line()), column: number(marker.col().saturating_add(1)) }
}

/// What to do about a line that is no YAML, where it looks like one of the usual slips.
fn advice(message: &str, line: &str) -> Option<&'static str> {
    let begins = |signs: &[char]| {
        let values = line.split([':', '[', '{', ',', '-']).map(str::trim_start);
        values.skip(1).any(|value| value.starts_with(signs))
    };
    if message.contains("tab") && line.contains('\t') {
        return Some("indent with spaces");
    }
    if (message.contains("anchor") || message.contains("alias")) && begins(&['*', '&']) {
        return Some("a value that begins with `*` or `&` stands in quotes: `\"*.example.com\"`");
    }
    let unquoted =
        |sign: &str| line.match_indices(sign).any(|(at, _)| !line.get(..at).unwrap_or_default().ends_with(['"', '\'']));
    if message.contains("flow") && unquoted("${") {
        return Some("within `{ }` and `[ ]` a variable stands in quotes: `\"${NAME}\"`");
    }
    if message.contains("expected") && (unquoted("[:") || unquoted("[fd") || unquoted("[fe80") || unquoted("[20")) {
        return Some("an IPv6 address stands in quotes: `\"[::1]:8443\"`");
    }
    if message.contains("block mapping") || message.contains("block collection") || message.contains("block sequence") {
        return Some("see that the keys of a section stand in one column, with spaces before them");
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn map(text: &str) -> Vec<Entry> {
        let parsed = parse(text);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        match parsed.root.unwrap().value {
            Value::Map(entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => panic!("not a map"),
        }
    }

    fn scalar(node: &Node) -> &str {
        match &node.value {
            Value::Scalar(s) => &s.text,
            Value::Null | Value::List(_) | Value::Map(_) | Value::Faulty => panic!("not a scalar: {node:?}"),
        }
    }

    fn first_fault(text: &str) -> String {
        let parsed = parse(text);
        parsed.faults.first().map(|f| format!("{}:{}: {}", f.place.line, f.place.column, f.message)).unwrap()
    }

    #[test]
    fn plain_scalars_keep_their_source_text() {
        let entries = map("a: 1.20\nb: on\nc: 0x10\nd: 'x'\ne: 1_000\nf: yes\n");
        let texts: Vec<&str> = entries.iter().map(|e| scalar(&e.node)).collect();
        assert_eq!(texts, ["1.20", "on", "0x10", "x", "1_000", "yes"]);
    }

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let entries = map("ключ: {b: значение, c: [x]}\n");
        assert_eq!(entries[0].place, Place { line: 1, column: 1 });
        assert_eq!(entries[0].node.place, Place { line: 1, column: 7 });
        let Value::Map(inner) = &entries[0].node.value else { panic!("not a map") };
        assert_eq!(inner[1].place, Place { line: 1, column: 21 });
    }

    #[test]
    fn a_block_section_is_shown_at_its_key() {
        let entries = map("a:\n  b: 1\nc:\n");
        assert_eq!(entries[0].node.place, Place { line: 1, column: 1 });
        assert_eq!(entries[1].node.place, Place { line: 3, column: 1 });
        assert!(matches!(entries[1].node.value, Value::Null));
    }

    #[test]
    fn every_duplicate_key_is_reported_and_its_value_masked() {
        let parsed = parse("a: 1\nb: {c: 1, c: 2}\na: secret\n");
        assert!(parsed.root.is_some());
        let found: Vec<_> = parsed.faults.iter().map(|f| (f.place.line, f.path.as_str())).collect();
        assert_eq!(found, [(2, "b"), (3, "")]);
        assert_eq!(parsed.masks.len(), 2);
    }

    #[test]
    fn an_alias_repeats_its_anchor_and_bombs_are_refused() {
        let entries = map("a: &x [1, 2]\nb: *x\n");
        assert!(matches!(&entries[1].node.value, Value::List(items) if items.len() == 2));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let before = i - 1;
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
        }
        assert!(first_fault(&bomb).contains("repeated ones included"));
        assert!(first_fault("a: &x [*x]\n").contains("alias"));
    }

    #[test]
    fn what_is_no_single_plain_document_is_refused() {
        assert_eq!(first_fault(""), "1:1: the file is empty");
        assert!(first_fault("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(first_fault("a: !!str 1\n").contains("tags"));
        assert!(first_fault("[a]: 1\n").contains("single word"));
        assert!(first_fault(&"[".repeat(10_000)).contains("1:"));
        assert!(first_fault(&" ".repeat(MAX_BYTES + 1)).contains("1 MiB"));
        assert!(first_fault("a: 'x\n").contains("not valid YAML"));
    }

    #[test]
    fn usual_slips_have_advice() {
        for (text, word) in [
            ("a:\n\tb: 1\n", "spaces"),
            ("hosts: [*.example.com]\n", "`*` or `&`"),
            ("path: *\n", "`*` or `&`"),
            ("a:\n  - * /x/**\n", "`*` or `&`"),
            ("a: {b: ${NOPE}, c: d}\n", "${NAME}"),
            ("a: [{address: [::1]:8443, tls: x}]\n", "IPv6"),
            ("a:\n    b: 1\n   c: 2\n", "one column"),
        ] {
            let fault = parse(text).faults.into_iter().next().unwrap();
            assert!(fault.help.as_deref().is_some_and(|help| help.contains(word)), "{text}: {fault:?}");
        }
        for text in ["a: 'x\n", "a: {b: \"${OK}\", c: d\n", "a: {b: \"[::1]:80\", c: d\n"] {
            assert_eq!(parse(text).faults[0].help, None, "{text}");
        }
    }
}
