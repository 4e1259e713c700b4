//! Client certificates as a credential and as the key that tokens are bound to, on the real binary: revoked and expired
//! under an open connection, resumed, over both protocols.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::json;

use crate::harness::{
    Answer, Authority, Gateway, Wire, World, delete, encode, eventually, get,
    h2::{self, Ending, H2},
    idp::Idp,
    tools::curl,
    unix_now,
};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const DAY: u64 = 24 * 60 * 60;

const ROUTES: &str = "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], identity_headers: true}
routes:
  - {path: /devices/**, upstream: api, auth: [devices]}
  - {path: /either/**, upstream: api, auth: [main, devices]}
  - {path: /tokens/**, upstream: api, auth: [main]}
  - {path: /open/**, upstream: api, auth: none}
";

struct Mtls {
    world: World,
    gateway: Gateway,
    servers: Authority,
    devices: Authority,
    others: Authority,
}

/// A gateway whose listener takes the certificates of two authorities, and whose source `devices` takes those of one;
/// `source` are further keys of it.
fn start(source: &str) -> Mtls {
    start_with(source, "", "")
}

/// The same with further keys of the listener's `tls` and of the issuer `main`.
fn start_with(source: &str, tls: &str, issuer: &str) -> Mtls {
    let world = World::new();
    let (servers, devices, others) = (Authority::new("servers"), Authority::new("devices"), Authority::new("others"));
    servers.server(world.folder(), "server", &["localhost", "gateway.example"]);
    world.write("clients.pem", format!("{}{}", devices.pem, others.pem));
    world.write("devices.pem", &devices.pem);
    world.write("devices.crl", devices.revocation_list(&[666], DAY));
    world.write("others.crl", others.revocation_list(&[], DAY));
    let gateway = world.start(&yaml(source, tls, issuer));
    Mtls { world, gateway, servers, devices, others }
}

fn yaml(source: &str, tls: &str, issuer: &str) -> String {
    format!(
        "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - address: 127.0.0.1:<tls>
    tls: {{certificates: [{{cert: server.pem, key: server.key}}], client_ca: clients.pem, client_auth: optional{tls}}}
issuers:
  main:
    issuer: https://idp.example/
    audience: [https://api.example]
    keys: {{jwks_file: jwks.json}}
    algorithms: [ES256]
{issuer}credentials:
  devices: {{client_certificates: {{ca: devices.pem, scopes: [items:read]{source}}}}}
{ROUTES}"
    )
}

type Pair = (String, String);

fn nothing(_: &mut CertificateParams) {}

impl Mtls {
    fn leaf(&self, serial: u64) -> Pair {
        self.devices.client_leaf(serial, unix_now() + DAY, nothing)
    }

    fn client(&self, pair: Pair) -> Arc<ClientConfig> {
        self.servers.client_with(BOTH, &["http/1.1"], pair)
    }

    fn connect(&self, pair: Pair) -> Wire {
        self.connect_by(&self.client(pair))
    }

    fn connect_by(&self, config: &Arc<ClientConfig>) -> Wire {
        Wire::tls(self.gateway.tls, "gateway.example", config).unwrap()
    }

    fn anonymous(&self) -> Wire {
        self.connect_by(&self.servers.client(&["http/1.1"]))
    }

    /// The reason that the gateway's log has for the request with this target.
    fn reason(&self, target: &str) -> String {
        let record = self.gateway.access(|record| record["path"] == target);
        record["reason"].as_str().unwrap().to_owned()
    }

    /// Checks that a request is refused with this status, and why.
    #[track_caller]
    fn refused(&self, wire: &mut Wire, target: &str, status: u16, reason: &str) -> Answer {
        let answer = get(target).send_on(wire);
        answer.problem(status);
        assert_eq!(self.reason(target), reason);
        answer
    }
}

fn thumbprint(pair: &Pair) -> String {
    encode(digest(&SHA256, &CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap()).as_ref())
}

// -- a certificate as a credential

#[test]
fn a_client_certificate_is_a_credential_over_both_protocols() {
    let mtls = start("");
    let pair = mtls.leaf(7);
    let mut wire = mtls.connect(pair.clone());
    for _ in 0..2 {
        get("/devices/x").send_on(&mut wire).expect(200);
    }
    let seen = mtls.world.upstream.last();
    assert_eq!(seen.header("X-Auth-Subject"), "CN=press-1,O=Example");
    assert_eq!(seen.header("X-Auth-Issuer"), "urn:stepgate:credentials:devices");
    assert_eq!(seen.header("X-Auth-Scopes"), "items:read");
    let h2 = mtls.servers.client_with(BOTH, &["h2"], pair);
    let mut h2 = H2::over(mtls.connect_by(&h2));
    for stream in [1, 3] {
        h2.request(stream, &h2::get("/either/x"));
        assert_eq!(h2.status(stream), Ending::Status(200));
    }
}

#[test]
fn without_a_certificate_nobody_is_there_and_no_token_is_called_invalid() {
    let mtls = start("");
    let answer = mtls.refused(&mut mtls.anonymous(), "/devices/none", 401, "certificate_missing");
    assert!(!answer.header("www-authenticate").contains("error="), "{answer:?}");
    mtls.refused(&mut mtls.anonymous(), "/either/none", 401, "token_missing");
    // A listener without TLS has no certificates at all.
    mtls.refused(&mut mtls.gateway.connect(), "/devices/plain", 401, "certificate_missing");
    mtls.world.upstream.assert_untouched();
}

#[test]
fn a_certificate_that_the_source_does_not_know_is_no_credential_whatever_the_listener_thinks_of_it() {
    let mtls = start(", subject: san_dns, allow: [\"*.devices.example\"]");
    let named = |authority: &Authority, names: &[&str]| {
        authority.client_leaf(7, unix_now() + DAY, |params| {
            params.subject_alt_names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        })
    };
    let good = named(&mtls.devices, &["press.devices.example"]);
    get("/devices/x").send_on(&mut mtls.connect(good)).expect(200);
    for (at, pair) in [
        named(&mtls.others, &["press.devices.example"]),
        named(&mtls.devices, &["press.other.example"]),
        named(&mtls.devices, &["a.devices.example", "b.devices.example"]),
        named(&mtls.devices, &[]),
    ]
    .into_iter()
    .enumerate()
    {
        mtls.refused(&mut mtls.connect(pair.clone()), &format!("/devices/{at}"), 401, "certificate_unknown");
        // It is wrong, which is not the same as absent.
        mtls.refused(&mut mtls.connect(pair), &format!("/either/{at}"), 401, "certificate_unknown");
    }
    assert_eq!(mtls.world.upstream.count(), 1);
}

#[test]
fn a_certificate_for_servers_ends_in_the_handshake() {
    let mtls = start("");
    let pair = mtls.devices.leaf(&["press-1"], ExtendedKeyUsagePurpose::ServerAuth);
    let served = Wire::tls(mtls.gateway.tls, "gateway.example", &mtls.client(pair))
        .and_then(|mut wire| wire.send(get("/devices/x").bytes()).try_answer(false));
    assert!(served.is_err(), "{served:?}");
    mtls.world.upstream.assert_untouched();
}

#[test]
fn any_other_credential_goes_before_the_certificate() {
    let mtls = start("");
    let mut wire = mtls.connect(mtls.leaf(7));
    let ask = |wire: &mut Wire, target: &str, value: &str| get(target).header("Authorization", value).send_on(wire);
    // A bad token is never made up for by a good certificate.
    ask(&mut wire, "/either/bad", "Bearer a.b.c").problem(401);
    assert_eq!(mtls.reason("/either/bad"), "token_malformed");
    // However it is written, and whatever is said of the field.
    ask(&mut wire, "/either/tab", "Bearer\ta.b.c").problem(401);
    let hidden = get("/either/hidden").header("Authorization", "Bearer a.b.c").header("Connection", "authorization");
    hidden.send_on(&mut wire).problem(401);
    get("/either/query?access_token=a.b.c").send_on(&mut wire).problem(400);
    mtls.world.upstream.assert_untouched();
    let token = mtls.world.token(json!({}));
    get("/either/good").bearer(&token).send_on(&mut wire).expect(200);
    assert_eq!(mtls.world.upstream.last().header("X-Auth-Subject"), "alice");
    // Where only tokens are taken a certificate is nobody, and where only certificates are, a token is none.
    mtls.refused(&mut wire, "/tokens/x", 401, "token_missing");
    get("/devices/x").bearer(&token).send_on(&mut wire).expect(200);
    assert_eq!(mtls.world.upstream.last().header("X-Auth-Subject"), "CN=press-1,O=Example");
}

#[test]
fn what_a_client_says_of_a_certificate_in_a_header_is_believed_by_nobody() {
    let mtls = start("");
    let pem = mtls.leaf(7).0.replace('\n', "");
    let names = [
        "X-Client-Cert",
        "Client-Cert",
        "Client_Cert",
        "X-SSL-Client-Cert",
        "SSL-Client-S-DN",
        "X-Forwarded-Client-Cert",
    ];
    let with = |target: &str| names.iter().fold(get(target), |request, name| request.header(name, &pem));
    with("/devices/forged").send_on(&mut mtls.anonymous()).problem(401);
    assert_eq!(mtls.reason("/devices/forged"), "certificate_missing");
    with("/open/x").send_on(&mut mtls.anonymous()).expect(200);
    let seen = mtls.world.upstream.last();
    assert!(names.iter().all(|name| !seen.has(name)), "{seen:?}");
}

#[test]
fn a_machine_without_a_second_factor_deletes_nothing() {
    let mtls = start("");
    let answer = delete("/devices/x").send_on(&mut mtls.connect(mtls.leaf(7)));
    assert_eq!(answer.problem(401), "insufficient-user-authentication");
    mtls.world.upstream.assert_untouched();
}

#[test]
fn conditions_see_the_certificate() {
    let world = World::new();
    let (servers, devices) = (Authority::new("servers"), Authority::new("devices"));
    servers.server(world.folder(), "server", &["gateway.example"]);
    world.write("clients.pem", &devices.pem);
    world.write("devices.pem", &devices.pem);
    let routes = "  - {path: /**, upstream: api, auth: [devices], when: 'claims.issuer_dn == \"CN=devices\" && claims.san.uri[0].startsWith(\"spiffe://x/\")'}\n";
    let yaml = yaml(", subject: common_name", "", "");
    let gateway = world.start(&format!("{}routes:\n{routes}", yaml.split("routes:").next().unwrap()));
    let ask = |uri: &str| {
        let pair = devices.client_leaf(7, unix_now() + DAY, |params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        });
        let config = servers.client_with(BOTH, &["http/1.1"], pair);
        get("/x").send_on(&mut Wire::tls(gateway.tls, "gateway.example", &config).unwrap())
    };
    ask("spiffe://x/a").expect(200);
    assert_eq!(ask("spiffe://y/a").problem(403), "forbidden");
}

// -- a connection that lives on

#[test]
fn a_certificate_that_expires_under_its_connection_is_refused() {
    let mtls = start("");
    let mut wire = mtls.connect(mtls.devices.client_leaf(7, unix_now() + 3, nothing));
    get("/devices/x").send_on(&mut wire).expect(200);
    eventually("the certificate to expire", || {
        let answer = get("/devices/later").send_on(&mut wire);
        (answer.status != 200).then(|| answer.problem(401))
    });
    assert!(mtls.gateway.metric("stepgate_decisions_total", &["reason=\"certificate_expired\""]) > 0.0);
}

#[test]
fn a_certificate_that_is_revoked_under_its_connection_is_refused_at_the_next_request() {
    let mtls = start(", crl: [devices.crl]");
    let (revoked, kept) = (mtls.leaf(7), mtls.leaf(8));
    let (mut wire, mut other) = (mtls.connect(revoked.clone()), mtls.connect(kept));
    let mut h2 = H2::over(mtls.connect_by(&mtls.servers.client_with(BOTH, &["h2"], revoked.clone())));
    h2.request(1, &h2::get("/devices/x"));
    assert_eq!(h2.status(1), Ending::Status(200));
    get("/devices/x").send_on(&mut wire).expect(200);
    get("/devices/x").send_on(&mut other).expect(200);
    mtls.refused(&mut mtls.connect(mtls.leaf(666)), "/devices/666", 401, "certificate_revoked");
    // One that cannot be read changes nothing.
    mtls.world.write("devices.crl", "nothing");
    eventually("the broken list", || {
        (mtls.gateway.metric("stepgate_client_ca_reloads_total", &["result=\"failed\""]) > 0.0).then_some(())
    });
    get("/devices/x").send_on(&mut wire).expect(200);
    mtls.world.write("devices.crl", mtls.devices.revocation_list(&[666, 7], DAY));
    eventually("the new list", || {
        let answer = get("/devices/revoked").send_on(&mut wire);
        (answer.status != 200).then(|| answer.problem(401))
    });
    assert!(mtls.gateway.metric("stepgate_decisions_total", &["reason=\"certificate_revoked\""]) > 0.0);
    h2.request(3, &h2::get("/devices/x"));
    assert_eq!(h2.status(3), Ending::Status(401));
    mtls.refused(&mut mtls.connect(revoked), "/devices/again", 401, "certificate_revoked");
    get("/devices/x").send_on(&mut other).expect(200);
}

#[test]
fn a_list_that_ends_makes_its_certificates_unavailable_and_nothing_else() {
    let mtls = start(", crl: [devices.crl]");
    mtls.world.write("devices.crl", mtls.devices.revocation_list(&[], 5));
    let mut wire = mtls.connect(mtls.leaf(7));
    let answer = eventually("the list to end", || {
        let answer = get("/devices/x").send_on(&mut wire);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(answer.problem(503), "temporarily-unavailable");
    assert_eq!(answer.header("retry-after"), "60");
    assert!(mtls.gateway.metric("stepgate_decisions_total", &["reason=\"revocation_unavailable\""]) > 0.0);
    let told = mtls.gateway.metric("stepgate_crl_next_update_timestamp_seconds", &["source=\"devices\""]);
    assert!(told > 0.0 && told <= unix_now() as f64, "{told}");
    // The other routes serve, so that the instance stays.
    let ready = mtls.gateway.readiness().expect(200).json();
    let devices = ready["issuers"].as_array().unwrap().iter().find(|one| one["name"] == "devices").unwrap();
    assert_eq!(devices["ready"], false, "{ready}");
    assert!(devices["detail"].as_str().unwrap().contains("ended on"), "{ready}");
    get("/tokens/x").bearer(&mtls.world.token(json!({}))).send_on(&mut wire).expect(200);
    // The next list makes all good again.
    mtls.world.write("devices.crl", mtls.devices.revocation_list(&[], DAY));
    eventually("the next list", || (get("/devices/x").send_on(&mut wire).status == 200).then_some(()));
}

#[test]
fn a_resumed_session_is_judged_like_a_new_one() {
    for version in [&TLS12, &TLS13] {
        let mtls = start(", crl: [devices.crl]");
        let config = mtls.servers.client_with(&[version], &["http/1.1"], mtls.leaf(7));
        let mut first = mtls.connect_by(&config);
        get("/devices/x").send_on(&mut first).expect(200);
        let resumed = || {
            let wire = mtls.connect_by(&config);
            assert_eq!(wire.session().handshake_kind(), Some(HandshakeKind::Resumed), "{version:?}");
            wire
        };
        get("/devices/x").send_on(&mut resumed()).expect(200);
        assert_eq!(mtls.world.upstream.last().header("X-Auth-Subject"), "CN=press-1,O=Example");
        mtls.world.write("devices.crl", mtls.devices.revocation_list(&[7], DAY));
        eventually("the new list", || (get("/devices/x").send_on(&mut first).status == 401).then_some(()));
        mtls.refused(&mut resumed(), "/devices/resumed", 401, "certificate_revoked");
    }
}

#[test]
fn a_listener_with_lists_ends_the_handshake_of_what_was_revoked() {
    let mtls = start_with("", ", client_crl: [devices.crl, others.crl]", "");
    let config = mtls.client(mtls.leaf(7));
    let serves = |config: &Arc<ClientConfig>| {
        let wire = Wire::tls(mtls.gateway.tls, "gateway.example", config);
        wire.and_then(|mut wire| wire.send(get("/open/x").bytes()).try_answer(false)).is_ok()
    };
    assert!(serves(&config) && serves(&config) && serves(&mtls.servers.client(&["http/1.1"])));
    assert!(!serves(&mtls.client(mtls.leaf(666))));
    mtls.world.write("devices.crl", mtls.devices.revocation_list(&[7], DAY));
    // Nor is its session resumed.
    eventually("the new list", || (!serves(&config)).then_some(()));
    assert!(serves(&mtls.client(mtls.leaf(8))));
}

// -- said at load

#[test]
fn what_is_wrong_with_authorities_and_lists_is_said_at_load() {
    let world = World::new();
    let (servers, devices, others) = (Authority::new("servers"), Authority::new("devices"), Authority::new("others"));
    servers.server(world.folder(), "server", &["gateway.example"]);
    world.write("clients.pem", &devices.pem);
    world.write("devices.pem", &devices.pem);
    world.write("devices.crl", others.revocation_list(&[], DAY));
    let says = yaml(", crl: [devices.crl]", "", "");
    let said = world.check(&says);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("devices.crl: the list of CN=others is of no authority in `ca`"), "{}", said.stderr);
    assert!(said.stderr.contains("gateway.yaml:14:"), "{}", said.stderr);
    // One that has ended is a warning: what it is asked about is refused, and all else serves.
    world.write("devices.crl", devices.revocation_list(&[], 0));
    let said = world.check(&says);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("a list of revoked certificates ended on"), "{}", said.stderr);
    let gateway = world.start(&says);
    eventually("the warning", || gateway.stderr().contains("a list of revoked certificates ended on").then_some(()));
}

#[test]
fn explain_judges_a_certificate_as_the_gateway_does() {
    let mtls = start(", crl: [devices.crl]");
    for (serial, code, wanted) in [(7, 0, "CN=press-1,O=Example of devices"), (666, 1, "invalid: certificate_revoked")]
    {
        mtls.world.write("client.pem", mtls.leaf(serial).0);
        let arguments = ["explain", "GET", "/devices/x", "--client-cert", "client.pem"];
        let said = crate::harness::stepgate(mtls.world.folder(), &arguments);
        assert!(said.code == code && said.stdout.contains(wanted), "{said:?}");
    }
}

// -- tokens that are bound to a certificate (RFC 8705)

#[test]
fn a_bound_token_is_good_beside_its_own_certificate_alone() {
    let mtls = start("");
    let pair = mtls.leaf(7);
    let token = mtls.world.token(json!({"cnf": {"x5t#S256": thumbprint(&pair)}}));
    let ask = |wire: &mut Wire, target: &str| get(target).bearer(&token).send_on(wire);
    // Twice: the second time the token is known already.
    for round in 0..2 {
        ask(&mut mtls.connect(pair.clone()), "/tokens/own").expect(200);
        ask(&mut mtls.connect(mtls.leaf(8)), &format!("/tokens/other{round}")).problem(401);
        assert_eq!(mtls.reason(&format!("/tokens/other{round}")), "binding_mismatch");
        ask(&mut mtls.anonymous(), &format!("/tokens/none{round}")).problem(401);
        assert_eq!(mtls.reason(&format!("/tokens/none{round}")), "binding_missing");
    }
    get("/tokens/plain").bearer(&token).send(&mtls.gateway).problem(401);
    // Nor does the certificate in its place help where both are taken.
    ask(&mut mtls.connect(mtls.leaf(8)), "/either/other").problem(401);
    let mut h2 = H2::over(mtls.connect_by(&mtls.servers.client_with(BOTH, &["h2"], pair)));
    let bearer = format!("Bearer {token}");
    let mut fields = h2::get("/tokens/h2");
    fields.push(("authorization", &bearer));
    h2.request(1, &fields);
    assert_eq!(h2.status(1), Ending::Status(200));
}

#[test]
fn an_issuer_can_be_told_to_bind_all_its_tokens() {
    let mtls = start_with("", "", "    bound: certificate\n");
    let pair = mtls.leaf(7);
    let mut wire = mtls.connect(pair.clone());
    for cnf in [json!(null), json!({"jkt": thumbprint(&pair)})] {
        let token = mtls.world.token(json!({"cnf": cnf}));
        for _ in 0..2 {
            get("/tokens/unbound").bearer(&token).send_on(&mut wire).problem(401);
        }
        assert_eq!(mtls.reason("/tokens/unbound"), "binding_required");
    }
    let token = mtls.world.token(json!({"cnf": {"x5t#S256": thumbprint(&pair)}}));
    get("/tokens/bound").bearer(&token).send_on(&mut wire).expect(200);
}

#[test]
fn the_metadata_says_that_tokens_may_be_bound_to_certificates() {
    let mtls = start("");
    let document = get("/.well-known/oauth-protected-resource").send_on(&mut mtls.anonymous()).expect(200).json();
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], true, "RFC 9728 section 2");
}

// -- parts that nobody here wrote

#[test]
fn curl_shows_a_certificate_and_a_bound_token_of_oidc_provider() {
    let idp = Idp::start();
    let mtls = {
        let world = World::new();
        let (servers, devices) = (Authority::new("servers"), Authority::new("devices"));
        servers.server(world.folder(), "server", &["localhost"]);
        for (name, text) in
            [("clients.pem", &devices.pem), ("devices.pem", &devices.pem), ("servers.pem", &servers.pem)]
        {
            world.write(name, text);
        }
        let issuer = format!(
            "issuers:\n  main: {{issuer: \"{}\", audience: [https://api.example], keys: {{discovery: true}}, algorithms: [RS256], bound: certificate}}\ncredentials:",
            idp.issuer()
        );
        let yaml = yaml("", "", "");
        let (before, after) = (yaml.split("issuers:").next().unwrap(), yaml.split("credentials:").nth(1).unwrap());
        let gateway = world.start_unready(&format!("{before}{issuer}{after}")).ready();
        Mtls { world, gateway, servers, devices, others: Authority::new("others") }
    };
    let write = |name: &str, serial| {
        let (pem, key) = mtls.leaf(serial);
        mtls.world.write(&format!("{name}.pem"), &pem);
        mtls.world.write(&format!("{name}.key"), key);
        pem
    };
    let (own, _) = (write("own", 7), write("other", 8));
    let path = |name: &str| mtls.world.folder().join(name).display().to_string();
    let ask = |target: &str, name: Option<&str>, token: Option<&str>| {
        let url = format!("https://localhost:{}{target}", mtls.gateway.tls);
        let mut arguments: Vec<String> =
            ["--cacert", &path("servers.pem"), "--output", "/dev/null", "--write-out", "%{http_code}"]
                .map(str::to_owned)
                .into();
        if let Some(name) = name {
            arguments.extend([
                "--cert".into(),
                path(&format!("{name}.pem")),
                "--key".into(),
                path(&format!("{name}.key")),
            ]);
        }
        if let Some(token) = token {
            arguments.extend(["--header".into(), format!("Authorization: Bearer {token}")]);
        }
        arguments.push(url);
        curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).stdout
    };
    assert_eq!(ask("/devices/x", Some("own"), None), "200");
    assert_eq!(ask("/devices/x", None, None), "401");
    let token = idp.certified_token(&own);
    assert_eq!(ask("/tokens/x", Some("own"), Some(&token)), "200");
    assert_eq!(ask("/tokens/x", Some("other"), Some(&token)), "401");
    assert_eq!(ask("/tokens/x", None, Some(&token)), "401");
    let unbound = idp.machine_token("plain");
    assert_eq!(ask("/tokens/unbound", Some("own"), Some(&unbound)), "401");
    assert_eq!(mtls.reason("/tokens/unbound"), "binding_required");
}
