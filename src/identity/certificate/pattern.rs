//! Patterns of subjects: literal but for `*`, one or more characters within a part of the name, and `**`, any at all. They
//! match the whole subject, in time that is bounded by the product of both lengths.
//!
//! In a distinguished name `\` and what it escapes are one character (RFC 4514 §2.4), in the pattern as in the subject: the `,`
//! of `CN=a\,OU=admins` is a part of somebody's name and not where the next part begins, whatever a pattern says there.

/// A byte of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Plain(u8),
    /// With the `\` before it.
    Escaped(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Unit(Unit),
    /// `*`
    Part,
    /// `**`
    Any,
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Box<[Token]>,
    /// What parts the name: `*` stands for none of these.
    separators: &'static [u8],
    /// Whether `\` escapes what comes after it.
    escapes: bool,
}

/// A text as a pattern sees it. A `*` is never escaped: it has no other way to be one in a pattern.
fn units(text: &str, escapes: bool) -> impl Iterator<Item = Unit> {
    let mut bytes = text.bytes().peekable();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        let escaped = if escapes && byte == b'\\' { bytes.next_if(|next| *next != b'*') } else { None };
        Some(escaped.map_or(Unit::Plain(byte), Unit::Escaped))
    })
}

impl Pattern {
    /// A pattern of names that these part; in distinguished names `\` escapes.
    pub(super) fn new(text: &str, separators: &'static [u8], escapes: bool) -> Self {
        let mut tokens = Vec::with_capacity(text.len());
        for unit in units(text, escapes) {
            match (unit, tokens.last()) {
                (Unit::Plain(b'*'), Some(Token::Part)) => {
                    tokens.pop();
                    tokens.push(Token::Any);
                }
                (Unit::Plain(b'*'), _) => tokens.push(Token::Part),
                (unit, _) => tokens.push(Token::Unit(unit)),
            }
        }
        Self { tokens: tokens.into(), separators, escapes }
    }

    /// Whether the whole subject is one that the pattern stands for.
    pub(super) fn matches(&self, subject: &str) -> bool {
        let subject: Vec<Unit> = units(subject, self.escapes).collect();
        let is_separator = |unit: &Unit| matches!(unit, Unit::Plain(byte) if self.separators.contains(byte));
        // Which prefixes of the subject the tokens so far stand for, by their length.
        let mut reached = vec![false; subject.len() + 1];
        if let Some(none) = reached.first_mut() {
            *none = true;
        }
        for token in &self.tokens {
            let mut next = Vec::with_capacity(reached.len());
            // By nothing but `**` is nothing stood for.
            next.push(*token == Token::Any && reached.first() == Some(&true));
            for ((unit, before), here) in subject.iter().zip(&reached).zip(reached.iter().skip(1)) {
                let longer = next.last() == Some(&true);
                next.push(match token {
                    Token::Unit(wanted) => *before && unit == wanted,
                    Token::Part => (*before || longer) && !is_separator(unit),
                    Token::Any => *here || longer,
                });
            }
            reached = next;
        }
        reached.last() == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, subject: &str) -> bool {
        Pattern::new(pattern, b"./,", false).matches(subject)
    }

    fn matches_name(pattern: &str, subject: &str) -> bool {
        Pattern::new(pattern, b",+", true).matches(subject)
    }

    #[test]
    fn a_value_that_looks_like_another_part_is_none() {
        for subject in [r"CN=a\,OU=admins,O=X", r"CN=a\+OU=admins,O=X", r"CN=a\\\,OU=admins,O=X"] {
            assert!(!matches_name("CN=*,OU=admins,O=X", subject) && !matches_name("CN=*+OU=admins,O=X", subject));
            assert!(matches_name("CN=*,O=X", subject), "{subject}: it is all one value");
        }
        // Here it is the backslash that is escaped, and the part ends.
        assert!(matches_name("CN=*,OU=admins,O=X", r"CN=a\\,OU=admins,O=X"));
        assert!(matches_name(r"CN=a\, b\\*,O=X", r"CN=a\, b\\c,O=X"));
        assert!(!matches_name("CN=a, b,O=X", r"CN=a\, b,O=X") && !matches_name(r"CN=a\,O=X", "CN=a,O=X"));
    }

    #[test]
    fn a_star_stays_within_a_part_and_stands_for_something() {
        assert!(matches("a.example", "a.example"));
        assert!(!matches("a.example", "b.example") && !matches("a", "ab") && !matches("ab", "a"));
        assert!(matches("*.example", "a.example"));
        assert!(!matches("*.example", "a.b.example") && !matches("*.example", ".example"));
        assert!(matches("CN=svc-*,O=X", "CN=svc-1,O=X"));
        assert!(!matches("CN=svc-*", "CN=svc-1,O=Evil") && !matches("CN=svc-*,O=X", "CN=svc-1,O=Evil,O=X"));
        assert!(matches("*", "press") && !matches("*", ""));
    }

    #[test]
    fn two_stars_stand_for_anything() {
        assert!(matches("spiffe://x/ns/**", "spiffe://x/ns/a/b.c"));
        assert!(matches("spiffe://x/ns/**", "spiffe://x/ns/"));
        assert!(!matches("spiffe://x/ns/**", "spiffe://x/ms/a"));
        assert!(matches("**b**", "aba") && matches("**", ""));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_than_its_length_says() {
        let pattern = "**a".repeat(80);
        assert!(!matches(&pattern, &"a".repeat(79)));
        assert!(matches(&pattern, &"a".repeat(1024)));
    }

    /// The meaning, told by recursion.
    fn means(tokens: &[Token], subject: &[u8]) -> bool {
        let Some((token, rest)) = tokens.split_first() else { return subject.is_empty() };
        let fits = |count: usize| subject.iter().take(count).all(|byte| !b"./,".contains(byte));
        (0..=subject.len()).any(|count| {
            let (head, tail) = subject.split_at(count);
            let stands = match token {
                Token::Unit(Unit::Plain(byte)) => head == [*byte],
                Token::Unit(Unit::Escaped(_)) => false,
                Token::Part => count > 0 && fits(count),
                Token::Any => true,
            };
            stands && means(rest, tail)
        })
    }

    proptest! {
        #[test]
        fn matching_is_what_it_means(pattern in "[ab.*]{0,7}", subject in "[ab./]{0,7}") {
            let compiled = Pattern::new(&pattern, b"./,", false);
            prop_assert_eq!(compiled.matches(&subject), means(&compiled.tokens, subject.as_bytes()));
        }
    }
}
