//! The guides, as somebody follows them: the policy is started, the commands are pasted into a shell, and each answers what the
//! comment above it says.

use std::{path::Path, process::Command};

use crate::harness::{Finished, World, lease_port, remember_secret, run};

const GUIDE: &str = include_str!("../../docs/authority/guide.md");
const DELETIONS: &str = include_str!("../../docs/deletions/guide.md");

/// The fenced blocks of a language.
fn blocks(guide: &'static str, language: &str) -> Vec<&'static str> {
    let parts = guide.split(language).skip(1);
    parts.map(|part| part.split_once("\n```").unwrap().0.trim_start_matches('\n')).collect()
}

/// The commands, with a mark before each comment, and the statuses that the comments name.
fn script(guide: &'static str, ports: &[(&str, u16)]) -> (String, Vec<String>) {
    let (mut script, mut statuses, mut codes) = (String::from("set -m\n"), Vec::new(), 0);
    for line in blocks(guide, "```sh").iter().flat_map(|block| block.lines()) {
        if let Some(comment) = line.strip_prefix("# ") {
            statuses.extend(comment.split_once(": ").map(|(status, _)| status.to_owned()));
            script.push_str("echo '== '\n");
        } else if line.starts_with("CODE=") {
            // An app shows one code in thirty seconds, and the gateway takes those of the step before and after, too.
            if codes == 0 {
                script.push_str("while [ $(($(date +%s) % 30)) -gt 20 ]; do sleep 1; done; NOW=$(date +%s)\n");
            }
            let off = codes * 30 - 30;
            script.push_str(&format!("CODE=$(oathtool --totp --base32 --now \"@$((NOW + {off}))\" $SECRET)\n"));
            codes += 1;
        } else {
            script.push_str(line);
            script.push('\n');
        }
    }
    (with_ports(script, ports), statuses)
}

fn with_ports(text: String, ports: &[(&str, u16)]) -> String {
    ports.iter().fold(text, |text, (from, to)| {
        text.replace(&format!(":{from}"), &format!(":{to}")).replace(&format!(".py {from}"), &format!(".py {to}"))
    })
}

/// Writes the policy of a guide down, with a provider that is a file.
fn write_policy(world: &World, guide: &'static str, ports: &[(&str, u16)]) {
    let policy = with_ports(blocks(guide, "```yaml")[0].to_owned(), ports);
    assert!(policy.contains("{discovery: true}"));
    world.write("gateway.yaml", policy.replace("{discovery: true}", "{jwks_file: jwks.json}"));
    world.write("jwks.json", world.signer().jwks().to_string());
}

/// Pastes the commands into a shell, and compares what they answer with what the guide says.
fn paste(world: &World, script: &str, statuses: &[String], token: &str) -> Finished {
    remember_secret(token);
    let binary = Path::new(env!("CARGO_BIN_EXE_stepgate")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(script).current_dir(world.folder()).env("PATH", path).env("TOKEN", token);
    let finished = run(&mut bash, "");
    let answers: Vec<&str> = finished.stdout.split("== ").skip(1).collect();
    assert!(answers.len() == statuses.len(), "{finished:?}");
    for (status, answer) in statuses.iter().zip(&answers) {
        let told = answer.lines().rfind(|line| line.starts_with("HTTP/")).unwrap_or_else(|| panic!("{finished:?}"));
        assert_eq!(told.split(' ').nth(1), Some(status.as_str()), "{answer}");
    }
    finished
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let world = World::new();
    let ports = [("8443", world.tls), ("9090", world.admin), ("9100", world.upstream.port)];
    write_policy(&world, GUIDE, &ports);
    let token = world.token(serde_json::json!({"amr": null, "acr": null, "auth_time": null}));
    let (script, statuses) = script(GUIDE, &ports);
    assert!(statuses.len() >= 10, "{statuses:?}");
    let finished = paste(&world, &script, &statuses, &token);
    assert!(finished.stdout.contains("▄▄▄▄▄"), "a QR code is drawn: {}", finished.stdout);
    assert!(finished.stdout.contains(r#""factors":["totp"]"#), "the operator sees it: {}", finished.stdout);
    assert_eq!(finished.code, 0, "the audit log verifies: {finished:?}");
}

#[test]
fn every_command_of_the_deletions_guide_does_what_it_says() {
    let world = World::new();
    let ports = [("8443", world.tls), ("9090", world.admin), ("9100", lease_port()), ("9110", lease_port())];
    write_policy(&world, DELETIONS, &ports);
    world.write("legacy.py", blocks(DELETIONS, "```python")[0]);
    let (script, statuses) = script(DELETIONS, &ports);
    assert!(statuses.len() >= 10, "{statuses:?}");
    let finished = paste(&world, &script, &statuses, &world.fresh(0));
    let says = |text: &str| assert!(finished.stdout.contains(text), "{text}: {finished:?}");
    says("audit record");
    says("nothing of hers is left");
    assert_eq!(finished.code, 0, "{finished:?}");
}
