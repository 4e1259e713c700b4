//! What the page of a link shows, for its template. Templates escape all text; nothing here is HTML.

use askama::Template;

use crate::{
    config::Scope,
    endpoint::{At, Frame},
};

/// A deletion, for whoever has its link.
#[derive(Template)]
#[template(path = "erasure-link.html")]
pub(super) struct LinkPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) lead: &'a str,
    pub(super) state: &'a str,
    pub(super) asked: At,
    /// Further moments, by what they are called.
    pub(super) times: Vec<(&'a str, At)>,
    pub(super) id: &'a str,
    /// The button, where there is something to stop.
    pub(super) stop: Option<Stop>,
    pub(super) scope: &'a Scope,
}

/// The button that stops a deletion.
pub(super) struct Stop {
    /// Where it is sent.
    pub(super) action: String,
    pub(super) says: &'static str,
}
