//! Providers' presets: tokens laid out after each provider's public documentation (`presets/*.json`, with where to compare)
//! become the facts that policies speak of. They were written by hand, and no provider has issued them.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Signer, World, get, unix_now};

struct Provider {
    world: World,
    gateway: Gateway,
    signer: Signer,
    says: Value,
}

impl Provider {
    fn start(text: &str) -> Self {
        let says: Value = serde_json::from_str(text).unwrap();
        let world = World::new();
        let signer = Signer::new("ES256", "k");
        world.write("keys.json", signer.jwks().to_string());
        let word = |name: &str| says[name].as_str().unwrap();
        let yaml = format!(
            "issuers:\n  idp:\n    preset: {}\n    issuer: {}\n    audience: [\"{}\"]\n    keys: {{jwks_file: keys.json}}\n    \
             algorithms: [ES256]\n{}routes:\n  - {{path: /fresh, upstream: api, auth: [idp], assurance: {{max_age: 5m}}}}\n  \
             - {{path: /**, upstream: api, auth: [idp]}}\n",
            word("preset"),
            word("issuer"),
            word("audience"),
            word("config"),
        );
        let gateway = world.start(&yaml);
        Self { world, gateway, signer, says }
    }

    /// The documented token of a person, with changes; a `null` takes a claim out.
    fn token(&self, changes: &Value, age: u64) -> String {
        let now = unix_now();
        let mut claims = self.says["person"].clone();
        let members = claims.as_object_mut().unwrap();
        members.insert("iat".into(), json!(now - 5));
        members.insert("exp".into(), json!(now + 600));
        if self.says["fresh"] == true {
            members.insert("auth_time".into(), json!(now - age));
        }
        for value in members.values_mut().filter(|value| **value == "$AUTH_TIME") {
            *value = json!(now - age);
        }
        for (name, value) in changes.as_object().into_iter().flatten() {
            members.remove(name);
            if !value.is_null() {
                members.insert(name.clone(), value.clone());
            }
        }
        self.signer.sign(&self.says["header"], &claims)
    }

    fn ask(&self, path: &str, token: &str) -> Answer {
        get(path).bearer(token).send(&self.gateway)
    }
}

fn documented_layout_is_understood(text: &str) {
    let provider = Provider::start(text);
    provider.ask("/x", &provider.token(&json!({}), 10)).expect(200);
    let seen = provider.world.upstream.last();
    for (fact, wanted) in provider.says["facts"].as_object().unwrap() {
        assert_eq!(seen.all(&format!("x-auth-{fact}")).join(","), wanted.as_str().unwrap(), "{fact}");
    }
    assert_eq!(seen.header("x-auth-issuer"), provider.says["issuer"].as_str().unwrap());
    let tells_freshness =
        provider.says["fresh"] == true || provider.says["config"].as_str().unwrap().contains("auth_time");
    let fresh = provider.ask("/fresh", &provider.token(&json!({}), 10));
    let stale = provider.ask("/fresh", &provider.token(&json!({}), 3_600));
    assert_eq!((fresh.status, stale.status), (if tells_freshness { 200 } else { 401 }, 401));
    assert_eq!(provider.ask("/x", &provider.token(&json!({"aud": "other", "client_id": "other"}), 10)).status, 401);
    if provider.says["other"].is_object() {
        let other = provider.token(&provider.says["other"], 10);
        assert_eq!(provider.ask("/x", &other).problem(401), "invalid-token", "another token of the provider");
    }
    if provider.says["machine"].is_object() {
        provider.ask("/x", &provider.token(&provider.says["machine"], 10)).expect(200);
    }
}

macro_rules! presets {
    ($($name:ident: $file:literal),* $(,)?) => {
        $(#[test] fn $name() { documented_layout_is_understood(include_str!($file)); })*
    };
}

presets! {
    keycloak_tells_access_tokens_by_a_type_in_the_payload: "presets/keycloak.json",
    auth0_names_the_facts_of_the_login_by_urls_of_ones_own: "presets/auth0.json",
    entra_names_people_by_oid_and_contexts_in_a_list: "presets/entra.json",
    okta_lists_scopes_in_scp_and_types_no_token: "presets/okta.json",
    cognito_names_the_client_where_others_name_the_audience: "presets/cognito.json",
    google_vouches_for_people_and_says_nothing_of_scopes: "presets/google.json",
}

#[test]
fn any_of_several_context_classes_is_enough() {
    let world = World::new();
    let signer = Signer::new("ES256", "k");
    world.write("keys.json", signer.jwks().to_string());
    let gateway = world.start(
        "issuers:\n  idp: {preset: entra, issuer: \"https://idp.example/\", audience: [api], keys: {jwks_file: keys.json}, \
         algorithms: [ES256]}\nroutes:\n  - {path: /**, upstream: api, auth: [idp], assurance: {acr: [c1]}}\n",
    );
    let head = json!({"alg": "ES256", "typ": "JWT", "kid": "k"});
    for (acrs, status) in [
        (json!(["p1", "c1"]), 200),
        (json!(["c1"]), 200),
        (json!("c1"), 200),
        (json!(["p1"]), 401),
        (json!([]), 401),
        (json!(["c1", 7]), 401),
        (json!("p1 c1"), 401),
        (json!({"c1": true}), 401),
    ] {
        let claims = json!({"iss": "https://idp.example/", "aud": "api", "sub": "x", "oid": "ann", "exp": unix_now() + 60, "acrs": acrs});
        assert_eq!(get("/x").bearer(&signer.sign(&head, &claims)).send(&gateway).status, status, "{acrs}");
    }
}
