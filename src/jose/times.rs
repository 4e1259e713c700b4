//! `exp`, `nbf` and `iat` (RFC 7519 §4.1.4 to §4.1.6): NumericDates, which may have fractions.

use serde_json::{Map, Value};

use super::TokenFault;

/// The time claims of a token, each checked whenever it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TimeClaims {
    /// When the token expires.
    pub exp: Option<f64>,
    /// When it becomes valid.
    pub nbf: Option<f64>,
    /// When it was issued.
    pub iat: Option<f64>,
}

impl TimeClaims {
    /// Reads the time claims; one that is there and is not a number is a fault, even if nobody requires it.
    pub fn read(claims: &Map<String, Value>) -> Result<Self, TokenFault> {
        Ok(Self {
            exp: numeric_date(claims, "exp")?,
            nbf: numeric_date(claims, "nbf")?,
            iat: numeric_date(claims, "iat")?,
        })
    }

    /// Checks them against the time, both in seconds since the epoch. The leeway is added in the token's favour.
    pub fn check(&self, now: f64, leeway: f64) -> Result<(), TokenFault> {
        // RFC 7519 §4.1.4: "on or after which" it must not be accepted.
        if self.exp.is_some_and(|exp| now >= exp + leeway) {
            return Err(TokenFault::Expired);
        }
        if self.nbf.is_some_and(|nbf| nbf > now + leeway) {
            return Err(TokenFault::NotYetValid);
        }
        if self.iat.is_some_and(|iat| iat > now + leeway) {
            return Err(TokenFault::IssuedInFuture);
        }
        Ok(())
    }
}

fn numeric_date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_f64() {
        Some(number) if number.is_finite() => Ok(Some(number)),
        Some(_) | None => Err(TokenFault::Claim(name)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: Value) -> Result<TimeClaims, TokenFault> {
        TimeClaims::read(claims.as_object().unwrap())
    }

    #[test]
    fn a_token_expires_on_the_second_that_exp_names_and_leeway_moves_it() {
        let times = read(json!({"exp": 1000.5})).unwrap();
        assert_eq!(times.check(1000.4, 0.0), Ok(()));
        assert_eq!(times.check(1000.5, 0.0), Err(TokenFault::Expired));
        assert_eq!(times.check(1030.4, 30.0), Ok(()));
        assert_eq!(times.check(1030.5, 30.0), Err(TokenFault::Expired));
    }

    #[test]
    fn nbf_and_iat_may_lie_in_the_future_by_the_leeway_only() {
        let nbf = read(json!({"nbf": 1030})).unwrap();
        assert_eq!(nbf.check(1000.0, 30.0), Ok(()));
        assert_eq!(nbf.check(999.9, 30.0), Err(TokenFault::NotYetValid));
        let iat = read(json!({"iat": 1030})).unwrap();
        assert_eq!(iat.check(1000.0, 30.0), Ok(()));
        assert_eq!(iat.check(999.9, 30.0), Err(TokenFault::IssuedInFuture));
    }

    #[test]
    fn numbers_at_the_edge_are_compared_and_never_wrap() {
        assert_eq!(read(json!({"exp": -1})).unwrap().check(0.0, 0.5), Err(TokenFault::Expired));
        assert_eq!(read(json!({"exp": u64::MAX})).unwrap().check(4e9, 30.0), Ok(()));
        assert_eq!(read(json!({"exp": 1e300})).unwrap().check(4e9, 30.0), Ok(()));
        assert_eq!(read(json!({"nbf": 1e300})).unwrap().check(4e9, 30.0), Err(TokenFault::NotYetValid));
        assert_eq!(read(json!({"iat": i64::MIN})).unwrap().check(4e9, 30.0), Ok(()));
    }

    #[test]
    fn a_time_that_is_not_a_number_is_a_fault_wherever_it_stands() {
        for name in ["exp", "nbf", "iat"] {
            for bad in [json!("1000"), json!(null), json!(true), json!([1]), json!({})] {
                assert_eq!(read(json!({ name: bad })), Err(TokenFault::Claim(name)));
            }
        }
    }
}
