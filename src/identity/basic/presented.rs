//! User name and password of a request (RFC 7617 §2), strictly: what could be read in two ways is refused.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    password::{PASSWORD_BYTES, is_password},
    secret::Secret,
};

/// The longest user name, in bytes.
pub(super) const USER_BYTES: usize = 255;

/// What somebody claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPass {
    /// The user name: not empty, without a colon and control characters.
    pub user: String,
    /// The password: not empty, UTF-8, without control characters.
    pub password: Secret,
}

impl UserPass {
    /// Reads what follows the scheme; `None`: it is not in form.
    ///
    /// Canonical base64 with its padding, UTF-8 (the charset that the challenge names), one name up to the first colon. An
    /// empty name or password is nobody's.
    pub fn parse(encoded: &[u8]) -> Option<Self> {
        // Longer than the longest in form: not even decoded.
        if encoded.len() > (USER_BYTES + 1 + PASSWORD_BYTES).div_ceil(3) * 4 {
            return None;
        }
        let text = Wiped(STANDARD.decode(encoded).ok()?);
        let text = std::str::from_utf8(&text.0).ok()?;
        let (user, password) = text.split_once(':')?;
        (is_user_name(user) && is_password(password))
            .then(|| Self { user: user.to_owned(), password: Secret::new(password) })
    }
}

/// Whether a user may have this name.
pub(super) fn is_user_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= USER_BYTES && !name.chars().any(|c| c.is_control() || c == ':')
}

/// Bytes that do not stay in memory.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from dropping the wipe as a dead store.
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<(String, String)> {
        let read = UserPass::parse(STANDARD.encode(text).as_bytes())?;
        Some((read.user, String::from_utf8(read.password.expose().to_vec()).unwrap()))
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let read = |encoded: &str| UserPass::parse(encoded.as_bytes()).unwrap();
        let aladdin = read("QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!((aladdin.user.as_str(), aladdin.password.expose()), ("Aladdin", &b"open sesame"[..]));
        // RFC 7617 §2.1: the pound sign in UTF-8.
        let test = read("dGVzdDoxMjPCow==");
        assert_eq!((test.user.as_str(), test.password.expose()), ("test", "123£".as_bytes()));
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        assert_eq!(parse("a:b:c:"), Some(("a".into(), "b:c:".into())));
    }

    #[test]
    fn what_is_not_in_form_is_refused() {
        let long = |user: usize, password: usize| format!("{}:{}", "u".repeat(user), "p".repeat(password));
        assert!(parse(&long(255, 1024)).is_some());
        for wrong in [
            "",
            ":",
            "a",
            "a:",
            ":b",
            "a\n:b",
            "a:b\0",
            "a:b\u{7f}",
            "a:\u{85}b",
            "a\u{1b}:b",
            &long(256, 1),
            &long(1, 1025),
            &long(1000, 1024),
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for wrong in [
            &b""[..],
            b"YTpi=",
            b"YTpi ",
            b"YT pi",
            b"YTpiYw",
            b"YTpiYx==",
            b"YTpi,",
            b"YTpi\xff",
            b"YTr/",
            b"_-==",
            // Latin-1, which is not what the challenge names.
            b"dGVzdDoxMjOj",
        ] {
            assert_eq!(UserPass::parse(wrong), None, "{:?}", wrong.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_form_comes_out_as_it_went_in(
            user in "[^:\\p{Cc}]{1,60}", password in "\\P{Cc}{1,200}"
        ) {
            prop_assert_eq!(parse(&format!("{user}:{password}")), Some((user, password)));
        }

        #[test]
        fn no_bytes_are_read_in_two_ways(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(read) = UserPass::parse(&bytes) {
                let mut text = read.user.into_bytes();
                text.push(b':');
                text.extend(read.password.expose());
                prop_assert_eq!(STANDARD.encode(text).into_bytes(), bytes);
            }
        }
    }
}
