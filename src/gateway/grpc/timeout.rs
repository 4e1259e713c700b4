//! `grpc-timeout`: how long a client waits for its answer, and so the longest that a service should work on it.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use crate::{gateway::Refusal, policy::Reason};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When the answer must be over, counted from `began`; `None`: the client does not say.
///
/// # Errors
/// When what it says is not in the form of the protocol: the service might read it in another way.
pub(in crate::gateway) fn deadline(headers: &HeaderMap, began: Instant) -> Result<Option<Instant>, Refusal> {
    let mut fields = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let malformed = || Refusal::of(Reason::MalformedRequest).because("grpc-timeout is not in its form");
    let timeout = parse(field.as_bytes()).filter(|_| fields.next().is_none()).ok_or_else(malformed)?;
    // What no clock reaches is no bound.
    Ok(began.checked_add(timeout))
}

/// At most eight digits, and a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_timeout_is_read_strictly() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1 S", None),
            ("1SS", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), time, "{text:?}");
        }
        let mut twice = HeaderMap::new();
        let now = Instant::now();
        assert_eq!(deadline(&twice, now).unwrap(), None);
        twice.append(GRPC_TIMEOUT, "1S".parse().unwrap());
        assert_eq!(deadline(&twice, now).unwrap(), Some(now + Duration::from_secs(1)));
        twice.append(GRPC_TIMEOUT, "2S".parse().unwrap());
        assert_eq!(deadline(&twice, now).unwrap_err().reason, Reason::MalformedRequest);
    }
}
