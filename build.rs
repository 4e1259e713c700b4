//! Asks the linker for packed relative relocations where the machine's C library reads them: a thirtieth of the program is a table
//! of 24 bytes for each pointer otherwise, which is read at every start.

use std::{env, process::Command};

/// The first glibc that reads them (2.36: Debian 12, Ubuntu 22.10). An older one would start the program with pointers that point nowhere.
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    let (host, target) = (variable("HOST"), variable("TARGET"));
    // What is built for another machine may run on an older one, and other systems have other linkers.
    if host == target && target.ends_with("-linux-gnu") && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, as `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let (major, minor) = std::str::from_utf8(&told).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
