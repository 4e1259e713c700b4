//! The room as a whole: the contract loads and means what its comments say, and what users read of a bad file is as it
//! should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use super::*;
use crate::{
    jose::{Algorithm, Algorithms},
    policy::{CertificateProof, MachineProof, Requirement},
};

const CONTRACT: &str = include_str!("../../tests/cases/contract.yaml");
const MINIMAL: &str =
    "upstreams: {api: {targets: [http://127.0.0.1:9100]}}\nroutes: [{path: /**, upstream: api, auth: none}]\n";

fn read(text: &str) -> Result<Loaded, Problems> {
    let env = |name: &str| (name == "FROM_ENV").then(|| "hunter2-from-env".to_owned());
    load(&Input { file: Path::new("gateway.yaml"), text, base: Path::new("/etc/stepgate"), env: &env })
}

fn loaded(text: &str) -> Loaded {
    match read(text) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{}", problems.render(Color::Never)),
    }
}

/// Everything that is said of a file: problems, or warnings and what is not guarded.
fn said(text: &str) -> String {
    match read(text) {
        Ok(loaded) => loaded.report(unguarded(&loaded.config)).render(Color::Never),
        Err(problems) => problems.render(Color::Never),
    }
}

macro_rules! said_of {
    ($($(#[doc = $doc:literal])* $name:ident: $case:literal;)+) => {$(
        #[test]
        fn $name() {
            let said = said(include_str!(concat!("cases/", $case, ".yaml")));
            assert!(!said.contains("hunter2"), "a secret is shown:\n{said}");
            insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
                insta::assert_snapshot!($case, said);
            });
        }
    )+};
}

said_of! {
    misspelt_names_are_found_everywhere_with_the_right_one: "misspelt";
    values_of_the_wrong_type_or_form_are_found: "wrong_types";
    addresses_relays_and_certificates_of_listeners_are_looked_at: "edge";
    what_is_ordered_needs_agreement_and_somebody_who_answers: "acme";
    what_is_ordered_needs_somebody_who_sells: "acme_none";
    balancing_has_forms_and_bounds: "balancing";
    services_are_reached_in_ways_that_fit_together: "reaching";
    streams_are_upgraded_where_they_can_be: "streams";
    listeners_do_one_thing_on_an_address_of_their_own: "listeners";
    issuers_have_keys_that_fit_and_a_name_of_their_own: "issuers";
    introspection_has_an_endpoint_and_one_proof_of_who_asks: "introspection";
    events_have_a_path_of_their_own_and_types_that_no_caller_has: "events";
    what_is_told_leaves_protected_and_each_webhook_has_a_secret: "notify";
    mail_has_a_server_and_a_whole_login: "notify_mail";
    mail_in_the_clear_is_a_warning: "notify_weak";
    users_have_a_file_and_bounds_that_can_hold: "users";
    api_keys_have_a_place_of_their_own: "api_keys";
    keys_that_others_may_read_are_warnings: "api_keys_weak";
    client_certificates_have_an_authority_and_lists_that_fit: "certificates";
    what_needs_a_client_certificate_needs_a_listener_that_asks: "certificates_unasked";
    limits_have_a_key_and_a_rate: "limits";
    proofs_of_possession_have_rules_that_can_be_kept: "dpop";
    routes_never_tie_and_never_contradict_themselves: "routes";
    what_routes_do_besides_is_theirs_to_do: "shaping";
    conditions_compile: "conditions";
    the_deletion_guard_can_be_satisfied: "guard";
    no_secret_is_ever_shown: "secrets";
    broken_yaml_is_one_problem_and_shows_no_secret: "syntax";
    duplicate_keys_and_merge_keys_are_found: "structure";
    an_empty_file_says_what_is_needed: "empty";
    a_route_without_auth_needs_an_issuer: "no_issuer";
    weak_settings_are_warnings: "warnings";
    an_authority_has_a_place_and_factors_that_can_be_had: "authority";
    an_authority_fits_to_what_is_around_it: "authority_conflicts";
    accounts_have_a_name_of_their_own_and_lives_that_fit: "authority_accounts";
    what_the_authority_gives_needs_one: "authority_none";
    an_authority_that_is_weaker_than_need_be_is_a_warning: "authority_weak";
    the_sealing_key_that_is_where_it_was_before_is_told_where_it_is_now: "sealing_moved";
    whoever_keeps_something_has_a_sealing_key: "sealing_missing";
    a_sealing_key_without_anything_to_seal_is_a_warning: "sealing_idle";
    a_disabled_guard_lists_what_it_leaves_open: "disabled";
    a_plan_binds_what_it_deletes_to_who_asks: "deletions_whose";
    what_a_plan_asks_and_does_is_in_order: "deletions_calls";
    a_plan_takes_over_what_can_be_reached_and_is_guarded: "deletions_reach";
    plans_stand_on_the_guard_and_have_a_place_of_their_own: "deletions_off";
    plans_of_the_wrong_form_are_found: "deletions_forms";
}

