//! The text of a configuration as it may be shown: what is, or might be, a secret is blanked. The columns before it
//! stay; what follows it on its line goes as well, so that not even its length is told.

use std::ops::Range;

/// What stands for what is not shown.
const BLANK: char = '…';

/// Blanks these bytes of a text.
pub(super) fn redact(text: &str, masks: &[Range<usize>]) -> String {
    let mut masks: Vec<Range<usize>> = masks.iter().map(|mask| trimmed(text, mask)).collect();
    masks.sort_by_key(|mask| mask.start);
    let mut masks = masks.into_iter().peekable();
    let mut shown = String::with_capacity(text.len());
    let mut hidden_until = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let body = line.trim_end_matches(['\n', '\r']);
        let mut visible = if hidden_until > at { 0 } else { body.len() };
        while let Some(mask) = masks.next_if(|mask| mask.start < end) {
            visible = visible.min(mask.start.saturating_sub(at));
            hidden_until = hidden_until.max(mask.end);
        }
        push_line(&mut shown, body, visible);
        at = end;
    }
    shown
}

/// Blanks whatever might be a secret in a text that could not be parsed: all but keys, and the values of `harmless` ones.
pub(super) fn redact_unparsed(text: &str, harmless: &[&'static str]) -> String {
    const TELLING: [&str; 6] = ["secret", "passw", "pwd", "token", "credential", "value"];
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        let lead = line.len() - line.trim_start_matches([' ', '-', '{', '[']).len();
        let rest = line.get(lead..).unwrap_or_default();
        let key = rest.split_once(':').map(|(key, _)| key).filter(|key| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        });
        let lower = line.to_ascii_lowercase();
        let visible = match key {
            Some(_) if all_harmless(line, harmless) && !TELLING.iter().any(|word| lower.contains(word)) => line.len(),
            Some(key) => lead + key.len() + 1,
            None => lead,
        };
        push_line(&mut shown, line, visible);
    }
    shown
}

/// Whether every key on a line is harmless.
fn all_harmless(line: &str, harmless: &[&'static str]) -> bool {
    line.match_indices(':').all(|(at, _)| {
        let (before, after) = line.split_at(at);
        let word = before.rsplit([' ', '{', '[', ',']).next().unwrap_or_default();
        // `http://` and `a:b` are no keys.
        let behind = after.chars().nth(1);
        let is_key = behind.is_none_or(|c| c == ' ' || c == '\t');
        !is_key || harmless.contains(&word)
    })
}

/// A mask without the blanks at its end: a block text ends where the next line's first word begins.
fn trimmed(text: &str, mask: &Range<usize>) -> Range<usize> {
    // A mask that does not fit the text hides all that follows, rather than nothing.
    let end = text.get(mask.clone()).map_or(text.len(), |inside| mask.start + inside.trim_end().len());
    mask.start..end.max(mask.start.saturating_add(1))
}

fn push_line(shown: &mut String, line: &str, visible: usize) {
    // A colon behind a key tells nothing; a comment may hold what was a value once.
    let visible = if line.get(visible..).is_some_and(|rest| rest.starts_with(':')) { visible + 1 } else { visible };
    let line = line.split_at(comment(line)).0;
    let mut visible = visible.min(line.len());
    while !line.is_char_boundary(visible) {
        visible -= 1;
    }
    let (before, after) = line.split_at(visible);
    shown.push_str(before);
    if !after.is_empty() {
        if before.ends_with(':') {
            shown.push(' ');
        }
        shown.push(BLANK);
    }
    shown.push('\n');
}

/// Where a comment begins. A `#` behind a blank within quotes is taken for one: only a snippet gets shorter.
fn comment(line: &str) -> usize {
    let starts = line.match_indices('#').map(|(at, _)| at);
    let mut starts = starts.filter(|at| line.split_at(*at).0.ends_with([' ', '\t']) || *at == 0);
    starts.next().unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn masked_bytes_and_the_rest_of_their_lines_go() {
        assert_eq!(redact("a: b\nc: dd, e\nf\n", &[8..10]), "a: b\nc: …\nf\n");
        assert_eq!(redact("a: |\n  x\n  y\nb\n", &[1..13]), "a: …\n…\n…\nb\n");
        assert_eq!(redact("ж: я\n", &[5..6]), "ж: …\n");
        let middle = 1;
        assert_eq!(redact("ж\nx\n", &[middle..2]), "…\n…\n");
        assert_eq!(redact("token: # was x\nb\n", &[5..5]), "token: …\nb\n");
    }

    #[test]
    fn an_unparsed_text_keeps_its_keys_and_the_values_of_harmless_ones() {
        let text = "a: b\npath: /x # y\npassword: 'x\n  y\n- {path: /a, token: z}\n- secret: |\nzz\nx: path: z\n- path: /a, pas: z\npath: a:b\n";
        let shown = "a: …\npath: /x \npassword: …\n  …\n- {path: …\n- secret: …\n…\nx: …\n- path: …\npath: a:b\n";
        assert_eq!(redact_unparsed(text, &["path"]), shown);
    }
}
