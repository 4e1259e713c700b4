//! A folder, ports, keys and an upstream: what a gateway needs around it. A test says only what it is about.

use std::{cell::OnceCell, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Finished, Gateway, Recorder, Signer, ports, stepgate};

/// The surroundings of one gateway.
pub struct World {
    folder: TempDir,
    /// The upstream `api`.
    pub upstream: Recorder,
    pub port: u16,
    pub tls: u16,
    pub admin: u16,
    signer: OnceCell<Signer>,
}

impl World {
    /// With an upstream that answers `ok`.
    pub fn new() -> Self {
        Self::with(Recorder::new())
    }

    /// With an upstream of one's own.
    pub fn with(upstream: Recorder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, tls, admin) = (ports::lease(), ports::lease(), ports::lease());
        Self { folder, upstream, port, tls, admin, signer: OnceCell::new() }
    }

    /// The folder with the configuration in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes `seal.key`: what a policy with `sealing: {key: {file: seal.key}}` seals its store with.
    pub fn seal(&self) {
        self.write("seal.key", "0123456789abcdef".repeat(4));
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // In one piece: a gateway that is running looks at its files whenever it likes.
        let next = path.with_extension("half-written");
        std::fs::write(&next, content).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// The key of the issuer `main`: ES256, in the folder as `jwks.json`.
    pub fn signer(&self) -> &Signer {
        self.signer.get_or_init(|| Signer::new("ES256", "main-1"))
    }

    /// A token of `main` for alice, with changes of its claims.
    pub fn token(&self, changes: Value) -> String {
        self.signer().token(changes)
    }

    /// A token of `main` with a second factor, `age` seconds old.
    pub fn fresh(&self, age: u64) -> String {
        self.fresh_for("alice", age)
    }

    /// The same for another subject.
    pub fn fresh_for(&self, subject: &str, age: u64) -> String {
        let auth_time = super::unix_now() - age;
        self.token(
            json!({"sub": subject, "acr": "urn:example:acr:mfa", "amr": ["pwd", "otp", "mfa"], "auth_time": auth_time}),
        )
    }

    /// A whole configuration: what the test says, and for each section that it leaves out, one that suits most.
    /// `<port>`, `<tls>`, `<admin>` and `<upstream>` stand for this world's ports.
    pub fn yaml(&self, says: &str) -> String {
        let mut yaml = says.to_owned();
        for (section, text) in [
            ("listeners", "listeners:\n  - {address: 127.0.0.1:<port>, cleartext: true}\n"),
            ("admin", "admin: {address: 127.0.0.1:<admin>}\n"),
            ("issuers", MAIN_ISSUER),
            ("upstreams", "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>]}\n"),
            ("server", "server: {workers: 1}\n"),
        ] {
            if !says.lines().any(|line| line.starts_with(&format!("{section}:"))) {
                yaml = format!("{text}{yaml}");
            }
        }
        let ports = [("port", self.port), ("tls", self.tls), ("admin", self.admin), ("upstream", self.upstream.port)];
        ports.iter().fold(yaml, |yaml, (name, port)| yaml.replace(&format!("<{name}>"), &port.to_string()))
    }

    /// Writes the configuration and the keys beside it.
    pub fn configure(&self, says: &str) {
        self.write("jwks.json", self.signer().jwks().to_string());
        self.write("gateway.yaml", self.yaml(says));
    }

    /// Starts a gateway and waits until it is ready.
    pub fn start(&self, says: &str) -> Gateway {
        self.start_unready(says).ready()
    }

    /// Starts a gateway that may not be ready yet.
    pub fn start_unready(&self, says: &str) -> Gateway {
        self.configure(says);
        self.restart()
    }

    /// Starts a gateway with what is written already.
    pub fn restart(&self) -> Gateway {
        Gateway::start(self.folder(), self.port, self.tls, self.admin)
    }

    /// The same from a shell that has run `preamble` first.
    pub fn start_in(&self, preamble: &str) -> Gateway {
        Gateway::start_in(self.folder(), self.port, self.tls, self.admin, preamble)
    }

    /// The same on a disk that fills up: no file may grow beyond two blocks for now, and who tries is told so rather than killed.
    pub fn start_on_a_small_disk(&self) -> Gateway {
        self.start_in("trap '' XFSZ; ulimit -S -f 2").ready()
    }

    /// Runs `stepgate check` over a configuration.
    pub fn check(&self, says: &str) -> Finished {
        self.configure(says);
        stepgate(self.folder(), &["check", "gateway.yaml"])
    }
}

const MAIN_ISSUER: &str = "issuers:
  main:
    issuer: https://idp.example/
    audience: [https://api.example]
    keys: {jwks_file: jwks.json}
    algorithms: [ES256]
";
