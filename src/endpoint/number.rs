//! What is made of the number that a session's cookie has: 256 random bits, which need no key to be hidden by their hash.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// What stands for a number where it must not be read.
pub fn hidden(purpose: &str, number: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"stepgate page ");
    context.update(purpose.as_bytes());
    context.update(b"\0");
    context.update(number.as_bytes());
    context.finish().as_ref().to_vec()
}

/// What each form has in it that is made for a number.
pub fn form_token(number: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hidden("form", number))
}

/// Whether a form was made for a number.
pub fn is_made(number: &str, token: &str) -> bool {
    constant_time::verify_slices_are_equal(form_token(number).as_bytes(), token.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_made_for_one_number() {
        let token = form_token("one");
        assert!(is_made("one", &token));
        assert!(!is_made("two", &token) && !is_made("one", "") && !is_made("one", "one"));
        assert_ne!(hidden("form", "one"), hidden("session", "one"));
    }
}
