//! An override among the parts of a multipart body (RFC 7578).

use http::HeaderName;

use super::{Add, ConflictingOverride, PARAMETERS, find as place_of};

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
    let mut rest = body.strip_prefix(&*delimiter).ok_or(ConflictingOverride)?;
    loop {
        if let Some(behind) = rest.strip_prefix(b"--") {
            return if behind.trim_ascii().is_empty() { Ok(()) } else { Err(ConflictingOverride) };
        }
        let (part, behind) = split_at(rest, &delimiter).ok_or(ConflictingOverride)?;
        let part = part.strip_prefix(LINE_END).and_then(|part| part.strip_suffix(LINE_END));
        let (head, content) = part.and_then(|part| split_at(part, HEAD_END)).ok_or(ConflictingOverride)?;
        if !is_plain(head) {
            return Err(ConflictingOverride);
        }
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
        let (name, value) = split_at(line, b":")?;
        let is_text = value.iter().all(|b| *b == b'\t' || !b.is_ascii_control());
        (HeaderName::from_bytes(name).is_ok() && is_text).then_some(())
    };
    let mut rest = Some(head).filter(|head| head.len() <= LONGEST_HEAD);
    while let Some(lines) = rest {
        let (line, behind) = split_at(lines, LINE_END).map_or((lines, None), |(line, behind)| (line, Some(behind)));
        if is_field(line).is_none() {
            return false;
        }
        if behind.is_none() {
            return true;
        }
        rest = behind;
    }
    false
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
    let places = |name: &'static [u8]| {
        let places = text.windows(name.len()).zip(squeezed.windows(name.len())).enumerate();
        places.filter_map(move |(at, (text, place))| (text == name).then_some((at, place.first()?, place.last()?)))
    };
    let of_file = |(at, first, _): (usize, &Squeezed, &Squeezed)| {
        let before = at.checked_sub(4).filter(|before| text.get(*before..at) == Some(b"file"));
        before.and_then(|before| squeezed.get(before)).is_some_and(|file| file.begin + 4 == first.begin)
    };
    let is_encoded = split_at(&text, b"=?").is_some_and(|(_, behind)| place_of(behind, b"?=").is_some());
    let has_parts = place_of(&text, b"content-type:multipart").is_some();
    if is_encoded || has_parts || !places(b"name*").all(of_file) {
        return Err(ConflictingOverride);
    }
    let is_whole = |(at, first, last): (usize, &Squeezed, &Squeezed), length: usize| {
        let before = at.checked_sub(1).and_then(|before| squeezed.get(before));
        let after = squeezed.get(at + length);
        // Nothing that some reader leaves out stands between.
        !before.is_some_and(|before| before.is_of_word && before.end == first.begin)
            && !after.is_some_and(|after| after.is_of_word && after.begin == last.end)
    };
    Ok(PARAMETERS.iter().any(|name| places(name.as_bytes()).any(|place| is_whole(place, name.len()))))
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