#[test]
fn the_contract_loads_as_written_and_warns_of_unused_names_alone() {
    let loaded = loaded(CONTRACT);
    let report = loaded.report(unguarded(&loaded.config)).render(Color::Never);
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("contract", report);
    });
}

#[test]
fn the_contract_means_what_its_comments_say() {
    let config = loaded(CONTRACT).config;
    let ListenerMode::Tls(tls) = &config.listeners[0].mode else { panic!("no tls") };
    assert_eq!(tls.certificates[0].files.cert.path, Path::new("/etc/stepgate/tls/server.pem"));
    assert_eq!((tls.min_version, tls.client_auth), (TlsVersion::V1_2, ClientAuth::Optional));
    assert_eq!(tls.alpn, [Alpn::H2, Alpn::Http1]);
    assert_eq!(config.listeners[1].mode, ListenerMode::RedirectToHttps(8443));
    assert!(matches!(&config.admin.token, Some(Source::File(file)) if file.path.ends_with("admin.token")));

    let main = &config.issuers[0];
    assert_eq!((main.leeway, main.token_bytes), (Duration::from_secs(30), 8192));
    assert_eq!((main.types.as_slice(), main.type_absent), (&["at+jwt".into(), "jwt".into()][..], true));
    let KeySource::Secret { encoding, .. } = &config.issuers[1].keys else { panic!("no secret") };
    assert_eq!(*encoding, SecretEncoding::Base64Url);

    let rate = |name: &str| config.limits.iter().find(|limit| limit.name.as_ref() == name).unwrap().rate;
    assert!(matches!(rate("per-key"), Rate::PerSecond { count, burst } if count.get() == 100 && burst.get() == 200));
    assert!(
        matches!(rate("per-user"), Rate::PerPeriod { count, period } if count.get() == 5 && period.as_secs() == 60)
    );

    let guard = &config.deletion_guard;
    assert_eq!(guard.operations[1].text.as_ref(), "* /account/delete/**");
    assert_eq!(guard.operations[1].limit.as_ref().unwrap().key, LimitKey::Subject);
    let max_age = Some(Duration::from_secs(300));
    let admin = config.routes.iter().find(|route| route.path.as_str() == "/admin/**").unwrap();
    let RouteDeletion::Guarded { requirement, .. } = &admin.deletion else { panic!("not guarded") };
    let phr: Box<[Arc<str>]> = ["urn:example:acr:phr".into()].into();
    let level = requirement.level.clone();
    assert!(level.as_deref().is_some_and(|name| name.starts_with("inline:") && name.ends_with("+recent-mfa")));
    assert_eq!(*requirement, Requirement { acr: Some(phr), max_age, level, ..Requirement::default() });

    let reports = config.routes.last().unwrap();
    assert!(matches!(&reports.rewrite, Some(Rewrite::StripPrefix(prefix)) if prefix.as_ref() == "/reports"));
    assert_eq!(reports.when.as_ref().unwrap().zone.as_ref(), "UTC");
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_ref()).collect();
    assert_eq!(names[2..4], ["GET /payments/**", "POST /payments/**"]);
}

