//! What a client is told of its quotas: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11
//! §3, §4) and `Retry-After` (RFC 9110 §10.2.3). No partition key is sent: it would name a person or an address.

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use smallvec::SmallVec;

use super::{Combined, Outcome, Verdict};
use crate::config::Rate;

/// `RateLimit-Policy`
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The fields for one answer, free of the quotas that they were made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateHeaders {
    policy: HeaderValue,
    /// `None` where a refusal names a wait of its own that ends before a `t`.
    limit: Option<HeaderValue>,
    retry_after: Option<HeaderValue>,
    /// The latest `t` that `limit` tells.
    reset_secs: u64,
    /// The same of what is used up; 0 if nothing is.
    used_up_secs: u64,
}

impl RateHeaders {
    /// Makes the fields, the most binding quota first; `None` without a quota.
    ///
    /// On a refusal `RateLimit` speaks only of the quotas that refuse: any other could name a later reset than
    /// Retry-After does, which the draft forbids (§6).
    pub fn new(combined: &Combined<'_>) -> Option<Self> {
        let told = combined.verdicts.iter().filter(|verdict| verdict.outcome == combined.outcome);
        let policy = match &*combined.verdicts {
            // The usual one.
            [only] => only.quota.policy().clone(),
            all => list(all.iter(), |text, verdict| text.extend_from_slice(verdict.quota.policy().as_bytes()))?,
        };
        let limit = list(told.clone(), |text, verdict| {
            text.extend_from_slice(verdict.quota.quoted_name().as_bytes());
            for (parameter, value) in [(b";r=", u64::from(verdict.remaining)), (b";t=", verdict.reset_secs)] {
                text.extend_from_slice(parameter);
                text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
        })?;
        let retry_after = match combined.outcome {
            Outcome::Admit => None,
            Outcome::Refuse => Some(combined.retry_after_secs().max(1).into()),
        };
        let used_up = told.clone().filter(|verdict| verdict.remaining == 0);
        let used_up_secs = used_up.map(|verdict| verdict.reset_secs).max().unwrap_or(0);
        let reset_secs = told.map(|verdict| verdict.reset_secs).max().unwrap_or(0);
        Some(Self { policy, limit: Some(limit), retry_after, reset_secs, used_up_secs })
    }

    /// The fields of one answer for quotas that were charged in two steps. A later refusal alone names the wait.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        let joined = |first: &HeaderValue, second: &HeaderValue| {
            let text = [first.as_bytes(), b", ", second.as_bytes()].concat();
            HeaderValue::from_bytes(&text).unwrap_or_else(|_| second.clone())
        };
        let policy = joined(&later.policy, &self.policy);
        if later.retry_after.is_some() {
            return Self { policy, ..later };
        }
        Self {
            policy,
            limit: later.limit.zip(self.limit).map(|(later, early)| joined(&later, &early)),
            retry_after: None,
            reset_secs: self.reset_secs.max(later.reset_secs),
            used_up_secs: self.used_up_secs.max(later.used_up_secs),
        }
    }

    /// Makes the fields fit a refusal that names a wait of its own, and gives the wait to tell: Retry-After is never before a `t`
    /// (§6). Until a quota that is used up admits again nobody need come back, so the wait is at least that. The `t` of one that
    /// still admits is no wait: `RateLimit` is left out then.
    pub fn fit(&mut self, wait_secs: u64) -> u64 {
        let wait_secs = wait_secs.max(self.used_up_secs);
        if wait_secs < self.reset_secs {
            self.limit = None;
        }
        wait_secs
    }

    /// Puts the fields on an answer, in place of any that the upstream sent.
    pub fn apply(self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy);
        if let Some(limit) = self.limit {
            headers.insert(LIMIT, limit);
        }
        if let Some(retry_after) = self.retry_after {
            headers.insert(RETRY_AFTER, retry_after);
        }
    }
}

/// A List of Structured Fields (RFC 9651 §3.1).
fn list<'a, 'b: 'a>(
    verdicts: impl Iterator<Item = &'a Verdict<'b>>,
    write: impl Fn(&mut Text, &Verdict<'b>),
) -> Option<HeaderValue> {
    let mut text = Text::new();
    for verdict in verdicts {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        write(&mut text, verdict);
    }
    (!text.is_empty()).then_some(())?;
    HeaderValue::from_bytes(&text).ok()
}

/// A value while it is written: without an allocation of its own where it is of the usual length.
type Text = SmallVec<[u8; 96]>;

/// A name as a String of Structured Fields (RFC 9651 §3.3.3): printable ASCII, anything else becomes `?`.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for letter in name.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            ' '..='~' => text.push(letter),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

