//! Header fields that no rule of a route may touch: what frames a message, what concerns one connection, and what the gateway
//! says itself or stands for in what it judged.

use super::Server;

/// What a rule would do to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// Put a value there.
    Put,
    /// Take it away.
    Remove,
}

/// Why a field of a message is not for rules; `name` is folded: lower case, `-` for anything but letters and digits. `None`: it is.
fn not_for_rules_of_any(name: &str) -> Option<&'static str> {
    const CONNECTION: [&str; 13] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "proxy-authenticate",
        "proxy-authorization",
        "expect",
        "http2-settings",
        "alt-used",
    ];
    if CONNECTION.contains(&name) || name.starts_with("sec-websocket-") {
        return Some("it frames messages or concerns one connection (RFC 9110 §7.6.1)");
    }
    if matches!(name, "x-request-id" | "dpop-nonce") || name.starts_with("x-stepgate-") || name.starts_with("stepgate-")
    {
        return Some("it is the gateway's to say");
    }
    if matches!(name, "content-encoding" | "content-range" | "date") {
        return Some("it says what the body is, or when it was made");
    }
    None
}

/// The same for a field of a request.
pub fn not_for_request_rules(name: &str, kind: RuleKind, server: &Server) -> Option<&'static str> {
    const PLACES: [&str; 29] = [
        "cf-connecting-ip",
        "client-cert",
        "client-cert-chain",
        "client-ip",
        "early-data",
        "fastly-client-ip",
        "fly-client-ip",
        "forwarded",
        "proxy",
        "proxy-client-ip",
        "remote-user",
        "traceparent",
        "tracestate",
        "true-client-ip",
        "via",
        "wl-proxy-client-ip",
        "x-authenticated-user",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-client-cert",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-originating-ip",
        "x-real-ip",
        "x-remote-addr",
        "x-remote-ip",
        "x-remote-user",
        "x-envoy-external-address",
        "cdn-loop",
    ];
    const TARGETS: [&str; 12] = [
        "x-envoy-original-path",
        "x-host",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-method",
        "x-original-url",
        "x-rewrite-url",
        "x-up-devcap-post-charset",
        "content-type",
        "max-forwards",
    ];
    const CREDENTIALS: [&str; 6] = ["authorization", "cookie", "x-api-key", "api-key", "x-auth-token", "dpop"];
    if let Some(why) = not_for_rules_of_any(name) {
        return Some(why);
    }
    if name == "host" {
        return Some("the upstream's `host` says it");
    }
    let is_prefix = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let prefixes = ["ssl-client-", "x-auth-", "x-forwarded-", "x-ssl-client-", "x-webauth-", "x-original-forwarded-"];
    if is_prefix(&prefixes) || name == "x-forwarded" || PLACES.contains(&name) || *server.client_ip_header == *name {
        return Some("the gateway itself says who calls, and from where");
    }
    if TARGETS.contains(&name) {
        return Some("what the policy judged is what is forwarded");
    }
    // A cookie that a service shall not see is no credential to it.
    let may_remove = kind == RuleKind::Remove && !matches!(name, "authorization" | "dpop");
    if !may_remove && (CREDENTIALS.contains(&name) || server.key_headers.iter().any(|key| **key == *name)) {
        return Some("it is a credential: give the upstream one by `credential`");
    }
    None
}

/// The same for a field of an answer.
pub fn not_for_response_rules(name: &str, kind: RuleKind) -> Option<&'static str> {
    if let Some(why) = not_for_rules_of_any(name) {
        return Some(why);
    }
    if name.starts_with("ratelimit") || name == "www-authenticate" {
        return Some("it is the gateway's to say");
    }
    if kind == RuleKind::Put && name.starts_with("access-control-") {
        return Some("the route's `cors` says it");
    }
    if kind == RuleKind::Put && name == "set-cookie" {
        return Some("a cookie that every caller gets is nobody's: let the service set it");
    }
    if name.starts_with("grpc-") {
        return Some("it says how a call ended");
    }
    None
}

/// A field's name as lax servers compare it.
pub fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
