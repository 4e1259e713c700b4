//! An override among the parts of a multipart body (RFC 7578).

use http::HeaderName;

use super::{
    Add,
    ConflictingOverride::{self, Unreadable},
    PARAMETERS, find as place_of,
};

/// The longest head of a part that is looked into. PHP cuts lines of one off behind 5,120 bytes.
const LONGEST_HEAD: usize = 4096;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Finds overrides. What parsers take apart in two ways is refused: a line that ends otherwise than in CR LF, an empty or folded line
/// before a head, a boundary within a line, and whatever stands before the first part or behind the last.
pub(super) fn find(body: &[u8], boundary: &[u8], add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    if body.is_empty() {
        return Ok(());
    }
    let delimiter = [b"--", boundary].concat();
    let body = body.strip_prefix(LINE_END).unwrap_or(body);
    let mut rest =
        body.strip_prefix(&*delimiter).ok_or(Unreadable("a multipart form begins otherwise than by its boundary"))?;
    loop {
        if let Some(behind) = rest.strip_prefix(b"--") {
            let is_over = behind.trim_ascii().is_empty();
            return is_over
                .then_some(())
                .ok_or(Unreadable("something stands behind the last part of a multipart form"));
        }
        let (part, behind) = split_at(rest, &delimiter).ok_or(Unreadable("a multipart form has no end"))?;
        let part = part.strip_prefix(LINE_END).and_then(|part| part.strip_suffix(LINE_END));
        let part =
            part.ok_or(Unreadable("a boundary of a multipart form is not in a line of its own that ends in CR LF"))?;
        let (head, content) = split_at(part, HEAD_END).filter(|(head, _)| is_plain(head)).ok_or(Unreadable(
            "the head of a part is empty or longer than 4 KiB, or not made of fields in lines that end in CR LF",
        ))?;
        if names_parameter(head)? {
            add(content)?;
        }
        rest = behind;
    }
}

/// What stands before the first `mark`, and what behind it.
fn split_at<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = place_of(text, mark)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}

/// Whether every parser takes a head apart alike: short, and fields (RFC 9110 §5) line by line.
fn is_plain(head: &[u8]) -> bool {
    let is_field = |line: &[u8]| {
        let is_text = |value: &[u8]| value.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
        split_at(line, b":").is_some_and(|(name, value)| HeaderName::from_bytes(name).is_ok() && is_text(value))
    };
    // The last line's end is that of the head.
    let mut lines = head.split(|b| *b == b'\n').rev();
    head.len() <= LONGEST_HEAD
        && lines.next().is_some_and(is_field)
        && lines.all(|line| line.strip_suffix(b"\r").is_some_and(is_field))
}

/// A byte of a head as a lax reader takes it, with where it begins and ends in the head.
struct Squeezed {
    byte: u8,
    begin: usize,
    end: usize,
    /// Whether every reader takes it for a part of the word beside it: a letter, digit, `_` or `-` that is written as itself.
    is_of_word: bool,
}

/// Whether the head of a part names an override, however it quotes or escapes the name. An error where a name may be in an encoding of
/// its own (RFC 2231, RFC 2047), or the part has parts. `payment_method` is another name, and `filename*` names no field.
fn names_parameter(head: &[u8]) -> Result<bool, ConflictingOverride> {
    let squeezed = squeeze(head);
    let text: Vec<u8> = squeezed.iter().map(|it| it.byte).collect();
    let is_encoded = split_at(&text, b"=?").is_some_and(|(_, behind)| place_of(behind, b"?=").is_some());
    // Each is a `filename*`, plainly written.
    let is_extended = count(&text, b"name*") != count(&head.to_ascii_lowercase(), b"filename*");
    if is_encoded || is_extended {
        return Err(Unreadable("the name of a part is in an encoding of its own"));
    }
    if place_of(&text, b"content-type:multipart").is_some() {
        return Err(Unreadable("a part has parts"));
    }
    let names_it = |name: &[u8]| {
        let mut places = text.windows(name.len()).zip(squeezed.windows(name.len())).enumerate();
        places.any(|(at, (text, place))| {
            let (before, after) =
                (at.checked_sub(1).and_then(|before| squeezed.get(before)), squeezed.get(at + name.len()));
            let (begin, end) = (place.first().map(|first| first.begin), place.last().map(|last| last.end));
            // Nothing that some reader leaves out stands between.
            let goes_on = before.is_some_and(|before| before.is_of_word && Some(before.end) == begin)
                || after.is_some_and(|after| after.is_of_word && Some(after.begin) == end);
            text == name && !goes_on
        })
    };
    Ok(PARAMETERS.iter().any(|name| names_it(name.as_bytes())))
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|it| *it == word).count()
}

fn squeeze(head: &[u8]) -> Vec<Squeezed> {
    let mut squeezed = Vec::with_capacity(head.len());
    let mut at = 0;
    while let Some(&written) = head.get(at) {
        let escaped = (written == b'%').then(|| head.get(at + 1..at + 3)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let begin = at;
        at += if decoded.is_some() { 3 } else { 1 };
        let byte = decoded.unwrap_or(written).to_ascii_lowercase();
        if !matches!(byte, b'"' | b'\'' | b'\\' | b'\0') && !byte.is_ascii_whitespace() {
            let is_of_word = written.is_ascii_alphanumeric() || matches!(written, b'_' | b'-');
            // PHP makes a name's dots underscores.
            squeezed.push(Squeezed { byte: if byte == b'.' { b'_' } else { byte }, begin, end: at, is_of_word });
        }
    }
    squeezed
}