/// The contract shows some keys with their defaults: leaving them out changes nothing.
#[test]
fn what_the_contract_shows_as_defaults_are_the_defaults() {
    let full = loaded(CONTRACT).config;
    let minimal = loaded(MINIMAL).config;
    assert_eq!(minimal.server, full.server);
    assert_eq!(minimal.admin.address, full.admin.address);
    assert_eq!(minimal.listeners[0].mode, ListenerMode::Cleartext);
    assert_eq!(minimal.audit.file.path, full.audit.file.path);
    assert_eq!(minimal.access_log, AccessLog::Stdout);
    assert_eq!(minimal.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(minimal.audit.head_interval, Duration::from_secs(60));
    let guard = &minimal.deletion_guard;
    assert_eq!((guard.enabled, guard.operations[0].text.as_ref()), (true, "DELETE /**"));
    let amr: Box<[Arc<str>]> = ["mfa".into()].into();
    assert_eq!(
        guard.assurance,
        Requirement {
            amr: Some(amr),
            max_age: Some(Duration::from_secs(300)),
            level: guard.assurance.level.clone(),
            ..Requirement::default()
        }
    );
    assert!(guard.assurance.level.as_deref().is_some_and(|name| name.starts_with("inline:")));

    let without = |upstream: &Upstream| Upstream { span: Span::default(), ..upstream.clone() };
    assert_eq!(without(&minimal.upstreams[0]), without(&full.upstreams[0]));

    let short = "issuers: {main: {issuer: https://idp.example/, audience: [https://api.example], \
                 keys: {jwks_url: https://idp.example/jwks.json}, algorithms: [RS256, ES256, EdDSA]}}\n";
    let short = loaded(&format!("{short}{}", MINIMAL.replace("none", "[main]"))).config;
    let without = |issuer: &Issuer| Issuer { span: Span::default(), ..issuer.clone() };
    assert_eq!(without(&short.issuers[0]), without(&full.issuers[0]));
}

#[test]
fn every_further_key_is_read() {
    let config = loaded(include_str!("cases/further.yaml")).config;
    let issuer = &config.issuers[0];
    assert_eq!(issuer.keys, KeySource::Discovery);
    assert_eq!(issuer.auth_time_format, AuthTimeFormat::NumberOrString);
    assert_eq!(issuer.claims.client, Some(ClaimPath::Name("cid".into())));
    assert!(matches!(&config.issuers[1].keys, KeySource::PublicKey(Source::Inline { .. })));
    assert!(matches!(
        &config.issuers[2].keys,
        KeySource::Secret { encoding: SecretEncoding::Hex, source: Source::Inline { .. } }
    ));
    let api = &config.upstreams[0];
    assert!(
        matches!(&api.credential, Some(UpstreamCredential::Basic { username, .. }) if username.as_ref() == "gateway")
    );
    assert_eq!(api.method_override, [MethodOverride::Header, MethodOverride::Query, MethodOverride::Form]);
    assert_eq!((api.form_bytes, api.host), (65_536, UpstreamHost::Target));
    assert!(
        matches!(&config.upstreams[1].credential, Some(UpstreamCredential::Header { name, .. }) if name == "x-api-key")
    );
    assert_eq!(config.upstreams[1].targets[1].address, Target { tls: true, host: "[::1]".into(), port: 443 });
    assert!(matches!(&config.access_log, AccessLog::File(file) if file.path.ends_with("access.jsonl")));
    let route = &config.routes[0];
    assert_eq!((route.name.as_ref(), route.when.as_ref().unwrap().zone.as_ref()), ("orders", "Europe/Paris"));
    assert!(matches!(&route.rewrite, Some(Rewrite::ReplacePrefix(from, to)) if from.as_ref() == "/a" && to.is_empty()));
    let RouteDeletion::Guarded { limit, requirement } = &route.deletion else { panic!("not guarded") };
    assert_eq!(limit.as_ref().unwrap().key, LimitKey::Subject);
    assert_eq!(requirement.max_age, Some(Duration::from_secs(60)));
    assert!(matches!(config.routes[1].deletion, RouteDeletion::Unguarded));
    assert_eq!(config.routes[1].auth, Auth::Issuers(vec!["main".into(), "key".into(), "hmac".into()]));
}

#[test]
fn proofs_of_possession_are_read() {
    let config = loaded(
        "issuers:
  main:
    issuer: https://idp.example/
    audience: [a]
    keys: {discovery: true}
    algorithms: [RS256]
    dpop: {nonce: required, max_age: 30s, algorithms: [ES256, EdDSA], origins: [\"https://api.example\"]}
  plain: {issuer: https://b.example/, audience: [a], keys: {discovery: true}, algorithms: [RS256], dpop: {}}
assurance:
  guard: {acr: [gold], machines: {dpop: true, certificate: true}}
deletion_guard: {assurance: guard}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
routes:
  - {path: /a, upstream: api, assurance: {acr: [gold], machines: {dpop: {algorithms: [ES256]}}}}
  - {path: /b, upstream: api, assurance: {acr: [gold]}}
  - {path: /c, upstream: api, assurance: {acr: [gold], machines: {certificate: {sources: [plain]}}}}
",
    )
    .config;
    let es256 = Algorithms::from(Algorithm::ES256);
    let main = DpopRules {
        nonce: DpopNonce::Required,
        max_age: Duration::from_secs(30),
        algorithms: es256.or(Algorithm::EdDSA.into()),
        origins: vec![Target { tls: true, host: "api.example".into(), port: 443 }],
    };
    assert_eq!(config.issuers[0].dpop, Some(main));
    assert_eq!(
        config.issuers[1].dpop,
        Some(DpopRules::default()),
        "the defaults of the reference are those of the code"
    );
    // Both the guard and the route must take a proof.
    let deletion: Vec<_> = config
        .routes
        .iter()
        .map(|route| match &route.deletion {
            RouteDeletion::Guarded { requirement, .. } => requirement.machines.clone(),
            RouteDeletion::Unguarded => panic!("not guarded"),
        })
        .collect();
    let by_certificate =
        MachineProof { certificate: CertificateProof::Of(["plain".into()].into()), dpop: Algorithms::NONE };
    let by_key = MachineProof { certificate: CertificateProof::Refused, dpop: es256 };
    assert_eq!(deletion, [Some(by_key), None, Some(by_certificate)]);
}

#[test]
fn client_certificates_are_read_with_their_defaults() {
    let text = |certificates: &str| {
        let listener = "listeners: [{address: 127.0.0.1:8443, tls: {certificates: [{cert: a.pem, key: a.key}], \
                        client_ca: ca.pem, client_crl: [ca.crl], client_auth: optional}}]\n";
        let credentials = format!("credentials: {{devices: {{client_certificates: {{{certificates}}}}}}}\n");
        format!("{listener}{credentials}{}", MINIMAL.replace("none", "[devices]"))
    };
    let read = |certificates: &str| {
        let config = loaded(&text(certificates)).config;
        let ListenerMode::Tls(tls) = &config.listeners[0].mode else { panic!("no tls") };
        assert!(tls.client_crl[0].path.ends_with("ca.crl"));
        let CredentialKind::ClientCertificates(read) = &config.credentials[0].kind else { panic!("no certificates") };
        read.clone()
    };
    let short = read("ca: ca.pem");
    assert!((short.subject, short.crl_depth) == (CertificateSubject::SubjectDn, CrlDepth::Chain));
    assert!(short.allow.is_empty() && short.crl.is_empty() && !short.danger_expired_crl && !short.person);
    let long = read(
        "ca: ca.pem, subject: san_uri, allow: ['spiffe://x/**'], crl: [a.crl, b.crl], crl_depth: leaf, \
         danger_expired_crl: true, scopes: [items:read], person: true",
    );
    assert_eq!((long.subject, long.crl_depth, long.crl.len()), (CertificateSubject::SanUri, CrlDepth::Leaf, 2));
    assert_eq!((&*long.allow[0], &*long.scopes[0]), ("spiffe://x/**", "items:read"));
    assert!(long.danger_expired_crl && long.person);
}

const AUTHORITY: &str = "issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {discovery: true}, algorithms: [RS256]}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
routes:
  - {path: /**, upstream: api, assurance: strong, deletion: {bind: request}}
assurance:
  strong: {acr: ['urn:example:acr:phr'], factors: [passkey, totp], categories: 2}
";

const MAIL: &str = "notify: {mail: {server: 'smtps://mail.example', from: gate@example.com}}\n";

#[test]
fn what_is_told_is_read() {
    let text = "notify:
  mail: {server: 'smtp://mail.example:2525', username: gate, password: {env: P}, from: 'Gate <gate@example.com>', ca: ca.pem, timeout: 10s}
  webhooks:
    code: {url: 'https://hooks.example/code', secret: {file: code.secret}, previous_secret: {env: OLD}, ca: ca.pem}
    push: {url: 'http://localhost:9/', secret: \"${FROM_ENV}\", timeout: 1s}
";
    let loaded = loaded(&format!("{text}{MINIMAL}"));
    let notify = loaded.config.notify.unwrap();
    let mail = notify.mail.as_ref().unwrap();
    let server = (mail.server.protection, mail.server.host.to_string(), mail.server.port);
    assert_eq!(server, (MailProtection::StartTls, "mail.example".to_owned(), 2525));
    assert_eq!((mail.from.to_string().as_str(), mail.timeout.as_secs()), ("Gate <gate@example.com>", 10));
    assert!(matches!(&mail.login, Some(MailLogin { username, .. }) if &**username == "gate"));
    assert!(mail.ca.as_ref().is_some_and(|ca| ca.path == Path::new("/etc/stepgate/ca.pem")));
    let [code, push] = &notify.webhooks[..] else { panic!("{notify:?}") };
    assert_eq!((&*code.name, code.url.as_str(), code.timeout.as_secs()), ("code", "https://hooks.example/code", 5));
    assert!(code.previous_secret.is_some() && push.previous_secret.is_none() && code.ca.is_some());
    assert_eq!((&*push.name, push.timeout.as_secs()), ("push", 1));
    assert!(loaded.warnings.iter().all(|warning| !warning.span.key.starts_with("notify")), "{:?}", loaded.warnings);
}

#[test]
fn an_authority_is_read_with_its_defaults() {
    let text = "sealing: {key: {file: seal.key}}\nauthority: {url: 'https://api.example', notices: {email_claim: /email}, \
                acr: {'urn:example:acr:phr': {phishing_resistant: true}}}\n";
    let loaded = loaded(&format!("{text}{MAIL}{AUTHORITY}"));
    let config = loaded.config;
    let (authority, sealing) = (config.authority.unwrap(), config.sealing.unwrap());
    assert!(authority.accounts.is_none() && authority.issuers.is_empty() && !authority.four_eyes);
    assert_eq!((authority.url.as_str(), &*authority.path), ("https://api.example/", "/stepgate"));
    assert!(matches!(&sealing.key, SealingKey::Source(Source::File(file)) if file.path.ends_with("seal.key")));
    let (passkey, totp) = (authority.passkey.as_ref().unwrap(), authority.totp.as_ref().unwrap());
    assert_eq!((&*passkey.rp_id, &*passkey.rp_name, passkey.user_verification), ("api.example", "api.example", true));
    assert_eq!((&*totp.label, totp.digits, totp.skew), ("api.example", 6, 1));
    assert!(authority.email.is_none() && authority.webhook.is_none() && authority.push.is_none());
    assert_eq!(authority.recovery, Some(10));
    assert_eq!((authority.enrolment, authority.elevation), (Enrolment::Invitation, ElevationRule::ByCode));
    assert_eq!((authority.elevation_by, authority.first_factor), (ElevationBy::Credential, FirstFactor::Knowledge));
    let secs = [authority.invitation_ttl, authority.probation, authority.elevation_ttl, authority.grant_ttl];
    assert_eq!(secs.map(|ttl| ttl.as_secs()), [7 * 86_400, 86_400, 300, 120]);
    assert_eq!((authority.grant_body_bytes, authority.send_limit.0.get()), (65_536, 3));
    let rate = |count, burst| Rate::PerSecond {
        count: NonZeroU32::new(count).unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
    };
    assert_eq!((&authority.limit.key, &authority.limit.rate), (&LimitKey::Ip, &rate(10, 60)));
    let Guessing { failures, first, longest, hard } = authority.guessing;
    assert_eq!((failures, first.as_secs(), longest.as_secs(), hard), (5, 30, 900, 100));
    let rule = &authority.acr[0];
    assert_eq!((&*rule.0, rule.1.phishing_resistant), ("urn:example:acr:phr", true));

    let level = config.routes[0].assurance.as_ref().unwrap().factors.unwrap();
    let factors: Vec<_> = level.any_of.unwrap().iter().map(|factor| factor.name()).collect();
    assert_eq!((factors, level.categories, level.phishing_resistant), (vec!["passkey", "totp"], 2, false));
    let RouteDeletion::Guarded { requirement, .. } = &config.routes[0].deletion else { panic!("not guarded") };
    assert!(requirement.bind);
    assert!(loaded.warnings.iter().all(|warning| warning.span.line == 0), "{:?}", loaded.warnings);
}

#[test]
fn every_key_of_the_authority_is_read() {
    let text = "sealing: {key: {command: [vault, read, key]}, previous: [{env: OLD}, \"${FROM_ENV}\"]}
authority:
  url: http://localhost:8080
  path: /mfa
  mode: accounts
  issuers: [main, own]
  first_factor: knowledge
  acr: {'urn:example:acr:phr': {factors: [passkey], categories: 2}, gold: {}}
  factors:
    passkey: {rp_id: localhost, rp_name: Us, origins: ['http://localhost:3000'], user_verification: required}
    totp: {label: Us, digits: 8, skew: 0}
    recovery: {codes: 12}
  enrolment: invitation
  invitation_ttl: 1d
  probation: 2d
  elevation: by_code
  elevation_by: credential
  elevation_ttl: 1m
  grants: {ttl: 30s, body_bytes: 1KiB}
  return_to: ['https://app.example']
  guessing: {failures: 3, first: 1m, longest: 1h, hard: 50}
  send_limit: 1/m
  limit: {rate: 50/s}
  four_eyes: true
  notices: {email_claim: email}
  accounts:
    issuer: own
    audience: https://api.example
    algorithm: EdDSA
    rotate: 7d
    registration: closed
    access_ttl: 1m
    refresh: {idle: 1d, ttl: 2d, assurance: strong}
    scopes: [items:read]
    password: {min_length: 14, refused: refused.txt}
";
    let config = loaded(&format!("{text}{MAIL}{AUTHORITY}")).config;
    let (authority, sealing) = (config.authority.unwrap(), config.sealing.unwrap());
    let accounts = authority.accounts.as_ref().unwrap();
    assert_eq!((&*accounts.issuer, &*accounts.audience), ("own", "https://api.example"));
    assert_eq!((accounts.algorithm, accounts.registration), (AssertionAlgorithm::EdDSA, Registration::Closed));
    assert_eq!((accounts.password_chars, accounts.scopes.len()), (14, 1));
    assert!(accounts.refresh_assurance.as_ref().unwrap().factors.is_some() && accounts.refused_passwords.is_some());
    assert_eq!((accounts.refresh_idle.as_secs(), accounts.refresh_ttl.as_secs()), (86_400, 2 * 86_400));
    assert!(matches!(&sealing.key, SealingKey::Command { argv, .. } if argv.len() == 3));
    assert!(matches!(
        &sealing.previous[..],
        [SealingKey::Source(Source::Env { .. }), SealingKey::Source(Source::Inline { .. })]
    ));
    assert_eq!(authority.issuers, ["main".into(), "own".into()]);
    let passkey = authority.passkey.as_ref().unwrap();
    assert_eq!((&*passkey.rp_id, &*passkey.rp_name, passkey.origins.len()), ("localhost", "Us", 1));
    let totp = authority.totp.as_ref().unwrap();
    assert_eq!((&*totp.label, totp.digits, totp.skew, authority.recovery), ("Us", 8, 0, Some(12)));
    assert!(matches!(authority.limit.rate, Rate::PerSecond { count, burst } if count == burst && burst.get() == 50));
    assert_eq!((&*authority.path, authority.four_eyes, authority.return_to.len()), ("/mfa", true, 1));
}

#[test]
fn secrets_from_the_environment_are_no_warning() {
    let text = format!("{MINIMAL}admin: {{token: \"${{FROM_ENV}}\"}}\n");
    let loaded = loaded(&text);
    assert!(loaded.warnings.iter().all(|warning| !warning.message.contains("secret")));
    let Some(Source::Inline { value, .. }) = &loaded.config.admin.token else { panic!("not inline") };
    assert_eq!(value.expose(), b"hunter2-from-env");
}

#[test]
fn no_text_makes_the_loader_panic() {
    let mut pieces: Vec<String> = Vec::new();
    for text in [CONTRACT, MINIMAL, include_str!("cases/secrets.yaml"), include_str!("cases/further.yaml")] {
        // Cut everywhere, and each line left out in turn.
        pieces.extend(text.char_indices().step_by(7).map(|(at, _)| text[..at].to_owned()));
        let lines: Vec<&str> = text.lines().collect();
        pieces.extend((0..lines.len()).map(|gone| {
            let kept = lines.iter().enumerate().filter(|(at, _)| *at != gone);
            kept.map(|(_, line)| format!("{line}\n")).collect()
        }));
    }
    let deep = |open: &str, n: usize| open.repeat(n);
    pieces.extend([deep("[", 5_000), deep("{a: ", 5_000), deep("- ", 5_000), deep("a:\n ", 5_000), deep("? ", 5_000)]);
    pieces.extend(
        ["\u{feff}a", "\0", "%YAML 1.2\n---\n", "*a", "&a", "!", "|", ">", "- - -", "a: b: c", "\t"].map(str::to_owned),
    );
    pieces.push(format!("routes: [{}]", "[],".repeat(20_000)));
    pieces.push(format!("upstreams: {{{}}}", (0..20_000).map(|n| format!("k{n}: x,")).collect::<String>()));
    for piece in pieces {
        if let Err(problems) = read(&piece) {
            assert!(problems.list.iter().any(|problem| problem.severity == Severity::Error));
            let shown = problems.render(Color::Always);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn ten_thousand_routes_are_checked_in_linear_time() {
    let mut text = String::from("upstreams: {api: {targets: [http://127.0.0.1:9100]}}\nroutes:\n");
    for n in 0..10_000 {
        text.push_str(&format!("  - {{path: /r{n}/**, upstream: api, auth: none, methods: [GET]}}\n"));
    }
    assert_eq!(loaded(&text).config.routes.len(), 10_000);
}

/// Words that documents are made of, thrown together.
const SOUP: [&str; 48] = [
    "routes:",
    "upstreams:",
    "issuers:",
    "api:",
    "- ",
    "  ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "path: ",
    "/a/**",
    "/{x}",
    "upstream: api",
    "auth: none",
    "auth: [main]",
    "when: ",
    "'a.b =='",
    "limits: [q]",
    "rate: 5/minute",
    "key: subject",
    "burst: 9",
    "targets: [http://a:1]",
    "keys: {secret: ",
    "\"${FROM_ENV}\"",
    "${",
    "$${",
    "&x ",
    "*x",
    "!!t ",
    "|\n",
    ">-\n",
    "#",
    "'",
    "\"",
    "\\",
    "é",
    "\u{0}",
    "\t",
    "deletion_guard: ",
    "operations: [\"DELETE /**\"]",
    "assurance: {max_age: 5m}",
    "---\n",
];

proptest::proptest! {
    #[test]
    fn any_soup_of_words_is_answered(words in proptest::collection::vec(0..SOUP.len(), 0..60)) {
        let text: String = words.iter().map(|at| SOUP[*at]).collect();
        let said = said(&text);
        proptest::prop_assert!(!said.contains("hunter2"));
        proptest::prop_assert!(!said.contains('\0'));
    }

    #[test]
    fn any_damage_to_the_contract_is_answered(at in 0..CONTRACT.len(), length in 0..40_usize, put in ".{0,6}") {
        let floor = |mut at: usize| {
            while !CONTRACT.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (floor(at), floor((at + length).min(CONTRACT.len())));
        let _ = said(&format!("{}{put}{}", &CONTRACT[..from], &CONTRACT[to..]));
    }
}
/// A slip of the finger anywhere near a secret shows none of it. (Putting in every sign at every place takes half a minute;
/// each place gets one of them.)
#[test]
fn a_sign_too_many_shows_no_secret() {
    const SIGNS: [&str; 23] = [
        "\"", "'", ":", "{", "}", "[", "]", "#", "&", "*", "!", "|", ">", "-", "\n", "\t", ",", " ", ": ", "%", "@",
        "`", "\\",
    ];
    let text = include_str!("cases/secrets.yaml");
    let thorough = std::env::var_os("THOROUGH").is_some();
    for (at, _) in text.char_indices() {
        for (nth, sign) in SIGNS.iter().enumerate() {
            if !thorough && (at * 7 + nth) % SIGNS.len() != 0 {
                continue;
            }
            let said = said(&format!("{}{sign}{}", &text[..at], &text[at..]));
            // A sign within the word is no slip that this test could tell from the word.
            assert!(!said.contains("hunter2"), "{sign:?} at {at}:\n{said}");
        }
    }
}

#[test]
fn a_plan_means_what_it_says() {
    let loaded = loaded(include_str!("cases/deletions_good.yaml"));
    let warnings = loaded.warnings.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>();
    assert_eq!(
        warnings,
        [
            "nothing verifies that the data is gone: the evidence is the steps' word alone",
            "there is no `grace`: a deletion begins at once, and nobody can take it back",
        ]
    );
    let config = loaded.config;
    let deletions = config.deletions.as_deref().unwrap();
    assert_eq!((deletions.url.as_str(), &*deletions.path), ("https://api.example/", "/deletions"));
    assert_eq!(deletions.breaker.total, (NonZeroU32::new(50).unwrap(), Duration::from_secs(7_200)));
    assert_eq!(deletions.breaker.by_principal, (NonZeroU32::new(10).unwrap(), Duration::from_secs(3_600)));
    assert_eq!(deletions.operators, [Recipient::Mail("dpo@example.com".into()), Recipient::Webhook("crm".into())]);
    assert_eq!(deletions.limit.key, LimitKey::Ip);

    let plan = &deletions.plans[0];
    let id = ValueSource::Path("id".into());
    assert_eq!((&plan.subject, plan.owner.as_ref()), (&id, Some(&ClaimPath::Pointer("/sub".into()))));
    assert_eq!(plan.bind, [(ValueSource::Path("tenant".into()), ClaimPath::Pointer("/tenant_id".into()))]);
    assert_eq!((plan.issuer.as_deref(), &*plan.others[0]), (Some("main"), "admin:accounts"));
    let covered: Vec<_> = plan.covers.iter().map(|cover| (&*cover.text, cover.what.clone())).collect();
    let mutations = Covered::Mutations(vec!["deleteAccount".into(), "eraseMe".into()]);
    assert_eq!(
        covered,
        [("DELETE /v1/accounts/{id}", Covered::Whole), ("* /graphql", mutations), ("POST /batch", Covered::Batch)]
    );
    let way = deletions.requirements.iter().find(|way| &*way.plan == "account" && way.route == 0).unwrap();
    let gold: Box<[Arc<str>]> = ["gold".into()].into();
    assert_eq!((way.requirement.acr.as_ref(), way.requirement.bind), (Some(&gold), true));
    assert_eq!(way.requirement.max_age, Some(Duration::from_secs(120)));
    assert_eq!(plan.cancel_assurance.as_ref().unwrap().acr, Some(gold));

    let terms = &plan.terms;
    assert_eq!((terms.grace_secs, terms.while_held), (Some(30 * 86_400), WhileHeld::Block(410)));
    let after: Vec<&[usize]> = terms.steps.iter().map(|step| step.after.as_slice()).collect();
    assert_eq!(after, [&[][..], &[], &[0, 1]]);
    assert_eq!(terms.steps[0].done, [200, 202, 204, 404, 410]);
    let body = serde_json::json!({"customer": "{captured.customer}", "hard": true, "tries": 3, "note": "3", "nothing": null,
        "list": [1.5, "{subject}"]});
    assert_eq!(terms.steps[1].call.body, Some(body));
    assert_eq!((terms.verify_after_secs.as_slice(), terms.give_up_secs), (&[0, 3_600][..], 2 * 86_400));
    assert_eq!(terms.probes[1].call.method.as_ref(), "HEAD");
    let kept: Terms = serde_json::from_str(&serde_json::to_string(&**terms).unwrap()).unwrap();
    assert_eq!(kept, **terms, "what is kept beside a deletion is the whole of it");

    // Each operation is under the guard, whose quotas come besides the plan's.
    let guarded = |text: &str| config.deletion_guard.operations.iter().find(|known| &*known.text == text).unwrap();
    assert!(guarded("DELETE /tenants/{tenant}/accounts/{id}").limit.is_none() && guarded("DELETE /me").limit.is_none());
    let own = &deletions.plans[1].limit;
    assert_eq!((&*own.name, own.key.clone()), ("deletions me", LimitKey::Subject));
    // What is not said is as safe as can be.
    let me = &deletions.plans[1];
    assert_eq!((me.terms.grace_secs, me.terms.while_held, me.terms.own_data), (None, WhileHeld::Block(403), true));
    assert_eq!(me.cancel_assurance.as_ref(), Some(&config.deletion_guard.assurance));
    assert!(me.others.is_empty() && me.issuer.is_none() && me.assurance.is_none());
}
