//! The text of a configuration as it may be shown: what is, or might be, a secret is blanked. The columns before it
//! stay; what follows it on its line goes as well, so that not even its length is told.

use std::ops::Range;

/// What stands for what is not shown.
const BLANK: char = '…';

/// Blanks these bytes of a text.
pub(super) fn redact(text: &str, masks: &[Range<usize>]) -> String {
    let mut masks: Vec<Range<usize>> = masks.iter().filter_map(|mask| trimmed(text, mask)).collect();
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

/// Blanks whatever might be a secret in a text that could not be parsed: what follows a telling word, and all that is
/// indented below it.
pub(super) fn redact_unparsed(text: &str) -> String {
    const TELLING: [&str; 9] = ["secret", "password", "passwd", "pwd", "token", "credential", "key", "value", "-----"];
    let mut shown = String::with_capacity(text.len());
    let mut below: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        if below.is_some_and(|deeper| indent > deeper) {
            push_line(&mut shown, line, 0);
            continue;
        }
        let lower = line.to_ascii_lowercase();
        let telling = TELLING.iter().filter_map(|word| lower.find(word)).min();
        below = telling.map(|_| indent);
        let visible = telling.map_or(line.len(), |word| {
            lower.get(word..).and_then(|rest| rest.find(':')).map_or(word, |colon| word + colon + 1)
        });
        push_line(&mut shown, line, visible);
    }
    shown
}

/// A mask without the blanks at its end: a block text ends where the next line's first word begins.
fn trimmed(text: &str, mask: &Range<usize>) -> Option<Range<usize>> {
    // A mask that does not fit the text hides all that follows, rather than nothing.
    let end = text.get(mask.clone()).map_or(text.len(), |inside| mask.start + inside.trim_end().len());
    (mask.start < end).then_some(mask.start..end)
}

fn push_line(shown: &mut String, line: &str, visible: usize) {
    let mut visible = visible.min(line.len());
    while !line.is_char_boundary(visible) {
        visible -= 1;
    }
    let (before, after) = line.split_at(visible);
    shown.push_str(before);
    if !after.is_empty() {
        shown.push(BLANK);
    }
    shown.push('\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn masked_bytes_and_the_rest_of_their_lines_go() {
        assert_eq!(redact("a: b\nc: dd, e\nf\n", &[8..10, 0..0]), "a: b\nc: …\nf\n");
        assert_eq!(redact("a: |\n  x\n  y\nb\n", &[3..12]), "a: …\n…\n…\nb\n");
        assert_eq!(redact("ж: я\n", &[5..6]), "ж: …\n");
        let middle = 1;
        assert_eq!(redact("ж\nx\n", &[middle..2]), "…\n…\n");
        assert_eq!(redact("a: |\n  x\n  y\nb\n", &[5..13]), "a: |\n…\n…\nb\n");
    }

    #[test]
    fn unparsed_text_loses_what_follows_a_telling_word() {
        let text = "a: b\npassword: 'x\n  y\nc: d\n- secret: |\n    z\n  file: f\ntoken x\n";
        assert_eq!(redact_unparsed(text), "a: b\npassword:…\n…\nc: d\n- secret:…\n…\n  file: f\n…\n");
    }
}
