//! Parts of a path in its normal form, byte for byte: what a parameter and what `**` stand for.

use super::{NormalPath, PathPattern, Segment, path};

impl PathPattern {
    /// What a parameter stands for in a path that the pattern matches, in normal form.
    pub fn segment<'p>(&self, path: &'p NormalPath<'_>, name: &str) -> Option<&'p str> {
        let place = self.segments().iter().position(|wanted| matches!(wanted, Segment::Parameter(is) if **is == *name));
        path::split(path.as_str()).nth(place?)
    }

    /// What `**` stands for in a path that the pattern matches, in normal form and without the slash before it; empty where
    /// there is nothing.
    pub fn rest<'p>(&self, path: &'p NormalPath<'_>) -> Option<&'p str> {
        let (last, before) = self.segments().split_last()?;
        if *last != Segment::Rest {
            return None;
        }
        let text = path.as_str();
        let slash = text.match_indices('/').nth(before.len()).map(|(at, _)| at);
        Some(slash.and_then(|at| text.get(at.saturating_add(1)..)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn parts_are_what_the_path_has_there_escapes_included() {
        let pattern = PathPattern::parse("/a/{id}/*/**").unwrap();
        for (raw, id, rest) in [
            ("/a/x%2by/b/c/d%20e/", Some("x%2By"), Some("c/d%20e/")),
            ("/a/%41/b", Some("A"), Some("")),
            ("/a/%41/b/", Some("A"), Some("")),
        ] {
            let path = NormalPath::parse(raw).unwrap();
            assert_eq!((pattern.segment(&path, "id"), pattern.rest(&path)), (id, rest), "{raw}");
            assert_eq!(pattern.segment(&path, "other"), None);
        }
        let all = PathPattern::parse("/**").unwrap();
        let rest = |raw: &'static str| all.rest(&NormalPath::parse(raw).unwrap()).unwrap().to_owned();
        assert_eq!((rest("/"), rest("/a/b")), (String::new(), "a/b".to_owned()));
        assert_eq!(PathPattern::parse("/a").unwrap().rest(&NormalPath::parse("/a").unwrap()), None);
    }
}
