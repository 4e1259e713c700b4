//! Patterns of subjects: literal but for `*`, one or more characters within a part of the name, and `**`, any at all. They
//! match the whole subject, in time that is bounded by the product of both lengths.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
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
}

impl Pattern {
    pub(super) fn new(text: &str, separators: &'static [u8]) -> Self {
        let mut tokens = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            match (byte, tokens.last()) {
                (b'*', Some(Token::Part)) => {
                    tokens.pop();
                    tokens.push(Token::Any);
                }
                (b'*', _) => tokens.push(Token::Part),
                (byte, _) => tokens.push(Token::Byte(byte)),
            }
        }
        Self { tokens: tokens.into(), separators }
    }

    /// Whether the whole subject is one that the pattern stands for.
    pub(super) fn matches(&self, subject: &str) -> bool {
        // Which prefixes of the subject the tokens so far stand for, by their length.
        let mut reached = vec![false; subject.len() + 1];
        if let Some(none) = reached.first_mut() {
            *none = true;
        }
        for token in &self.tokens {
            let mut next = Vec::with_capacity(reached.len());
            // By nothing but `**` is nothing stood for.
            next.push(*token == Token::Any && reached.first() == Some(&true));
            for ((byte, before), here) in subject.bytes().zip(&reached).zip(reached.iter().skip(1)) {
                let longer = next.last() == Some(&true);
                next.push(match token {
                    Token::Byte(wanted) => *before && byte == *wanted,
                    Token::Part => (*before || longer) && !self.separators.contains(&byte),
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
        Pattern::new(pattern, b"./,").matches(subject)
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
                Token::Byte(byte) => head == [*byte],
                Token::Part => count > 0 && fits(count),
                Token::Any => true,
            };
            stands && means(rest, tail)
        })
    }

    proptest! {
        #[test]
        fn matching_is_what_it_means(pattern in "[ab.*]{0,7}", subject in "[ab./]{0,7}") {
            let compiled = Pattern::new(&pattern, b"./,");
            prop_assert_eq!(compiled.matches(&subject), means(&compiled.tokens, subject.as_bytes()));
        }
    }
}
