//! Whether a form was sent by a page of ours, as the browser has it (`Sec-Fetch-Site`, `Origin`).

use http::{HeaderMap, HeaderName, header};
use url::Url;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");

/// Whether the browser says that a page of our own origin sent it. A browser that says nothing of it is refused: all that have
/// what the pages need say it.
pub fn is_same_origin(headers: &HeaderMap, own: &Url) -> bool {
    let site = headers.get(&FETCH_SITE).map(|site| site == "same-origin");
    let origin = headers.get(header::ORIGIN).map(|origin| origin == own.origin().ascii_serialization().as_str());
    match (site, origin) {
        (Some(site), Some(origin)) => site && origin,
        (Some(said), None) | (None, Some(said)) => said,
        (None, None) => false,
    }
}

/// Whether a page whose address is its secret sent a form to itself. Browsers hide the origin of such a page (`no-referrer`), and an old
/// one says nothing else; whoever knows the address could send anything from elsewhere anyway. What it keeps out is a page of
/// another site that was given the address to use it from within somebody's browser.
pub fn is_of_own_page(headers: &HeaderMap, own: &Url) -> bool {
    let site = headers.get(&FETCH_SITE).map(|site| site == "same-origin");
    let own = own.origin().ascii_serialization();
    let origin = headers.get(header::ORIGIN).map(|origin| origin == own.as_str() || origin == "null");
    matches!((site, origin), (Some(true), None | Some(true)) | (None, Some(true)))
}

/// Whether a person follows a link, and not a page that loads it as an image, or a browser that fetches it ahead.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get(&FETCH_DEST).is_none_or(|to| to == "document") && !headers.contains_key(&PURPOSE)
}

/// Whether another site sent the browser here.
pub fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get(&FETCH_SITE).is_some_and(|site| site != "same-origin")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn said(site: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(site) = site {
            headers.insert(FETCH_SITE, site.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        is_same_origin(&headers, &Url::parse("https://api.example").unwrap())
    }

    #[test]
    fn a_form_of_another_site_is_known_by_what_the_browser_says() {
        assert!(said(Some("same-origin"), Some("https://api.example")));
        assert!(said(Some("same-origin"), None));
        assert!(said(None, Some("https://api.example")));
        for (site, origin) in [
            (Some("cross-site"), Some("https://api.example")),
            (Some("same-site"), Some("https://app.api.example")),
            (Some("none"), None),
            (Some("same-origin"), Some("null")),
            (None, Some("null")),
            (None, Some("http://api.example")),
            (None, Some("https://api.example:8443")),
            (None, Some("https://evil.example")),
            (None, None),
        ] {
            assert!(!said(site, origin), "{site:?} {origin:?}");
        }
    }

    #[test]
    fn an_image_or_a_prefetch_opens_nothing() {
        let mut headers = HeaderMap::new();
        assert!(is_navigation(&headers));
        headers.insert(FETCH_DEST, "document".parse().unwrap());
        assert!(is_navigation(&headers));
        headers.insert(PURPOSE, "prefetch".parse().unwrap());
        assert!(!is_navigation(&headers));
        headers.remove(&PURPOSE);
        headers.insert(FETCH_DEST, "image".parse().unwrap());
        assert!(!is_navigation(&headers));
    }
}
