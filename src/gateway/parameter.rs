//! The names of parameters as services read them: a name that one takes for another must not slip by as a stranger.

use std::borrow::Cow;

use smallvec::SmallVec;
use url::form_urlencoded;

use super::hygiene::fold;

/// Whether some service takes a parameter of one name for another's: in any case, as `key[]`, `key.0`, `k.e.y` or `[key]`, with brackets
/// that do not pair, of which some drop the outer ones and others end the name at the first, with another `?` before it, and with what
/// a C string ends at.
pub(super) fn is_called(found: &str, name: &str) -> bool {
    let cut = found.split('\0').next().unwrap_or_default();
    is_spelling(cut, name) || (cut.len() != found.len() && is_spelling(&found.replace('\0', ""), name))
}

fn is_spelling(found: &str, name: &str) -> bool {
    const BEFORE: [char; 3] = ['[', ']', '?'];
    const BRACKETS: [char; 2] = ['[', ']'];
    let is_it = |found: &str| found.len() == name.len() && fold(found) == fold(name);
    let whole = found.trim();
    let inner = whole.trim_start_matches(BEFORE).split(BRACKETS).next().unwrap_or_default().trim_start();
    // The first dot of a name may be a part of it.
    let ends = inner.match_indices('.').map(|(at, _)| at).chain([inner.len()]);
    is_it(whole) || ends.filter_map(|end| inner.get(..end)).any(|inner| is_it(inner.trim_end()))
}

/// A name with its value.
type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a piece of a query or of a form says: its name and value; and as ASP.NET reads them, to which `%u005f` is `_`, where that is
/// something else.
pub(super) fn readings(piece: &[u8]) -> SmallVec<[Parameter<'_>; 2]> {
    let mut readings: SmallVec<[Parameter<'_>; 2]> = form_urlencoded::parse(piece).collect();
    if let Some(other) = without_unicode_escapes(piece) {
        let other = form_urlencoded::parse(&other)
            .map(|(name, value)| (Cow::Owned::<str>(name.into_owned()), Cow::Owned::<str>(value.into_owned())));
        readings.extend(other);
    }
    readings
}

/// A piece with its `%uXXXX` written as others write them; `None` where it has none.
fn without_unicode_escapes(piece: &[u8]) -> Option<Vec<u8>> {
    let escaped = |at: usize| {
        let digits =
            piece.get(at..at + 6)?.strip_prefix(b"%u").or_else(|| piece.get(at..at + 6)?.strip_prefix(b"%U"))?;
        char::from_u32(u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?)
    };
    let mut written = Vec::with_capacity(piece.len());
    let (mut at, mut any) = (0, false);
    while let Some(&byte) = piece.get(at) {
        match escaped(at) {
            Some(c) => {
                written.extend(
                    form_urlencoded::byte_serialize(c.encode_utf8(&mut [0; 4]).as_bytes()).flat_map(str::bytes),
                );
                any = true;
                at += 6;
            }
            None => {
                written.push(byte);
                at += 1;
            }
        }
    }
    any.then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_every_spelling() {
        for found in [
            "_method",
            "_METHOD",
            " _method ",
            "_method[]",
            "_method[a]",
            "[_method]",
            "[[_method",
            "_method]",
            "][_method",
            ".method",
            "_method\0",
            "_method\0x",
            "\0_method",
            "_met\0hod",
            "[_method\0",
            "_method.0",
            ".method.a",
            "_method.a[b]",
            "?_method",
        ] {
            assert!(is_called(found, "_method"), "{found:?}");
        }
        for found in [
            "",
            "method",
            "payment_method",
            "_methods",
            "a[_method]",
            "x\0_method",
            "_method_",
            "[]",
            "a_method[",
            "a._method",
            "?",
        ] {
            assert!(!is_called(found, "_method"), "{found:?}");
        }
    }

    #[test]
    fn escapes_are_read_as_everybody_reads_them() {
        let read = |piece: &str| {
            let readings = readings(piece.as_bytes());
            readings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(read("a=b"), ["a=b"]);
        assert_eq!(read("%5fmethod=a+b"), ["_method=a b"]);
        assert_eq!(read("%u005fmethod=%U0026x"), ["%u005fmethod=%U0026x", "_method=&x"]);
        assert_eq!(read("%u00=1"), ["%u00=1"]);
        assert_eq!(read("%ud800=1"), ["%ud800=1"]);
        assert!(read("").is_empty());
    }
}
