//! The contract of gateway.yaml, row by row: the example file as it stands (but for addresses and key sources, which have
//! to be real here), and for each of its rows what its comment says.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use crate::harness::{
    AUDIENCE, Answer, Authority, Gateway, Request, Signer, Wire, World, claims, delete, get, post, remember_secret,
    stepgate, unix_now,
};

const SECRET: &[u8] = b"a shared secret of more than thirty-two bytes";

/// The example file around a world of one's own.
struct Contract {
    world: World,
    gateway: Gateway,
    authority: Authority,
    legacy: Signer,
}

fn written(world: &World) -> Authority {
    let authority = Authority::new("servers");
    std::fs::create_dir_all(world.folder().join("tls")).unwrap();
    authority.server(
        &world.folder().join("tls"),
        "server",
        &["gateway.example", "reports.example", "eu.reports.example"],
    );
    world.write("tls/clients.pem", &Authority::new("clients").pem);
    world.write("admin.token", "the-admin-token-of-the-contract\n");
    remember_secret("the-admin-token-of-the-contract");
    world.write("hs256.secret", crate::harness::encode(SECRET));
    let yaml = include_str!("../cases/contract.yaml")
        .replace("127.0.0.1:8443", "127.0.0.1:<tls>")
        .replace("127.0.0.1:8080", "127.0.0.1:<port>")
        .replace("redirect_to_https: 8443", "redirect_to_https: <tls>")
        .replace("127.0.0.1:9090", "127.0.0.1:<admin>")
        .replace("127.0.0.1:9100", "127.0.0.1:<upstream>")
        .replace("{jwks_url: \"https://idp.example/jwks.json\"}", "{jwks_file: jwks.json}");
    world.configure(&yaml);
    authority
}

impl Contract {
    fn start() -> Self {
        let world = World::new();
        let authority = written(&world);
        let gateway = world.restart().ready();
        Self { world, gateway, authority, legacy: Signer::shared("HS256", SECRET) }
    }

    fn send(&self, request: &Request) -> Answer {
        self.send_as("gateway.example", request)
    }

    fn send_as(&self, name: &str, request: &Request) -> Answer {
        let mut wire = Wire::tls(self.gateway.tls, name, &self.authority.client(&["http/1.1"])).unwrap();
        request.clone().host(name).send_on(&mut wire)
    }

    fn legacy_token(&self) -> String {
        self.legacy.token(json!({"iss": "https://hs.example/"}))
    }
}

