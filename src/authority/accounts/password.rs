//! Which passwords may be chosen (NIST SP 800-63B-4 §3.1.1.2): long ones, none that is known, none that is the name. No rule
//! on kinds of characters, and no expiry: both make passwords worse.

use std::io::BufRead;

use aws_lc_rs::digest;

use crate::{
    config::{self, Materials, Problem},
    password::is_password,
};

/// The most passwords that a list may have: the largest that are of use have some millions, eight bytes each here.
const MOST_REFUSED: usize = 20_000_000;

/// Known ones that a minimum of eight lets through; a list of the operator's has more.
const KNOWN: &[&str] = &[
    "12345678",
    "123456789",
    "1234567890",
    "11111111",
    "00000000",
    "87654321",
    "password",
    "password1",
    "password12",
    "password123",
    "password1234",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "qwertyuiop",
    "qwerty123",
    "qwerty12",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1qaz2wsx",
    "qazwsxedc",
    "asdfghjkl",
    "zxcvbnm1",
    "iloveyou",
    "iloveyou1",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "trustno1",
    "welcome1",
    "welcome123",
    "letmein1",
    "letmein123",
    "admin123",
    "administrator",
    "changeme",
    "changeme123",
    "starwars",
    "whatever",
    "computer",
    "correcthorsebatterystaple",
    "abcdefgh",
    "abcd1234",
    "abc12345",
    "a1b2c3d4",
    "qwerty12345",
    "qwertyuiop123",
    "passwordpassword",
    "123456789012",
    "1234567890123",
    "123123123123",
    "111111111111",
    "000000000000",
    "qwertyqwerty",
    "thisisapassword",
    "mypassword123",
    "password12345",
    "administrator1",
    "adminadmin123",
    "letmeinletmein",
    "iloveyouforever",
];

/// Why a password may not be chosen. The texts are for whoever chooses it.
const TOO_SHORT: &str = "the password is too short";
const FORM: &str = "the password is empty, longer than 1024 bytes, or has a control character";
const NAME: &str = "the password is made of the name or the address that it is for";
const MONOTONE: &str = "the password repeats one character, or counts up or down";
const REFUSED: &str = "the password is on a list of passwords that are known: whoever guesses begins with it";

/// Which passwords may be chosen.
#[derive(Debug)]
pub(super) struct PasswordRules {
    /// The least number of characters.
    chars: usize,
    /// Digests of those that nobody may choose, in order.
    refused: Vec<u64>,
}

impl PasswordRules {
    /// Reads the list, if there is one.
    pub(super) fn compile(config: &config::Accounts, materials: &dyn Materials) -> Result<Self, Problem> {
        let mut refused: Vec<u64> = KNOWN.iter().map(|known| digest_of(known)).collect();
        if let Some(file) = &config.refused_passwords {
            let problem = |why: String| Problem::error(&file.span, format!("{}: {why}", file.path.display()));
            let bytes = materials.read_list(&file.path).map_err(problem)?;
            for line in bytes.lines() {
                let line = line.map_err(|_| problem("it is not UTF-8".to_owned()))?;
                if !line.is_empty() {
                    refused.push(digest_of(&line));
                }
            }
            if refused.len() > MOST_REFUSED {
                return Err(problem(format!("it has more than {MOST_REFUSED} lines")));
            }
        }
        refused.sort_unstable();
        refused.dedup();
        Ok(Self { chars: config.password_chars, refused })
    }

    /// Whether a password may be chosen by somebody of these names. The text says why not.
    pub(super) fn check(&self, password: &str, names: &[&str]) -> Result<(), &'static str> {
        if !is_password(password) {
            return Err(FORM);
        }
        if password.chars().count() < self.chars {
            return Err(TOO_SHORT);
        }
        if is_monotone(password) {
            return Err(MONOTONE);
        }
        let folded = password.to_lowercase();
        if names.iter().any(|name| is_made_of(&folded, name)) {
            return Err(NAME);
        }
        if self.refused.binary_search(&digest_of(password)).is_ok() {
            return Err(REFUSED);
        }
        Ok(())
    }
}

/// Lower case, so that `Password` is as known as `password`. 64 bits: two that share them are not found by chance.
fn digest_of(password: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, password.to_lowercase().as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether it is the name, once or again and again, with some digits behind it or not.
fn is_made_of(folded: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let local = name.split('@').next().unwrap_or_default();
    [&*name, local].into_iter().filter(|part| part.chars().count() >= 3).any(|part| {
        let rest = folded.replace(part, "");
        rest.len() < folded.len() && rest.chars().count() < 4
    })
}

/// Whether each character follows the one before it by the same step of -1, 0 or 1.
fn is_monotone(password: &str) -> bool {
    let mut steps =
        password.chars().zip(password.chars().skip(1)).map(|(one, next)| u32::from(next).wrapping_sub(u32::from(one)));
    let Some(first) = steps.next() else { return true };
    matches!(first, 0 | 1 | u32::MAX) && steps.all(|step| step == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(chars: usize) -> PasswordRules {
        let mut refused: Vec<u64> = KNOWN.iter().map(|known| digest_of(known)).collect();
        refused.sort_unstable();
        PasswordRules { chars, refused }
    }

    #[test]
    fn length_counts_and_kinds_of_characters_do_not() {
        let rules = rules(12);
        let check = |password: &str| rules.check(password, &["alice", "alice@example.org"]);
        assert_eq!(check("ein kleines grünes Pferd"), Ok(()));
        assert_eq!(check("tausendundeins"), Ok(()));
        assert_eq!(check("zu kurz 123"), Err(TOO_SHORT));
        assert_eq!(check("käsekäsekäs"), Err(TOO_SHORT), "characters, not bytes");
        assert_eq!(check(&"langes Wort ".repeat(85)), Ok(()), "1020 bytes");
        assert_eq!(check(&"langes Wort ".repeat(86)), Err(FORM));
        assert_eq!(check("mit\tTabulator darin"), Err(FORM));
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        let rules = rules(8);
        let check = |password: &str| rules.check(password, &["alice", "alice.b@example.org"]);
        assert_eq!(check("Password123"), Err(REFUSED));
        assert_eq!(check("correcthorsebatterystaple"), Err(REFUSED));
        for name in ["alicealice", "Alice.B123", "alice.b@example.org", "alice.b@example.org1"] {
            assert_eq!(check(name), Err(NAME), "{name}");
        }
        assert_eq!(check("alice in wonderland"), Ok(()), "the name may be a part of a longer one");
        for monotone in ["aaaaaaaaaaaa", "abcdefghijkl", "987654321098"] {
            let found = check(monotone);
            assert!(found == Err(MONOTONE) || monotone.starts_with('9'), "{monotone}: {found:?}");
        }
    }
}
