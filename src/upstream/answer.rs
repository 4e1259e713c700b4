//! Which answers may be passed on. The head has been taken apart; what is left are heads that two readers could frame
//! differently, and protocols that nobody asked for.

use http::{
    HeaderMap, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::{fault::InvalidAnswer, framing::is_plain, lease::Afterwards};

/// An answer's head was found good: it has at most one length, and no coding but `chunked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    /// What may be done with the connection.
    pub(super) afterwards: Afterwards,
    /// Made here alone.
    _checked: (),
}

/// What 64 bits hold whatever the digits are.
const LENGTH_DIGITS: usize = 19;

/// Checks an answer's head, takes away a `Content-Length` that `Transfer-Encoding` overrides, and writes one that has zeros before it in
/// the usual way. `upgrade`: whether it was asked for.
pub(super) fn check<B>(answer: &mut Response<B>, upgrade: bool) -> Result<Checked, InvalidAnswer> {
    Ok(Checked { afterwards: afterwards(answer, upgrade)?, _checked: () })
}

fn afterwards<B>(answer: &mut Response<B>, upgrade: bool) -> Result<Afterwards, InvalidAnswer> {
    // RFC 9110 §15.2.2: nothing may be switched that was not asked for.
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return if upgrade { Ok(Afterwards::Close) } else { Err(InvalidAnswer::Upgrade) };
    }
    let is_old = answer.version() == Version::HTTP_10;
    let is_framed_otherwise = answer.version() == Version::HTTP_2;
    let headers = answer.headers_mut();
    if is_framed_otherwise && headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9113 §8.2.2: malformed, and who passes it on as HTTP/1.1 splits answers.
        return Err(InvalidAnswer::TransferCoding);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        check_coding(headers)?;
        if is_old {
            // RFC 9112 §6.1: it has no such field, and whoever passed it on did not understand it.
            return Err(InvalidAnswer::TransferCoding);
        }
        // RFC 9112 §6.1: a length beside chunked is an attempt at response splitting, or a broken server.
        return Ok(if headers.remove(CONTENT_LENGTH).is_some() { Afterwards::Close } else { Afterwards::Reuse });
    }
    check_length(headers)?;
    Ok(if is_old { Afterwards::Close } else { Afterwards::Reuse })
}

fn check_coding(headers: &HeaderMap) -> Result<(), InvalidAnswer> {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    let only_chunked = fields.next().is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if only_chunked && fields.next().is_none() { Ok(()) } else { Err(InvalidAnswer::TransferCoding) }
}

fn check_length(headers: &mut HeaderMap) -> Result<(), InvalidAnswer> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let Some(field) = fields.next() else { return Ok(()) };
    let digits = (1..=LENGTH_DIGITS).contains(&field.len()) && field.as_bytes().iter().all(u8::is_ascii_digit);
    if !digits || fields.next().is_some() {
        return Err(InvalidAnswer::ContentLength);
    }
    if !is_plain(field) {
        let length = field.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        headers.insert(CONTENT_LENGTH, length.ok_or(InvalidAnswer::ContentLength)?.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use http::HeaderValue;

    use super::*;

    fn checked(
        status: u16,
        headers: &[(&'static str, &'static str)],
    ) -> (Result<Afterwards, InvalidAnswer>, HeaderMap) {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            answer.headers_mut().append(*name, value.parse().unwrap());
        }
        (check(&mut answer, false).map(|checked| checked.afterwards), answer.headers().clone())
    }

    #[test]
    fn ordinary_framing_passes() {
        for headers in [&[][..], &[("content-length", "12")], &[("transfer-encoding", "Chunked")]] {
            assert_eq!(checked(200, headers).0.unwrap(), Afterwards::Reuse);
        }
    }

    #[test]
    fn a_length_beside_chunked_goes_and_the_connection_is_not_used_again() {
        let (result, headers) = checked(200, &[("content-length", "12"), ("transfer-encoding", "chunked")]);
        assert_eq!(result.unwrap(), Afterwards::Close);
        assert!(!headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn lengths_that_two_readers_could_take_differently_are_refused() {
        for value in ["", "-1", "+1", "1,1", "1 1", "0x10", "18446744073709551616", "00000000000000000001"] {
            assert!(matches!(checked(200, &[("content-length", value)]).0, Err(InvalidAnswer::ContentLength)));
        }
        let twice = [("content-length", "1"), ("content-length", "1")];
        assert!(matches!(checked(304, &twice).0, Err(InvalidAnswer::ContentLength)));
    }

    #[test]
    fn a_length_with_zeros_before_it_is_said_in_the_usual_way() {
        for (value, said) in [("0", "0"), ("000", "0"), ("0012", "12"), ("120", "120")] {
            let (result, headers) = checked(200, &[("content-length", value)]);
            assert_eq!(
                (result.unwrap(), headers.get(CONTENT_LENGTH).unwrap()),
                (Afterwards::Reuse, &HeaderValue::from_static(said))
            );
        }
    }

    #[test]
    fn other_codings_are_refused() {
        for value in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "chunked;q=1"] {
            assert!(matches!(checked(200, &[("transfer-encoding", value)]).0, Err(InvalidAnswer::TransferCoding)));
        }
    }

    #[test]
    fn an_upgrade_that_nobody_asked_for_is_refused() {
        assert!(matches!(checked(101, &[]).0, Err(InvalidAnswer::Upgrade)));
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(check(&mut answer, true).unwrap().afterwards, Afterwards::Close);
    }
}
