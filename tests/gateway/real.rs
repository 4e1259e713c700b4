//! End to end on parts that nobody here wrote: oidc-provider as the identity provider, nginx as the API, curl and h2load
//! as clients.

use crate::harness::{
    Authority, Gateway, World, eventually,
    idp::Idp,
    tools::{Nginx, curl, h2load},
};

struct Real {
    world: World,
    idp: Idp,
    nginx: Nginx,
    gateway: Gateway,
}

fn start() -> Real {
    start_with(Idp::start(), Nginx::start())
}

fn start_with(idp: Idp, nginx: Nginx) -> Real {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "server", &["localhost"]);
    let gateway = world.start_unready(&yaml(&idp, &nginx)).ready();
    Real { world, idp, nginx, gateway }
}

fn yaml(idp: &Idp, nginx: &Nginx) -> String {
    format!(
        "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - address: 127.0.0.1:<tls>
    tls: {{certificates: [{{cert: server.pem, key: server.key}}]}}
issuers:
  idp: {{issuer: \"{}\", audience: [https://api.example], keys: {{discovery: true}}, algorithms: [RS256], types: [at+jwt], jwks_cooldown: 1s}}
upstreams:
  api: {{targets: [http://127.0.0.1:{}], identity_headers: true}}
assurance:
  recent-mfa: {{acr: [urn:example:acr:mfa], max_age: 5m}}
deletion_guard: {{assurance: recent-mfa}}
routes:
  - {{path: /public/**, upstream: api, auth: none}}
  - {{path: /files/**, upstream: api, auth: none}}
  - {{path: /api/**, upstream: api, auth: [idp]}}
  - {{path: /transfer, upstream: api, auth: [idp], assurance: recent-mfa}}
",
        idp.issuer(),
        nginx.port
    )
}

/// What curl saw: the status, and everything that was printed.
fn ask(real: &Real, method: &str, path: &str, token: Option<&str>, more: &[&str]) -> (u16, String) {
    let url = format!("https://localhost:{}{path}", real.gateway.tls);
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    let mut arguments = vec!["--insecure", "--include", "--request", method, "--write-out", "\nstatus=%{http_code}"];
    arguments.extend(more);
    if let Some(header) = &header {
        arguments.extend(["--header", header]);
    }
    arguments.push(&url);
    let finished = curl(&arguments);
    let status = finished.stdout.rsplit("status=").next().unwrap().trim().parse();
    (status.unwrap_or_else(|_| panic!("{finished:?}")), finished.stdout)
}

#[test]
fn a_person_logs_in_is_asked_to_step_up_and_passes() {
    let real = start();
    let (status, said) = ask(&real, "GET", "/api/orders", None, &[]);
    assert_eq!(status, 401, "{said}");
    let by_password = real.idp.person_token(None);
    let (status, said) = ask(&real, "GET", "/api/orders", Some(&by_password), &[]);
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("subject=alice") && said.contains("authorization=") && !said.contains("Bearer"), "{said}");
    let (status, said) = ask(&real, "POST", "/transfer", Some(&by_password), &["--data", "amount=5"]);
    assert_eq!(status, 401, "{said}");
    // What the challenge asks for is what the client asks the provider for.
    let acr = said.split("acr_values=\"").nth(1).unwrap().split('"').next().unwrap();
    let by_second_factor = real.idp.person_token(Some(acr));
    let (status, said) = ask(&real, "POST", "/transfer", Some(&by_second_factor), &["--data", "amount=5"]);
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("method=POST uri=/transfer") && said.contains("acr=urn:example:acr:mfa"), "{said}");
}

#[test]
fn a_deletion_needs_the_second_factor_over_http_2_too() {
    let real = start();
    let plain = real.idp.machine_token("plain");
    let stepped_up = real.idp.machine_token("stepped-up");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(ask(&real, "DELETE", "/public/1", None, &[version]).0, 401);
        assert_eq!(ask(&real, "DELETE", "/public/1", Some(&plain), &[version]).0, 401);
        let (status, said) = ask(&real, "DELETE", "/public/1", Some(&stepped_up), &[version]);
        assert_eq!(status, 200, "{said}");
    }
    assert_eq!(real.nginx.log().matches("DELETE /public/1 200").count(), 2, "{}", real.nginx.log());
}

#[test]
fn the_providers_key_rotates_and_the_old_token_falls() {
    let real = start();
    let old = real.idp.machine_token("plain");
    assert_eq!(ask(&real, "GET", "/api/x", Some(&old), &[]).0, 200);
    real.idp.rotate();
    let new = real.idp.machine_token("plain");
    eventually("the new key", || (ask(&real, "GET", "/api/x", Some(&new), &[]).0 == 200).then_some(()));
    assert_eq!(ask(&real, "GET", "/api/x", Some(&old), &[]).0, 401);
}

#[test]
fn the_provider_may_be_down_at_start_and_come_later() {
    let port = crate::harness::lease_port();
    let idp = Idp::start_on(port);
    let nginx = Nginx::start();
    let world = World::new();
    Authority::new("servers").server(world.folder(), "server", &["localhost"]);
    let yaml = yaml(&idp, &nginx);
    let token = idp.machine_token("plain");
    drop(idp);
    let gateway = world.start_unready(&yaml);
    assert_eq!(gateway.readiness().status, 503);
    let idp = Idp::start_on(port);
    let real = Real { world, idp, nginx, gateway };
    assert_ne!(ask(&real, "GET", "/api/x", Some(&token), &[]).0, 200, "a token of a key that the provider has no more");
    let token = real.idp.machine_token("plain");
    eventually("the keys", || (ask(&real, "GET", "/api/x", Some(&token), &[]).0 == 200).then_some(()));
}

#[test]
fn files_come_through_whole_in_both_versions() {
    let real = start();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    real.nginx.file("big", &content);
    for version in ["--http1.1", "--http2"] {
        let target = real.world.folder().join("got");
        let url = format!("https://localhost:{}/files/big", real.gateway.tls);
        let finished = curl(&["--insecure", "--fail", version, "--output", target.to_str().unwrap(), &url]);
        assert_eq!(finished.code, 0, "{finished:?}");
        assert!(std::fs::read(target).unwrap() == content, "{version}");
    }
}

#[test]
fn h2load_loses_no_request_in_either_version() {
    let real = start();
    let token = real.idp.machine_token("plain");
    let header = format!("authorization: Bearer {token}");
    let url = format!("https://localhost:{}/api/x", real.gateway.tls);
    for version in [&["--h1"][..], &[]] {
        let load = h2load(&[version, &["-n", "4000", "-c", "16", "-m", "4", "-H", &header, &url]].concat());
        assert_eq!((load.succeeded, load.failed, load.ok), (4000, 0, 4000), "{}", load.text);
    }
    assert_eq!(real.gateway.metric("stepgate_requests_total", &["route=\"/api/**\"", "status=\"2xx\""]), 8000.0);
}

#[test]
fn an_upload_by_curl_waits_for_100_and_arrives() {
    let real = start();
    let file = real.world.folder().join("upload");
    std::fs::write(&file, vec![b'x'; 2_000_000]).unwrap();
    let data = format!("@{}", file.display());
    let (status, said) = ask(
        &real,
        "POST",
        "/public/upload",
        None,
        &["--http1.1", "--header", "Expect: 100-continue", "--data-binary", &data],
    );
    assert_eq!(status, 200, "{said}");
}