/// A quota's item in `RateLimit-Policy`: `q` requests in a window of `w` seconds, and a burst of another size as a
/// parameter of our own (draft §3.1: prefixed by the vendor).
pub(super) fn policy_item(quoted_name: &str, rate: Rate) -> String {
    match rate {
        Rate::PerSecond { count, burst } if burst == count => format!("{quoted_name};q={count};w=1"),
        Rate::PerSecond { count, burst } => format!("{quoted_name};q={count};w=1;stepgate-burst={burst}"),
        Rate::PerPeriod { count, period } => {
            // A window with a fraction is told as the next whole second: no shorter than it is.
            let secs = period.as_secs() + u64::from(period.subsec_nanos() > 0);
            format!("{quoted_name};q={count};w={secs}")
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        num::NonZeroU32,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        config::{Limit, LimitKey, Span},
        limit::{Quota, QuotaKey, check_all},
    };

    fn quota(name: &str, rate: Rate) -> Quota {
        Quota::new(&Limit { span: Span::default(), name: name.into(), key: LimitKey::Global, rate }, 10)
    }

    fn per_minute(name: &str, count: u32) -> Quota {
        let rate = Rate::PerPeriod { count: NonZeroU32::new(count).unwrap(), period: Duration::from_secs(60) };
        quota(name, rate)
    }

    fn per_second(name: &str, count: u32, burst: u32) -> Quota {
        let rate = Rate::PerSecond { count: NonZeroU32::new(count).unwrap(), burst: NonZeroU32::new(burst).unwrap() };
        quota(name, rate)
    }

    fn told(quotas: &[&Quota], now: Instant) -> Vec<(String, String)> {
        let charges: Vec<_> = quotas.iter().map(|&quota| (quota, QuotaKey::shared())).collect();
        let mut headers = HeaderMap::new();
        RateHeaders::new(&check_all(&charges, now)).unwrap().apply(&mut headers);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn an_admitted_request_is_told_what_is_left() {
        let quota = per_minute("per-user", 5);
        let expected =
            [pair("ratelimit-policy", r#""per-user";q=5;w=60"#), pair("ratelimit", r#""per-user";r=4;t=60"#)];
        assert_eq!(told(&[&quota], Instant::now()), expected);
    }

    #[test]
    fn the_most_binding_quota_comes_first_and_retry_after_is_never_before_a_reset() {
        let (daily, second) = (per_minute("daily", 1), per_second("per-ip", 50, 100));
        let now = Instant::now();
        let first = told(&[&second, &daily], now);
        let policy = r#""daily";q=1;w=60, "per-ip";q=50;w=1;stepgate-burst=100"#;
        assert_eq!(
            first,
            [pair("ratelimit-policy", policy), pair("ratelimit", r#""daily";r=0;t=60, "per-ip";r=99;t=1"#)]
        );
        let refused = told(&[&second, &daily], now + Duration::from_millis(500));
        let expected =
            [pair("ratelimit-policy", policy), pair("ratelimit", r#""daily";r=0;t=60"#), pair("retry-after", "60")];
        assert_eq!(refused, expected);
    }

    /// A refusal's own `Retry-After: 5` stood beside `t=600` of a quota that counted the request.
    #[test]
    fn the_wait_of_a_refusal_for_another_reason_is_never_before_a_reset_either() {
        let (quota, now) = (per_minute("q", 3), Instant::now());
        let beside = |own_secs| {
            let mut rates = RateHeaders::new(&check_all(&[(&quota, QuotaKey::shared())], now)).unwrap();
            let (wait_secs, mut headers) = (rates.fit(own_secs), HeaderMap::new());
            rates.apply(&mut headers);
            assert!(headers.contains_key(POLICY));
            (wait_secs, headers.contains_key(LIMIT))
        };
        assert_eq!(beside(5), (5, false), "two are left, so nobody need wait for a minute");
        assert_eq!(beside(60), (60, true));
        assert_eq!(beside(5), (60, true), "none is left");
    }

    #[test]
    fn a_client_that_waits_as_told_is_admitted() {
        let (quota, now) = (per_second("s", 3, 1), Instant::now());
        assert_eq!(quota.check(QuotaKey::shared(), now).outcome, Outcome::Admit);
        let refused = quota.check(QuotaKey::shared(), now);
        assert_eq!((refused.outcome, refused.retry_after_secs), (Outcome::Refuse, 1));
        let later = now + Duration::from_secs(refused.retry_after_secs);
        assert_eq!(quota.check(QuotaKey::shared(), later).outcome, Outcome::Admit);
    }

    #[test]
    fn a_name_is_quoted_as_structured_fields_want_it() {
        assert_eq!(quoted(r#"DELETE /a"b\c/ü"#), r#""DELETE /a\"b\\c/?""#);
    }

    #[test]
    fn without_a_quota_nothing_is_told() {
        assert!(RateHeaders::new(&check_all(&[], Instant::now())).is_none());
    }
}
