//! The cookies of the authority's and the operators' pages. The prefix of the one makes browsers send it to the whole host, and cookies
//! know no ports, so that the services behind would get either, and could set one of their own choosing: neither is their affair.

use http::{HeaderMap, HeaderValue, header};

use crate::{authority::PAGES_COOKIE, endpoint::OPERATORS_COOKIE};

const NAMES: [&[u8]; 2] = [PAGES_COOKIE.as_bytes(), OPERATORS_COOKIE.as_bytes()];

/// Takes them out of a request's cookies; the others stay as they are. `Cookie` is one field by now.
pub(super) fn hide(headers: &mut HeaderMap) {
    let Some(cookies) = headers.get(header::COOKIE).map(HeaderValue::as_bytes) else { return };
    let pairs = || cookies.split(|byte| *byte == b';');
    // Every request with a cookie comes here, with an authority or without: one pass over the bytes, and nothing is written.
    if !pairs().any(is_ours) {
        return;
    }
    let others = pairs().filter(|pair| !is_ours(pair)).map(<[u8]>::trim_ascii);
    let others = others.filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(&b"; "[..]);
    match HeaderValue::from_bytes(&others) {
        Ok(others) if !others.is_empty() => {
            headers.insert(header::COOKIE, others);
        }
        Ok(_) | Err(_) => {
            headers.remove(header::COOKIE);
        }
    }
}

/// Takes what would set one out of a service's answer.
pub(super) fn refuse(headers: &mut HeaderMap) {
    if !headers.get_all(header::SET_COOKIE).iter().any(|cookie| is_ours(cookie.as_bytes())) {
        return;
    }
    let all = headers.get_all(header::SET_COOKIE).iter();
    let others: Vec<HeaderValue> = all.filter(|cookie| !is_ours(cookie.as_bytes())).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in others {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Whether a cookie has one of the names. Browsers hold the prefix of a name against it in any case of letters (RFC 6265bis, §5.7).
fn is_ours(pair: &[u8]) -> bool {
    pair.split(|byte| *byte == b'=').next().is_some_and(|name| is_name(name.trim_ascii()))
}

fn is_name(name: &[u8]) -> bool {
    NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_service_never_gets_the_pages_cookie() {
        for (sent, got) in [
            ("a=1; b=2", Some("a=1; b=2")),
            ("__Host-stepgate=x", None),
            ("a=1; __Host-stepgate=x; b=2", Some("a=1; b=2")),
            ("__host-Stepgate=x;a=1;__Host-stepgate=y", Some("a=1")),
            (" __Host-stepgate =x; a=__Host-stepgate", Some("a=__Host-stepgate")),
            ("__Host-stepgate", None),
            ("stepgate-operator=x; a=1", Some("a=1")),
            ("__Host-stepgate2=x", Some("__Host-stepgate2=x")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, sent.parse().unwrap());
            hide(&mut headers);
            assert_eq!(headers.get(header::COOKIE).map(|value| value.to_str().unwrap()), got, "{sent}");
        }
    }

    #[test]
    fn a_service_cannot_set_it() {
        let mut headers = HeaderMap::new();
        for cookie in
            ["a=1; Path=/", "__Host-stepgate=mine; Path=/; Secure", "__HOST-STEPGATE=mine", "b=__Host-stepgate"]
        {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        refuse(&mut headers);
        let left: Vec<_> = headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(left, ["a=1; Path=/", "b=__Host-stepgate"]);
    }
}
