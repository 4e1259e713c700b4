//! What pages ask for: compiled in, named by its own hash so that it may be kept for ever, and pinned by `integrity` (W3C
//! Subresource Integrity) in the pages that ask for it.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::Answer;

/// A file that pages ask for.
#[derive(Debug)]
pub struct Asset {
    /// Where it is, below the path of the pages.
    pub path: String,
    /// What the browser compares it with.
    pub integrity: String,
    text: &'static str,
    kind: &'static str,
}

/// The style of all pages.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));

impl Asset {
    /// A file, by what it is called and what it is.
    pub fn new(name: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let sum = digest::digest(&digest::SHA384, text.as_bytes());
        let short: String = sum.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let integrity = format!("sha384-{}", BASE64_STANDARD.encode(sum.as_ref()));
        Self { path: format!("/assets/{name}-{short}.{ending}"), integrity, text, kind }
    }

    /// The file, for anybody: there is nothing in it that is not the same for all.
    pub fn answer(&self) -> Answer {
        let mut response = Response::new(Bytes::from_static(self.text.as_bytes()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        Answer::served(response)
    }
}
