//! An authenticator app for trying things out: the code of the moment for a secret, never the same twice. For this machine
//! alone; a secret that is shown to it is nobody's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use totp_rs::Builder;

use crate::clock::{Clock, SystemClock};

/// How long a code is shown, in seconds.
const STEP_SECS: u64 = 30;
/// A code is taken for a step before and after its own: so near to the end of a step that before is no longer.
const LATE_SECS: u64 = 2;
/// More secrets than anybody tries.
const SECRETS: usize = 1000;

/// The app: which step's code it showed last, by secret.
#[derive(Debug, Default)]
pub(super) struct AuthenticatorApp {
    last: Mutex<HashMap<String, u64>>,
}

impl AuthenticatorApp {
    /// A code that was not shown before, as soon as the gateway takes one: it begins with the step before now, so that three
    /// can be had at once. `None`: this is no secret of an app.
    pub(super) async fn code(&self, secret: &str) -> Option<String> {
        let key = base32(secret)?;
        let step = self.next_step(secret, SystemClock.now().unix_secs());
        loop {
            let now = SystemClock.now().unix_secs();
            if step <= now / STEP_SECS + 1 {
                break;
            }
            let wait = (step - 1).saturating_mul(STEP_SECS).saturating_sub(now);
            tokio::time::sleep(Duration::from_secs(wait.max(1))).await;
        }
        let app = Builder::new().with_secret(key.as_slice()).with_digits(6).with_skew(0).build_noncompliant();
        Some(app.generate(step.saturating_mul(STEP_SECS)).to_string())
    }

    fn next_step(&self, secret: &str, now: u64) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= SECRETS {
            last.clear();
        }
        let earliest = ((now + LATE_SECS) / STEP_SECS).saturating_sub(1);
        let step = last.get(secret).map_or(earliest, |last| earliest.max(last + 1));
        last.insert(secret.to_owned(), step);
        step
    }
}

/// RFC 4648 §6, without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    if text.is_empty() || text.len() > 128 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for c in text.chars() {
        let value = ALPHABET.find(c.to_ascii_uppercase())?;
        held = (held << 5 | u32::try_from(value).ok()?) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_apps_write_it() {
        assert_eq!(base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap(), b"12345678901234567890");
        assert_eq!(base32("gezdgnbv").unwrap(), b"12345");
        assert!(base32("1").is_none() && base32("").is_none() && base32(&"A".repeat(129)).is_none());
    }

    #[test]
    fn no_step_is_shown_twice_and_three_can_be_had_at_once() {
        let app = AuthenticatorApp::default();
        let steps: Vec<u64> = (0..4).map(|_| app.next_step("A", 300)).collect();
        assert_eq!(steps, [9, 10, 11, 12]);
        assert_eq!(app.next_step("B", 300), 9, "each secret has its own");
        assert_eq!(app.next_step("C", 329), 10, "at the end of a step the one before is nearly too old");
        assert_eq!(app.next_step("A", 900), 29, "later it goes on from the clock");
    }
}
