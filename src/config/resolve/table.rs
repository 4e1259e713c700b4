//! Names and what they stand for: finds, with the nearest name when there is none, and knows which were never asked for.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use super::Context;
use crate::config::{
    Problem, Span,
    decode::{At, Cx, Named, NamedEntry},
    nearest,
    text::Name,
};

/// The named things of one kind.
pub(super) struct Table<T> {
    kind: &'static str,
    section: &'static str,
    entries: Vec<Entry<T>>,
    index: HashMap<Arc<str>, usize>,
    complete: bool,
}

struct Entry<T> {
    name: Arc<str>,
    span: Span,
    value: Option<Arc<T>>,
    used: Cell<bool>,
}

impl<T> Table<T> {
    /// Resolves each entry of a section.
    pub(super) fn new<D>(
        kind: &'static str,
        section: &'static str,
        named: &Named<D>,
        mut resolve: impl FnMut(&NamedEntry<D>, &D) -> Option<T>,
    ) -> Self {
        let mut entries = Vec::with_capacity(named.entries.len());
        let mut index = HashMap::with_capacity(named.entries.len());
        for entry in &named.entries {
            let value = entry.value.as_ref().and_then(|value| resolve(entry, value)).map(Arc::new);
            index.insert(entry.name.clone(), entries.len());
            entries.push(Entry { name: entry.name.clone(), span: entry.span.clone(), value, used: Cell::new(false) });
        }
        Self { kind, section, entries, index, complete: named.complete }
    }

    /// Adds what stands in another section of the file; it counts as used.
    pub(super) fn add(&mut self, name: &Arc<str>, span: &Span, value: T) {
        self.index.entry(name.clone()).or_insert(self.entries.len());
        let value = Some(Arc::new(value));
        self.entries.push(Entry { name: name.clone(), span: span.clone(), value, used: Cell::new(true) });
    }

    /// Finds what a name stands for. `None` was reported: here, or where the thing itself is broken.
    pub(super) fn find(&self, name: &At<Name>, to: &mut Context<'_>) -> Option<Arc<T>> {
        self.find_or(name, &[], to)
    }

    /// The same, where things of another kind could have been meant as well.
    pub(super) fn find_or(&self, name: &At<Name>, others: &[&str], to: &mut Context<'_>) -> Option<Arc<T>> {
        let known = self.index.get(name.value.0.as_str()).and_then(|at| self.entries.get(*at));
        if let Some(entry) = known {
            entry.used.set(true);
            return entry.value.clone();
        }
        if self.complete || !self.entries.is_empty() {
            let mut problem = Problem::error(&name.span, format!("no {} is named `{}`", self.kind, name.shown));
            let names = self.entries.iter().map(|entry| entry.name.as_ref()).chain(others.iter().copied());
            problem.help = match self.entries.is_empty() && others.is_empty() {
                true => Some(format!("name it under `{}`", self.section)),
                false if name.shown.as_ref() == name.value.0 => nearest::advice(&name.value.0, names),
                false => None,
            };
            to.cx.report(problem);
        }
        None
    }

    /// Counts all as used.
    pub(super) fn use_all(&self) {
        self.entries.iter().for_each(|entry| entry.used.set(true));
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the section could be read.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    /// The names, in the order of the file.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.name)
    }

    /// What could be resolved, in the order of the file.
    pub(super) fn values(&self) -> Vec<Arc<T>> {
        self.entries.iter().filter_map(|entry| entry.value.clone()).collect()
    }

    /// Warns of what nothing uses: most often a slip elsewhere.
    pub(super) fn report_unused(&self, cx: &mut Cx) {
        for entry in self.entries.iter().filter(|entry| !entry.used.get()) {
            let message = format!("the {} `{}` is never used", self.kind, nearest::short(&entry.name));
            cx.report(Problem::warning(&entry.span, message));
        }
    }
}
