//! Header rules: what a route removes, sets and adds. Which fields a rule may name is decided when the file is read; here no value
//! can add a line.

use http::{HeaderMap, HeaderValue};

use super::{Known, drop_all};
use crate::{
    config::{HeaderRules, Piece, RouteText, RouteValue, RuleValue},
    gateway::{hygiene, outbound::encoded},
};

/// The values of what is set, then of what is added; `None` where one is not known.
pub(super) fn values(rules: &HeaderRules, known: &Known<'_>) -> Box<[Option<HeaderValue>]> {
    let all = rules.set.iter().chain(&rules.add);
    all.map(|(_, value)| match value {
        RuleValue::Fixed(value) => Some(value.clone()),
        RuleValue::Text(text) => filled(text, known),
    })
    .collect()
}

/// Changes a head. What is removed or set is so in every spelling: a lax reader takes `x_a` for `x-a`.
pub(super) fn apply_values(rules: &HeaderRules, values: &[Option<HeaderValue>], headers: &mut HeaderMap) {
    drop_all(headers, &rules.remove);
    let mut values = values.iter();
    for (name, _) in &rules.set {
        hygiene::drop_aliases(headers, name);
        if let Some(value) = values.next().and_then(Option::as_ref) {
            headers.insert(name.clone(), value.clone());
        }
    }
    for (name, _) in &rules.add {
        if let Some(value) = values.next().and_then(Option::as_ref) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// A text with the values of a request in it, escaped as identity headers are; `None` where one of them is not known.
fn filled(text: &RouteText, known: &Known<'_>) -> Option<HeaderValue> {
    let mut out = String::new();
    for piece in text.pieces() {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Value(RouteValue::RequestId) => out.push_str(&encoded(known.request_id)),
            Piece::Value(RouteValue::ClientIp) => out.push_str(&known.client.to_string()),
            Piece::Value(RouteValue::Subject) => out.push_str(&encoded(known.subject?)),
            Piece::Value(RouteValue::Path(name)) => {
                let parameters = known.pattern.parameters(known.path);
                let (_, value) = parameters.iter().find(|(known, _)| known == name)?;
                out.push_str(&encoded(value));
            }
            // No text for a header has these.
            Piece::Value(RouteValue::Rest | RouteValue::Query) => return None,
        }
    }
    HeaderValue::try_from(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

    use std::path::Path;

    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{self, Input, RuleKind, folded, not_for_request_rules, not_for_response_rules},
        gateway::{
            hygiene::{fold, is_hop_by_hop, is_spoofable},
            method_override,
        },
        route::{NormalPath, PathPattern},
    };

    fn config(rules: &str) -> Result<config::Config, String> {
        let text = format!(
            "issuers: {{main: {{issuer: https://idp.example/, audience: [a], keys: {{discovery: true}}, algorithms: [RS256]}}}}\n\
             upstreams: {{api: {{targets: ['http://127.0.0.1:9'], credential: {{header: {{name: x-legacy-key, value: {{env: K}}}}}}}}}}\n\
             routes: [{{path: '/a/{{id}}', upstream: api, {rules}}}]\n"
        );
        let input = Input { file: Path::new("p.yaml"), text: &text, base: Path::new("/"), env: &|_| None };
        config::load(&input).map(|loaded| loaded.config).map_err(|problems| problems.to_string())
    }

    fn applied(rules: &str, sent: &[(&str, &str)], subject: Option<&str>, path: &str) -> Vec<(String, String)> {
        let config = config(&format!("request_headers: {rules}")).unwrap_or_else(|said| panic!("{said}"));
        let pattern = PathPattern::parse("/a/{id}").unwrap();
        let path = NormalPath::parse(path).unwrap();
        let known =
            Known { pattern: &pattern, path: &path, request_id: "r1", client: "2001:db8::1".parse().unwrap(), subject };
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let rules = &config.routes[0].shaping.as_ref().unwrap().request_headers;
        apply_values(rules, &values(rules, &known), &mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        left.sort();
        left
    }

    #[test]
    fn fields_are_removed_set_and_added_in_every_spelling() {
        let rules = "{remove: [x-gone], set: {x-set: new}, add: {x-more: two}}";
        let sent =
            [("x_gone", "1"), ("x-gone", "1"), ("x-set", "old"), ("x.set", "old"), ("x-more", "one"), ("kept", "k")];
        let left = applied(rules, &sent, None, "/a/1");
        let expected = [("kept", "k"), ("x-more", "one"), ("x-more", "two"), ("x-set", "new")];
        assert_eq!(left, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn values_of_the_request_are_escaped_and_what_is_not_known_leaves_no_field_of_the_clients() {
        let rules = "{set: {x-user: '{subject}', x-place: '{client_ip} {path.id} {request_id}'}}";
        let sent = [("x-user", "forged"), ("x_user", "forged")];
        let left = applied(rules, &sent, Some("zoë\r\nx: y"), "/a/%E2%82%ACb%25");
        assert_eq!(left[0].1, "2001:db8::1 %E2%82%ACb%25 r1");
        assert_eq!(left[1].1, "zo%C3%AB%0D%0Ax: y");
        let left = applied(rules, &sent, None, "/a/1");
        assert_eq!(left.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-place"]);
    }

    /// Whatever another part of the gateway says, drops or judges is not for rules: the lists are kept apart, as the file is read below
    /// this room, and this holds them together.
    #[test]
    fn no_rule_names_what_the_gateway_says_or_judges() {
        let server = config("response_headers: {remove: [x-a]}").unwrap().server;
        let names = [
            "host",
            "content-length",
            "content-type",
            "transfer-encoding",
            "connection",
            "te",
            "upgrade",
            "x-request-id",
            "traceparent",
            "tracestate",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-auth-subject",
            "x-auth-acr",
            "authorization",
            "cookie",
            "dpop",
            "expect",
            "stepgate-otp",
            "stepgate-grant",
            "x-up-devcap-post-charset",
        ];
        let overrides = method_override::HEADERS.map(|name| name.to_string());
        for name in names.into_iter().map(str::to_owned).chain(overrides) {
            for spelling in [name.clone(), name.replace('-', "_"), name.to_uppercase().replace('-', ".")] {
                assert!(not_for_request_rules(&folded(&spelling), RuleKind::Put, &server).is_some(), "{spelling}");
            }
        }
        for name in [
            "set-cookie",
            "content-length",
            "connection",
            "x-request-id",
            "ratelimit",
            "www-authenticate",
            "dpop-nonce",
        ] {
            assert!(not_for_response_rules(name, RuleKind::Put).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_header_rule_can_produce_a_forbidden_field(
            name in "(x[-_.])?(auth|forwarded|http|real|stepgate|remote|client|ssl-client|original|webauth|request)?[-_.]?(user|for|host|method|url|id|cert|otp|ip|subject|method-override|a)?|te|host|via|cookie|authorization|content[-_](length|type)|transfer[_-]encoding|x[-_]legacy[-_]key|traceparent|proxy|trailer|expect",
            kind in prop::sample::select(vec!["set: {'NAME': v}", "add: {'NAME': v}", "remove: ['NAME']"]),
        ) {
            prop_assume!(HeaderName::try_from(name.as_str()).is_ok());
            let rules = format!("request_headers: {{{}}}", kind.replace("NAME", &name));
            let Ok(config) = config(&rules) else { return Ok(()) };
            let rules = &config.routes[0].shaping.as_ref().unwrap().request_headers;
            let named = rules.remove.iter().chain(rules.set.iter().chain(&rules.add).map(|(name, _)| name));
            for name in named {
                let shown = name.as_str();
                let plain = HeaderName::try_from(&*fold(shown)).unwrap();
                prop_assert!(!is_spoofable(shown, &config.server.drop_headers), "{}", shown);
                prop_assert!(!is_hop_by_hop(&plain), "{}", shown);
                prop_assert!(plain != "host" && plain != "x-request-id" && plain != "via" && plain != "traceparent", "{}", shown);
                prop_assert!(plain != "x-legacy-key" && plain != "content-length" && plain != "content-type", "{}", shown);
                if rules.remove.is_empty() {
                    prop_assert!(plain != "cookie" && plain != "authorization" && plain != "x-api-key" && plain != "dpop", "{}", shown);
                }
            }
        }
    }
}
