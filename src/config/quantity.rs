//! Durations, sizes and rates as people write them: `30s`, `1h30m`, `64KiB`, `1KiB/s`, `3/10m`.

use std::{num::NonZeroU32, time::Duration};

use super::{
    decode::{FromText, Refusal},
    shape::{Shape, TextShape},
};

/// The longest duration: a century, so that adding one to a time never overflows.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The largest quota: far beyond any use, and `N × N` still fits in 64 bits.
const MAX_COUNT: u32 = 1_000_000_000;

impl FromText for Duration {
    const WHAT: &'static str = "a duration";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let mut rest = text;
        let mut total = Self::ZERO;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = split_number(rest);
            let (unit, after) = split_unit(after);
            let count: u64 = number.parse().map_err(|_| Refusal::advice(DURATION_HELP))?;
            let unit_ms: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(Refusal::advice(DURATION_HELP)),
            };
            if unit_ms >= last_unit {
                return Err(Refusal::because("its units must go from large to small"));
            }
            last_unit = unit_ms;
            total = total.saturating_add(Self::from_millis(count.saturating_mul(unit_ms)));
            rest = after;
        }
        if text.is_empty() {
            return Err(Refusal::advice(DURATION_HELP));
        }
        if total.is_zero() {
            return Err(Refusal::because("it must be longer than nothing"));
        }
        if total > MAX_DURATION {
            return Err(Refusal::because("it is longer than a century"));
        }
        Ok(total)
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "duration",
            about: "a duration: `500ms`, `30s`, `5m`, `1h30m`, `30d`",
            pattern: Some("([0-9]+(ms|s|m|h|d))+"),
        })
    }
}

const DURATION_HELP: &str = "write a number and a unit: `500ms`, `30s`, `5m`, `1h30m`, `30d`";

/// A duration that may be nothing: a leeway of `0s` is strict, not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leeway(pub(super) Duration);

impl FromText for Leeway {
    const WHAT: &'static str = Duration::WHAT;

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text == "0s" {
            return Ok(Self(Duration::ZERO));
        }
        Duration::from_text(text).map(Self)
    }

    fn shape() -> Shape {
        <Duration as FromText>::shape()
    }
}

/// A number of bytes, at least `MIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

/// The largest size, 8 EiB: it fits in a file offset.
pub(super) const ANY: u64 = i64::MAX as u64;

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    /// As a length in memory.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> FromText for Size<MIN, MAX> {
    const WHAT: &'static str = "a size";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let bytes = size(text).ok_or_else(|| Refusal::advice(SIZE_HELP))?;
        if bytes < MIN {
            return Err(Refusal::because(format!("it must be at least {MIN}B")));
        }
        if bytes > MAX {
            return Err(Refusal::because(format!("it must be at most {MAX}B")));
        }
        Ok(Self(bytes))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "size",
            about: "a size in bytes: `512B`, `64KiB`, `10MiB`, `1GiB`, or with decimal units `64KB`, `10MB`, `1GB`",
            pattern: Some("[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)?"),
        })
    }
}

const SIZE_HELP: &str = "write a number and a unit: `512B`, `64KiB`, `10MiB`, `1GiB`";

fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text);
    let unit: u64 = match unit.trim_start_matches(' ') {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRate(pub(super) u64);

impl FromText for ByteRate {
    const WHAT: &'static str = "a rate of bytes";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let bytes = text.strip_suffix("/s").and_then(size);
        bytes.map(Self).ok_or_else(|| Refusal::advice("write a size and `/s`: `1KiB/s`; `0B/s` asks for no pace"))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "byte rate",
            about: "a size per second: `1KiB/s`",
            pattern: Some("[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)?/s"),
        })
    }
}

/// N per period, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateText {
    pub(super) count: NonZeroU32,
    pub(super) period: Duration,
}

