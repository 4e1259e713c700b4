//! Times as RFC 3339 has them: UTC, with milliseconds.

use std::cell::RefCell;

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};

/// To the second; what follows is written by hand, always with three digits, so that lines align and sort.
static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

/// Appends a moment to `text`: `2026-11-22T02:40:17.123Z`.
pub(super) fn push_rfc3339(text: &mut String, unix_ms: u64) {
    // Many lines are of the same second.
    thread_local!(static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) });
    // What jiff cannot show lies after the year 9999: that is its end.
    let unix_ms = unix_ms.min(u64::try_from(Timestamp::MAX.as_millisecond()).unwrap_or(0));
    let (second, thousandths) = (unix_ms / 1000, unix_ms % 1000);
    let print = |written: &mut String| {
        let moment = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        let done = PRINTER.print_timestamp(&moment.unwrap_or(Timestamp::MAX), &mut *written);
        debug_assert!(done.is_ok() && written.ends_with('Z'), "writing to a string cannot fail");
        written.truncate(written.len().saturating_sub(1));
    };
    let kept = LAST.try_with(|kept| {
        let (last, written) = &mut *kept.borrow_mut();
        if *last != second {
            *last = second;
            written.clear();
            print(written);
        }
        text.push_str(written);
    });
    // A thread that ends has nothing that is kept.
    if kept.is_err() {
        print(text);
    }
    text.push('.');
    push_thousandths(text, thousandths);
    text.push('Z');
}

/// Appends three digits.
pub(super) fn push_thousandths(text: &mut String, thousandths: u64) {
    for digit in [thousandths / 100, thousandths / 10, thousandths] {
        text.push(char::from_digit(u32::try_from(digit % 10).unwrap_or(0), 10).unwrap_or('0'));
    }
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
