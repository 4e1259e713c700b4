//! An override among the parts of a multipart body (RFC 7578).

use super::{Add, ConflictingOverride, PARAMETERS, Spelling, find as place_of};

/// The head of a part that everybody takes for `_method`.
const USUAL_HEAD: &[u8] = b"content-disposition: form-data; name=\"_method\"";

/// Finds overrides. Whatever looks like one counts: a parser that is stricter than the service's would miss what the service sees.
/// `is_usual` says whether everybody takes the body for a form.
pub(super) fn find(body: &[u8], boundary: &[u8], is_usual: bool, add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    let delimiter = [b"--", boundary].concat();
    for part in parts(body, &delimiter).skip(1) {
        // No parser looks for a head's end behind the first empty line that has both its characters.
        let end = place_of(part, b"\r\n\r\n").unwrap_or(part.len());
        let head = part.get(..end).unwrap_or_default();
        let Some(at) = names_parameter(head)? else { continue };
        let is_usual = is_usual && head.trim_ascii().eq_ignore_ascii_case(USUAL_HEAD);
        let mut nameless = true;
        for content in contents(part, at, end) {
            nameless = false;
            add(
                content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n")).unwrap_or(content),
                Spelling::usual_if(is_usual),
            )?;
        }
        if nameless {
            return Err(ConflictingOverride);
        }
    }
    Ok(())
}

/// A byte of a head as a lax reader takes it, with where it begins and ends in the head.
struct Squeezed {
    byte: u8,
    begin: usize,
    end: usize,
}

impl Squeezed {
    /// Whether every reader takes it for a part of the word beside it: a letter, digit, `_` or `-` that is written as itself.
    fn is_of_word(&self) -> bool {
        self.end == self.begin + 1 && (self.byte.is_ascii_alphanumeric() || matches!(self.byte, b'_' | b'-'))
    }
}

/// Where the head of a part has named an override, however it quotes, escapes or breaks the name. An error where the name is in an
/// encoding of its own (RFC 2231, RFC 2047). `payment_method` is another name.
fn names_parameter(head: &[u8]) -> Result<Option<usize>, ConflictingOverride> {
    let squeezed = squeeze(head);
    let text: Vec<u8> = squeezed.iter().map(|it| it.byte).collect();
    if [&b"name*"[..], b"=?"].iter().any(|strange| place_of(&text, strange).is_some()) {
        return Err(ConflictingOverride);
    }
    let ends = PARAMETERS.iter().filter_map(|name| {
        let mut places = text.windows(name.len()).zip(squeezed.windows(name.len())).enumerate();
        places.find_map(|(at, (text, place))| {
            let (first, last) = (place.first()?, place.last()?);
            let before = at.checked_sub(1).and_then(|before| squeezed.get(before));
            let after = squeezed.get(at + name.len());
            // Nothing that some reader leaves out stands between.
            let is_longer = before.is_some_and(|before| before.end == first.begin && before.is_of_word())
                || after.is_some_and(|after| after.begin == last.end && after.is_of_word());
            (text == name.as_bytes() && !is_longer).then_some(last.end)
        })
    });
    Ok(ends.min())
}

fn squeeze(head: &[u8]) -> Vec<Squeezed> {
    let mut squeezed = Vec::with_capacity(head.len());
    let mut at = 0;
    while let Some(&byte) = head.get(at) {
        let escaped = (byte == b'%').then(|| head.get(at + 1..at + 3)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let begin = at;
        at += if decoded.is_some() { 3 } else { 1 };
        let byte = decoded.unwrap_or(byte).to_ascii_lowercase();
        if !matches!(byte, b'"' | b'\'' | b'\\' | b'\0') && !byte.is_ascii_whitespace() {
            // PHP makes a name's dots underscores.
            squeezed.push(Squeezed { byte: if byte == b'.' { b'_' } else { byte }, begin, end: at });
        }
    }
    squeezed
}

/// What stands behind each empty line that some parser may take for the end of a head, from `from` to `end`.
fn contents(part: &[u8], from: usize, end: usize) -> impl Iterator<Item = &[u8]> {
    let lines = part.iter().enumerate().skip(from).take_while(move |(at, _)| *at <= end + 1);
    lines.filter(|(_, byte)| **byte == b'\n').filter_map(|(at, _)| {
        let rest = part.get(at + 1..)?;
        let blank = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r'))?;
        (rest.get(blank) == Some(&b'\n')).then(|| rest.get(blank + 1..))?
    })
}

fn parts<'a>(body: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let body = rest?;
        match place_of(body, delimiter) {
            Some(at) => {
                rest = body.get(at + delimiter.len()..);
                body.get(..at)
            }
            None => rest.take(),
        }
    })
}