#[test]
fn the_example_file_passes_check_as_it_stands() {
    let world = World::new();
    written(&world);
    let finished = stepgate(world.folder(), &["check", "gateway.yaml"]);
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[test]
fn a_public_route_asks_for_no_token() {
    let contract = Contract::start();
    let answer = contract.send(&get("/public/page")).expect(200);
    assert_eq!(answer.text(), "ok");
    assert_eq!(contract.world.upstream.last().target(), "/public/page");
}

#[test]
fn what_no_route_names_is_404_and_never_reaches_an_upstream() {
    let contract = Contract::start();
    for target in ["/", "/publicx", "/other", "/limited/more", "/reports"] {
        assert_eq!(contract.send(&get(target)).problem(404), "not-found", "{target}");
    }
    contract.world.upstream.assert_untouched();
}

#[test]
fn a_route_takes_the_tokens_of_the_issuers_that_it_names_and_no_others() {
    let contract = Contract::start();
    let main = contract.world.token(json!({}));
    let legacy = contract.legacy_token();
    contract.send(&get("/api/items").bearer(&main)).expect(200);
    contract.send(&get("/api/items").bearer(&legacy)).expect(200);
    contract.send(&get("/payments").bearer(&main)).expect(200);
    contract.send(&get("/payments").bearer(&legacy)).problem(401);
    contract.send(&get("/api/items")).problem(401);
}

#[test]
fn rest_also_matches_nothing_and_the_path_is_chosen_before_the_method() {
    let contract = Contract::start();
    let token = contract.world.token(json!({}));
    for target in ["/payments", "/payments/", "/payments/1/2"] {
        contract.send(&get(target).bearer(&token)).expect(200);
    }
    let answer = contract.send(&Request::new("PUT", "/payments/1").bearer(&token));
    answer.problem(405);
    let allow = answer.header("allow").to_owned();
    let mut methods: Vec<&str> = allow.split(", ").collect();
    methods.sort_unstable();
    assert_eq!(methods, ["GET", "HEAD", "POST"], "GET includes HEAD");
}

#[test]
fn two_routes_of_one_path_ask_for_what_their_method_needs() {
    let contract = Contract::start();
    let plain = contract.world.token(json!({}));
    contract.send(&get("/payments/1").bearer(&plain)).expect(200);
    contract.send(&Request::new("HEAD", "/payments/1").bearer(&plain)).expect(200);
    assert_eq!(
        contract.send(&post("/payments/1", "x").bearer(&plain)).problem(401),
        "insufficient-user-authentication"
    );
    contract.send(&post("/payments/1", "x").bearer(&contract.world.fresh(10))).expect(200);
    contract.send(&post("/payments/1", "x").bearer(&contract.world.fresh(1000))).problem(401);
}

#[test]
fn a_route_with_an_inline_assurance_takes_that_acr_alone() {
    let contract = Contract::start();
    contract.send(&get("/admin/users").bearer(&contract.world.fresh(10))).problem(401);
    let phishing_resistant = contract.world.token(json!({"acr": "urn:example:acr:phr"}));
    contract.send(&get("/admin/users").bearer(&phishing_resistant)).expect(200);
}

#[test]
fn a_route_with_scopes_refuses_a_token_without_them() {
    let contract = Contract::start();
    let answer = contract.send(&get("/scoped/x").bearer(&contract.world.token(json!({"scope": "items:read"}))));
    assert_eq!(answer.problem(403), "insufficient-scope");
    contract
        .send(&get("/scoped/x").bearer(&contract.world.token(json!({"scope": "items:read items:write"}))))
        .expect(200);
    // A scope is a word, not a substring.
    contract
        .send(&get("/scoped/x").bearer(&contract.world.token(json!({"scope": "items:writer xitems:write"}))))
        .problem(403);
}

#[test]
fn the_quota_per_user_admits_five_a_minute_to_each() {
    let contract = Contract::start();
    let alice = contract.world.token(json!({}));
    let bob = contract.world.token(json!({"sub": "bob"}));
    for _ in 0..5 {
        contract.send(&get("/limited").bearer(&alice)).expect(200);
    }
    let answer = contract.send(&get("/limited").bearer(&alice));
    assert_eq!(answer.problem(429), "quota-exceeded");
    let wait: u32 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    contract.send(&get("/limited").bearer(&bob)).expect(200);
    assert_eq!(contract.world.upstream.count(), 6);
}

#[test]
fn the_reports_row_holds_in_each_of_its_parts() {
    let contract = Contract::start();
    let finance = contract.world.token(json!({"department": "finance"}));
    let sales = contract.world.token(json!({"department": "sales"}));
    let nowhere = contract.world.token(json!({}));
    let ask = |host: &str, target: &str, token: &str| contract.send_as(host, &get(target).bearer(token));
    ask("reports.example", "/reports/2024?page=1", &finance).expect(200);
    assert_eq!(contract.world.upstream.last().target(), "/2024?page=1", "strip_prefix, and the query goes on");
    ask("eu.reports.example", "/reports/2025", &finance).expect(200);
    assert_eq!(ask("reports.example", "/reports/2024", &sales).problem(403), "forbidden");
    assert_eq!(
        ask("reports.example", "/reports/2024", &nowhere).problem(403),
        "forbidden",
        "an error in `when` denies"
    );
    ask("reports.example", "/reports/2023", &finance).problem(403);
    ask("gateway.example", "/reports/2024", &finance).problem(404);
    ask("reports.example", "/reports/2024/more", &finance).problem(404);
    assert_eq!(contract.world.upstream.count(), 2);
}

#[test]
fn the_plain_listener_only_redirects() {
    let contract = Contract::start();
    for request in [
        get("/public/a?b=c"),
        post("/public/a?b=c", "x"),
        get("/public/a?b=c").bearer(&contract.world.token(json!({}))),
    ] {
        let answer = request.send(&contract.gateway).expect(308);
        assert_eq!(answer.header("location"), format!("https://gateway.example:{}/public/a?b=c", contract.gateway.tls));
    }
    contract.world.upstream.assert_untouched();
}

#[test]
fn the_admin_listener_asks_for_its_token_but_not_for_health_and_metrics() {
    let contract = Contract::start();
    let admin = contract.gateway.admin;
    for open in ["/livez", "/readyz", "/metrics"] {
        get(open).send_to(admin).expect(200);
    }
    get("/anything").send_to(admin).expect(401);
    get("/anything").bearer("not-the-admin-token").send_to(admin).expect(401);
    get("/anything").bearer("the-admin-token-of-the-contract").send_to(admin).expect(404);
}

#[test]
fn a_deletion_is_guarded_on_a_public_route_too() {
    let contract = Contract::start();
    contract.send(&delete("/public/page")).problem(401);
    contract.send(&delete("/public/page").bearer(&contract.world.token(json!({})))).problem(401);
    contract.world.upstream.assert_untouched();
    contract.send(&delete("/public/page").bearer(&contract.world.fresh(10))).expect(200);
    assert_eq!(contract.world.upstream.last().line(), "DELETE /public/page HTTP/1.1");
}

#[test]
fn the_upstream_is_told_who_is_calling_and_never_gets_the_token() {
    let contract = Contract::start();
    let at = unix_now() - 20;
    let token = contract.world.token(json!({
        "scope": "items:read items:write", "acr": "urn:example:acr:mfa", "amr": ["pwd", "otp"], "auth_time": at,
    }));
    contract.send(&get("/api/x").bearer(&token)).expect(200);
    let seen = contract.world.upstream.last();
    for (name, value) in [
        ("X-Auth-Subject", "alice"),
        ("X-Auth-Issuer", "https://idp.example/"),
        ("X-Auth-Scopes", "items:read items:write"),
        ("X-Auth-Acr", "urn:example:acr:mfa"),
        ("X-Auth-Amr", "pwd otp"),
        ("X-Auth-Time", &at.to_string()),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert!(!seen.has("Authorization"), "{}", seen.head);
}

#[test]
fn the_default_forwarding_headers_are_dropped_without_trusted_proxies() {
    let contract = Contract::start();
    let spoofed = get("/public/x")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Real-IP", "6.6.6.6");
    contract.send(&spoofed).expect(200);
    assert!(!contract.world.upstream.last().head.contains("6.6.6.6"), "{}", contract.world.upstream.last().head);
}

#[test]
fn an_audience_that_is_not_ours_and_an_algorithm_that_is_not_listed_are_refused() {
    let contract = Contract::start();
    contract.send(&get("/api/x").bearer(&contract.world.token(json!({"aud": "https://other.example"})))).problem(401);
    contract
        .send(&get("/api/x").bearer(&contract.world.token(json!({"aud": ["https://other.example", AUDIENCE]}))))
        .expect(200);
    // The secret's issuer takes HS256 alone, and the other one's algorithms have no HMAC.
    let confused = contract.legacy.sign(&contract.legacy.head(json!({"kid": "main-1"})), &claims(json!({})));
    contract.send(&get("/api/x").bearer(&confused)).problem(401);
}

#[test]
fn an_optional_client_certificate_is_neither_asked_for_nor_taken_from_a_stranger() {
    let contract = Contract::start();
    let stranger = contract.authority.client_showing(&Authority::new("strangers"));
    let refused = match Wire::tls(contract.gateway.tls, "gateway.example", &stranger) {
        Err(_) => true,
        // With TLS 1.3 the client may learn of the refusal only when it reads.
        Ok(mut wire) => wire.send(get("/public/x").bytes()).try_answer(false).is_err(),
    };
    assert!(refused);
    contract.world.upstream.assert_untouched();
    contract.send(&get("/public/x")).expect(200);
}

#[test]
fn the_certificate_shown_is_the_one_configured() {
    let contract = Contract::start();
    let wire =
        Wire::tls(contract.gateway.tls, "reports.example", &contract.authority.client(&["h2", "http/1.1"])).unwrap();
    let file = std::fs::read(contract.world.folder().join("tls/server.pem")).unwrap();
    assert_eq!(wire.session().peer_certificates().unwrap()[0], CertificateDer::from_pem_slice(&file).unwrap());
    assert_eq!(wire.session().alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn an_unknown_key_anywhere_is_an_error_with_its_place_and_the_nearest_name() {
    let world = World::new();
    for (right, wrong, near) in [
        ("    leeway: 30s", "    leway: 30s", "leeway"),
        ("    header_timeout: 10s", "    header_timout: 10s", "header_timeout"),
        ("      min_version: \"1.2\"", "      min_verson: \"1.2\"", "min_version"),
        ("    identity_headers: true", "    identity_header: true", "identity_headers"),
        ("    rewrite: {strip_prefix: /reports}", "    rewrite: {strip_prefx: /reports}", "strip_prefix"),
        ("deletion_guard:", "deletion_gaurd:", "deletion_guard"),
    ] {
        written(&world);
        let yaml = std::fs::read_to_string(world.folder().join("gateway.yaml")).unwrap();
        assert!(yaml.contains(right), "{right}");
        let yaml = yaml.replace(right, wrong);
        world.write("gateway.yaml", &yaml);
        let finished = stepgate(world.folder(), &["check", "gateway.yaml"]);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.code, 78, "{said}");
        let line = 1 + yaml.lines().position(|line| line.starts_with(wrong)).unwrap();
        assert!(said.contains(&format!("gateway.yaml:{line}:")), "line {line}: {said}");
        assert!(said.contains(near), "{near}: {said}");
    }
}
