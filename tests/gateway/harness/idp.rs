//! oidc-provider from npm as a child process: a real OpenID provider, with its signing key rotated on command.

use std::{path::PathBuf, process::Command};

use super::{Process, Wire, ports, remember_secret, run, tools::curl};

/// The provider.
pub struct Idp {
    _process: Process,
    pub port: u16,
    control: u16,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/idp")
}

impl Idp {
    /// Starts it on a port of its own.
    pub fn start() -> Self {
        Self::start_on(ports::lease())
    }

    /// Starts it on a given port.
    pub fn start_on(port: u16) -> Self {
        assert!(folder().join("node_modules").is_dir(), "oidc-provider is not installed: run `./test setup`");
        let control = ports::lease();
        let mut command = Command::new("node");
        command.arg(folder().join("server.mjs")).arg(port.to_string()).arg(control.to_string());
        let mut process = Process::spawn(&mut command);
        process.wait_for_line("ready ");
        Self { _process: process, port, control }
    }

    /// Its issuer identifier.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A token by client credentials: `stepped-up` or `plain`.
    pub fn machine_token(&self, client: &str) -> String {
        let secret = format!("{client}-secret");
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={secret}&scope=items:read");
        let answer = curl(&["-d", &form, &format!("{}/token", self.issuer())]);
        let json: serde_json::Value =
            serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        let token = json["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        remember_secret(&token);
        token
    }

    /// A token by client credentials that is bound to this certificate, PEM. The provider is told of it as by a proxy in front
    /// that ends TLS: it speaks none itself.
    pub fn bound_token(&self, certificate: &str) -> String {
        let form = "grant_type=client_credentials&client_id=bound&client_secret=bound-secret&scope=items:read";
        let base64: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
        let header = format!("x-test-certificate: {base64}");
        let answer = curl(&["-d", form, "-H", &header, &format!("{}/token", self.issuer())]);
        let json: serde_json::Value =
            serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        let token = json["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        remember_secret(&token);
        token
    }

    /// A token by the authorization code flow, as a person who logs in with a browser gets one.
    pub fn person_token(&self, acr: Option<&str>) -> String {
        let mut command = Command::new("node");
        command.arg(folder().join("login.mjs")).arg(self.issuer()).args(acr);
        let finished = run(&mut command, "");
        assert_eq!(finished.code, 0, "{finished:?}");
        let token = finished.stdout.trim().to_owned();
        remember_secret(&token);
        token
    }

    /// Signs with a new key from now on and forgets the old one.
    pub fn rotate(&self) {
        let mut wire = Wire::connect(self.control);
        wire.send("POST /rotate HTTP/1.1\r\nHost: control\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(wire.head().unwrap().0, 200);
    }
}
