//! Texts with names in braces: `/accounts/{subject}`. Nothing else is interpreted; `{{` and `}}` are braces. What a name stands for,
//! and where it may, is for who reads the pieces.

/// The longest text.
const MAX_BYTES: usize = 4_096;

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// As it is meant; never empty.
    Text(Box<str>),
    /// What stands in braces.
    Name(&'t str),
}

/// Why a text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `{subject` and no `}`.
    Unclosed,
    /// A `}` of its own.
    Unopened,
    /// More than 4096 bytes, or more names than there may be.
    TooLarge,
}

/// Reads a text of at most so many names, piece by piece: the first fault is the last thing that it gives.
pub(super) fn pieces(text: &str, most_names: usize) -> impl Iterator<Item = Result<Piece<'_>, Fault>> {
    let mut reader =
        Reader { rest: if text.len() > MAX_BYTES { Err(Fault::TooLarge) } else { Ok(text) }, names: most_names };
    std::iter::from_fn(move || reader.next().transpose())
}

struct Reader<'t> {
    rest: Result<&'t str, Fault>,
    names: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<Piece<'t>>, Fault> {
        let mut rest = std::mem::replace(&mut self.rest, Ok(""))?;
        let mut text = String::new();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                text.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                text.push('}');
                rest = after;
            } else if !text.is_empty() {
                self.rest = Ok(brace);
                return Ok(Some(Piece::Text(text.into())));
            } else {
                let inner = brace.strip_prefix('{').ok_or(Fault::Unopened)?;
                let (name, after) = inner.split_once('}').ok_or(Fault::Unclosed)?;
                self.names = self.names.checked_sub(1).ok_or(Fault::TooLarge)?;
                self.rest = Ok(after);
                return Ok(Some(Piece::Name(name)));
            }
        }
        text.push_str(rest);
        Ok((!text.is_empty()).then(|| Piece::Text(text.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Piece<'_>>, Fault> {
        pieces(text, 2).collect()
    }

    #[test]
    fn names_are_in_braces_and_two_braces_are_one() {
        let text = |text: &str| Piece::Text(text.into());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("a{{b}}"), Ok(vec![text("a{b}")]));
        assert_eq!(read("/a/{b}{c}/d"), Ok(vec![text("/a/"), Piece::Name("b"), Piece::Name("c"), text("/d")]));
        assert_eq!(read("{{{a}}}"), Ok(vec![text("{"), Piece::Name("a"), text("}")]));
        assert_eq!((read("a{b"), read("a}b")), (Err(Fault::Unclosed), Err(Fault::Unopened)));
        assert_eq!(read("{a}{b}{c}"), Err(Fault::TooLarge));
        assert_eq!(read(&"x".repeat(4_097)), Err(Fault::TooLarge));
    }
}
