//! Codes of authenticator apps (RFC 6238): made here for nobody, only checked. SHA-1, six digits and thirty seconds are what
//! every app takes. A code is good once: only steps after the last one that was taken count.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use totp_rs::{Builder, Totp};

use super::{Fault, random};
use crate::secret::Secret;

/// How long a code is good for, in seconds.
pub(super) const STEP_SECS: u64 = 30;

/// A new shared secret: 160 bits, as RFC 4226 §4 recommends.
pub(super) fn secret() -> Result<Secret, Fault> {
    Ok(Secret::new(random::bytes::<20>()?))
}

fn totp(secret: &Secret, digits: u32) -> Totp {
    // Six to eight digits, so that the library never panics, whatever a row says.
    let digits = u8::try_from(digits.clamp(6, 8)).unwrap_or(6);
    Builder::new().with_secret(secret.expose()).with_digits(digits).with_skew(0).build_noncompliant()
}

/// The step whose code this is: after `last`, and within `skew` steps of now. Every step is looked at, whatever was found.
pub(super) fn step_of(secret: &Secret, digits: u32, skew: u32, last: u64, code: &str, now: u64) -> Option<u64> {
    let (totp, current) = (totp(secret, digits), now / STEP_SECS);
    let mut found = None;
    for step in current.saturating_sub(u64::from(skew))..=current.saturating_add(u64::from(skew)) {
        let wanted = totp.generate(step.saturating_mul(STEP_SECS)).to_string();
        let is_equal = verify_slices_are_equal(wanted.as_bytes(), code.as_bytes()).is_ok();
        // The earliest that counts, so that a code that happens to stand for two steps uses up the first alone.
        if is_equal & (step > last) & found.is_none() {
            found = Some(step);
        }
    }
    found
}

/// The URL that authenticator apps read from a QR code, and the secret for typing.
pub(super) fn otpauth(secret: &Secret, digits: u32, label: &str, account: &str) -> (String, String) {
    // A colon parts the two in the URL.
    let plain = |text: &str| -> String {
        let text: String = text.chars().map(|c| if c == ':' || c.is_control() { ' ' } else { c }).take(60).collect();
        if text.trim().is_empty() { "account".to_owned() } else { text }
    };
    let digits = u8::try_from(digits.clamp(6, 8)).unwrap_or(6);
    let totp = Builder::new()
        .with_secret(secret.expose())
        .with_digits(digits)
        .with_issuer(Some(plain(label)))
        .with_account_name(plain(account))
        .build_noncompliant();
    let url = totp.to_url().unwrap_or_default();
    (url, base32(secret.expose()))
}

/// RFC 4648 §6, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    super::recovery::five_bits(bytes)
        .filter_map(|value| ALPHABET.get(usize::from(value)).map(|c| char::from(*c)))
        .collect()
}

/// The code of a moment, as an app makes it.
#[cfg(test)]
pub(super) fn code_for_tests(secret: &Secret, secs: u64) -> String {
    totp(secret, 6).generate(secs).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// RFC 6238, appendix B, and RFC 4226, appendix D: the secret of both.
    fn rfc() -> Secret {
        Secret::new(*b"12345678901234567890")
    }

    #[test]
    fn the_vectors_of_rfc_6238() {
        for (at, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(step_of(&rfc(), 8, 0, 0, code, at), Some(at / 30), "{at}");
            assert_eq!(step_of(&rfc(), 8, 0, 0, code, at + 30), None, "{at}");
        }
    }

    #[test]
    fn the_vectors_of_rfc_4226() {
        let codes =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, code) in (0_u64..).zip(codes) {
            let last = counter.checked_sub(1);
            // Counter 0 is a step that lies before any last one: it is never taken.
            let wanted = last.map(|_| counter);
            assert_eq!(step_of(&rfc(), 6, 0, last.unwrap_or(0), code, counter * 30), wanted, "{counter}");
        }
    }

    #[test]
    fn a_code_of_the_step_before_or_after_is_taken_and_none_further_away() {
        let now = 1_111_111_111_u64;
        for (offset, is_taken) in [(-60_i64, false), (-30, true), (0, true), (30, true), (60, false)] {
            let code = totp(&rfc(), 6).generate(now.checked_add_signed(offset).unwrap()).to_string();
            assert_eq!(step_of(&rfc(), 6, 1, 0, &code, now).is_some(), is_taken, "{offset}");
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let good = totp(&rfc(), 6).generate(3000).to_string();
        assert!(step_of(&rfc(), 6, 1, 0, &good, 3000).is_some());
        let bad = ["", "1", &good[..5], &format!("{good}0"), &format!("+{}", &good[1..]), "１２３４５６", "abcdef"];
        for code in bad {
            assert_eq!(step_of(&rfc(), 6, 1, 0, code, 3000), None, "{code}");
        }
    }

    #[test]
    fn oathtool_makes_the_codes_that_are_taken() {
        let hex = |secret: &Secret| secret.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (at, digits) in [(59_u64, 6_u32), (1_111_111_109, 8), (1_800_000_000, 6), (4_000_000_000, 7)] {
            let secret = secret().unwrap();
            let out = Command::new("oathtool")
                .args(["--totp", "--digits", &digits.to_string(), "--now", &format!("@{at}"), &hex(&secret)])
                .output()
                .unwrap_or_else(|error| panic_with(&error));
            let code = String::from_utf8(out.stdout).unwrap();
            assert_eq!(step_of(&secret, digits, 0, 0, code.trim(), at), Some(at / 30), "{at}");
            let (_, typed) = otpauth(&secret, digits, "Example", "ann");
            let out = Command::new("oathtool")
                .args(["--totp", "--base32", "--digits", &digits.to_string(), "--now", &format!("@{at}"), &typed])
                .output()
                .unwrap_or_else(|error| panic_with(&error));
            assert_eq!(String::from_utf8(out.stdout).unwrap(), code, "the secret for typing is the same one");
        }
    }

    #[expect(clippy::panic, reason = "a test")]
    fn panic_with(error: &std::io::Error) -> std::process::Output {
        panic!("oathtool does not run ({error}): ./test setup installs it")
    }

    #[test]
    fn apps_are_told_what_the_server_checks() {
        let (url, typed) = otpauth(&rfc(), 6, "Example: API", "ann");
        assert_eq!(typed, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(
            url.starts_with("otpauth://totp/Example%20%20API:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            "{url}"
        );
        assert_eq!(Totp::from_url(&url).unwrap().generate(59).to_string(), "287082");
        assert!(Totp::from_url(otpauth(&rfc(), 6, "", "").0).is_ok());
    }

    proptest! {
        /// Whatever is shown in whatever order, each step is taken once at most, and never an earlier one after a later.
        #[test]
        fn a_code_is_taken_once_at_most(moments in prop::collection::vec((0_u64..600, -1_i64..=1), 1..60)) {
            let (totp, mut last, mut taken) = (totp(&rfc(), 6), 0, Vec::new());
            for (at, offset) in moments {
                let now = 1_800_000_000 + at;
                let code = totp.generate(now.saturating_add_signed(offset * 30)).to_string();
                if let Some(step) = step_of(&rfc(), 6, 1, last, &code, now) {
                    prop_assert!(!taken.contains(&step));
                    prop_assert!(step > last);
                    last = step;
                    taken.push(step);
                }
            }
        }
    }
}
