//! docs/authority/guide.md, as somebody follows it: its policy is started, its commands are pasted into a shell, and each
//! answers what the comment above it says.

use std::{path::Path, process::Command};

use crate::harness::{World, remember_secret, run};

const GUIDE: &str = include_str!("../../docs/authority/guide.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = GUIDE.split(language).skip(1);
    parts.map(|part| part.split_once("\n```").unwrap().0.trim_start_matches('\n')).collect()
}

/// The commands, with a mark before each comment, and the statuses that the comments name.
fn script(world: &World) -> (String, Vec<String>) {
    let (mut script, mut statuses, mut codes) = (String::from("set -m\n"), Vec::new(), 0);
    for line in blocks("```sh").iter().flat_map(|block| block.lines()) {
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
    let ports = [("8443", world.tls), ("9090", world.admin)];
    let script = ports.iter().fold(script, |script, (from, to)| script.replace(&format!(":{from}"), &format!(":{to}")));
    (script, statuses)
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let world = World::new();
    let policy = blocks("```yaml")[0]
        .replace(":8443", &format!(":{}", world.tls))
        .replace(":9090", &format!(":{}", world.admin))
        .replace(":9100", &format!(":{}", world.upstream.port));
    // The provider of the tests is a file.
    assert!(policy.contains("{discovery: true}"));
    world.write("gateway.yaml", policy.replace("{discovery: true}", "{jwks_file: jwks.json}"));
    world.write("jwks.json", world.signer().jwks().to_string());
    let token = world.token(serde_json::json!({"amr": null, "acr": null, "auth_time": null}));
    remember_secret(&token);
    let (script, statuses) = script(&world);
    let binary = Path::new(env!("CARGO_BIN_EXE_stepgate")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(&script).current_dir(world.folder()).env("PATH", path).env("TOKEN", &token);
    let finished = run(&mut bash, "");
    let answers: Vec<&str> = finished.stdout.split("== ").skip(1).collect();
    assert!(statuses.len() >= 10 && answers.len() == statuses.len(), "{finished:?}");
    for (status, answer) in statuses.iter().zip(&answers) {
        let told = answer.lines().rfind(|line| line.starts_with("HTTP/")).unwrap_or_else(|| panic!("{finished:?}"));
        assert_eq!(told.split(' ').nth(1), Some(status.as_str()), "{answer}");
    }
    assert!(finished.stdout.contains("▄▄▄▄▄"), "a QR code is drawn: {}", finished.stdout);
    assert!(finished.stdout.contains(r#""factors":["totp"]"#), "the operator sees it: {}", finished.stdout);
    assert_eq!(finished.code, 0, "the audit log verifies: {finished:?}");
}
