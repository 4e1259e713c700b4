//! One kind of request: how the gateway is set up for it, what is asked, and what that may allocate.

use std::path::Path;

use serde_json::json;

use super::{
    client::{Asked, Client, NAME},
    gateway::{Allocated, Running},
    harness::{AUDIENCE, Authority, ISSUER, Signer},
    upstream,
};

/// Requests before the first that counts: caches and buffers have what they need by then.
const WARM: u64 = 256;
/// Requests of one count. What is taken once for several requests is in the figure with its share.
const COUNTED: u64 = 256;
/// How often it is counted. The least counts: what a worker does besides now and then only adds.
const COUNTS: usize = 5;
/// By how much the bytes may be beside what is written: how large a future is, is the compiler's to say.
const SPREAD: u64 = 256;
/// What signs the token. It and the claims are always the same, as the form in which HTTP/2 sends a token depends on its letters.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// How many requests a caller has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    None,
    Enough,
    /// One, which is used up before anything counts.
    Exceeded,
}

/// A kind of request.
pub struct Case {
    pub tls: bool,
    pub http2: bool,
    pub token: bool,
    pub quota: Quota,
    pub access_log: bool,
    pub fields: &'static [(&'static str, &'static str)],
}

impl Case {
    /// `GET /items/1` with nothing besides, over HTTP/1.1 in the clear.
    pub const PLAIN: Self =
        Self { tls: false, http2: false, token: false, quota: Quota::None, access_log: false, fields: &[] };

    /// Compares what a request takes with what is written: blocks, to the hundredth, and bytes.
    #[track_caller]
    pub fn takes(&self, blocks: f64, bytes: u64) {
        let counts = self.counts();
        let least = counts.iter().min().unwrap();
        let each = |count: u64| count as f64 / COUNTED as f64;
        let (now, now_bytes) = ((each(least.blocks) * 100.0).round() / 100.0, each(least.bytes).round() as u64);
        println!("{now} blocks and {now_bytes} bytes a request; all counts: {counts:?}");
        assert!(
            now <= blocks && now_bytes <= bytes + SPREAD,
            "A request takes more from the allocator than it did: {now} blocks and {now_bytes} bytes, where {blocks} and {bytes} are \
             written. Find out where (docs/testing.md says how) and take it out again. Where it is worth its price, write the new \
             figures here, and in the commit message why."
        );
        assert!(
            now >= blocks && now_bytes + SPREAD >= bytes,
            "A request takes less from the allocator than it did: {now} blocks and {now_bytes} bytes, where {blocks} and {bytes} are \
             written. Write the new figures here, so that what was won stays won."
        );
    }

    fn counts(&self) -> Vec<Allocated> {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("test");
        authority.server(folder.path(), "server", &[NAME]);
        let running = Running::start(folder.path(), &self.yaml(folder.path()));
        let mut client = match (self.tls, self.http2) {
            (false, _) => Client::plain(running.address()),
            (true, false) => Client::tls(running.address(), &authority.client(&["http/1.1"])),
            (true, true) => Client::http2(running.address(), authority.client(&["h2"])),
        };
        let token = token();
        let mut fields = self.fields.to_vec();
        if self.token {
            fields.push(("authorization", &token));
        }
        let asked = Asked { fields: &fields, status: if self.quota == Quota::Exceeded { 429 } else { 200 } };
        if self.quota == Quota::Exceeded {
            client.ask(&Asked { status: 200, ..asked }, 1);
        }
        client.ask(&asked, WARM);
        (0..COUNTS).map(|_| running.count(|| client.ask(&asked, COUNTED))).collect()
    }

    fn yaml(&self, folder: &Path) -> String {
        std::fs::write(folder.join("secret"), SECRET).unwrap();
        let listener = match self.tls {
            true => "tls: {certificates: [{cert: server.pem, key: server.key}]}",
            false => "cleartext: true",
        };
        let (limits, limited) = match self.quota {
            Quota::None => ("", ""),
            Quota::Enough => ("limits: {per-user: {key: subject, rate: 1000000/s}}", ", limits: [per-user]"),
            Quota::Exceeded => ("limits: {per-user: {key: subject, rate: 1/1d}}", ", limits: [per-user]"),
        };
        let access_log = if self.access_log { "{file: access.log}" } else { "off" };
        let auth = if self.token { "[main]" } else { "none" };
        let upstream = upstream::start();
        format!(
            "listeners: [{{address: '127.0.0.1:0', {listener}}}]
server: {{workers: 1, state_dir: .}}
access_log: {access_log}
issuers:
  main: {{issuer: {ISSUER}, audience: [{AUDIENCE}], keys: {{secret: {{file: secret}}}}, algorithms: [HS256]}}
{limits}
upstreams: {{api: {{targets: ['http://127.0.0.1:{upstream}']}}}}
routes: [{{path: /items/*, upstream: api, auth: {auth}{limited}}}]
"
        )
    }
}

/// A credential as long as one that RS256 signed. What was verified before costs the same whatever signed it.
fn token() -> String {
    let claims = json!({"iat": 1_700_000_000, "exp": 4_102_444_800_u64, "jti": "0".repeat(256)});
    format!("Bearer {}", Signer::shared("HS256", SECRET).token(claims))
}