impl FromText for RateText {
    const WHAT: &'static str = "a rate";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let help = || Refusal::advice("write a number, `/` and a period: `5/minute`, `100/s`, `10000/day`, `3/10m`");
        let (count, period) = text.split_once('/').ok_or_else(help)?;
        let (number, unit) = split_number(period);
        let unit_secs: u64 = match unit {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3_600,
            "d" | "day" => 86_400,
            "w" | "week" => 604_800,
            _ => return Err(help()),
        };
        let times: u64 = if number.is_empty() { 1 } else { number.parse().map_err(|_| help())? };
        let count: u32 = if digits(count) { count.parse().unwrap_or(u32::MAX) } else { return Err(help()) };
        if count > MAX_COUNT {
            return Err(Refusal::because(format!("at most {MAX_COUNT} can be counted")));
        }
        let count = NonZeroU32::new(count).ok_or_else(|| {
            Refusal::because("nothing would ever be admitted").help("leave the route out to refuse all of its requests")
        })?;
        let period = Duration::from_secs(times.saturating_mul(unit_secs));
        if period.is_zero() || period > Duration::from_secs(366 * 86_400) {
            return Err(Refusal::because("the period must be between a second and a year"));
        }
        Ok(Self { count, period })
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "rate",
            about: "N per period: `100/s`, `5/minute`, `3/10m`, `10/2h`, `10000/day`, `1000/week`",
            pattern: Some("[0-9]+/[0-9]*(s|sec|second|m|min|minute|h|hour|d|day|w|week)"),
        })
    }
}

/// A share of a hundred, written with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(pub(super) u8);

impl FromText for Percent {
    const WHAT: &'static str = "a share";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let share = text.strip_suffix('%').filter(|number| digits(number)).and_then(|number| number.parse().ok());
        share.filter(|share| *share <= 100).map(Self).ok_or_else(|| Refusal::advice("write `20%`, up to `100%`"))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "share", about: "a share in percent: `20%`", pattern: Some("[0-9]{1,3}%") })
    }
}

/// A whole number between two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    /// As a length in memory.
    pub(super) fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> FromText for Count<MIN, MAX> {
    const WHAT: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let number: u64 = if digits(text) { text.parse().unwrap_or(u64::MAX) } else { return Err(Refusal::default()) };
        if number < MIN || number > MAX {
            return Err(Refusal::because(format!("it must be between {MIN} and {MAX}")));
        }
        Ok(Self(number))
    }

    fn shape() -> Shape {
        Shape::Integer { min: MIN, max: MAX }
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_alphabetic).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let ms = |text: &str| Duration::from_text(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("30d"), Some(2_592_000_000));
        for wrong in
            ["", "30", "s", "5 m", "1.5h", "-1s", "0s", "1m1h", "1s1s", "99999999999999999999s", "40000d", "5M"]
        {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(Leeway::from_text("0s").unwrap().0, Duration::ZERO);
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("10MB"), Some(10_000_000));
        assert_eq!(size("1GiB"), Some(1 << 30));
        assert_eq!(size("17"), Some(17));
        for wrong in ["", "KiB", "64kib", "1.5MiB", "18446744073709551615GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert!(Size::<10, 20>::from_text("9").is_err() && Size::<10, 20>::from_text("21").is_err());
        assert_eq!(ByteRate::from_text("1KiB/s").unwrap().0, 1024);
        assert!(ByteRate::from_text("1KiB").is_err());
    }

    #[test]
    fn rates_have_a_count_and_a_period() {
        let rate = |text: &str| RateText::from_text(text).map(|r| (r.count.get(), r.period.as_secs())).ok();
        for (text, expected) in [
            ("5/minute", (5, 60)),
            ("10000/day", (10_000, 86_400)),
            ("3/10m", (3, 600)),
            ("100/s", (100, 1)),
            ("50/second", (50, 1)),
            ("10/2h", (10, 7_200)),
            ("1000/week", (1_000, 604_800)),
            ("7/1s", (7, 1)),
        ] {
            assert_eq!(rate(text), Some(expected), "{text}");
        }
        for wrong in ["", "5", "0/s", "5/", "5/month", "/s", "-1/s", "5/0s", "5/99999999999w", "4294967296/s", "+5/s"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn shares_are_percents() {
        assert_eq!((Percent::from_text("0%").unwrap().0, Percent::from_text("100%").unwrap().0), (0, 100));
        for wrong in ["", "%", "20", "101%", "0.5%", "-1%", "+1%", "300%"] {
            assert!(Percent::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_stay_between_their_bounds() {
        assert_eq!(Count::<1, 5>::from_text("5").unwrap().0, 5);
        for wrong in ["0", "6", "", "x", "1.0", "-1", "+1", "99999999999999999999999"] {
            assert!(Count::<1, 5>::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
