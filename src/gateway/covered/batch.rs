//! Several requests in one: JSON in which each is an object with a path, and perhaps a method. There are many such forms and no
//! standard, so whatever looks like a request is judged as one.

use http::Method;
use url::form_urlencoded;

use super::{
    Fault, Seen, is_idle,
    loose::{Loose, folded},
    text,
};
use crate::{config::Deletions, route::NormalPath};

/// The names under which a path stands, folded.
const PATHS: [&str; 13] = [
    "path",
    "url",
    "uri",
    "relativeurl",
    "relativeuri",
    "relativepath",
    "requesturi",
    "requesturl",
    "requestpath",
    "href",
    "endpoint",
    "target",
    "resource",
];
/// The names under which a method stands, folded.
const METHODS: [&str; 8] = ["method", "verb", "httpmethod", "httpverb", "requestmethod", "op", "operation", "action"];
/// What other words for a method mean.
const WORDS: [(&str, Method); 10] = [
    ("add", Method::POST),
    ("create", Method::POST),
    ("read", Method::GET),
    ("list", Method::GET),
    ("fetch", Method::GET),
    ("update", Method::PATCH),
    ("replace", Method::PUT),
    ("remove", Method::DELETE),
    ("destroy", Method::DELETE),
    ("erase", Method::DELETE),
];
/// The most segments of a path within a batch, and before it.
const MAX_SEGMENTS: usize = 32;
/// The most requests of a batch: services take a few dozen.
const MAX_REQUESTS: usize = 100;
/// The most comparisons of a path with a pattern: a worker serves others, too, and one body must not keep it from them.
const MAX_COMPARISONS: usize = 50_000;

/// What the requests of a batch are compared with.
struct Judge<'a> {
    deletions: &'a Deletions,
    /// The leading parts of the batch's own path, the whole of it included: what a path within it may be relative to.
    bases: Vec<&'a str>,
    /// How many requests were found.
    requests: usize,
    /// With how many operations and covers a path of one is compared.
    patterns: usize,
    /// How many comparisons there were.
    comparisons: usize,
}

/// Refuses a batch of which one request is an operation of a plan or otherwise covered, and one without a request that can be read.
pub(super) fn judge(deletions: &Deletions, seen: &Seen<'_>) -> Result<(), Fault> {
    if is_idle(seen) {
        return Ok(());
    }
    let (body, kind) = text(seen)?;
    if ["multipart", "urlencoded", "url-encoded"].iter().any(|word| kind.contains(word)) {
        return Err(Fault::Unreadable("it is no JSON"));
    }
    let json = Loose::read(body).ok_or(Fault::Unreadable("it is no JSON"))?;
    let mut judge = Judge::of(deletions, seen)?;
    judge.value(&json)?;
    if judge.requests == 0 {
        return Err(Fault::Unreadable("no request was found in it"));
    }
    Ok(())
}

impl<'a> Judge<'a> {
    fn of(deletions: &'a Deletions, seen: &Seen<'a>) -> Result<Self, Fault> {
        let ends = seen.path.match_indices('/').map(|(at, _)| at).chain([seen.path.len()]);
        let bases: Vec<&str> = ends.filter_map(|at| seen.path.get(..at)).collect();
        if bases.len() > MAX_SEGMENTS {
            return Err(Fault::Unreadable("its path is long"));
        }
        let patterns = deletions.plans.iter().map(|plan| plan.operations.len() + plan.covers.len()).sum();
        Ok(Self { deletions, bases, requests: 0, patterns, comparisons: 0 })
    }

    /// Looks at everything within a value. It is no deeper than the reader takes.
    fn value(&mut self, json: &Loose) -> Result<(), Fault> {
        match json {
            Loose::Object(members) => {
                self.object(members)?;
                for (name, value) in members {
                    refuse_override(name)?;
                    self.line(name)?;
                    self.value(value)?;
                }
                Ok(())
            }
            Loose::Array(items) => {
                // `["DELETE", "/accounts/42"]`
                let mut texts =
                    items.iter().map(|item| if let Loose::Text(text) = item { Some(text.as_str()) } else { None });
                if let (Some(Some(one)), Some(Some(path))) = (texts.next(), texts.next())
                    && let Some(method) = method(one)
                {
                    self.request(&[Some(method)], path)?;
                }
                items.iter().try_for_each(|item| self.value(item))
            }
            Loose::Text(text) => {
                refuse_override(text)?;
                self.line(text)
            }
            Loose::Other => Ok(()),
        }
    }

