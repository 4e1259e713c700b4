//! What a route does to requests and answers besides passing them on. Nothing here decides whether a request may pass: it
//! works on what was judged, or says to browsers what the route's file says.

mod fill;
mod redirect;

pub(super) use fill::path;
pub(super) use redirect::redirect;
