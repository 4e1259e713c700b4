//! Whether a form was sent by a page of ours. Three things say so, each by itself: the browser (`Sec-Fetch-Site`, `Origin`), the
//! token that is in the form, and the cookie that other sites' forms do not carry.

use http::HeaderMap;
use url::Url;

use super::session::Open;
use crate::endpoint::{Fields, is_same_origin};

/// Whether a form comes from a page of this session.
pub(super) fn is_ours(headers: &HeaderMap, own: &Url, open: &Open, fields: &Fields<'_>) -> bool {
    is_same_origin(headers, own) && open.made(fields.text("token"))
}
