//! A route that sends its clients elsewhere. Who is sent has been judged; where to, the file says: no value of a request chooses
//! the host.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::fill;
use crate::{
    config::Redirect,
    gateway::Refusal,
    policy::Reason,
    route::{NormalPath, PathPattern},
};

/// The answer that sends a client elsewhere.
pub(in crate::gateway) fn redirect(
    redirect: &Redirect,
    pattern: &PathPattern,
    path: &NormalPath<'_>,
    query: Option<&str>,
) -> Result<Response<Bytes>, Refusal> {
    let location = location(redirect, pattern, path, query);
    let location = HeaderValue::from_str(&location)
        .map_err(|_| Refusal::of(Reason::InternalFault).because("the target of a redirect is no header value"))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// `Location` (RFC 9110 §10.2.2).
fn location(redirect: &Redirect, pattern: &PathPattern, path: &NormalPath<'_>, asked: Option<&str>) -> String {
    let filled = fill::path(&redirect.path, pattern, path);
    let mut location = redirect.origin.as_deref().unwrap_or_default().to_owned();
    // Two slashes at the beginning would make the first segment a host (RFC 3986 §4.2).
    location.push('/');
    location.push_str(filled.trim_start_matches('/'));
    if let Some(text) = &redirect.query {
        let query = fill::query(text, pattern, path, asked);
        if !query.is_empty() {
            location.push('?');
            location.push_str(&query);
        }
    }
    if let Some(fragment) = &redirect.fragment {
        location.push('#');
        location.push_str(fragment);
    }
    location
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{self, Destination, Input};

    fn of(path: &str, to: &str) -> (Redirect, PathPattern) {
        let text = format!(
            "upstreams: {{}}\nroutes: [{{path: '{path}', auth: none, redirect: {{to: '{to}', status: 307}}}}]\n"
        );
        let input = Input { file: Path::new("p.yaml"), text: &text, base: Path::new("/"), env: &|_| None };
        let config = config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config;
        let route = config.routes.into_iter().next().unwrap();
        let Destination::Redirect(redirect) = route.to else { panic!("no redirect") };
        (*redirect, route.path)
    }

    fn to(route: &str, to: &str, asked: &str) -> String {
        let (redirect, pattern) = of(route, to);
        let (path, query) = asked.split_once('?').map_or((asked, None), |(path, query)| (path, Some(query)));
        location(&redirect, &pattern, &NormalPath::parse(path).unwrap(), query)
    }

    #[test]
    fn parts_of_the_request_go_where_the_file_says() {
        let new = "https://new.example";
        for (route, target, asked, location) in [
            ("/old/**", "https://new.example/{rest}", "/old/a/b%20c/", "https://new.example/a/b%20c/"),
            ("/old/**", "https://new.example/{rest}", "/old", "https://new.example/"),
            ("/old/**", "https://new.example", "/old/x?y", new),
            (
                "/a/{id}/**",
                "/b/{path.id}?id={path.id}&{query}",
                "/a/x%2by&c=d/z?q=1&r",
                "/b/x%2By&c=d?id=x%2By%26c%3Dd&q=1&r",
            ),
            ("/a/{id}/**", "/b?x={path.id}&{query}", "/a/1", "/b?x=1"),
            ("/a/**", "/b?{query}", "/a/1", "/b"),
            ("/a/**", "/b?{query}#top", "/a/1?x=<b>\"'", "/b?x=%3Cb%3E%22'#top"),
            ("/a/**", "/{rest}/x", "/a", "/x"),
        ] {
            let expected = if location == new { "https://new.example/".to_owned() } else { location.to_owned() };
            assert_eq!(to(route, target, asked), expected, "{route} {target} {asked}");
        }
    }

    proptest! {
        #[test]
        fn no_request_chooses_the_host_or_adds_a_line(
            raw in "(/[a-zA-Z0-9.@:;%\\\\]{0,6}|/%2f|/%5c|//|/\\.\\.|/https:){0,6}",
            query in "\\PC{0,20}",
            target in prop::sample::select(vec!["/{rest}", "/x{rest}", "/{rest}/y?{query}", "/x?u={rest}", "https://new.example/{rest}?{query}", "https://new.example/{rest}"]),
        ) {
            let raw = format!("/a{raw}");
            let (redirect, pattern) = of("/a/**", target);
            let Ok(path) = NormalPath::parse(&raw) else { return Ok(()) };
            if !pattern.matches_folded(&path) { return Ok(()) }
            let location = location(&redirect, &pattern, &path, Some(&query));
            prop_assert!(location.bytes().all(|b| b.is_ascii_graphic()), "{location}");
            let base = url::Url::parse("https://asked.example/a").unwrap();
            let host = base.join(&location).unwrap().host_str().unwrap().to_owned();
            prop_assert_eq!(host, if target.starts_with('/') { "asked.example" } else { "new.example" }, "{}", location);
        }
    }
}