    /// An object that has a path is a request: by each method that it names, by any if it names none.
    fn object(&mut self, members: &[(String, Loose)]) -> Result<(), Fault> {
        let mut methods = Vec::new();
        let mut paths = Vec::new();
        for (name, value) in members {
            let name = folded(name);
            match value {
                Loose::Text(text) if METHODS.contains(&name.as_str()) => methods.push(method(text)),
                Loose::Text(text) if PATHS.contains(&name.as_str()) => paths.push(text),
                // In pieces, as some clients have it, it could be put together to any.
                Loose::Object(_) | Loose::Array(_) if ["url", "uri", "path"].contains(&name.as_str()) => {
                    return Err(Fault::Unreadable("the path of a request is no text"));
                }
                Loose::Object(_) | Loose::Array(_) | Loose::Text(_) | Loose::Other => {}
            }
        }
        if methods.is_empty() {
            methods.push(None);
        }
        let changes = |method: &Option<Method>| {
            method.as_ref().is_some_and(|method| ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method))
        };
        if paths.is_empty() && methods.iter().any(changes) {
            return Err(Fault::Unreadable("one of its requests says what it does, and not to what"));
        }
        paths.into_iter().try_for_each(|path| self.request(&methods, path))
    }

    /// `DELETE /accounts/42`, as a text or a name.
    fn line(&mut self, text: &str) -> Result<(), Fault> {
        let mut words = text.split_ascii_whitespace();
        let (Some(first), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        match method(first) {
            Some(method) if path.starts_with('/') || path.contains("://") => self.request(&[Some(method)], path),
            Some(_) | None => Ok(()),
        }
    }

    fn request(&mut self, methods: &[Option<Method>], target: &str) -> Result<(), Fault> {
        self.requests = self.requests.saturating_add(1);
        if self.requests > MAX_REQUESTS {
            return Err(Fault::Unreadable("it has too many requests"));
        }
        let path = path_of(target.trim())?;
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(Fault::Unreadable("the path of a request is long"));
        }
        let candidates = segments.len().max(1).saturating_mul(self.bases.len());
        let comparisons = candidates.saturating_mul(methods.len()).saturating_mul(self.patterns.max(1));
        // Before any of them is made.
        self.comparisons = self.comparisons.saturating_add(comparisons);
        if self.comparisons > MAX_COMPARISONS {
            return Err(Fault::Unreadable("it takes too long to compare"));
        }
        // The service may mount what it calls by this path anywhere on its own, and the path may begin before what clients see.
        let mut paths: Vec<String> = Vec::new();
        for skipped in 0..segments.len().max(1) {
            let rest = segments.get(skipped..).unwrap_or_default().join("/");
            paths.extend(self.bases.iter().map(|base| format!("{base}/{rest}")));
        }
        for path in &paths {
            let path = NormalPath::parse(path)
                .map_err(|_| Fault::Unreadable("the path of a request is not in normal form"))?;
            if methods.iter().any(|method| self.is_covered(method.as_ref(), &path)) {
                return Err(Fault::Batched);
            }
        }
        Ok(())
    }

    fn is_covered(&self, method: Option<&Method>, path: &NormalPath<'_>) -> bool {
        let meets = |known: Option<&Method>| match (known, method) {
            (None, _) | (_, None) => true,
            (Some(known), Some(method)) => known == method || (*known == Method::GET && *method == Method::HEAD),
        };
        self.deletions.plans.iter().any(|plan| {
            let operation =
                plan.operations.iter().any(|known| meets(Some(&known.method)) && known.path.matches_folded(path));
            // A batch or a GraphQL request within a batch is not looked into.
            operation || plan.covers.iter().any(|cover| meets(cover.method.as_ref()) && cover.path.matches_folded(path))
        })
    }
}

