//! The style and the script: compiled in, named by their own hash so that they may be kept for ever, and pinned by
//! `integrity` (W3C Subresource Integrity) in the pages that ask for them.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Response, header};

use crate::authority::Answer;

/// A file that pages ask for.
#[derive(Debug)]
pub(super) struct Asset {
    /// Where it is, below `authority.path`.
    pub(super) path: String,
    /// What the browser compares it with.
    pub(super) integrity: String,
    text: &'static str,
    kind: &'static str,
}

/// The style.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));

/// The script.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("assets/page.js")));

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let sum = digest::digest(&digest::SHA384, text.as_bytes());
        let short: String = sum.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let integrity = format!("sha384-{}", BASE64_STANDARD.encode(sum.as_ref()));
        Self { path: format!("/assets/{name}-{short}.{ending}"), integrity, text, kind }
    }

    /// The file of a path.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.path == path)
    }

    /// The file, for anybody: there is nothing in it that is not the same for all.
    pub(super) fn answer(&self) -> Answer {
        let mut response = Response::new(Bytes::from_static(self.text.as_bytes()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        Answer::served(response)
    }
}
