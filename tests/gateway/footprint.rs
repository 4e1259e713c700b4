//! What a gateway takes that nobody asks for anything. Nothing here looks at a clock; the release binary's own figures, and how soon
//! it serves, are told by benches/footprint.

use std::fs;

use crate::harness::{Gateway, World, eventually, get};

const OPEN: &str = "server: {workers: 2}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n";

/// Memory in KiB that is no page of a file, by the kernel's count, and how much of it is in huge pages.
fn anonymous_kib(gateway: &Gateway) -> Option<(u64, u64)> {
    let told = fs::read_to_string(format!("/proc/{}/smaps_rollup", gateway.pid())).ok()?;
    let of = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    Some((of("Pss_Anon:")?, of("AnonHugePages:")?))
}

/// Whether the system gives huge pages to whoever does not ask for them.
fn huge_pages_come_unasked() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").is_ok_and(|said| said.contains("[always]"))
}

/// The figures of a release build are a third of these bounds; a build for tests has larger tables and stacks. Where the system gives huge
/// pages unasked, what is counted is the system's affair, and only that the gateway answers is shown.
#[test]
fn an_idle_gateway_has_little_memory_of_its_own_also_after_a_burst() {
    let world = World::new();
    let gateway = world.start(OPEN);
    let Some((fresh, huge)) = anonymous_kib(&gateway) else { return };
    if !huge_pages_come_unasked() {
        assert_eq!(huge, 0, "the allocator asks for none");
        assert!(fresh < 12 * 1024, "{fresh} KiB before the first request");
    }
    for _ in 0..10 {
        let mut clients: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            for _ in 0..5 {
                get("/x").send_on(client).expect(200);
            }
        }
    }
    let after = eventually("the burst's memory to be given back", || {
        anonymous_kib(&gateway)
            .map(|(after, _)| after)
            .filter(|after| huge_pages_come_unasked() || *after < fresh + 8 * 1024)
    });
    drop(gateway);
    assert!(after > 0);
}

/// To read them takes a fifth of a start. That they cannot be read is said where they are.
#[test]
fn the_machines_certificate_authorities_are_read_by_who_needs_them_alone() {
    let world = World::new();
    let unreadable = "export SSL_CERT_FILE=/nowhere/roots.pem; unset SSL_CERT_DIR";
    let said = "reading the machine's certificate authorities";
    world.configure(OPEN);
    let gateway = world.start_in(unreadable).ready();
    assert!(!gateway.stderr().contains(said), "{}", gateway.stderr());
    drop(gateway);
    let issuer = "issuers:\n  afar: {issuer: \"https://127.0.0.1:1/\", audience: [a], keys: {discovery: true}, algorithms: [ES256]}\n";
    world.configure(&format!("{issuer}{OPEN}"));
    let gateway = world.start_in(unreadable);
    assert!(gateway.stderr().contains(said), "{}", gateway.stderr());
}

/// What 200 clients send who do not come to the end of their heads.
const HEADS_KIB: u64 = 200 * 40;

/// An allocator keeps what it has for whoever asks next, and nobody asks in an idle gateway.
#[test]
fn what_a_burst_took_goes_back_to_the_system() {
    if huge_pages_come_unasked() {
        return;
    }
    let world = World::new();
    let gateway = world.start(OPEN);
    let anonymous = || anonymous_kib(&gateway).map(|(anonymous, _)| anonymous);
    let Some(fresh) = anonymous() else { return };
    let unfinished = format!("GET /x HTTP/1.1\r\nHost: api.example\r\nX-Long: {}", "a".repeat(40_000));
    let mut clients: Vec<_> = (0..200).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(&unfinished);
    }
    let mut held = fresh;
    eventually("the heads to be held", || {
        let before = std::mem::replace(&mut held, anonymous()?);
        (before == held && held > fresh + HEADS_KIB / 2).then_some(())
    });
    drop(clients);
    // Some of it stays in pages that others are in, too.
    let kept = fresh + (held - fresh) / 2;
    eventually("the heads' memory to be given back", || anonymous().filter(|after| *after < kept));
}