/// Refuses a name or a text that may tell a service to take a request of the batch for one by another method: as the name of a header
/// field, a parameter of a query or of a form, a member of a body.
fn refuse_override(text: &str) -> Result<(), Fault> {
    let says = |piece: &str| {
        let bare = folded(piece);
        bare.contains("xhttpmethod") || bare.contains("xmethodoverride") || has_parameter(&piece.to_ascii_lowercase())
    };
    if form_urlencoded::parse(text.as_bytes()).any(|(name, value)| says(&name) || says(&value)) {
        return Err(Fault::Unreadable("one of its requests may override its method"));
    }
    Ok(())
}

/// Whether `_method` stands in a text, and is no part of a longer word.
fn has_parameter(lower: &str) -> bool {
    lower.match_indices("_method").any(|(at, word)| {
        let before = lower.get(..at).and_then(|before| before.chars().next_back());
        let after = lower.get(at.saturating_add(word.len())..).and_then(|after| after.chars().next());
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '_')
    })
}

/// A method by its name or by another word for it; `None` is one that is not known.
fn method(text: &str) -> Option<Method> {
    let upper = text.trim().to_ascii_uppercase();
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let lower = text.trim().to_ascii_lowercase();
    let word = || WORDS.iter().find(|(word, _)| *word == lower).map(|(_, method)| method.clone());
    known.into_iter().find(|method| *method.as_str() == *upper).or_else(word)
}

/// The path of a target, which may be a whole URL, or relative.
fn path_of(target: &str) -> Result<&str, Fault> {
    // `{result=first:$.id}` is filled in by the service.
    if target.contains(['{', '}', '$', '\\']) || target.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Fault::Unreadable("the path of a request has a blank, or what a service fills in"));
    }
    let rest = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or_default()
        }
        // `//host/path` to one is a path to another; either is among what is compared.
        Some(_) | None => target,
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    // What the service would resolve before it looks, or decode twice.
    let dots =
        path.split('/').any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."));
    if dots || path.to_ascii_lowercase().contains("%25") {
        return Err(Fault::Unreadable("the path of a request is not in normal form"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;

    use super::*;
    use crate::gateway::covered::tests::deletions;

    /// What becomes of a batch at a path, and how many comparisons it took.
    fn cost(path: &str, body: &str) -> (Result<(), Fault>, usize) {
        let (deletions, headers) = (deletions(), HeaderMap::new());
        let seen = Seen { method: &Method::POST, path, query: None, headers: &headers, body: body.as_bytes() };
        let mut judge = Judge::of(&deletions, &seen).unwrap();
        let judged = judge.value(&Loose::read(body).unwrap());
        (judged, judge.comparisons)
    }

    fn requests(count: usize, path: &str) -> String {
        let one = format!(r#"{{"method":"GET","path":"{path}"}}"#);
        format!("[{}]", vec![one; count].join(","))
    }

    #[test]
    fn a_batch_is_refused_once_it_has_cost_enough_and_not_after_all_of_it_was_compared() {
        assert_eq!(cost("/api/batch", &requests(MAX_REQUESTS, "/v1/a/b/c")).0, Ok(()));
        let (judged, some) = cost("/api/batch", &requests(MAX_REQUESTS + 1, "/v1/a/b/c"));
        assert!(matches!(judged, Err(Fault::Unreadable(_))), "{judged:?}");
        assert_eq!(cost("/api/batch", &requests(20_000, "/v1/a/b/c")), (judged, some), "the rest was not looked at");
        // Long paths, on a long path, each by every method.
        let long = "/a".repeat(MAX_SEGMENTS - 1);
        let (judged, most) = cost(&long, &requests(MAX_REQUESTS, &long));
        assert!(matches!(judged, Err(Fault::Unreadable(_))), "{judged:?}");
        let one = MAX_SEGMENTS * MAX_SEGMENTS * 16;
        assert!((MAX_COMPARISONS..MAX_COMPARISONS + one).contains(&most), "{most}");
        let methods = vec![r#""method":"GET""#; 10_000].join(",");
        let judged = cost(&long, &format!(r#"[{{{methods},"path":"{long}"}}]"#)).0;
        assert!(matches!(judged, Err(Fault::Unreadable(_))), "{judged:?}");
    }
}
