//! The schema that `stepgate schema` prints, judged by a validator that nobody here wrote: it takes the files that people start
//! from, and draws a red line where they are broken.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{World, run, stepgate};

const CONTRACT: &str = include_str!("../cases/contract.yaml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the validator has against each document: `place: message`.
fn judged(documents: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let printed = stepgate(World::new().folder(), &["schema"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    let folder = root().join("tests/openapi");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "jsonschema is not installed: run `./test setup`");
    let asked = json!({"schema": schema, "documents": documents});
    let answered = run(Command::new(python).arg(folder.join("configuration.py")), &asked.to_string());
    assert_eq!(answered.code, 0, "{answered:?}");
    let found: BTreeMap<String, Vec<String>> = serde_json::from_str(&answered.stdout).unwrap();
    assert!(found.keys().eq(documents.keys()), "each document has been looked at");
    found
}

/// What the validator has against one document.
fn faults(text: &str) -> Vec<String> {
    judged(&BTreeMap::from([("gateway.yaml".to_owned(), text.to_owned())])).into_values().flatten().collect()
}

fn pages(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn the_files_that_people_start_from_are_valid() {
    // And those that use most keys there are, which src/config/tests.rs loads.
    let files = [
        "gateway.yaml",
        "deploy/compose/gateway.yaml",
        "deploy/kubernetes/gateway.yaml",
        "tests/cases/contract.yaml",
        "src/config/cases/further.yaml",
        "src/config/cases/deletions_good.yaml",
        "src/config/cases/warnings.yaml",
    ];
    let read = |file: &str| (file.to_owned(), fs::read_to_string(root().join(file)).unwrap());
    for (file, faults) in judged(&files.map(read).into()) {
        assert!(faults.is_empty(), "{file}: {faults:?}");
    }
}

#[test]
fn what_the_documents_show_of_a_policy_is_valid() {
    let mut found = vec![root().join("README.md")];
    pages(&root().join("docs"), &mut found);
    let mut policies = BTreeMap::new();
    for page in found {
        let text = fs::read_to_string(&page).unwrap();
        for (number, block) in text.split("```yaml\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap().to_owned();
            policies.insert(format!("{} {number}", page.display()), block);
        }
    }
    assert!(policies.len() > 15, "{:?}", policies.keys());
    for (place, faults) in judged(&policies) {
        // Some show a part of a policy alone.
        let is_part = |fault: &&String| fault.starts_with("$: ") && fault.ends_with("is a required property");
        let faults: Vec<&String> = faults.iter().filter(|fault| !is_part(fault)).collect();
        assert!(faults.is_empty(), "{place}: {faults:?}");
    }
}

#[test]
fn a_mistake_is_found_where_it_was_made() {
    let mistakes = [
        // Misspelt keys, at the top and within.
        ("deletion_guard:", "deletion_gard:", "$: "),
        ("    leeway: 30s", "    lewway: 30s", "$.issuers.main: "),
        ("{strip_prefix: /reports}", "{strip_prefx: /reports}", "$.routes[7].rewrite: "),
        // Values of the wrong type.
        ("trusted_proxies: []", "trusted_proxies: 10.0.0.0/8", "$.server.trusted_proxies: "),
        ("identity_headers: true", "identity_headers: 3", "$.upstreams.api.identity_headers: "),
        ("headers: 200", "headers: many", "$.server.limits.headers: "),
        ("assurance: recent-mfa  ", "assurance: [recent-mfa]  ", "$.deletion_guard.assurance: "),
        // Words that are not among those that there are.
        ("client_auth: optional", "client_auth: maybe", "$.listeners[0].tls.client_auth: "),
        ("min_version: \"1.2\"", "min_version: \"1.1\"", "$.listeners[0].tls.min_version: "),
        ("[RS256, ES256, EdDSA]", "[RS256, none]", "$.issuers.main.algorithms[1]: "),
        // Texts that do not have their form.
        ("header_timeout: 10s", "header_timeout: ten seconds", "$.server.limits.header_timeout: "),
        ("rate: 10000/day", "rate: 10000 a day", "$.limits.daily.rate: "),
        ("path: /scoped/**", "path: scoped/**", "$.routes[5].path: "),
        ("    targets: [http://127.0.0.1:9100]", "    targets: []", "$.upstreams.api.targets: "),
        // What has to be there.
        ("    issuer: https://hs.example/\n", "", "$.issuers.legacy: "),
    ];
    let broken = mistakes.map(|(right, wrong, place)| {
        assert_eq!(CONTRACT.matches(right).count(), 1, "{right}");
        (format!("{place}{wrong}"), CONTRACT.replace(right, wrong))
    });
    let found = judged(&broken.into());
    assert_eq!(found.len(), mistakes.len());
    for (_, wrong, place) in mistakes {
        let faults = &found[&format!("{place}{wrong}")];
        assert!(faults.len() == 1 && faults[0].starts_with(place), "{wrong}: {faults:?}");
    }
}

#[test]
fn a_text_that_looks_like_something_else_is_a_text() {
    // An editor reads them as a number, a truth and a number; the gateway takes what is written.
    let says = "routes:
  - {path: /**, upstream: api, auth: none, request_headers: {set: {X-One: 17, X-Two: true, X-Three: 1.50}}}
";
    let world = World::new();
    assert_eq!(world.check(says).code, 0);
    assert_eq!(faults(&world.yaml(says)), [""; 0]);
}
