//! The files that the pages ask for: the style of all pages, and a script of their own.

use std::sync::LazyLock;

use crate::endpoint::{Asset, STYLE};

/// The script.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("assets/page.js")));

/// The file of a path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.path == path)
}
