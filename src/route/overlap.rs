//! How two path patterns lie to each other, folded as the deletion guard matches: any case, without `;params`, a
//! trailing `/`, `.` or space. For checking a configuration, never for a request.

use super::{PathPattern, Segment};

/// Whether some path matches both.
pub fn overlaps(one: &PathPattern, other: &PathPattern) -> bool {
    walk(one.folded_segments(), other.folded_segments(), |one, other| match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        _ => true,
    })
}

/// Whether every path that matches `inner` matches `outer`.
pub fn covers(outer: &PathPattern, inner: &PathPattern) -> bool {
    let (outer, inner) = (outer.folded_segments(), inner.folded_segments());
    let swallows_rest = matches!(outer.last(), Some(Segment::Rest));
    // Where both end in `**`, the outer one must come to it first.
    if matches!(inner.last(), Some(Segment::Rest)) && (!swallows_rest || outer.len() > inner.len()) {
        return false;
    }
    walk(outer, inner, |outer, inner| match (outer, inner) {
        (Segment::Literal(outer), Segment::Literal(inner)) => outer == inner,
        (Segment::Literal(_), _) => false,
        _ => true,
    })
}

/// Goes through both, segment by segment, until one ends or swallows the rest.
fn walk(one: &[Segment], other: &[Segment], fits: impl Fn(&Segment, &Segment) -> bool) -> bool {
    let mut one = one.iter();
    let mut other = other.iter();
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) => return true,
            (Some(one), Some(other)) if fits(one, other) => {}
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn patterns_overlap_when_some_path_matches_both() {
        for (one, other, expected) in [
            ("/**", "/a/b", true),
            ("/a/**", "/a", true),
            ("/a/*", "/a/b", true),
            ("/a/{x}/c", "/a/b/*", true),
            ("/Account/Delete", "/account/delete/", true),
            ("/a", "/b", false),
            ("/a", "/a/b", false),
            ("/a/b/**", "/a/c/**", false),
        ] {
            assert_eq!(overlaps(&pattern(one), &pattern(other)), expected, "{one} {other}");
            assert_eq!(overlaps(&pattern(other), &pattern(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_pattern_covers_another_when_it_matches_all_of_its_paths() {
        for (outer, inner, expected) in [
            ("/**", "/a/**", true),
            ("/a/**", "/a/b/**", true),
            ("/a/*", "/a/{x}", true),
            ("/a/b", "/A/B/", true),
            ("/a/b/**", "/a/**", false),
            ("/a/b", "/a/{x}", false),
            ("/a/*", "/a/**", false),
            ("/a/*/**", "/a/**", false),
            ("/a/*/**", "/a/*/**", true),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(covers(&pattern(outer), &pattern(inner)), expected, "{outer} {inner}");
        }
    }
}
