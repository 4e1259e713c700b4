//! The `Date` of an answer (RFC 9110 §6.6.1), made once a second.

use std::cell::RefCell;

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use crate::clock::Now;

/// The last that was made, and of which second.
#[derive(Debug, Default)]
pub(super) struct DateLine(RefCell<Option<(u64, HeaderValue)>>);

impl DateLine {
    /// The date of `now`; `None` beyond the year 9999.
    pub(super) fn at(&self, now: Now) -> Option<HeaderValue> {
        let second = now.unix_secs();
        if let Some((_, value)) = self.0.borrow().as_ref().filter(|(made, _)| *made == second) {
            return Some(value.clone());
        }
        let timestamp = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
        let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).ok()?;
        let value = HeaderValue::try_from(text).ok()?;
        *self.0.borrow_mut() = Some((second, value.clone()));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_date_is_in_the_fields_form_and_follows_the_clock() {
        let dates = DateLine::default();
        let now = Now { unix_ms: 784_111_777_900, instant: Instant::now() };
        let at = |now| dates.at(now).and_then(|value| value.to_str().map(str::to_owned).ok());
        assert_eq!(at(now).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(at(now).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(at(now.after(Duration::from_secs(1))).as_deref(), Some("Sun, 06 Nov 1994 08:49:38 GMT"));
    }
}
