//! What the documents say of the tests is so: docs/traffic names for each feature the test that shows it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The guides, in the order in which they are read.
const GUIDES: &[&str] = &["streams", "routes", "upstreams", "reaching-upstreams", "edge", "http3", "life"];

/// Between these lines of docs/traffic/README.md is what the guides' tables say, joined.
const BEGIN: &str = "<!-- the guides' tables, joined: UPDATE_DOCS=1 cargo test --test gateway documents -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn guide(name: &str) -> String {
    let path = root().join("docs/traffic").join(format!("{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// The rows of a guide's table of features.
fn rows(guide: &str) -> Vec<&str> {
    let (_, table) = guide.split_once("| feature | how it is shown |\n|---|---|\n").expect("each guide has the table");
    table.lines().take_while(|line| line.starts_with('|')).collect()
}

/// All source below a path without its extension: the file, and the folder beside it.
fn source(module: &Path) -> String {
    let mut text = fs::read_to_string(module.with_extension("rs")).unwrap_or_default();
    for entry in fs::read_dir(module).into_iter().flatten() {
        text += &source(&entry.unwrap().path().with_extension(""));
    }
    text
}

/// Whether a test, or a module of tests, has this path: in a suite beside this one, or in the library.
fn exists(name: &str) -> bool {
    let (module, last) = name.rsplit_once("::").unwrap();
    let is_in = |text: &str| {
        [format!("fn {last}("), format!("mod {last};"), format!("mod {last} {{")].iter().any(|form| text.contains(form))
            // `name: "file";` in the list of cases of src/config/tests.rs.
            || text.contains(&format!("    {last}: \""))
    };
    let suite = root().join("tests/gateway").join(module);
    if !module.contains("::") && suite.with_extension("rs").exists() {
        return is_in(&source(&suite));
    }
    // The longest part of the path that is a file; what is left of it are modules within.
    let mut parts: Vec<&str> = module.split("::").collect();
    while !parts.is_empty() {
        let text = source(&root().join("src").join(parts.join("/")));
        if !text.is_empty() {
            return is_in(&text);
        }
        parts.pop();
    }
    false
}

#[test]
fn each_test_that_shows_a_feature_of_traffic_exists() {
    let mut missing = Vec::new();
    for name in GUIDES {
        let text = guide(name);
        for row in rows(&text) {
            let shown = row.split(" | ").nth(1).unwrap_or_default();
            let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
            assert!(!tests.is_empty(), "{name}.md names no test: {row}");
            let paths = tests.iter().filter(|test| test.contains("::"));
            missing.extend(paths.filter(|path| !exists(path)).map(|path| format!("{name}.md: {path}")));
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
    // What it would say of a name that is not there.
    assert!(!exists("soak::no_test_of_this_name") && !exists("upstream::tests::no_test_of_this_name"));
}

#[test]
fn the_table_of_traffic_has_what_the_guides_say() {
    let mut joined = String::from("| feature | guide | how it is shown |\n|---|---|---|\n");
    for name in GUIDES {
        for row in rows(&guide(name)) {
            let (feature, shown) = row.trim_matches('|').trim().split_once(" | ").expect("two columns");
            writeln!(joined, "| {feature} | [{name}]({name}.md) | {} |", shown.trim()).unwrap();
        }
    }
    let path = root().join("docs/traffic/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, written) = page.split_once(BEGIN).expect("the page has the line that the table comes after");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{joined}")).unwrap();
        return;
    }
    assert_eq!(written, joined, "docs/traffic/README.md is out of date; run this with UPDATE_DOCS=1 to join it anew");
}

#[test]
fn each_test_that_the_threat_model_names_exists() {
    let text = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let all = source(&root().join("src")) + &source(&root().join("tests/gateway"));
    let names = text.split('`').skip(1).step_by(2).filter(|name| {
        // Sentences, as tests are named: no path, no key.
        name.matches('_').count() > 3
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
    });
    let missing: Vec<&str> = names.filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}
