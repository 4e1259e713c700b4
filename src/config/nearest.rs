//! "Did you mean": the nearest right name to a wrong one, and how much of a wrong one is shown.

/// The longest text that a problem quotes.
const MAX_SHOWN: usize = 60;

/// Finds the known name that a wrong one was most likely meant to be.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > MAX_SHOWN {
        return None;
    }
    let folded = fold(wrong);
    // Every third letter may be wrong: `adress`, `lewway` and `jwks-url` are found, an unrelated word is not.
    let allowed = (folded.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &fold(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Says what to do about an unknown name: the nearest one, else all of them.
pub(super) fn advice<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(wrong, known.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    if known.is_empty() || known.len() > 24 {
        return None;
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("known here: {}", names.join(", ")))
}

/// Cuts a text down to what a problem can quote on one line.
pub(super) fn short(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(clean).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A key as it may be shown: one that looks like a key. `token:s3cret`, where a blank was forgotten, does not.
pub(super) fn key(text: &str) -> String {
    let plain = text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-. <>".contains(c));
    if plain { text.to_owned() } else { "…".to_owned() }
}

fn fold(name: &str) -> String {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_an_unrelated_word_finds_none() {
        let known = ["leeway", "algorithms", "jwks_url", "address"];
        assert_eq!(nearest("lewway", known), Some("leeway"));
        assert_eq!(nearest("JWKS-URL", known), Some("jwks_url"));
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest(&"a".repeat(10_000), known), None);
    }

    #[test]
    fn long_and_control_characters_are_cut() {
        assert_eq!(short("a\nb"), "a\u{fffd}b");
        assert_eq!(short(&"x".repeat(100)).chars().count(), MAX_SHOWN + 1);
    }
}
