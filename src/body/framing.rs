//! What hyper accepts in a request's head and the gateway must not: codings before `chunked`, too many fields, and values
//! that would be others in HTTP/1.1.
//!
//! hyper itself refuses a `Content-Length` that is malformed or given twice with different values, a last coding other
//! than `chunked`, and `Transfer-Encoding` in HTTP/1.0; with both fields it frames by `Transfer-Encoding` alone, drops
//! `Content-Length` and closes after the answer (RFC 9112 §6.3). It takes `gzip, chunked` and `chunked, chunked`.

use http::{HeaderMap, HeaderValue, Version, header::TRANSFER_ENCODING};

/// A head that must be refused, and its connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FramingFault {
    /// A transfer coding other than `chunked`, or more than one: 400 (RFC 9112 §6.1).
    #[error("unknown or repeated transfer coding")]
    TransferCoding,
    /// More fields than are allowed: 431. HTTP/2 needs this; in HTTP/1.1 hyper has answered already.
    #[error("too many header fields")]
    TooManyFields,
    /// A value that begins or ends in white space: 400 (RFC 9113 §8.2.1). HTTP/1.1 has none such; the service would be
    /// sent another value than was judged.
    #[error("a field value begins or ends in white space")]
    PaddedValue,
}

/// Checks what hyper leaves to us in the head of a request.
///
/// # Errors
/// The first fault found. Its answer must say `Connection: close` in HTTP/1.1.
pub fn check_framing(version: Version, headers: &HeaderMap, max_fields: usize) -> Result<(), FramingFault> {
    if headers.len() > max_fields {
        return Err(FramingFault::TooManyFields);
    }
    // In HTTP/1.1 hyper has trimmed them (RFC 9112 §5.1).
    if matches!(version, Version::HTTP_2 | Version::HTTP_3) && has_padding(headers) {
        return Err(FramingFault::PaddedValue);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    // RFC 9113 §8.2.2, RFC 9114 §4.2: the field does not exist in HTTP/2 and HTTP/3.
    if is_chunked && codings.next().is_none() && version == Version::HTTP_11 {
        Ok(())
    } else {
        Err(FramingFault::TransferCoding)
    }
}

/// Whether a value begins or ends in white space.
pub(super) fn has_padding(fields: &HeaderMap) -> bool {
    fields.values().any(is_padded)
}

fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.as_bytes().first()) || blank(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, codings: &[&'static str]) -> Result<(), FramingFault> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
        }
        check_framing(version, &headers, 200)
    }

    #[test]
    fn chunked_alone_is_the_only_coding_that_passes() {
        assert_eq!(check(Version::HTTP_11, &[]), Ok(()));
        assert_eq!(check(Version::HTTP_11, &["chunked"]), Ok(()));
        assert_eq!(check(Version::HTTP_11, &["Chunked"]), Ok(()));
        for codings in [&["gzip, chunked"][..], &["chunked, chunked"], &["identity", "chunked"], &["xchunked"], &[""]] {
            assert_eq!(check(Version::HTTP_11, codings), Err(FramingFault::TransferCoding), "{codings:?}");
        }
    }

    #[test]
    fn a_transfer_coding_in_another_version_is_refused() {
        assert_eq!(check(Version::HTTP_10, &["chunked"]), Err(FramingFault::TransferCoding));
        assert_eq!(check(Version::HTTP_2, &["chunked"]), Err(FramingFault::TransferCoding));
        assert_eq!(check(Version::HTTP_3, &["chunked"]), Err(FramingFault::TransferCoding));
    }

    #[test]
    fn more_fields_than_allowed_are_refused() {
        let mut headers = HeaderMap::new();
        for _ in 0..3 {
            headers.append("x-a", HeaderValue::from_static("1"));
        }
        assert_eq!(check_framing(Version::HTTP_2, &headers, 3), Ok(()));
        assert_eq!(check_framing(Version::HTTP_2, &headers, 2), Err(FramingFault::TooManyFields));
    }

    #[test]
    fn a_padded_value_is_refused_where_nothing_has_trimmed_it() {
        let check = |version, value| {
            let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            check_framing(version, &headers, 200)
        };
        for value in [" ", "\t", " a", "a ", "\ta", "a\t"] {
            assert_eq!(check(Version::HTTP_2, value), Err(FramingFault::PaddedValue), "{value:?}");
            assert_eq!(check(Version::HTTP_3, value), Err(FramingFault::PaddedValue), "{value:?}");
        }
        for value in ["", "a", "a b"] {
            assert_eq!(check(Version::HTTP_2, value), Ok(()), "{value:?}");
            assert_eq!(check(Version::HTTP_3, value), Ok(()), "{value:?}");
        }
    }
}
