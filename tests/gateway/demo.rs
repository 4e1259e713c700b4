//! `stepgate demo`, as somebody meets it who has never seen the gateway: the lines on the screen are pasted into a shell,
//! and each shows what its comment says.

use std::{path::Path, process::Command};

use crate::harness::{Process, eventually, get, run};

/// A comment, and the lines below it.
struct Step {
    says: String,
    commands: String,
}

/// The indented part of what the demo prints.
fn steps(screen: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in screen.lines().filter_map(|line| line.strip_prefix("  ")) {
        match line.strip_prefix("# ") {
            Some(says) => steps.push(Step { says: says.to_owned(), commands: String::new() }),
            None => {
                let step = steps.last_mut().expect("a comment stands above every line to paste");
                step.commands.push_str(line);
                step.commands.push('\n');
            }
        }
    }
    steps
}

/// A minute is for people: the deletion that the lines ask for is held for a few seconds here, by the policy, which is changed and saved.
fn make_haste(folder: &Path, screen: &str) {
    let (file, next) = (folder.join("stepgate-demo/gateway.yaml"), folder.join("stepgate-demo/next.yaml"));
    let policy = std::fs::read_to_string(&file).unwrap();
    assert_eq!(policy.matches("grace: 1m").count(), 1, "{policy}");
    std::fs::write(&next, policy.replace("grace: 1m", "grace: 8s")).unwrap();
    std::fs::rename(&next, &file).unwrap();
    let (before, _) = screen.split_once("/metrics").unwrap();
    let admin: u16 = before.rsplit(':').next().unwrap().parse().unwrap();
    eventually("the changed policy", || {
        get("/metrics").send_to(admin).text().contains("stepgate_config_generation 2").then_some(())
    });
}

#[test]
fn every_line_of_the_demo_shows_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_stepgate"));
    // The demo's ports are its own and fixed, so that what it prints can be pasted; nothing else here uses them.
    let mut demo = Process::spawn(Command::new(binary).arg("demo").current_dir(folder.path()));
    demo.wait_for_line(&format!("  {} audit verify", binary.display()));
    let screen = demo.stdout.lock().unwrap().clone();
    let steps = steps(&screen);
    assert!(steps.len() >= 8, "{screen}");

    make_haste(folder.path(), &screen);
    let mut script = String::new();
    for (number, step) in steps.iter().enumerate() {
        script.push_str(&format!("echo '== {number}'\n{}", step.commands));
    }
    let finished = run(Command::new("bash").arg("-c").arg(&script).current_dir(folder.path()), "");
    let answers: Vec<&str> = finished.stdout.split("== ").skip(1).collect();
    assert_eq!(answers.len(), steps.len(), "{finished:?}");
    let mut shown = Vec::new();
    for (step, answer) in steps.iter().zip(&answers) {
        let Some(status) = step.says.get(..3).filter(|text| text.parse::<u16>().is_ok()) else { continue };
        let statuses: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/")).collect();
        let last = statuses.last().unwrap_or_else(|| panic!("{}: no answer: {finished:?}", step.says));
        assert_eq!(last.split(' ').nth(1), Some(status), "{}: {answer}", step.says);
        shown.push(status);
    }
    for status in ["200", "401", "429"] {
        assert!(shown.contains(&status), "{status} is not among {shown:?}");
    }
    assert!(finished.stdout.contains("insufficient_user_authentication"), "{}", finished.stdout);
    assert!(finished.stdout.contains("█▀▀▀▀▀█") || finished.stdout.contains("▄▄▄▄▄"), "a QR code: {}", finished.stdout);
    assert!(finished.stdout.contains(r#""factors":["totp"]"#), "what the operator sees: {}", finished.stdout);
    let statuses = |status: &str| shown.iter().filter(|shown| **shown == status).count();
    assert!(statuses("204") == 2 && statuses("201") >= 4, "a deletion by OTP and a token that was elevated: {shown:?}");
    for told in ["the name is erased", "index-gone", "verified", "audit record"] {
        assert!(finished.stdout.contains(told), "{told}: the deletion, as operators see it: {}", finished.stdout);
    }
    assert_eq!(statuses("202"), 2, "a deletion that is cancelled, and one that is not: {shown:?}");
    assert!(finished.stdout.contains("stepgate_decisions_total"), "the metrics: {}", finished.stdout);
    assert_eq!(finished.code, 0, "the audit trail verifies: {finished:?}");
    demo.signal("TERM");
    assert_eq!(demo.wait(), 0);
}
