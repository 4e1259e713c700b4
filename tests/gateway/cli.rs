//! The command line: what each command prints and how it ends. Exit codes are public interface: 0 well, 1 found wanting,
//! 2 wrong usage, 69 unavailable, 78 configuration.

use serde_json::{Value, json};

use crate::harness::{Finished, Request, World, get, stepgate, unix_now};

const YAML: &str = "assurance:
  recent-mfa: {acr: [urn:example:acr:mfa], max_age: 5m}
deletion_guard: {assurance: recent-mfa}
routes:
  - {path: /public/**, upstream: api, auth: none}
  - {path: \"/items/{id}\", upstream: api, auth: [main], scopes: [items:read]}
  - {path: /transfer, upstream: api, auth: [main], assurance: recent-mfa}
";

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

#[test]
fn check_accepts_a_good_file() {
    let finished = World::new().check(YAML);
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[test]
fn check_reports_all_problems_at_once_each_with_its_place() {
    let world = World::new();
    let finished = world.check(
        "routes:
  - {path: /a, upstream: apl, auth: [main]}
  - {path: b, upstream: api, auth: none}
  - {path: /c, upstream: api, auth: [mian], lmits: []}
",
    );
    assert_eq!(finished.code, 78);
    let said = said(&finished);
    let yaml = std::fs::read_to_string(world.folder().join("gateway.yaml")).unwrap();
    for (mark, near) in [("apl", "api"), ("path: b", "/"), ("mian", "main"), ("lmits", "limits")] {
        let line = 1 + yaml.lines().position(|line| line.contains(mark)).unwrap();
        assert!(said.contains(&format!("gateway.yaml:{line}:")) && said.contains(near), "{mark}: {said}");
    }
}

#[test]
fn check_never_shows_a_secret() {
    let world = World::new();
    let finished = world.check(
        "admin: {address: 127.0.0.1:<admin>, token: the-secret-admin-token, tokn: 1}
issuers:
  main: {issuer: https://idp.example/, audience: [x], keys: {secret: the-secret-of-the-issuer-in-plain-sight, encodin: raw}, algorithms: [HS256]}
routes:
  - {path: /a, upstream: api, auth: [main]}
",
    );
    assert_eq!(finished.code, 78);
    assert!(!said(&finished).contains("the-secret"), "{}", said(&finished));
}

#[test]
fn files_that_are_no_configuration_end_with_78_and_a_word() {
    for text in [
        "",
        "\0\0\0",
        "- a\n- b",
        "routes: {a: [}",
        "a: &a [*a]",
        "\u{feff}",
        "x: 1\nx: 2\n",
        "--- a\n--- b",
        "routes: 7\nupstreams: 8\n",
        "\t",
        "%YAML 9",
        "{{{{{{",
        "!!binary x",
    ] {
        let world = World::new();
        world.write("gateway.yaml", text);
        for command in ["check", "run"] {
            let finished = stepgate(world.folder(), &[command, "gateway.yaml"]);
            assert_eq!(finished.code, 78, "{command} {text:?}: {finished:?}");
            assert!(!finished.stderr.is_empty() && !finished.stderr.contains("panicked"), "{finished:?}");
        }
    }
    let world = World::new();
    let deep = format!("routes: {}", "[".repeat(200_000));
    world.write("gateway.yaml", deep);
    assert_eq!(stepgate(world.folder(), &["check", "gateway.yaml"]).code, 78);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    world.write("gateway.yaml", bomb);
    assert_eq!(stepgate(world.folder(), &["check", "gateway.yaml"]).code, 78);
    world.write("gateway.yaml", [0xff, 0xfe, 0x00, 0xd8]);
    assert_eq!(stepgate(world.folder(), &["check", "gateway.yaml"]).code, 78);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let world = World::new();
    for command in ["check", "run"] {
        let finished = stepgate(world.folder(), &[command, "nowhere.yaml"]);
        assert_eq!(finished.code, 78);
        assert!(finished.stderr.contains("nowhere.yaml"), "{finished:?}");
    }
}

#[test]
fn a_number_that_begins_with_a_hyphen_is_no_option() {
    let world = World::new();
    let finished =
        stepgate(world.folder(), &["factors", "approve", "-Vx-1", "--by", "bob", "--config", "nowhere.yaml"]);
    assert!(finished.code != 2 && finished.stderr.contains("nowhere.yaml"), "{finished:?}");
}

#[test]
fn an_environment_variable_that_is_not_set_is_an_error() {
    let finished = World::new().check("upstreams:\n  api: {targets: [\"http://${STEPGATE_TEST_UNSET}:80\"]}\nroutes:\n  - {path: /a, upstream: api, auth: [main]}\n");
    assert_eq!(finished.code, 78);
    assert!(said(&finished).contains("STEPGATE_TEST_UNSET"), "{finished:?}");
}

#[test]
fn routes_that_could_tie_are_an_error() {
    for (one, two, tie) in [
        ("{path: \"/a/{x}\", upstream: api, auth: none}", "{path: \"/a/{y}\", upstream: api, auth: [main]}", true),
        ("{path: /a, upstream: api, auth: none}", "{path: /a, upstream: api, auth: [main], methods: [GET]}", true),
        (
            "{path: /a, upstream: api, auth: none, methods: [GET]}",
            "{path: /a, upstream: api, auth: [main], methods: [POST]}",
            false,
        ),
        (
            "{path: /a, upstream: api, auth: none, hosts: [x.example]}",
            "{path: /a, upstream: api, auth: [main], hosts: [y.example]}",
            false,
        ),
        ("{path: /a/*, upstream: api, auth: none}", "{path: \"/a/{y}\", upstream: api, auth: [main]}", false),
    ] {
        let finished = World::new().check(&format!("routes:\n  - {one}\n  - {two}\n"));
        assert_eq!(finished.code, if tie { 78 } else { 0 }, "{one} {two}: {finished:?}");
    }
}

#[test]
fn settings_that_would_be_a_hole_are_errors() {
    for (section, why) in [
        (
            "issuers:\n  main: {issuer: http://idp.example/, audience: [x], keys: {jwks_file: jwks.json}, algorithms: [ES256]}",
            "an issuer over plain http",
        ),
        (
            "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {jwks_url: \"http://idp.example/jwks\"}, algorithms: [ES256]}",
            "keys over plain http",
        ),
        (
            "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {jwks_file: jwks.json}, algorithms: [none]}",
            "no signature",
        ),
        (
            "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {jwks_file: jwks.json}, algorithms: [HS256]}",
            "a public key as a secret",
        ),
        (
            "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {jwks_file: jwks.json}, algorithms: []}",
            "no algorithm",
        ),
        (
            "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {secret: short}, algorithms: [HS256]}",
            "a secret shorter than its hash",
        ),
        ("server: {methods: [GET, CONNECT]}", "CONNECT"),
        ("server: {methods: [GET, TRACE]}", "TRACE"),
    ] {
        let finished =
            World::new().check(&format!("{section}\nroutes:\n  - {{path: /a, upstream: api, auth: [main]}}\n"));
        assert_eq!(finished.code, 78, "{why}: {finished:?}");
    }
}

#[test]
fn a_condition_that_does_not_compile_is_an_error_at_load() {
    let finished = World::new().check("routes:\n  - {path: /a, upstream: api, auth: [main], when: 'claims.x =='}\n");
    assert_eq!(finished.code, 78, "{finished:?}");
    assert!(said(&finished).contains("when"), "{finished:?}");
}

#[test]
fn check_says_that_operations_without_a_delete_guard_no_deletion() {
    let world = World::new();
    let says = |operations: &str| {
        let finished = world.check(&format!(
            "deletion_guard: {{operations: [{operations}]}}
routes:
  - {{path: /items/**, upstream: api, auth: [main]}}
  - {{path: /read/**, upstream: api, auth: [main], methods: [GET]}}
  - {{path: /account/delete/**, upstream: api, auth: [main], methods: [POST]}}
"
        ));
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stderr
    };
    for (operations, none_is_a_delete) in [("\"POST /account/delete/**\"", true), ("\"* /account/delete/**\"", false)] {
        let said = says(operations);
        assert!(said.contains("DELETE /items/** looks destructive and is not guarded"), "{said}");
        assert!(said.contains("add \"DELETE /items/**\" to `deletion_guard.operations`"), "{said}");
        assert_eq!(said.contains("none of them is a DELETE: deletions are not guarded"), none_is_a_delete, "{said}");
        // What takes no DELETE, and what is listed, is not named.
        assert_eq!(said.matches("looks destructive").count(), 1, "{said}");
    }
    let other_half = says("\"DELETE /**\"");
    assert!(other_half.contains("POST /account/delete/** looks destructive") && !other_half.contains("DELETE /items"));
    assert_eq!(says("\"DELETE /**\", \"* /account/delete/**\""), "");
}

// -- explain

fn explain(world: &World, arguments: &[&str]) -> Finished {
    world.configure(YAML);
    stepgate(world.folder(), &[&["explain"], arguments].concat())
}

#[test]
fn explain_tells_route_and_decision_without_a_network() {
    let world = World::new();
    let allowed = explain(&world, &["GET", "http://gateway.example/public/x"]);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    assert!(allowed.stdout.contains("/public/**") && allowed.stdout.contains("allowed"), "{}", allowed.stdout);
    let missing = explain(&world, &["GET", "http://gateway.example/items/7"]);
    assert!(missing.stdout.contains("/items/{id}") && missing.stdout.contains("token_missing"), "{}", missing.stdout);
    let nowhere = explain(&world, &["GET", "http://gateway.example/nowhere"]);
    assert!(nowhere.stdout.contains("route_not_found"), "{}", nowhere.stdout);
    let ambiguous = explain(&world, &["GET", "http://gateway.example/public/%2e%2e/items/7"]);
    assert!(ambiguous.stdout.contains("ambiguous_path"), "{}", ambiguous.stdout);
}

#[test]
fn explain_tells_of_each_requirement_whether_it_held() {
    let world = World::new();
    let old = world.token(json!({"acr": "urn:example:acr:mfa", "auth_time": unix_now() - 1000}));
    let finished = explain(&world, &["POST", "http://gateway.example/transfer", "--token", &old]);
    assert!(finished.stdout.contains("authentication_too_old"), "{}", finished.stdout);
    let undated = explain(&world, &["GET", "http://gateway.example/items/7", "--token", &world.token(json!({}))]);
    assert!(undated.stdout.contains("authenticated at an unknown time;"), "{}", undated.stdout);
    let finished = explain(&world, &["DELETE", "http://gateway.example/public/x", "--token", &world.fresh(5)]);
    assert!(finished.stdout.contains("allowed"), "{}", finished.stdout);
    assert!(!finished.stdout.contains(&old) && !finished.stderr.contains(&old));
}

#[test]
fn explain_lists_what_a_token_holds_beside_what_it_lacks() {
    let world = World::new();
    world.configure(
        "routes:
  - path: /x
    upstream: api
    auth: [main]
    scopes: [items:read, items:write]
    when: 'claims.department == \"finance\"'
    assurance: {acr: [urn:example:acr:mfa], max_age: 5m}
",
    );
    let explained = |token: &str| {
        let finished = stepgate(world.folder(), &["explain", "GET", "/x", "--token", token]);
        let said = |name: &str| {
            let mut lines = finished.stdout.lines().filter(|line| line.split(' ').next() == Some(name));
            let said = lines.next().and_then(|line| line.get(11..)).unwrap_or_else(|| panic!("{name}: {finished:?}"));
            assert!(lines.next().is_none(), "{name} stands there once: {finished:?}");
            said.to_owned()
        };
        (["token", "scopes", "when", "level", "freshness"].map(said), said("decision"), finished.code)
    };
    let token = |scope: &str, department: &str, acr: &str, age: u64| {
        let acr = format!("urn:example:acr:{acr}");
        world.token(json!({"scope": scope, "department": department, "acr": acr, "auth_time": unix_now() - age}))
    };
    let (checks, decision, code) = explained(&token("items:read items:write", "finance", "mfa", 5));
    assert_eq!((checks, code), (["held"; 5].map(str::to_owned), 0), "{decision}");
    assert!(decision.starts_with("allowed"), "{decision}");
    let (checks, decision, code) = explained(&token("items:read items:write", "finance", "mfa", 1000));
    let old = "MISSING: authentication_too_old; wanted: authenticated within 300 s";
    assert_eq!((checks.each_ref().map(String::as_str), code), (["held", "held", "held", "held", old], 1));
    assert_eq!(decision, "refused: 401 insufficient-user-authentication — authentication_too_old");
    // All that is missing is told, and what would be refused first is the decision.
    let (checks, decision, code) = explained(&token("items:read", "sales", "pwd", 5));
    let missing = [
        "held",
        "MISSING: scope_missing; wanted: items:read items:write",
        "MISSING: condition_false",
        "MISSING: acr_insufficient; wanted: acr of urn:example:acr:mfa",
        "held",
    ];
    assert_eq!((checks.each_ref().map(String::as_str), code), (missing, 1));
    assert_eq!(decision, "refused: 403 insufficient-scope — scope_missing");
}

#[test]
fn explain_judges_an_override_and_the_request_line() {
    let world = World::new();
    world.configure(
        "upstreams:
  api: {targets: [http://127.0.0.1:9], method_override: [header, query]}
  plain: {targets: [http://127.0.0.1:9]}
limits:
  few: {key: subject, rate: 3/10m}
routes:
  - {path: /old/**, upstream: api, auth: none, deletion: {limit: few}}
  - {path: /new/**, upstream: plain, auth: none}
  - {path: /read/**, upstream: api, auth: [main], methods: [GET, DELETE]}
",
    );
    let explain = |arguments: &[&str]| stepgate(world.folder(), &[&["explain", "POST"], arguments].concat());
    for overridden in [&["/old/x?_method=DELETE"][..], &["/old/x", "-H", "X-HTTP-Method-Override: delete"]] {
        let finished = explain(overridden);
        assert_eq!(finished.code, 1, "{finished:?}");
        for said in
            ["DELETE by an override, POST by the request line: both are judged", "guarded", "few", "token_missing"]
        {
            assert!(finished.stdout.contains(said), "{said}: {}", finished.stdout);
        }
    }
    let plain = explain(&["/old/x"]);
    assert!(plain.code == 0 && !plain.stdout.contains("few"), "{plain:?}");
    assert_eq!(explain(&["/new/x?_method=DELETE", "-H", "X-HTTP-Method-Override: delete"]).code, 0);
    for (path, said) in [
        ("/old/x?_method=PUT", &["conflicting_override", "two overrides differ"]),
        ("/read/x?_method=DELETE", &["method_not_allowed", "makes it DELETE; the path's routes must take POST"]),
    ] {
        let finished = explain(&[path, "-H", "X-HTTP-Method: DELETE"]);
        assert!(said.iter().all(|said| finished.stdout.contains(said)), "{finished:?}");
    }
}

#[test]
fn explain_knows_the_metadata_that_the_gateway_serves() {
    let world = World::new();
    let finished = explain(&world, &["GET", "/.well-known/oauth-protected-resource"]);
    assert!(finished.code == 0 && finished.stdout.contains("RFC 9728"), "{finished:?}");
    assert_eq!(explain(&world, &["DELETE", "/.well-known/oauth-protected-resource"]).code, 1);
}

#[test]
fn explain_says_of_a_request_that_may_be_for_several_routes_what_the_gateway_says_first() {
    let world = World::new();
    // A lax server takes `/Admin` for `/admin`: one of the two wants more assurance, the other a scope.
    let gateway = world.start(
        "routes:
  - {path: '/{name}', upstream: api, auth: [main], assurance: {acr: [urn:example:acr:mfa], max_age: 5m}}
  - {path: /admin, upstream: api, auth: [main], scopes: [admin:all]}
",
    );
    let token = world.token(json!({}));
    assert_eq!(get("/Admin").bearer(&token).send(&gateway).problem(403), "insufficient-scope");
    let finished = stepgate(world.folder(), &["explain", "GET", "/Admin", "--token", &token]);
    assert_eq!(finished.code, 1, "{finished:?}");
    for said in
        ["MISSING: acr_insufficient", "MISSING: scope_missing", "refused: 403 insufficient-scope — scope_missing"]
    {
        assert!(finished.stdout.contains(said), "{said}: {}", finished.stdout);
    }
    let scoped = world.token(json!({"scope": "admin:all"}));
    assert_eq!(get("/Admin").bearer(&scoped).send(&gateway).problem(401), "insufficient-user-authentication");
    let finished = stepgate(world.folder(), &["explain", "GET", "/Admin", "--token", &scoped]);
    assert!(finished.stdout.contains("refused: 401 insufficient-user-authentication"), "{finished:?}");
}

#[test]
fn explain_answers_a_preflight_as_the_gateway_does_and_no_other_options() {
    let world = World::new();
    let gateway = world.start(
        "routes:
  - {path: /x, upstream: api, auth: [main], cors: {origins: ['https://app.example'], methods: [PUT]}}
",
    );
    let asks = |fields: &[(&str, &str)]| {
        let request = Request::new("OPTIONS", "/x");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(name, value));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let fields = fields.iter().flat_map(|field| ["-H", field.as_str()]);
        let arguments: Vec<&str> = ["explain", "OPTIONS", "/x"].into_iter().chain(fields).collect();
        (request.send(&gateway).status, stepgate(world.folder(), &arguments))
    };
    let (origin, method) = (("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT"));
    let (status, said) = asks(&[origin, method]);
    assert_eq!((status, said.code), (204, 0), "{said:?}");
    assert!(said.stdout.contains("decision   allowed: the gateway would answer it 204"), "{said:?}");
    let (status, said) = asks(&[("Origin", "https://evil.example"), method]);
    assert_eq!((status, said.code), (403, 1), "{said:?}");
    assert!(said.stdout.contains("refused: 403 cors-refused") && said.stdout.contains("`cors.origins`"), "{said:?}");
    for fields in [&[][..], &[origin], &[method]] {
        let (status, said) = asks(fields);
        assert_eq!((status, said.code), (401, 1), "{said:?}");
        assert!(said.stdout.contains("a preflight has Origin and Access-Control-Request-Method"), "{said:?}");
        assert!(said.stdout.contains("token_missing"), "{said:?}");
    }
}

// -- schema, usage

#[test]
fn schema_is_json_schema_that_knows_every_section() {
    let world = World::new();
    let finished = stepgate(world.folder(), &["schema"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    let schema: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
    let properties = schema["properties"].as_object().unwrap();
    for section in [
        "listeners",
        "admin",
        "server",
        "issuers",
        "assurance",
        "limits",
        "upstreams",
        "deletion_guard",
        "audit",
        "routes",
    ] {
        assert!(properties.contains_key(section), "{section}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn wrong_usage_ends_with_2() {
    let world = World::new();
    for arguments in [&["check", "a", "b"][..], &["audit"], &["--nope"], &["audit", "verify"]] {
        assert_eq!(stepgate(world.folder(), arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_told() {
    let world = World::new();
    let help = stepgate(world.folder(), &["--help"]);
    assert_eq!(help.code, 0);
    for command in ["run", "check", "explain", "schema", "demo", "audit"] {
        assert!(help.stdout.contains(command), "{command}: {}", help.stdout);
    }
    assert!(stepgate(world.folder(), &["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn run_is_the_default_command_and_gateway_yaml_the_default_file() {
    let world = World::new();
    for arguments in [&[][..], &["run"], &["check"]] {
        let finished = stepgate(world.folder(), arguments);
        assert_ne!(finished.code, 0);
        assert!(said(&finished).contains("gateway.yaml"), "{arguments:?}: {finished:?}");
    }
}

#[test]
fn verify_of_what_is_no_audit_log_finds_fault_without_a_panic() {
    let world = World::new();
    for text in ["nonsense\n", "{}\n", "[]\n", "{\"v\":1}", "\n\n", "\0"] {
        world.write("audit.jsonl", text);
        let finished = stepgate(world.folder(), &["audit", "verify", "audit.jsonl"]);
        assert_eq!(finished.code, 1, "{text:?}: {finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    }
    assert_ne!(stepgate(world.folder(), &["audit", "verify", "nowhere.jsonl"]).code, 0);
}
