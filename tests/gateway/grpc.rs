//! gRPC through the gateway, with tonic on both ends: every kind of call, refusals that its clients understand, deadlines, gRPC-Web.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use tonic::Code;

use crate::harness::{
    Gateway, Request, World,
    grpc::{GrpcClient, GrpcService, failure},
    post, unix_now,
};

const YAML: &str = "upstreams:
  grpc: {targets: ['http://127.0.0.1:GRPC'], protocol: http2}
  nobody: {targets: ['http://127.0.0.1:1'], protocol: http2}
limits: {few: {key: subject, rate: 1/10m}}
assurance: {mfa: {acr: ['urn:example:acr:mfa'], max_age: 5m}}
routes:
  - {path: /test.Nobody/**, upstream: nobody}
  - {path: /test.Few/**, upstream: grpc, limits: [few], rewrite: {replace_prefix: {from: /test.Few, to: /test.Echo}}}
  - {path: /test.Strong/**, upstream: grpc, assurance: mfa}
  - {path: /test.Scoped/**, upstream: grpc, scopes: [admin]}
  - {path: /test.Echo/**, upstream: grpc, grpc_web: translate}
";

fn start() -> (World, Gateway, GrpcService) {
    start_with(YAML)
}

fn start_with(yaml: &str) -> (World, Gateway, GrpcService) {
    let service = GrpcService::start();
    let world = World::new();
    let gateway = world.start(&yaml.replace("GRPC", &service.port.to_string()));
    (world, gateway, service)
}

fn client(world: &World, gateway: &Gateway) -> GrpcClient {
    GrpcClient::connect(gateway.port, Some(world.token(json!({}))))
}

#[test]
fn every_kind_of_call_goes_through_with_its_metadata_and_trailers() {
    let (world, gateway, _service) = start();
    let client = client(&world, &gateway);
    let message = vec![7; 300_000];
    assert_eq!(client.unary("Unary", &message, None).unwrap().into_inner(), message);
    assert_eq!(client.count(200).unwrap().len(), 200);
    let parts: Vec<bytes::Bytes> = (0..50u8).map(|number| vec![number; 10_000].into()).collect();
    assert_eq!(client.join(parts.clone()).unwrap(), parts.concat());
    assert_eq!(client.talk(20, Duration::ZERO).unwrap(), 20);
    let who = client.unary("Who", b"", Some(Duration::from_secs(9))).unwrap();
    assert_eq!(who.metadata().get("x-upstream").unwrap(), "tonic");
    // The token stays here, and what the protocol needs goes on.
    let said = String::from_utf8(who.into_inner().to_vec()).unwrap();
    assert_eq!(said, "alice|trailers|9000m|application/grpc|");
}

#[test]
fn what_the_service_says_of_a_failure_reaches_the_client_whole() {
    let (world, gateway, _service) = start();
    let status = client(&world, &gateway).unary("Fail", b"", None).unwrap_err();
    let sent = failure();
    assert_eq!((status.code(), status.message()), (sent.code(), sent.message()));
    assert_eq!(status.metadata().get("x-upstream").unwrap(), "tonic");
}

#[test]
fn a_client_that_has_nothing_to_say_for_a_while_is_not_cut() {
    let yaml = format!("{YAML}server: {{workers: 1, limits: {{body_idle_timeout: 1s}}}}\n");
    let (world, gateway, _service) = start_with(&yaml);
    assert_eq!(client(&world, &gateway).talk(2, Duration::from_secs(3)).unwrap(), 2);
}

#[test]
fn a_refusal_is_a_status_of_grpc_with_the_challenge_beside_it() {
    let (world, gateway, _service) = start();
    let stranger = GrpcClient::connect(gateway.port, None);
    let status = stranger.unary("Unary", b"", None).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("Send an access token"), "{status:?}");
    let of = |name: &str| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    assert!(of("www-authenticate").starts_with("Bearer resource_metadata="), "{status:?}");
    assert_eq!(of("stepgate-problem"), "urn:stepgate:problem:token-required");
    assert_eq!(of("x-request-id").len(), 32);

    let expired = GrpcClient::connect(gateway.port, Some(world.token(json!({"exp": unix_now() - 600}))));
    let status = expired.unary("Unary", b"", None).unwrap_err();
    assert_eq!(status.metadata().get("stepgate-problem").unwrap(), "urn:stepgate:problem:token-expired");
    let record = gateway.access(|record| record["reason"] == "token_expired");
    assert_eq!((&record["status"], &record["protocol"]), (&json!(200), &json!("HTTP/2.0")));
}

#[test]
fn each_kind_of_refusal_has_the_code_that_says_what_to_do() {
    let (world, gateway, _service) = start();
    let token = world.token(json!({}));
    let ask = |path: &str, token: &str| {
        let request = Request::new("POST", path).header("Content-Type", "application/grpc").bearer(token);
        let answer = request.send(&gateway);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/grpc"), "{path}");
        assert!(answer.body.is_empty());
        answer
    };
    let code = |path: &str, token: &str| ask(path, token).header("grpc-status").parse::<i32>().unwrap();
    assert_eq!(code("/test.Echo/Unary", "nonsense"), Code::Unauthenticated as i32);
    assert_eq!(code("/test.Scoped/X", &token), Code::PermissionDenied as i32);
    assert_eq!(code("/nowhere", &token), Code::Unimplemented as i32);
    assert_eq!(code("/a//b", &token), Code::InvalidArgument as i32);
    assert_eq!(code("/test.Nobody/X", &token), Code::Unavailable as i32);
    let strong = ask("/test.Strong/X", &token);
    assert_eq!(strong.header("grpc-status"), "16");
    assert!(strong.header("www-authenticate").contains("acr_values=\"urn:example:acr:mfa\", max_age=\"300\""));
    let few = GrpcClient::connect(gateway.port, Some(token.clone()));
    drop(few);
    ask_twice(&gateway, &token);
}

/// The second call is over the quota, and says when to come again.
fn ask_twice(gateway: &Gateway, token: &str) {
    let ask = || {
        Request::new("POST", "/test.Few/Nothing").header("Content-Type", "application/grpc").bearer(token).send(gateway)
    };
    ask();
    let second = ask();
    assert_eq!(second.header("grpc-status"), "8");
    let (secs, ms) = (second.header("retry-after"), second.header("grpc-retry-pushback-ms"));
    assert_eq!(format!("{secs}000"), ms);
}

#[test]
fn the_clients_deadline_is_the_requests() {
    let (world, gateway, _service) = start();
    let token = world.token(json!({}));
    // By hand: tonic's client does not wait for what the gateway says.
    let slow =
        post("/test.Echo/Slow", &String::from_utf8(message(b"")).unwrap()).header("Content-Type", "application/grpc");
    let answer = slow.header("grpc-timeout", "1S").bearer(&token).send(&gateway).expect(200);
    assert_eq!(answer.header("grpc-status"), (Code::DeadlineExceeded as i32).to_string());
    gateway.access(|record| record["reason"] == "upstream_timeout");
    for wrong in ["1s", "100000000S", "-1S", "1.5S"] {
        let request = Request::new("POST", "/test.Echo/Unary").header("Content-Type", "application/grpc");
        let answer = request.header("grpc-timeout", wrong).bearer(&token).send(&gateway);
        assert_eq!(answer.header("grpc-status"), "3", "{wrong}");
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

/// The messages of a gRPC-Web body, and its trailers.
fn web_frames(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let [kind, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (payload, after) = rest.split_at(length);
        match kind {
            0x80 => trailers = String::from_utf8(payload.to_vec()).unwrap(),
            _ => messages.push(payload.to_vec()),
        }
        body = after;
    }
    (messages, trailers)
}

#[test]
fn grpc_web_becomes_grpc_for_a_service_that_knows_nothing_of_it() {
    let (world, gateway, _service) = start();
    let token = world.token(json!({}));
    let ask = |method: &str, kind: &str, body: &str| {
        let request = post(&format!("/test.Echo/{method}"), body).bearer(&token);
        request.header("Content-Type", kind).header("X-Grpc-Web", "1").send(&gateway)
    };
    let sent = String::from_utf8(message(b"hello")).unwrap();
    let answer = ask("Unary", "application/grpc-web+proto", &sent).expect(200);
    assert_eq!(answer.header("content-type"), "application/grpc-web");
    assert_eq!(web_frames(&answer.body), (vec![b"hello".to_vec()], "grpc-status: 0\r\n".to_owned()));
    let text = ask("Unary", "application/grpc-web-text", &STANDARD.encode(&sent)).expect(200);
    assert_eq!(text.header("content-type"), "application/grpc-web-text");
    let parts: Vec<u8> = text.text().split_inclusive('=').flat_map(decode).collect();
    assert_eq!(web_frames(&parts).0, [b"hello"]);
    let many = ask("Count", "application/grpc-web", &String::from_utf8(message(&[50])).unwrap()).expect(200);
    assert_eq!(web_frames(&many.body).0.len(), 50);
    let failed = ask("Fail", "application/grpc-web", &sent).expect(200);
    let trailers = web_frames(&failed.body).1;
    assert!(trailers.contains("grpc-status: 5\r\n"), "{trailers}");
    let who = ask("Who", "application/grpc-web+proto", &sent).expect(200);
    assert_eq!(web_frames(&who.body).0, [b"alice|trailers||application/grpc+proto|"]);
    let broken = ask("Unary", "application/grpc-web-text", "!!!!").expect(200);
    assert_eq!(broken.header("content-type"), "application/grpc-web-text+proto");
}

fn decode(part: &str) -> Vec<u8> {
    if part.trim_matches('=').is_empty() { Vec::new() } else { STANDARD.decode(padded(part)).unwrap() }
}

fn padded(part: &str) -> String {
    let bare = part.trim_end_matches('=');
    format!("{bare}{}", "=".repeat((4 - bare.len() % 4) % 4))
}

#[test]
fn a_refusal_of_grpc_web_is_in_the_body_where_a_browser_sees_it() {
    let (_world, gateway, _service) = start();
    let ask = |kind: &str| post("/test.Echo/Unary", "").header("Content-Type", kind).send(&gateway);
    let answer = ask("application/grpc-web+proto").expect(200);
    let (messages, trailers) = web_frames(&answer.body);
    assert!(
        messages.is_empty() && trailers.starts_with("grpc-status: 16\r\ngrpc-message: Send an access token"),
        "{trailers}"
    );
    let text = ask("application/grpc-web-text").expect(200);
    assert_eq!(STANDARD.decode(&text.body).unwrap(), answer.body);
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}
