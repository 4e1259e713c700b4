//! One attack a test. Each starts a gateway of its own, attacks it, and looks at what the upstream saw: nothing of a
//! refused request ever reaches it. Most are other gateways' scars; see docs/threat-model.md.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use serde_json::json;

use crate::harness::{
    Authority, Gateway, Request, Wire, World, delete, encode, get,
    h2::{self, Ending, H2, block, encode_frame},
    post,
};

/// `/public` is open; `/private` and `/admin` are not. Nothing else has a route.
const YAML: &str = "routes:
  - {path: /public/**, upstream: api, auth: none}
  - {path: /private/**, upstream: api, auth: [main]}
  - {path: /admin/**, upstream: api, auth: [main], assurance: {acr: [gold]}}
";

/// Everything is open but `/private` and `/admin`: the more dangerous and the more common way to write it.
const CATCH_ALL: &str = "routes:
  - {path: /**, upstream: api, auth: none}
  - {path: /private/**, upstream: api, auth: [main]}
  - {path: /admin/**, upstream: api, auth: [main], assurance: {acr: [gold]}}
";

fn start(yaml: &str) -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(yaml);
    (world, gateway)
}

/// After every attack the gateway still serves.
fn assert_serves(gateway: &Gateway) {
    get("/public/still").send(gateway).expect(200);
}

// -- paths

/// A target that a careless server reads as something private is refused, and nothing of it reaches the upstream.
fn refused_path(target: &str) {
    for yaml in [YAML, CATCH_ALL] {
        let (world, gateway) = start(yaml);
        let mut wire = gateway.connect();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.example\r\n\r\n"));
        match wire.try_answer(false) {
            Ok(answer) => assert!((400..500).contains(&answer.status), "{target:?}: {answer:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{target:?}"),
        }
        world.upstream.assert_untouched();
        assert_serves(&gateway);
    }
}

macro_rules! refused_paths {
    ($($name:ident: $target:expr),* $(,)?) => { $(#[test] fn $name() { refused_path($target); })* };
}

refused_paths! {
    dot_segments_are_refused: "/public/../private/x",
    a_dot_segment_at_the_end_is_refused: "/public/..",
    a_single_dot_is_refused: "/private/./x",
    encoded_dots_are_refused: "/public/%2e%2e/private/x",
    half_encoded_dots_are_refused: "/public/.%2e/private/x",
    upper_case_encoded_dots_are_refused: "/public/%2E%2E/private/x",
    doubly_encoded_dots_are_refused: "/public/%252e%252e/private/x",
    triply_encoded_dots_are_refused: "/public/%25252e%25252e/private/x",
    dots_with_parameters_are_refused: "/public/..;a=b/private/x",
    dots_with_encoded_parameters_are_refused: "/public/..%3ba/private/x",
    encoded_slashes_are_refused: "/public/..%2fprivate%2fx",
    upper_case_encoded_slashes_are_refused: "/public%2F..%2Fprivate/x",
    doubly_encoded_slashes_are_refused: "/public/..%252fprivate/x",
    backslashes_are_refused: "/public/..\\private\\x",
    encoded_backslashes_are_refused: "/public/..%5cprivate%5cx",
    doubly_encoded_backslashes_are_refused: "/public/..%255cprivate",
    empty_segments_are_refused: "//private/x",
    empty_segments_inside_are_refused: "/public//../private/x",
    a_triple_slash_is_refused: "///private/x",
    empty_segments_with_parameters_are_refused: "/public/;/private/x",
    overlong_dots_are_refused: "/public/%c0%ae%c0%ae/private/x",
    an_overlong_slash_is_refused: "/public/..%c0%afprivate/x",
    a_long_overlong_slash_is_refused: "/public/..%e0%80%afprivate/x",
    an_encoded_nul_is_refused: "/public/x%00/../private",
    an_encoded_newline_is_refused: "/public/x%0d%0aX-Auth-Subject:%20admin",
    an_encoded_tab_is_refused: "/private%09/x",
    a_broken_escape_is_refused: "/public/%",
    a_broken_escape_of_letters_is_refused: "/public/%zz/x",
    a_half_escape_is_refused: "/public/%2/private",
    an_iis_escape_is_refused: "/public/%u002e%u002e/private",
    a_raw_space_is_refused: "/public/x /private",
    a_raw_tab_is_refused: "/public/x\t/private",
    a_raw_delete_character_is_refused: "/public/x\u{7f}",
    an_encoded_delete_character_is_refused: "/public/%7f/x",
    a_target_without_a_slash_is_refused: "private/x",
    an_asterisk_for_a_get_is_refused: "*",
    a_question_mark_alone_is_refused: "?",
    an_authority_as_target_is_refused: "gateway.example:443",
}

#[test]
fn nothing_after_a_fragment_mark_is_judged_or_forwarded() {
    let (world, gateway) = start(YAML);
    for (target, seen) in [
        ("/public/x#/../../private/y", "/public/x"),
        ("/public/x%23/y", "/public/x%23/y"),
        ("/public/x?a#b", "/public/x?a"),
    ] {
        let mut wire = gateway.connect();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.example\r\n\r\n"));
        if wire.answer().status == 200 {
            assert_eq!(world.upstream.last().target(), seen, "CVE-2021-32779");
        }
    }
    let mut wire = gateway.connect();
    wire.send("GET /private/x#/../../public/y HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
    assert!(wire.answer().status >= 400);
}

#[test]
fn raw_bytes_beyond_ascii_are_refused_or_forwarded_escaped() {
    let (world, gateway) = start(CATCH_ALL);
    for target in [&b"/public/\xff"[..], b"/private\xc2\xa0/x", b"/public/\xc0\xae\xc0\xae/private/x", b"/\xe2\x80\xae"]
    {
        let mut wire = gateway.connect();
        wire.send([b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat());
        if let Ok(answer) = wire.try_answer(false) {
            assert!((400..500).contains(&answer.status), "{target:?}: {answer:?}");
        }
    }
    world.upstream.assert_untouched();
}

/// A path that a lax server takes for a private one is never served by the open route beside it.
fn alias(target: &str) {
    let (world, gateway) = start(CATCH_ALL);
    let answer = get(target).send(&gateway);
    assert!([400, 401, 404].contains(&answer.status), "{target}: {answer:?}");
    world.upstream.assert_untouched();
}

macro_rules! aliases {
    ($($name:ident: $target:expr),* $(,)?) => { $(#[test] fn $name() { alias($target); })* };
}

aliases! {
    another_case_is_no_way_around: "/PRIVATE/x",
    a_mixed_case_is_no_way_around: "/Private/x",
    an_encoded_letter_is_no_way_around: "/%70rivate/x",
    an_encoded_capital_is_no_way_around: "/%50rivate/x",
    a_path_parameter_is_no_way_around: "/private;jsessionid=1/x",
    an_empty_path_parameter_is_no_way_around: "/private;/x",
    a_trailing_dot_is_no_way_around: "/private./x",
    a_trailing_space_is_no_way_around: "/private%20/x",
    a_trailing_slash_is_no_way_around: "/private/",
    a_doubly_encoded_letter_is_no_way_around: "/%2570rivate/x",
    a_dot_and_a_space_are_no_way_around: "/private.%20/x",
    a_folded_path_under_a_step_up_route_is_no_way_around: "/ADMIN;x/y",
}

#[test]
fn an_alias_needs_what_the_strictest_of_its_readings_needs() {
    let (world, gateway) = start(CATCH_ALL);
    let plain = world.token(json!({}));
    get("/Admin/x").bearer(&plain).send(&gateway).problem(401);
    world.upstream.assert_untouched();
}

#[test]
fn a_rewrite_is_judged_by_its_result_too() {
    let (world, gateway) = start(
        "routes:
  - {path: /v1/**, upstream: api, auth: none, rewrite: {strip_prefix: /v1}}
  - {path: /private/**, upstream: api, auth: [main]}
",
    );
    for target in ["/v1/private/x", "/v1/Private/x", "/v1/private"] {
        let answer = get(target).send(&gateway);
        assert!([400, 401, 403, 404].contains(&answer.status), "{target}: {answer:?}");
    }
    world.upstream.assert_untouched();
    get("/v1/other").send(&gateway).expect(200);
}

// -- headers that an upstream might believe

/// A header of this name never reaches the upstream, whatever the route.
fn stripped(name: &str) {
    let (world, gateway) = start(YAML);
    let spoof = |request: Request| request.header(name, "evil-value");
    spoof(get("/public/x")).send(&gateway).expect(200);
    spoof(get("/private/x").bearer(&world.token(json!({})))).send(&gateway).expect(200);
    for seen in world.upstream.requests() {
        assert!(!seen.head.contains("evil-value"), "{}", seen.head);
    }
}

macro_rules! stripped_headers {
    ($($test:ident: $name:expr),* $(,)?) => { $(#[test] fn $test() { stripped($name); })* };
}

stripped_headers! {
    x_auth_subject_is_ours_alone: "X-Auth-Subject",
    x_auth_subject_in_another_case_is_ours_alone: "x-AUTH-subject",
    x_auth_subject_with_underscores_is_ours_alone: "X_Auth_Subject",
    x_auth_subject_mixed_is_ours_alone: "X-Auth_Subject",
    x_auth_anything_is_ours_alone: "X-Auth-Whatever",
    x_auth_user_is_ours_alone: "X-Auth-User",
    remote_user_is_ours_alone: "Remote-User",
    remote_user_with_underscore_is_ours_alone: "REMOTE_USER",
    x_remote_user_is_ours_alone: "X-Remote-User",
    x_forwarded_user_is_ours_alone: "X-Forwarded-User",
    x_authenticated_user_is_ours_alone: "X-Authenticated-User",
    a_method_override_is_dropped: "X-HTTP-Method-Override",
    another_method_override_is_dropped: "X-HTTP-Method",
    a_third_method_override_is_dropped: "X-Method-Override",
    a_method_override_with_underscores_is_dropped: "X_HTTP_METHOD_OVERRIDE",
    an_original_url_is_dropped: "X-Original-URL",
    a_rewrite_url_is_dropped: "X-Rewrite-URL",
    an_original_path_is_dropped: "X-Envoy-Original-Path",
    an_original_url_with_underscores_is_dropped: "X_Original_URL",
    a_forwarded_for_is_dropped: "X-Forwarded-For",
    a_forwarded_host_is_dropped: "X-Forwarded-Host",
    a_forwarded_proto_is_dropped: "X-Forwarded-Proto",
    a_forwarded_prefix_is_dropped: "X-Forwarded-Prefix",
    a_real_ip_is_dropped: "X-Real-IP",
    a_forwarded_header_is_dropped: "Forwarded",
    a_proxy_header_is_dropped: "Proxy",
}

#[test]
fn another_spelling_of_a_framing_header_does_not_pass() {
    let (world, gateway) = start(YAML);
    for name in ["Content_Length", "Content_Type", "Transfer_Encoding", "transfer.encoding", "X_Request_Id"] {
        post("/public/x", "hello").header(name, "evil-value").send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert!(!seen.head.contains("evil-value") && seen.body == b"hello", "{}", seen.head);
    }
}

#[test]
fn headers_that_the_operator_names_are_dropped_folded() {
    let (world, gateway) = start(&format!("server: {{workers: 1, drop_headers: [X-Internal-Role]}}\n{YAML}"));
    for name in ["X-Internal-Role", "x-internal-role", "X_Internal_Role", "X-Internal_role"] {
        get("/public/x").header(name, "evil-value").send(&gateway).expect(200);
        assert!(!world.upstream.last().head.contains("evil-value"), "{name}");
    }
}

// -- hop by hop

#[test]
fn a_client_cannot_name_our_headers_in_connection() {
    let world = World::new();
    let gateway = world.start("upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], identity_headers: true}\nroutes:\n  - {path: /**, upstream: api, auth: [main]}\n");
    let lists = "X-Auth-Subject, X-Auth-Issuer, X-Forwarded-For, X-Request-Id, Forwarded, Via, traceparent";
    get("/x").bearer(&world.token(json!({}))).header("Connection", lists).send(&gateway).expect(200);
    let seen = world.upstream.last();
    for name in ["x-auth-subject", "x-auth-issuer", "x-forwarded-for", "x-request-id", "forwarded"] {
        assert!(seen.has(name), "{name}:\n{}", seen.head);
    }
}

#[test]
fn a_client_cannot_take_framing_or_host_away_by_connection() {
    let (world, gateway) = start(YAML);
    post("/public/x", "hello")
        .header("Connection", "Content-Length, Host, Transfer-Encoding, Content-Type")
        .send(&gateway)
        .expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.all("host").len(), 1);
}

#[test]
fn a_client_cannot_take_its_credential_away_by_connection() {
    let (world, gateway) = start(YAML);
    get("/private/x").header("Connection", "Authorization").send(&gateway).problem(401);
    let wrong = get("/private/x").header("Authorization", "Bearer a.b.c");
    let kind = wrong.send(&gateway).problem(401);
    assert_eq!(wrong.header("Connection", "Authorization").send(&gateway).problem(401), kind);
    world.upstream.assert_untouched();
}

#[test]
fn an_upgrade_is_not_passed_on() {
    let (world, gateway) = start(YAML);
    for (upgrade, more) in [("websocket", "Sec-WebSocket-Key"), ("h2c", "HTTP2-Settings")] {
        let request = get("/public/x")
            .header("Connection", &format!("Upgrade, {more}"))
            .header("Upgrade", upgrade)
            .header(more, "AAMAAABkAARAAAAAAAIAAAAA");
        request.send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert!(!seen.has("upgrade") && !seen.has("http2-settings"), "{}", seen.head);
    }
}

// -- credentials

#[test]
fn two_authorization_headers_are_refused_on_public_routes_too() {
    let (world, gateway) = start(YAML);
    let token = world.token(json!({}));
    get("/private/x").bearer(&token).header("authorization", "Bearer other-token").send(&gateway).problem(400);
    get("/private/x").header("Authorization", "Basic YTpi").bearer(&token).send(&gateway).problem(400);
    world.upstream.assert_untouched();
}

#[test]
fn an_aliased_authorization_header_is_no_credential_and_does_not_pass() {
    let (world, gateway) = start(YAML);
    for name in ["AUTHORIZATION_", "Proxy-Authorization", "X-Authorization_Bearer"] {
        get("/private/x").header(name, "Bearer x").send(&gateway).problem(401);
    }
    world.upstream.assert_untouched();
}

#[test]
fn a_bad_token_is_not_treated_as_none_where_one_is_needed() {
    let (world, gateway) = start(YAML);
    delete("/public/x").header("Authorization", "Bearer nonsense").send(&gateway).problem(401);
    let answer = get("/private/x").header("Authorization", "Bearer nonsense").send(&gateway);
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    world.upstream.assert_untouched();
}

#[test]
fn the_protected_metadata_path_cannot_be_used_to_reach_an_upstream() {
    let (world, gateway) = start(CATCH_ALL);
    get("/.well-known/oauth-protected-resource").send(&gateway).expect(200);
    Request::new("POST", "/.well-known/oauth-protected-resource").send(&gateway);
    get("/.well-known/oauth-protected-resource/public").send(&gateway);
    for seen in world.upstream.requests() {
        assert!(!seen.line().contains("oauth-protected-resource"), "{}", seen.line());
    }
}

#[test]
fn admin_endpoints_are_not_on_the_public_listener() {
    let (world, gateway) = start(YAML);
    for target in ["/metrics", "/livez", "/readyz", "/admin"] {
        let answer = get(target).send(&gateway);
        assert!([401, 404].contains(&answer.status), "{target}");
    }
    world.upstream.assert_untouched();
}

#[test]
fn the_admin_listener_takes_no_public_traffic_and_no_nonsense() {
    let (world, gateway) = start(YAML);
    get("/public/x").send_to(gateway.admin).expect(404);
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET //metrics HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut wire = Wire::connect(gateway.admin);
        wire.send(bytes);
        wire.finish_sending();
        wire.rest();
    }
    get("/livez").send_to(gateway.admin).expect(200);
    world.upstream.assert_untouched();
}

// -- methods and targets

#[test]
fn methods_that_are_not_listed_are_refused() {
    let (world, gateway) = start(YAML);
    for method in ["TRACE", "TRACK", "PROPFIND", "get", "Get", "FOO", "DELETEX", "G!T"] {
        let answer = Request::new(method, "/public/x").send(&gateway);
        assert!([405, 501].contains(&answer.status), "{method}: {answer:?}");
    }
    world.upstream.assert_untouched();
}

#[test]
fn connect_opens_no_tunnel() {
    let (world, gateway) = start(CATCH_ALL);
    let mut wire = gateway.connect();
    wire.send(format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\nHost: h\r\n\r\n", world.upstream.port));
    if let Ok(answer) = wire.try_answer(false) {
        assert!(answer.status >= 400, "{answer:?}");
    }
    world.upstream.assert_untouched();
}

#[test]
fn an_absolute_target_with_another_host_is_refused() {
    let (world, gateway) = start(YAML);
    for target in [
        "http://other.example/public/x",
        "https://gateway.example@evil/public/x",
        "http://gateway.example:99999/public/x",
        "ftp://gateway.example/public/x",
        "http:///public/x",
    ] {
        let mut wire = gateway.connect();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.example\r\n\r\n"));
        if let Ok(answer) = wire.try_answer(false) {
            assert_eq!(answer.status, 400, "{target}");
        }
    }
    world.upstream.assert_untouched();
}

#[test]
fn an_absolute_target_is_judged_by_its_path() {
    let (world, gateway) = start(CATCH_ALL);
    let mut wire = gateway.connect();
    wire.send("GET http://gateway.example/private/x HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
    wire.answer().problem(401);
    world.upstream.assert_untouched();
}

#[test]
fn a_host_that_is_missing_doubled_or_no_host_is_refused() {
    let (world, gateway) = start(YAML);
    for host in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a:b\r\n",
        "Host: a, b\r\n",
        "Host: [::1\r\n",
        "Host: a\\b\r\n",
        "Host: \r\n",
        "Host: a%2fb\r\n",
    ] {
        let mut wire = gateway.connect();
        wire.send(format!("GET /public/x HTTP/1.1\r\n{host}\r\n"));
        match wire.try_answer(false) {
            Ok(answer) => assert_eq!(answer.status, 400, "{host:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{host:?}"),
        }
    }
    world.upstream.assert_untouched();
}

#[test]
fn a_host_header_cannot_choose_a_laxer_route() {
    let (world, gateway) = start(
        "routes:\n  - {path: /**, upstream: api, auth: [main]}\n  - {path: /**, hosts: [open.example], upstream: api, auth: none}\n",
    );
    for host in ["open.example.evil", "xopen.example", "open.example.", "OPEN.EXAMPLE", "open.example:1"] {
        let answer = get("/x").host(host).send(&gateway);
        let same_name = ["open.example.", "OPEN.EXAMPLE", "open.example:1"].contains(&host);
        assert_eq!(answer.status, if same_name { 200 } else { 401 }, "{host}");
    }
    assert_eq!(world.upstream.count(), 3);
}

// -- smuggling

/// Sends bytes that two servers might frame differently, with a request hidden in them. The upstream never sees the
/// hidden one as a request of its own, and the connection is not used again after a refusal.
fn smuggle(attack: &str) {
    let (world, gateway) = start(YAML);
    let mut wire = gateway.connect();
    wire.patience(Duration::from_secs(3));
    wire.send(attack);
    let first = wire.try_answer(false);
    let refused = match &first {
        Ok(answer) => answer.status >= 400,
        Err(_) => true,
    };
    let after = wire.rest();
    let seen = world.upstream.bytes();
    let text = String::from_utf8_lossy(&seen);
    assert!(!text.contains("/smuggled"), "{attack:?}\nreached the upstream as\n{text}");
    if refused {
        assert!(seen.is_empty(), "{attack:?}\nwas refused, and yet the upstream saw\n{text}");
        assert!(!String::from_utf8_lossy(&after).contains(" 200 "), "{attack:?}\nwent on after a refusal");
    }
    assert!(refused, "{attack:?}\nwas taken: {first:?}");
    assert_serves(&gateway);
}

const HIDDEN: &str = "GET /public/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

macro_rules! smuggling {
    ($($name:ident: $head:expr, $body:expr);* $(;)?) => {
        $(#[test] fn $name() {
            smuggle(&format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n{}{HIDDEN}", $head, $body));
        })*
    };
}

smuggling! {
    two_lengths_that_differ_are_refused: "Content-Length: 0\r\nContent-Length: 5", "";
    a_list_of_lengths_that_differ_is_refused: "Content-Length: 0, 5", "";
    a_length_with_a_sign_is_refused: "Content-Length: +0", "";
    a_negative_length_is_refused: "Content-Length: -1", "";
    a_hexadecimal_length_is_refused: "Content-Length: 0x0", "";
    a_length_with_a_fraction_is_refused: "Content-Length: 0.0", "";
    a_length_with_spaces_inside_is_refused: "Content-Length: 0 0", "";
    an_empty_length_is_refused: "Content-Length: ", "";
    a_length_beyond_64_bits_is_refused: "Content-Length: 18446744073709551616", "";
    a_space_before_the_colon_is_refused: "Content-Length : 0", "";
    a_tab_before_the_colon_is_refused: "Transfer-Encoding\t: chunked", "0\r\n\r\n";
    an_unknown_coding_is_refused: "Transfer-Encoding: xchunked", "0\r\n\r\n";
    chunked_twice_is_refused: "Transfer-Encoding: chunked, chunked", "0\r\n\r\n";
    chunked_in_two_headers_is_refused: "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n";
    chunked_that_is_not_last_is_refused: "Transfer-Encoding: chunked, gzip", "0\r\n\r\n";
    identity_after_chunked_is_refused: "Transfer-Encoding: chunked, identity", "0\r\n\r\n";
    a_second_unknown_coding_is_refused: "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", "0\r\n\r\n";
    another_coding_before_chunked_is_refused: "Transfer-Encoding: gzip, chunked", "0\r\n\r\n";
    a_coding_in_quotes_is_refused: "Transfer-Encoding: \"chunked\"", "0\r\n\r\n";
    a_coding_with_a_parameter_is_refused: "Transfer-Encoding: chunked;q=1", "0\r\n\r\n";
    a_coding_with_a_vertical_tab_is_refused: "Transfer-Encoding: \u{b}chunked", "0\r\n\r\n";
    a_coding_with_a_nul_is_refused: "Transfer-Encoding: chunked\0", "0\r\n\r\n";
    an_empty_coding_is_refused: "Transfer-Encoding: ", "";
    an_obsolete_line_fold_is_refused: "X-A: b\r\n Transfer-Encoding: chunked", "0\r\n\r\n";
    a_folded_coding_is_refused: "Transfer-Encoding:\r\n chunked", "0\r\n\r\n";
    a_header_line_that_starts_with_a_space_is_refused: " Content-Length: 0", "";
    a_bare_carriage_return_is_refused: "X-A: b\rTransfer-Encoding: chunked", "0\r\n\r\n";
    a_nul_in_a_value_is_refused: "X-A: b\0c", "";
    a_nul_in_a_name_is_refused: "X-\0A: b", "";
    a_name_with_a_space_is_refused: "X A: b", "";
    a_name_with_a_bracket_is_refused: "X(A): b", "";
    an_empty_name_is_refused: ": b", "";
    a_line_without_a_colon_is_refused: "nonsense", "";
    a_name_beyond_ascii_is_refused: "X-\u{e9}: b", "";
}

/// A fault in a body comes too late to keep its head back: bodies are streamed. But no whole request ever goes on.
macro_rules! broken_bodies {
    ($($name:ident: $body:expr);* $(;)?) => {
        $(#[test] fn $name() {
            let attack = format!("POST /public/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}{HIDDEN}", $body);
            let (world, gateway) = start(YAML);
            let mut wire = gateway.connect();
            wire.send(&attack);
            let answer = wire.try_answer(false);
            assert!(answer.map_or(true, |answer| answer.status >= 400), "{attack:?} was taken");
            assert!(!String::from_utf8_lossy(&wire.rest()).contains(" 200 "), "{attack:?}\nwent on after a refusal");
            assert_eq!(world.upstream.count(), 0, "{attack:?}\nreached the upstream as a whole request");
            assert!(!String::from_utf8_lossy(&world.upstream.bytes()).contains("smuggled"));
            assert_serves(&gateway);
        })*
    };
}

broken_bodies! {
    a_chunk_size_that_is_no_number_is_refused: "zz\r\n";
    a_chunk_size_with_a_prefix_is_refused: "0x0\r\n\r\n";
    a_negative_chunk_size_is_refused: "-1\r\n\r\n";
    a_chunk_size_with_a_sign_is_refused: "+0\r\n\r\n";
    a_chunk_size_beyond_64_bits_is_refused: "10000000000000000\r\n";
    an_empty_chunk_size_is_refused: "\r\n\r\n";
    a_chunk_without_its_line_end_is_refused: "1\r\nab\r\n0\r\n\r\n";
    a_chunk_longer_than_its_size_is_refused: "1\r\nabcdef\r\n0\r\n\r\n";
    a_chunk_size_with_a_bare_line_feed_is_refused: "1\na\r\n0\r\n\r\n";
    a_chunk_extension_with_a_bare_line_feed_is_refused: "1;a\nb\r\na\r\n0\r\n\r\n";
}

/// These may be taken (RFC 9112 lets a server) or refused, but only ever as one request.
#[track_caller]
fn one_request_at_most(attack: &str) {
    let (world, gateway) = start(YAML);
    let mut wire = gateway.connect();
    wire.patience(Duration::from_secs(3));
    wire.send(attack);
    let _ = wire.try_answer(false);
    wire.finish_sending();
    wire.rest();
    let seen = world.upstream.requests();
    assert!(seen.iter().all(|request| !request.target().contains("smuggled")), "{attack:?}: {seen:?}");
    assert_serves(&gateway);
}

#[test]
fn length_and_chunked_together_are_refused_or_framed_by_chunked_alone_and_closed() {
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        one_request_at_most(&format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n0\r\n\r\n{HIDDEN}"));
    }
}

#[test]
fn the_same_length_twice_is_one_length_or_refused() {
    one_request_at_most(&format!(
        "POST /public/x HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\nContent-Length: {n}\r\n\r\n{HIDDEN}",
        n = HIDDEN.len()
    ));
}

#[test]
fn a_body_of_a_get_is_no_request() {
    one_request_at_most(&format!(
        "GET /public/x HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{HIDDEN}",
        HIDDEN.len()
    ));
}

#[test]
fn a_body_of_a_refused_request_is_no_request() {
    one_request_at_most(&format!(
        "POST /private/x HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{HIDDEN}",
        HIDDEN.len()
    ));
    one_request_at_most(&format!(
        "POST /private/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{HIDDEN}\r\n0\r\n\r\n",
        HIDDEN.len()
    ));
    one_request_at_most(&format!(
        "POST /nowhere HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{HIDDEN}",
        HIDDEN.len()
    ));
}

#[test]
fn chunked_in_http_1_0_is_refused_or_closes_the_connection() {
    one_request_at_most(&format!(
        "POST /public/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    ));
}

#[test]
fn nothing_after_connection_close_is_read_as_a_request() {
    one_request_at_most(&format!("GET /public/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{HIDDEN}"));
}

#[test]
fn chunk_extensions_without_end_are_cut_off() {
    let (world, gateway) = start(YAML);
    let mut wire = gateway.connect();
    wire.send("POST /public/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    let mut sent = 0;
    while sent < 8 << 20 && wire.try_send(&[b'a'; 1 << 16]).is_ok() {
        sent += 1 << 16;
    }
    assert!(sent < 8 << 20, "eight megabytes of one chunk extension were read");
    assert_eq!(world.upstream.count(), 0);
    assert_serves(&gateway);
}

#[test]
fn trailers_without_end_are_cut_off() {
    let (world, gateway) = start(YAML);
    let mut wire = gateway.connect();
    wire.send("POST /public/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    let mut sent = 0;
    let trailers = "X-T: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000);
    while sent < 8 << 20 && wire.try_send(trailers.as_bytes()).is_ok() {
        sent += trailers.len();
    }
    assert!(sent < 8 << 20, "eight megabytes of trailers were read");
    assert_eq!(world.upstream.count(), 0);
    assert_serves(&gateway);
}

#[test]
fn an_answer_cannot_be_smuggled_by_an_upstream() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    ] {
        let world = World::with(crate::harness::Recorder::answering(answer));
        let gateway = world.start(YAML);
        let mut wire = gateway.connect();
        for _ in 0..5 {
            wire.send(get("/public/x").bytes());
            match wire.try_answer(false) {
                Ok(answer) => assert!(!answer.text().contains("poison"), "{answer:?}"),
                Err(_) => wire = gateway.connect(),
            }
        }
    }
}

// -- heads that are none

#[test]
fn what_is_not_http_gets_an_answer_or_a_closed_connection() {
    let (world, gateway) = start(YAML);
    for junk in [
        &b"\r\n\r\n\r\n\r\nGET"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /public/x\r\n\r\n",
        b"GET /public/x HTTP/9.9\r\nHost: h\r\n\r\n",
        b"GET /public/x HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET /public/x HTTP/1.1 \r\nHost: h\r\n\r\n",
        b"GET  /public/x  HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET\t/public/x\tHTTP/1.1\r\nHost: h\r\n\r\n",
        b" GET /public/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /public/x http/1.1\r\nHost: h\r\n\r\n",
        b"GET /public/x HTTP/1.1\r\nHost h\r\n\r\n",
        b"GET /public/x HTTP/1.1\r\n\xff: h\r\n\r\n",
        b"GET /public/\xf0\x9f HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\njunk that is no frame at all",
    ] {
        let mut wire = gateway.connect();
        wire.send(junk);
        wire.finish_sending();
        if let Ok(answer) = wire.try_answer(false) {
            assert!(answer.status >= 400, "{:?}: {answer:?}", String::from_utf8_lossy(junk));
        }
    }
    world.upstream.assert_untouched();
    assert_serves(&gateway);
}

#[test]
fn random_bytes_never_break_the_gateway() {
    let (world, mut gateway) = start(YAML);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..300)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let mut wire = gateway.connect();
        wire.send(bytes);
        wire.finish_sending();
        wire.rest();
    }
    assert!(gateway.runs());
    world.upstream.assert_untouched();
    assert_serves(&gateway);
}

#[test]
fn many_connections_that_say_nothing_keep_nobody_out() {
    let (_world, gateway) = start(YAML);
    let held: Vec<Wire> = (0..400).map(|_| gateway.connect()).collect();
    let mut partial: Vec<Wire> = (0..200).map(|_| gateway.connect()).collect();
    for wire in &mut partial {
        wire.send("GET /public/x HTTP/1.1\r\nHost: ");
    }
    assert_serves(&gateway);
    drop(held);
}

#[test]
fn a_cookie_bomb_is_refused() {
    let (world, gateway) = start(YAML);
    let cookies =
        (0..150).fold(get("/public/x"), |request, n| request.header("Cookie", &format!("c{n}={}", "x".repeat(1000))));
    let mut wire = gateway.connect();
    wire.send(cookies.bytes());
    assert!(wire.try_answer(false).map_or(true, |answer| answer.status == 431));
    world.upstream.assert_untouched();
}

// -- conditions and quotas

#[test]
fn a_condition_cannot_be_satisfied_by_what_a_client_merely_says() {
    let (world, gateway) =
        start("routes:\n  - {path: /**, upstream: api, auth: [main], when: 'claims.role == \"admin\"'}\n");
    let request =
        get("/x?role=admin").header("role", "admin").header("claims.role", "admin").bearer(&world.token(json!({})));
    request.send(&gateway).problem(403);
    world.upstream.assert_untouched();
}

#[test]
fn a_condition_that_would_run_for_ever_is_refused_at_load() {
    let deep = "claims.l.all(a, claims.l.all(b, claims.l.all(c, a + b + c > 0)))";
    let finished =
        World::new().check(&format!("routes:\n  - {{path: /**, upstream: api, auth: [main], when: '{deep}'}}\n"));
    assert_eq!(finished.code, 78, "{finished:?}");
}

#[test]
fn a_condition_over_the_longest_list_that_a_token_holds_ends() {
    let (world, gateway) = start(
        "routes:\n  - {path: /**, upstream: api, auth: [main], when: 'claims.l.all(a, claims.l.all(b, a >= 0 && b >= 0))'}\n",
    );
    let token = world.token(json!({"l": (0..700).map(|n| n % 10).collect::<Vec<_>>()}));
    let start = std::time::Instant::now();
    get("/x").bearer(&token).send(&gateway).expect(200);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_quota_by_address_is_not_escaped_by_a_forwarding_header() {
    let (world, gateway) = start(
        "limits:\n  q: {key: ip, rate: 2/minute}\nroutes:\n  - {path: /**, upstream: api, auth: none, limits: [q]}\n",
    );
    let mut statuses = Vec::new();
    for n in 0..4 {
        let ip = format!("198.51.100.{n}");
        let request = get("/x")
            .header("X-Forwarded-For", &ip)
            .header("Forwarded", &format!("for={ip}"))
            .header("X-Real-IP", &ip)
            .header("CF-Connecting-IP", &ip);
        statuses.push(request.send(&gateway).status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(world.upstream.count(), 2);
}

#[test]
fn a_token_for_one_issuer_cannot_name_another_issuers_key() {
    let (world, gateway) = start(YAML);
    let parts: Vec<String> = world.token(json!({})).split('.').map(str::to_owned).collect();
    for kid in ["../../etc/passwd", "main-1'; drop table keys", "/dev/null", "\u{0}", "main-1\n"] {
        let head = encode(json!({"typ": "at+jwt", "alg": "ES256", "kid": kid}).to_string().as_bytes());
        get("/private/x")
            .header("Authorization", &format!("Bearer {head}.{}.{}", parts[1], parts[2]))
            .send(&gateway)
            .problem(401);
    }
    world.upstream.assert_untouched();
}

// -- HTTP/2

struct H2World {
    world: World,
    gateway: Gateway,
    config: Arc<ClientConfig>,
}

fn start_h2(routes: &str) -> H2World {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["gateway.example"]);
    let gateway = world.start(&format!(
        "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - address: 127.0.0.1:<tls>
    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}
{routes}"
    ));
    H2World { world, gateway, config: authority.client(&["h2"]) }
}

impl H2World {
    fn connect(&self) -> H2 {
        let mut wire = Wire::tls(self.gateway.tls, "gateway.example", &self.config).unwrap();
        wire.patience(Duration::from_secs(8));
        H2::over(wire)
    }

    /// A request of these fields is refused in one of the ways that HTTP/2 has, and nothing of it goes on.
    #[track_caller]
    fn refuse(&self, fields: &[(&str, &str)]) {
        let ending = self.connect().request(1, fields).status(1);
        assert!(ending.is_refusal(), "{fields:?}: {ending:?}");
        self.world.upstream.assert_untouched();
    }
}

fn refused_h2(extra: &[(&str, &str)]) {
    let h2 = start_h2(YAML);
    let mut fields = h2::get("/public/x");
    fields.extend(extra);
    h2.refuse(&fields);
    let ordinary = h2.connect().request(1, &h2::get("/public/x")).status(1);
    assert_eq!(ordinary, Ending::Status(200));
}

macro_rules! refused_h2_fields {
    ($($name:ident: $fields:expr),* $(,)?) => { $(#[test] fn $name() { refused_h2(&$fields); })* };
}

refused_h2_fields! {
    h2_a_connection_field_is_refused: [("connection", "close")],
    h2_a_transfer_encoding_is_refused: [("transfer-encoding", "chunked")],
    h2_a_keep_alive_field_is_refused: [("keep-alive", "timeout=5")],
    h2_a_proxy_connection_field_is_refused: [("proxy-connection", "close")],
    h2_an_upgrade_field_is_refused: [("upgrade", "websocket")],
    h2_a_te_other_than_trailers_is_refused: [("te", "gzip")],
    h2_an_upper_case_name_is_refused: [("X-Upper", "v")],
    h2_a_pseudo_field_after_a_regular_one_is_refused: [("x-a", "b"), (":path", "/private/x")],
    h2_an_unknown_pseudo_field_is_refused: [(":secret", "v")],
    h2_a_response_pseudo_field_is_refused: [(":status", "200")],
    h2_a_second_path_is_refused: [(":path", "/private/x")],
    h2_a_second_method_is_refused: [(":method", "DELETE")],
    h2_a_second_authority_is_refused: [(":authority", "other.example")],
    h2_a_host_that_differs_is_refused: [("host", "other.example")],
    h2_a_newline_in_a_value_is_refused: [("x-a", "b\r\nx-auth-subject: admin")],
    h2_a_line_feed_in_a_value_is_refused: [("x-a", "b\nc")],
    h2_a_nul_in_a_value_is_refused: [("x-a", "b\0c")],
    // A service may take a POST whose type is blank for a form, and obey the `_method` in it.
    h2_a_blank_value_is_refused: [("content-type", " ")],
    h2_a_space_before_a_value_is_refused: [("x-api-key", " k")],
    h2_a_tab_after_a_value_is_refused: [("x-api-key", "k\t")],
    h2_a_newline_in_a_name_is_refused: [("x-a\r\nx-b", "c")],
    h2_a_colon_in_a_name_is_refused: [("x-a:b", "c")],
    h2_a_space_in_a_name_is_refused: [("x a", "c")],
    h2_an_empty_name_is_refused: [("", "c")],
    h2_a_length_that_does_not_fit_is_refused: [("content-length", "5")],
    h2_two_lengths_are_refused: [("content-length", "0"), ("content-length", "5")],
    h2_a_length_that_is_no_number_is_refused: [("content-length", "+0")],
}

/// RFC 9113 section 8.2.1: malformed, whatever the field. HTTP/1.1 would lose the space, and the service see what nobody has judged.
#[test]
fn h2_values_with_spaces_around_them_are_answered_with_400_on_any_route() {
    let h2 = start_h2(CATCH_ALL);
    for name in ["x-a", "authorization", "cookie", "content-type", "x-http-method-override", "accept"] {
        for value in [" v", "v ", "\tv", "v\t", " ", "\t"] {
            for path in ["/public/x", "/private/x", "/other"] {
                let mut fields = h2::get(path);
                fields.push((name, value));
                let ending = h2.connect().request(1, &fields).status(1);
                assert_eq!(ending, Ending::Status(400), "{path} {name}: {value:?}");
            }
        }
    }
    h2.world.upstream.assert_untouched();
    let mut fields = h2::get("/public/x");
    fields.push(("x-a", "a b\tc"));
    assert_eq!(h2.connect().request(1, &fields).status(1), Ending::Status(200), "within a value it is a part of it");
}

#[test]
fn h2_odd_requests_are_refused() {
    let h2 = start_h2(YAML);
    let usual = h2::get("/public/x");
    let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        usual.iter().map(|(n, v)| if *n == name { (*n, value) } else { (*n, *v) }).collect()
    };
    for (name, value) in [
        (":path", "/public/../private/x"),
        (":path", "/public/%2e%2e/private"),
        (":path", "//private"),
        (":path", ""),
        (":path", "*"),
        (":path", "private"),
        (":path", "/public/x y"),
        (":path", "/public/x\r\nHost: evil"),
        (":path", "http://gateway.example/private/x"),
        (":method", ""),
        (":method", "G T"),
        (":method", "get"),
        (":method", "TRACE"),
        (":method", "GET / HTTP/1.1\r\nX: y"),
        (":authority", "a b"),
        (":authority", "a/b"),
        (":authority", "user@gateway.example"),
    ] {
        h2.refuse(&with(name, value));
    }
    for missing in [":method", ":path", ":scheme"] {
        let fields: Vec<(&str, &str)> = usual.iter().copied().filter(|(name, _)| *name != missing).collect();
        h2.refuse(&fields);
    }
    h2.refuse(&[(":method", "CONNECT"), (":authority", "127.0.0.1:22")]);
    h2.refuse(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/public/x"),
        (":authority", "gateway.example"),
    ]);
}

#[test]
fn h2_crosses_to_http_1_1_without_seams() {
    let h2 = start_h2(YAML);
    let mut fields = h2::get("/public/x?y=z");
    fields.extend([
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("te", "trailers"),
        ("x-auth-subject", "admin"),
        ("x-forwarded-for", "6.6.6.6"),
    ]);
    assert_eq!(h2.connect().request(1, &fields).status(1), Ending::Status(200));
    let seen = h2.world.upstream.last();
    assert_eq!(seen.line(), "GET /public/x?y=z HTTP/1.1");
    assert_eq!(seen.header("host"), "gateway.example");
    assert_eq!(seen.header("cookie"), "a=1; b=2", "RFC 9113 section 8.2.3");
    assert_eq!(seen.all("x-a"), ["1", "2"]);
    assert!(
        !seen.head.contains("admin") && !seen.head.contains("6.6.6.6") && !seen.head.contains(":authority"),
        "{}",
        seen.head
    );
}

#[test]
fn h2_a_body_without_a_length_is_chunked_upstream() {
    let h2 = start_h2(YAML);
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, 0, 1, b"hello ");
    client.frame(h2::DATA, h2::END_STREAM, 1, b"world");
    assert_eq!(client.status(1), Ending::Status(200));
    assert_eq!(h2.world.upstream.last().body, b"hello world");
}

#[test]
fn h2_trailers_do_not_become_headers() {
    let h2 = start_h2(YAML);
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, 0, 1, b"hello");
    client.frame(
        h2::HEADERS,
        h2::END_HEADERS | h2::END_STREAM,
        1,
        &block(&[("x-auth-subject", "admin"), ("authorization", "Bearer evil"), ("content-length", "7")]),
    );
    let ending = client.status(1);
    if ending == Ending::Status(200) {
        let seen = h2.world.upstream.last();
        let all = format!("{}{}", seen.head, seen.trailers);
        assert!(!all.contains("admin") && !all.contains("evil"), "{all}");
    }
    // A pseudo field in trailers breaks the request (RFC 9113 section 8.1), or at least means nothing.
    let mut client = h2.connect();
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block(&[(":path", "/private/x")]));
    client.status(1);
    assert!(!String::from_utf8_lossy(&h2.world.upstream.bytes()).contains("/private"));
}

#[test]
fn h2_a_body_of_no_bytes_that_has_not_ended_is_nothing_to_the_service() {
    let h2 = start_h2(YAML);
    for (count, method) in [(2, "GET"), (4, "HEAD"), (6, "OPTIONS"), (8, "POST")] {
        let mut client = h2.connect();
        let mut fields = h2::get("/public/x");
        fields[0] = (":method", method);
        fields.extend([("content-length", "0"), ("trailer", "x-sum")]);
        client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
        assert_eq!(client.status(1), Ending::Status(200), "{method}");
        client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block(&[("x-sum", "smuggled")]));
        // Another's, on the same connection to the service.
        assert_eq!(h2.connect().request(1, &h2::get("/public/y")).status(1), Ending::Status(200));
        assert_eq!(h2.world.upstream.count(), count);
        let sent = String::from_utf8(h2.world.upstream.bytes()).unwrap();
        assert!(!sent.contains("smuggled") && !sent.contains("chunked"), "{method} {sent}");
        assert!(sent.split("\r\n\r\n").all(|head| !head.starts_with('0')), "{method} {sent}");
    }
}

/// A service that takes a leading 0 for octal would find the end of the body elsewhere, and a request behind it.
#[test]
fn a_length_is_told_to_the_service_in_the_one_way_that_all_read_alike() {
    let h2 = start_h2(YAML);
    for (count, length) in [(1, "010"), (3, "00000000000010"), (5, "10")] {
        let mut wire = h2.gateway.connect();
        wire.send(format!(
            "POST /public/x HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: {length}\r\n\r\n0123456789"
        ));
        assert_eq!(wire.answer().status, 200);
        assert_eq!(h2.world.upstream.last().header("content-length"), "10");
        let mut client = h2.connect();
        let mut fields = h2::get("/public/x");
        fields[0] = (":method", "POST");
        fields.push(("content-length", length));
        client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
        client.frame(h2::DATA, h2::END_STREAM, 1, b"0123456789");
        assert_eq!(client.status(1), Ending::Status(200));
        let seen = h2.world.upstream.wait_for(count + 1);
        assert_eq!((seen[count].header("content-length"), &*seen[count].body), ("10", &b"0123456789"[..]));
    }
}

#[test]
fn h2_trailers_with_spaces_around_their_values_break_the_request_as_fields_do() {
    let h2 = start_h2(YAML);
    for value in [" v", "v ", "\tv", "v\t"] {
        let mut client = h2.connect();
        let mut fields = h2::get("/public/x");
        fields[0] = (":method", "POST");
        fields.push(("trailer", "x-sum"));
        client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
        client.frame(h2::DATA, 0, 1, b"hello");
        client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block(&[("x-sum", value)]));
        assert_eq!(client.status(1), Ending::Status(400), "{value:?}");
    }
    assert_eq!(h2.world.upstream.count(), 0, "none was whole");
    // Behind a length nobody asks for them.
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    fields.extend([("trailer", "x-sum"), ("content-length", "5")]);
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, 0, 1, b"hello");
    client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block(&[("x-sum", " v")]));
    assert_eq!(client.status(1), Ending::Status(200));
    assert_eq!(
        h2.world.upstream.requests().pop().map(|seen| (seen.body, seen.trailers)),
        Some((b"hello".to_vec(), String::new()))
    );
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    fields.push(("trailer", "x-sum"));
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, 0, 1, b"hello");
    client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block(&[("x-sum", "a b")]));
    assert_eq!(client.status(1), Ending::Status(200));
    assert_eq!(h2.world.upstream.last().trailers, "x-sum: a b\n");
}

#[test]
fn h2_a_length_that_is_reached_is_the_end_of_the_request_to_the_service() {
    let h2 = start_h2(YAML);
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    fields.push(("content-length", "5"));
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, 0, 1, b"hello");
    assert_eq!(client.status(1), Ending::Status(200));
    assert_eq!(h2.world.upstream.last().body, b"hello");
    let record = h2.gateway.access(|record| record["path"] == "/public/x");
    assert_eq!(record["reason"], "allowed", "{record}");
}

#[test]
fn a_target_without_a_path_is_the_root_to_the_service() {
    let (world, gateway) = start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut wire = gateway.connect();
    wire.send("GET http://gateway.example?x=1 HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    let h2 = start_h2("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut fields = h2::get("?x=1");
    fields.truncate(4);
    h2.connect().request(1, &fields).status(1);
    for seen in world.upstream.requests().iter().chain(&h2.world.upstream.requests()) {
        assert_eq!(seen.line(), "GET /?x=1 HTTP/1.1");
    }
}

#[test]
fn h2_data_that_exceeds_the_length_is_refused() {
    let h2 = start_h2(YAML);
    let mut client = h2.connect();
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    fields.push(("content-length", "3"));
    client.frame(h2::HEADERS, h2::END_HEADERS, 1, &block(&fields));
    client.frame(h2::DATA, h2::END_STREAM, 1, b"hello GET /private/smuggled HTTP/1.1");
    assert!(client.status(1).is_refusal());
    assert!(!String::from_utf8_lossy(&h2.world.upstream.bytes()).contains("smuggled"));
}

/// What is said of a body, what comes of it, and how it ends, in every mixture: what the service reads as requests are the requests.
#[test]
fn h2_whatever_is_said_of_a_body_and_whatever_comes_the_service_sees_no_other_request() {
    let h2 = start_h2(YAML);
    let long = "x".repeat(5000);
    let hidden = "PUT /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let bodies: [&[&str]; 9] =
        [&[], &[""], &["hello"], &["", "hello"], &["hel"], &["hel", "lo"], &["hello", "!!"], &[&long], &["", hidden]];
    let mut sent = Vec::new();
    for method in ["GET", "HEAD", "POST", "PUT"] {
        for length in [None, Some("0"), Some("5"), Some("5000")] {
            for body in bodies {
                for end in ["with its last part", "behind it", "trailers", "reset", "never"] {
                    let path = format!("/public/{}", sent.len());
                    let mut fields = h2::get(&path);
                    fields[0] = (":method", method);
                    fields.extend(length.map(|length| ("content-length", length)));
                    let mut client = h2.connect();
                    let ends_at = if end == "with its last part" { body.len() } else { usize::MAX };
                    let flags = |part: usize| if part == ends_at { h2::END_STREAM } else { 0 };
                    client.frame(h2::HEADERS, h2::END_HEADERS | flags(0), 1, &block(&fields));
                    for (part, data) in body.iter().enumerate() {
                        client.frame(h2::DATA, flags(part + 1), 1, data.as_bytes());
                    }
                    match end {
                        "behind it" => client.frame(h2::DATA, h2::END_STREAM, 1, b""),
                        "trailers" => {
                            let flags = h2::END_HEADERS | h2::END_STREAM;
                            client.frame(h2::HEADERS, flags, 1, &block(&[("x-sum", "1")]))
                        }
                        "reset" => client.frame(h2::RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
                        _ => &mut client,
                    };
                    let ending = client.request(3, &h2::get("/public/next")).status(3);
                    let case = format!("{method} {length:?} {body:?} {end}");
                    assert_eq!(ending, Ending::Status(200), "another beside {case}");
                    let mut body = body.concat();
                    // What comes behind the length may come too late for the service to be spared what came before.
                    body.truncate(length.map_or(usize::MAX, |length| length.parse().unwrap()));
                    sent.push((format!("{method} {path} HTTP/1.1"), body, case));
                }
            }
        }
    }
    let seen = h2.world.upstream.requests();
    let (next, others): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.line() == "GET /public/next HTTP/1.1");
    assert_eq!(next.len(), sent.len());
    assert!(next.iter().all(|next| next.body.is_empty()));
    for other in others {
        let (_, body, case) = sent.iter().find(|(line, ..)| line == other.line()).expect("a request that nobody sent");
        assert_eq!(String::from_utf8_lossy(&other.body), *body, "{case}");
    }
    assert!(!seen.iter().any(|seen| seen.head.contains("evil")));
}

/// Floods until the other side hangs up or `count` is reached, and then looks whether the gateway still serves others.
fn flood(h2: &H2World, count: usize, mut bytes: impl FnMut(usize) -> Vec<u8>) -> usize {
    let mut client = h2.connect();
    client.wire.socket().set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut sent = 0;
    while sent < count && client.wire.try_send(&bytes(sent)).is_ok() {
        sent += 1;
    }
    let start = std::time::Instant::now();
    assert_eq!(h2.connect().request(1, &h2::get("/public/other")).status(1), Ending::Status(200), "others are served");
    assert!(start.elapsed() < Duration::from_secs(5), "others wait {:?}", start.elapsed());
    sent
}

#[test]
fn h2_rapid_resets_are_bounded() {
    let h2 = start_h2(YAML);
    let head = block(&h2::get("/private/x"));
    let sent = flood(&h2, 60_000, |n| {
        let stream = u32::try_from(2 * n + 1).unwrap();
        let mut bytes = encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &head);
        bytes.extend(encode_frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        bytes
    });
    assert!(sent < 60_000, "CVE-2023-44487: sixty thousand resets were put up with");
}

#[test]
fn h2_a_header_block_without_end_is_cut_off() {
    let h2 = start_h2(YAML);
    let head = block(&h2::get("/public/x"));
    let more = block(&[("x-a", &"b".repeat(1000))]);
    let sent = flood(&h2, 20_000, |n| match n {
        0 => encode_frame(h2::HEADERS, 0, 1, &head),
        _ => encode_frame(h2::CONTINUATION, 0, 1, &more),
    });
    assert!(sent < 20_000, "twenty megabytes of CONTINUATION were read");
    assert!(!String::from_utf8_lossy(&h2.world.upstream.bytes()).contains("/public/x"));
}

#[test]
fn h2_empty_continuations_are_cut_off() {
    let h2 = start_h2(YAML);
    let head = block(&h2::get("/public/x"));
    let sent = flood(&h2, 200_000, |n| match n {
        0 => encode_frame(h2::HEADERS, 0, 1, &head),
        _ => encode_frame(h2::CONTINUATION, 0, 1, &[]),
    });
    assert!(sent < 200_000);
}

#[test]
fn h2_settings_floods_starve_nobody() {
    let h2 = start_h2(YAML);
    flood(&h2, 30_000, |_| encode_frame(h2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
}

#[test]
fn h2_ping_floods_starve_nobody() {
    let h2 = start_h2(YAML);
    flood(&h2, 30_000, |_| encode_frame(h2::PING, 0, 0, &[7; 8]));
}

#[test]
fn h2_empty_data_frames_starve_nobody() {
    let h2 = start_h2(YAML);
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "POST");
    let head = block(&fields);
    flood(&h2, 50_000, |n| match n {
        0 => encode_frame(h2::HEADERS, h2::END_HEADERS, 1, &head),
        _ => encode_frame(h2::DATA, 0, 1, &[]),
    });
}

#[test]
fn h2_a_header_list_that_is_too_large_is_refused() {
    let h2 = start_h2(YAML);
    let big = "x".repeat(12_000);
    let mut fields = h2::get("/public/x");
    fields.extend((0..12).map(|_| ("x-big", big.as_str())));
    let whole = block(&fields);
    let mut client = h2.connect();
    let mut frames = whole.chunks(16_000).enumerate().peekable();
    while let Some((n, chunk)) = frames.next() {
        let kind = if n == 0 { h2::HEADERS } else { h2::CONTINUATION };
        let end = if frames.peek().is_none() { h2::END_HEADERS } else { 0 };
        client.frame(kind, if n == 0 { h2::END_STREAM | end } else { end }, 1, chunk);
    }
    assert!(client.status(1).is_refusal());
    h2.world.upstream.assert_untouched();
}

#[test]
fn h2_more_streams_than_allowed_are_refused() {
    let recorder = crate::harness::Recorder::raw(|stream, bytes| {
        let mut buffer = [0; 4096];
        while std::io::Read::read(&mut &stream, &mut buffer).is_ok_and(|read| {
            bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
            read > 0
        }) {}
    });
    let world = World::with(recorder);
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["gateway.example"]);
    let gateway = world.start(&format!("listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true}}\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{YAML}"));
    let mut client = H2::over(Wire::tls(gateway.tls, "gateway.example", &authority.client(&["h2"])).unwrap());
    let head = block(&h2::get("/public/x"));
    for n in 0..2000_u32 {
        client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 2 * n + 1, &head);
    }
    while client.next().is_ok_and(|frame| frame.kind != h2::GOAWAY && frame.kind != h2::RST_STREAM) {}
    let seen = String::from_utf8_lossy(&world.upstream.bytes()).matches("GET /public/x").count();
    assert!(seen <= 300, "{seen} requests of two thousand at once went on");
    get("/nowhere").send(&gateway).expect(404);
}

#[test]
fn h2_a_window_of_zero_holds_nothing_up_but_its_own_stream() {
    let h2 = start_h2(YAML);
    let mut slow = h2.connect();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: we take headers, and not a byte of a body.
    slow.frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for n in 0..50_u32 {
        slow.request(2 * n + 1, &h2::get("/public/x"));
    }
    assert_eq!(slow.status(1), Ending::Status(200));
    assert_eq!(h2.connect().request(1, &h2::get("/public/x")).status(1), Ending::Status(200));
    get("/public/x").send(&h2.gateway).expect(200);
}

#[test]
fn h2_window_overflow_and_other_broken_frames_end_the_connection() {
    let h2 = start_h2(YAML);
    let get = block(&h2::get("/public/x"));
    for frame in [
        encode_frame(h2::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        encode_frame(h2::WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()),
        encode_frame(h2::SETTINGS, 0, 0, &[1, 2, 3]),
        encode_frame(h2::SETTINGS, 0, 1, &[]),
        encode_frame(h2::SETTINGS, h2::ACK, 0, &[0; 6]),
        encode_frame(h2::SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        encode_frame(h2::PING, 0, 0, &[1]),
        encode_frame(h2::DATA, 0, 0, b"x"),
        encode_frame(h2::DATA, 0, 1, b"x"),
        encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 2, &get),
        encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 0, &get),
        encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &[0xff; 40]),
        encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &[0x80]),
        encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM | 8, 1, &[255, 1, 2]),
        encode_frame(h2::CONTINUATION, h2::END_HEADERS, 1, &get),
        encode_frame(h2::RST_STREAM, 0, 1, &[0; 4]),
        encode_frame(5, h2::END_HEADERS, 1, &[0; 8]),
        vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
    ] {
        let mut client = h2.connect();
        client.wire.send(&frame);
        let mut ended = false;
        while let Ok(frame) = client.next() {
            ended |= frame.kind == h2::GOAWAY || frame.kind == h2::RST_STREAM;
            if ended {
                break;
            }
        }
        // Reading failed or a GOAWAY came; either way nothing was served.
        assert!(!String::from_utf8_lossy(&h2.world.upstream.bytes()).contains("/public/x"), "{frame:?}");
    }
    assert_eq!(h2.connect().request(1, &h2::get("/public/x")).status(1), Ending::Status(200));
}

#[test]
fn h2_deletion_and_step_up_are_guarded_like_http_1_1() {
    let h2 = start_h2(YAML);
    let mut fields = h2::get("/public/x");
    fields[0] = (":method", "DELETE");
    assert_eq!(h2.connect().request(1, &fields).status(1), Ending::Status(401));
    assert_eq!(h2.connect().request(1, &h2::get("/private/x")).status(1), Ending::Status(401));
    h2.world.upstream.assert_untouched();
}
