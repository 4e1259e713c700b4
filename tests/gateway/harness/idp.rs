//! oidc-provider from npm as a child process: a real OpenID provider, with its signing key rotated on command.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{Process, Wire, ports, remember_secret, run, tools::curl};

/// The provider.
pub struct Idp {
    _process: Process,
    pub port: u16,
    control: u16,
}

/// A browser with a session at the provider.
pub struct Browser {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Browser {
    /// Logs out at the provider, which has told whom it tells when this returns.
    pub fn log_out(mut self) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success() && said.contains("logged out 303"), "{said}");
    }
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
        Self::start_telling(port, "")
    }

    /// The same, telling this address of log-outs.
    pub fn start_telling(port: u16, logout_uri: &str) -> Self {
        assert!(folder().join("node_modules").is_dir(), "oidc-provider is not installed: run `./test setup`");
        let control = ports::lease();
        let mut command = Command::new("node");
        command.arg(folder().join("server.mjs")).arg(port.to_string()).arg(control.to_string());
        if !logout_uri.is_empty() {
            command.env("BACKCHANNEL_LOGOUT_URI", logout_uri);
        }
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
        self.token_with(client, "", &[])
    }

    /// The same as a token that only the provider can read.
    pub fn opaque_token(&self, client: &str) -> String {
        self.token_with(client, "&resource=https://opaque.example", &[])
    }

    /// Takes a token of a client back (RFC 7009).
    pub fn revoke(&self, client: &str, token: &str) {
        let form = format!("token={token}&client_id={client}&client_secret={client}-secret");
        let answer = curl(&["--fail", "-d", &form, &format!("{}/token/revocation", self.issuer())]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    /// The private key of the client `gateway-key`, PEM.
    pub fn gateway_key(&self) -> String {
        let answer = curl(&["--fail", &format!("http://127.0.0.1:{}/gateway-key", self.control)]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.stdout
    }

    /// The same, bound to the key of a DPoP proof for the token endpoint.
    pub fn bound_token(&self, client: &str, proof: &str) -> String {
        self.token_with(client, "", &["-H", &format!("DPoP: {proof}")])
    }

    fn token_with(&self, client: &str, resource: &str, more: &[&str]) -> String {
        let secret = format!("{client}-secret");
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={secret}&scope=items:read{resource}"
        );
        let answer = curl(&[&["-d", &form, &format!("{}/token", self.issuer())], more].concat());
        let json: serde_json::Value =
            serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        let token = json["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        remember_secret(&token);
        token
    }

    /// A token by client credentials that is bound to this certificate, PEM. The provider is told of it as by a proxy in front
    /// that ends TLS: it speaks none itself.
    pub fn certified_token(&self, certificate: &str) -> String {
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

    /// Logs a person in with a browser that stays: its access token, and the browser.
    pub fn person_with_session(&self) -> (String, Browser) {
        let mut command = Command::new("node");
        command.arg(folder().join("login.mjs")).arg(self.issuer()).env("LOGOUT", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut token = String::new();
        output.read_line(&mut token).unwrap();
        remember_secret(token.trim());
        (token.trim().to_owned(), Browser { child, output })
    }

    /// Signs with a new key from now on and forgets the old one.
    pub fn rotate(&self) {
        let mut wire = Wire::connect(self.control);
        wire.send("POST /rotate HTTP/1.1\r\nHost: control\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(wire.head().unwrap().0, 200);
    }
}
