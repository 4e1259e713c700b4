//! How a release is compiled: deploy/profile/rustc, which cargo calls in the compiler's place.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::World;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/profile");
const RELEASE: &[&str] = &["--crate-name", "x", "-C", "opt-level=3", "-C", "linker-plugin-lto"];

/// A compiler that says what it was asked for, and that it is of the version in `version`.
fn compiler(folder: &Path, version: &Path) -> PathBuf {
    let compiler = folder.join("compiler");
    let script = "#!/bin/sh\nif [ \"$1\" = -vV ]; then cat 'VERSION'; else printf '%s\\n' \"$@\"; fi\n";
    fs::write(&compiler, script.replace("VERSION", &version.display().to_string())).unwrap();
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
    compiler
}

/// What the compiler is asked for besides `asked`.
fn added(compiler: &Path, asked: &[&str], mode: Option<&str>) -> Vec<String> {
    let mut command = Command::new(format!("{FOLDER}/rustc"));
    command.arg(compiler).args(asked).env_remove("STEPGATE_PROFILE");
    if let Some(mode) = mode {
        command.env("STEPGATE_PROFILE", mode);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut said: Vec<_> = String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(said.drain(..asked.len()).collect::<Vec<_>>(), asked);
    said
}

#[test]
fn a_release_is_compiled_by_its_profile_and_by_the_compiler_that_it_was_recorded_with_alone() {
    let world = World::new();
    let folder = world.folder();
    let own = compiler(folder, &Path::new(FOLDER).join("compiler.txt"));
    let profile = format!("-Cprofile-use={FOLDER}/stepgate.profdata");
    assert!(fs::metadata(format!("{FOLDER}/stepgate.profdata")).unwrap().len() > 100_000);
    assert_eq!(added(&own, RELEASE, None)[0], profile);
    let for_size = RELEASE.iter().map(|word| word.replace("opt-level=3", "opt-level=s")).collect::<Vec<_>>();
    assert_eq!(added(&own, &for_size.iter().map(String::as_str).collect::<Vec<_>>(), None)[0], profile);
    assert_eq!(added(&own, RELEASE, Some("record")), ["-Cprofile-generate"]);
    assert!(added(&own, RELEASE, Some("none")).is_empty());
    for other in [
        &["--crate-name", "x", "-C", "opt-level=3", "-C", "embed-bitcode=no"][..],
        &["--crate-name", "x", "-C", "opt-level=1", "-C", "embed-bitcode=no"],
        &["--crate-name", "build_script_build", "-C", "debuginfo=0"],
        &["--print", "cfg"],
        // Whoever measures for himself.
        &["--crate-name", "x", "-C", "opt-level=3", "-C", "linker-plugin-lto", "-Cprofile-generate=/elsewhere"],
        &["--crate-name", "x", "-C", "opt-level=3", "-C", "linker-plugin-lto", "-C", "instrument-coverage"],
    ] {
        assert!(added(&own, other, None).is_empty() && added(&own, other, Some("record")).is_empty(), "{other:?}");
    }
    fs::write(folder.join("older.txt"), "rustc 1.90.0\n").unwrap();
    assert!(added(&compiler(folder, &folder.join("older.txt")), RELEASE, None).is_empty());
}

/// What it says of its failure is what cargo shows.
#[test]
fn a_compiler_that_fails_fails() {
    let world = World::new();
    let compiler = world.folder().join("compiler");
    fs::write(&compiler, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
    for asked in [RELEASE, &["--crate-name", "x"]] {
        let failed = Command::new(format!("{FOLDER}/rustc")).arg(&compiler).args(asked).status().unwrap();
        assert_eq!(failed.code(), Some(3), "{asked:?}");
    }
    let unknown =
        Command::new(format!("{FOLDER}/rustc")).arg(&compiler).args(RELEASE).env("STEPGATE_PROFILE", "off").status();
    assert_eq!(unknown.unwrap().code(), Some(2));
}

/// Or images would be built without it, and nobody would notice.
#[test]
fn images_are_built_by_the_compiler_that_the_profile_is_for() {
    let version = fs::read_to_string(format!("{FOLDER}/compiler.txt")).unwrap();
    let version = version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap().to_owned();
    let dockerfile = fs::read_to_string(format!("{FOLDER}/../Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={version} ")), "{version}");
}
