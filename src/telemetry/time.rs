//! Times as RFC 3339 has them: UTC, with milliseconds.

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};

/// Milliseconds are always there, so that lines align and sort.
static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// Appends a moment to `text`: `2026-11-22T02:40:17.123Z`.
pub(super) fn push_rfc3339(text: &mut String, unix_ms: u64) {
    // What jiff cannot show lies after the year 9999: that is its end.
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let written = PRINTER.print_timestamp(&moment.unwrap_or(Timestamp::MAX), &mut *text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// A moment as text.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let mut text = String::with_capacity(24);
    push_rfc3339(&mut text, unix_ms);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_milliseconds_and_ends_in_z() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_315_217_120), "2026-11-22T02:40:17.120Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-30T22:00:00.999Z");
    }
}
