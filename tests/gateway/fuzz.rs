//! The fuzz targets' bodies over their seeds and mutations of them, without coverage: seconds long and reproducible, for
//! machines that have no cargo-fuzz. `./test` runs the targets under libFuzzer where it can.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

#[path = "../../fuzz/src/lib.rs"]
mod bodies;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What parsers trip over.
const TOKENS: &[&str] = &[
    "%2e",
    "%2E%2E",
    "%25",
    "%00",
    "%c0%af",
    "%5c",
    "/",
    "//",
    "..",
    ";",
    "\\",
    "#",
    "?",
    "\r\n",
    "\n",
    "\t",
    "\0",
    ":",
    ",",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    "&a",
    "*a",
    "<<",
    "!!",
    "|",
    ">",
    "- ",
    "---\n",
    "${SET}",
    "$${",
    "${",
    "for=",
    "[::1]",
    "::ffff:10.0.0.1",
    "=",
    ".",
    "e30",
    "eyJ",
    "-1",
    "9999999999999999999",
    "1e309",
    "NaN",
    "\u{feff}",
    "\u{202e}",
    "\u{e9}",
    "null",
    "~",
    "true",
    "/**",
    "{x}",
    "auth: none",
    "Host: ",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let to = (at + random.below(24)).min(bytes.len());
        match random.below(7) {
            0 => bytes.insert(at, random.next() as u8),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
            3 => {
                let piece = bytes[at..to].to_vec();
                for _ in 0..=random.below(40) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let end = (from + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(32 * 1024);
    bytes
}

fn run(target: &str, body: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let seeds: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(name).unwrap()).collect();
    seeds.iter().for_each(|seed| body(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut rounds = 0_u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        let state = random.0;
        let bytes = mutate(&mut random, &seeds);
        let outcome = std::panic::catch_unwind(|| body(&bytes));
        assert!(outcome.is_ok(), "round {rounds}, state {state:#x}: {:?}", String::from_utf8_lossy(&bytes));
        rounds += 1;
    }
    assert!(rounds > 20, "{rounds} rounds are none");
}

#[test]
fn mutated_configurations_are_loaded_or_refused() {
    run("config_document", bodies::config_document);
}

#[test]
fn mutated_paths_are_normal_or_refused() {
    run("path_normaliser", bodies::path_normaliser);
}

#[test]
fn mutated_request_heads_are_read_or_refused() {
    run("request_head", bodies::request_head);
}

#[test]
fn mutated_answers_are_read_in_one_way_or_refused() {
    run("upstream_answer", bodies::upstream_answer);
}

#[test]
fn mutated_streams_of_http3_are_read_in_one_way_or_refused() {
    run("http3_stream", bodies::http3_stream);
}

#[test]
fn mutated_tokens_are_taken_apart_or_refused() {
    run("jose_token", bodies::jose_token);
}

#[test]
fn mutated_proofs_prove_nothing() {
    run("dpop_proof", bodies::dpop_proof);
}

#[test]
fn mutated_certificates_name_somebody_in_one_way_or_nobody() {
    run("client_certificate", bodies::client_certificate);
}

#[test]
fn mutated_forwarding_headers_are_believed_by_the_rules_alone() {
    run("forwarded_headers", bodies::forwarded_headers);
}

#[test]
fn mutated_introspection_answers_pass_nothing_that_is_not_active() {
    run("introspection_answer", bodies::introspection_answer);
}

#[test]
fn mutated_security_events_are_read_or_refused() {
    run("security_event", bodies::security_event);
}

#[test]
fn mutated_basic_credentials_are_read_in_one_way_or_refused() {
    run("basic_credentials", bodies::basic_credentials);
}

#[test]
fn no_mutated_request_hides_the_method_that_it_becomes() {
    run("method_override", bodies::method_override);
}

#[test]
fn no_mutated_request_hides_what_a_plan_covers() {
    run("covered_request", bodies::covered_request);
}

#[test]
fn mutated_files_of_users_are_read_within_bounds_or_refused() {
    run("users_file", bodies::users_file);
}

#[test]
fn mutated_keys_are_taken_out_of_queries_whole() {
    run("api_key", bodies::api_key);
}

#[test]
fn mutated_files_of_keys_are_read_or_refused() {
    run("api_key_file", bodies::api_key_file);
}

#[test]
fn mutated_calls_to_the_authority_give_nothing() {
    run("authority_call", bodies::authority_call);
}

#[test]
fn mutated_calls_to_accounts_give_nothing() {
    run("accounts_call", bodies::accounts_call);
}

#[test]
fn mutated_codes_grants_and_targets_prove_nothing() {
    run("request_proof", bodies::request_proof);
}

#[test]
fn mutated_responses_of_browsers_enrol_nothing() {
    run("passkey_response", bodies::passkey_response);
}

#[test]
fn mutated_files_of_accounts_are_read_line_by_line() {
    run("accounts_file", bodies::accounts_file);
}

#[test]
fn mutated_headers_of_relays_are_read_to_their_last_byte_or_refused() {
    run("proxy_header", bodies::proxy_header);
}
