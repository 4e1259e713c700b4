//! Programs that nobody here wrote: curl and h2load as clients, nginx as the API behind, Prometheus and promtool.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::{Authority, Finished, Process, Wire, World, eventually, get, ports, recorder::Recorded, run};

/// Runs curl, quietly but for errors, without any configuration of the machine's.
pub fn curl(arguments: &[&str]) -> Finished {
    run(Command::new("curl").args(["--disable", "--silent", "--show-error", "--max-time", "20"]).args(arguments), "")
}

/// Runs nghttp, which has come with h2load, and gives what it printed.
pub fn nghttp(arguments: &[&str]) -> String {
    let finished = run(Command::new("nghttp").args(arguments), "");
    finished.stdout + &finished.stderr
}

/// What h2load counted.
#[derive(Debug)]
pub struct Load {
    pub succeeded: u64,
    pub failed: u64,
    pub ok: u64,
    pub text: String,
}

/// Runs h2load to its end.
pub fn h2load(arguments: &[&str]) -> Load {
    let finished = run(Command::new("h2load").args(arguments), "");
    let text = finished.stdout;
    let number = |line: &str, word: &str| {
        let line = text.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{text} {}", finished.stderr));
        let before = line.split(&format!(" {word}")).next().unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (succeeded, failed, ok) =
        (number("requests:", "succeeded"), number("requests:", "failed"), number("status codes:", "2xx"));
    Load { succeeded, failed, ok, text }
}

/// nginx in a folder of its own: an API that answers with what it was asked, and serves and takes files.
pub struct Nginx {
    _process: Process,
    pub port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Starts it.
    pub fn start() -> Self {
        Self::start_on(ports::lease())
    }

    /// Starts it at a port that was leased.
    pub fn start_on(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        std::fs::write(folder.path().join("nginx.conf"), nginx_conf(folder.path(), port)).unwrap();
        let mut command = Command::new("nginx");
        command
            .env("PATH", path_with_sbin())
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"));
        command.args(["-e", "stderr"]);
        let process = Process::spawn(&mut command);
        eventually("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, port, folder }
    }

    /// Starts one with `server` sections of the test's own: `<folder>` and `<port>` stand for its folder and its port, on which it
    /// must listen. `files` lie in the folder.
    pub fn serving(servers: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = ports::lease();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let path = folder.path().display().to_string();
        let conf = format!(
            "daemon off; master_process off; worker_processes 1; pid <folder>/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off; default_type text/plain; client_max_body_size 64m;
    client_body_temp_path <folder>/body; proxy_temp_path <folder>/p; fastcgi_temp_path <folder>/f;
    uwsgi_temp_path <folder>/u; scgi_temp_path <folder>/s;
{servers}
}}
"
        );
        let conf = conf.replace("<folder>", &path).replace("<port>", &port.to_string());
        std::fs::write(folder.path().join("nginx.conf"), conf).unwrap();
        let mut command = Command::new("nginx");
        command.env("PATH", path_with_sbin()).args(["-e", "stderr", "-p"]).arg(folder.path());
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        let process = Process::spawn(&mut command);
        eventually("nginx", || {
            let any = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
            any.iter().find_map(|address| std::net::TcpStream::connect((*address, port)).ok())
        });
        Self { _process: process, port, folder }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that it serves under `/files/`.
    pub fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join("files").join(name), content).unwrap();
    }

    /// Takes a file away again.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("files").join(name)).unwrap();
    }

    /// Its access log so far: method, target, status, in that order.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

fn nginx_conf(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    log_format plain '$request_method $request_uri $status';
    access_log {folder}/access.log plain;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    keepalive_requests 1000000; client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port};
        default_type text/plain;
        location /files/ {{ root {folder}; }}
        location / {{
            return 200 'method=$request_method uri=$request_uri subject=$http_x_auth_subject acr=$http_x_auth_acr authorization=$http_authorization';
        }}
    }}
}}
"
    )
}

/// Debian's dnsmasq, answering for `internal` alone, with answers that are good for a second.
pub struct NameServer {
    process: Process,
    pub port: u16,
    folder: TempDir,
}

impl NameServer {
    /// Starts it with the lines of a hosts file, and with further options.
    pub fn start(hosts: &str, options: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = ports::lease();
        std::fs::write(folder.path().join("hosts"), hosts).unwrap();
        let process = Self::run(folder.path(), port, options);
        Self { process, port, folder }
    }

    fn run(folder: &Path, port: u16, options: &[String]) -> Process {
        let user = run(Command::new("id").arg("-un"), "").stdout;
        let mut command = Command::new("dnsmasq");
        command.env("PATH", path_with_sbin());
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--local=/internal/",
        ]);
        command.args(["--local-ttl=1", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file"]);
        command.arg(format!("--port={port}")).arg(format!("--user={}", user.trim()));
        command.arg(format!("--addn-hosts={}", folder.join("hosts").display())).args(options);
        let process = Process::spawn(&mut command);
        eventually("dnsmasq", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        process
    }

    /// Answers by other lines from now on.
    pub fn change(&mut self, hosts: &str) {
        std::fs::write(self.folder.path().join("hosts"), hosts).unwrap();
        self.process.signal("HUP");
    }

    /// Starts again with other options.
    pub fn change_options(&mut self, options: &[String]) {
        self.stop();
        self.process = Self::run(self.folder.path(), self.port, options);
    }

    /// Answers nobody any more.
    pub fn stop(&mut self) {
        self.process.kill();
    }
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Debian's Prometheus, scraping one gateway every second.
pub struct Prometheus {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it.
    pub fn scraping(admin: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = ports::lease();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: stepgate\n    static_configs: [{{targets: ['127.0.0.1:{admin}']}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::spawn(&mut command);
        eventually("prometheus", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, port, _folder: folder }
    }

    /// Asks an instant query until it has an answer, and gives the first value.
    pub fn query(&self, query: &str) -> f64 {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let target = format!("/api/v1/query?query={encoded}");
        eventually(&format!("an answer to {query}"), || {
            // Prometheus sends headers of its own, so its answers are not held to the gateway's list.
            let mut wire = Wire::connect(self.port);
            wire.send(get(&target).header("Connection", "close").bytes());
            let (status, _) = wire.head().ok()?;
            let body = String::from_utf8(wire.rest()).ok()?;
            let json = body.get(body.find('{')?..=body.rfind('}')?)?.replace("\r\n", "");
            let json: serde_json::Value = serde_json::from_str(&json).ok()?;
            let value = json["data"]["result"][0]["value"][1].as_str()?.parse().ok();
            value.filter(|_| status == 200)
        })
    }
}

/// The SHA-256 of the certificate's key, in base64: how Chromium is told to trust it.
fn pin(world: &World) -> String {
    let script = "openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary \
                  | openssl base64";
    let finished = run(Command::new("bash").args(["-c", script]).current_dir(world.folder()), "");
    assert_eq!(finished.code, 0, "{finished:?}");
    finished.stdout.trim().to_owned()
}

/// Runs a scenario of tests/browser: its certificate is `server.pem` in the world's folder, of the authority in `ca.pem`.
pub fn browse(world: &World, scenario: &str, mut says: serde_json::Value) {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(browser.join("node_modules").is_dir(), "playwright-core is not installed: run `./test setup`");
    says["base"] = format!("https://localhost:{}", world.tls).into();
    says["admin"] = format!("http://127.0.0.1:{}", world.admin).into();
    says["spki"] = pin(world).into();
    let mut command = Command::new("node");
    command.arg(browser.join(format!("{scenario}.mjs"))).env("STEPGATE_WORLD", says.to_string());
    command.env("NODE_EXTRA_CA_CERTS", world.folder().join("ca.pem")).current_dir(&browser);
    let finished = run(&mut command, "");
    assert!(finished.code == 0 && finished.stdout.ends_with("ok\n"), "{}{}", finished.stdout, finished.stderr);
}

/// A command that runs one of the Python tools of tests/mail.
fn mail_tool(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "aiosmtpd is not installed: run `./test setup`");
    let mut command = Command::new(python);
    command.arg(folder.join(script));
    command
}

/// aiosmtpd, without TLS: a mail server that takes all that comes.
pub struct MailServer {
    process: Process,
    pub port: u16,
}

impl MailServer {
    /// Starts it; the certificate is one that it has no use for.
    pub fn start(folder: &Path) -> Self {
        let mut command = mail_tool("server.py");
        command.arg("plain").arg(folder.join("server.pem")).arg(folder.join("server.key"));
        let mut process = Process::spawn_listening(&mut command);
        let ready = process.wait_for_line("ready ");
        let port = ready.trim_start_matches("ready ").trim().parse().unwrap();
        Self { process, port }
    }

    /// What somebody was sent that has this subject line: the whole mail, with the lines that were broken for the way made whole.
    pub fn letter(&self, to: &str, subject: &str) -> String {
        eventually(&format!("a mail to {to}: {subject}"), || {
            let said = self.process.stdout.lock().unwrap().clone();
            let letters = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let theirs = letters.filter(|letter| letter["to"] == serde_json::json!([to]));
            let mut texts = theirs.map(|letter| {
                letter["text"].as_str().unwrap().replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=")
            });
            texts.find(|text| text.contains(&format!("Subject: {subject}\n")))
        })
    }
}

/// What the library of Standard Webhooks says of a message: `good`, or what is wrong with it.
pub fn verify_webhook(secret: &str, message: &Recorded) -> String {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<String, serde_json::Value> =
        names.iter().map(|name| ((*name).to_owned(), message.header(name).into())).collect();
    let body = String::from_utf8_lossy(&message.body);
    let call = serde_json::json!({"secret": secret, "headers": headers, "body": body});
    run(&mut mail_tool("verify.py"), &format!("{call}\n")).stdout.trim().to_owned()
}

/// Runs `promtool check metrics` over a page of metrics.
pub fn promtool_check_metrics(metrics: &str) -> Finished {
    run(Command::new("promtool").args(["check", "metrics"]), metrics)
}

/// openssl's own little HTTPS server: an upstream over TLS that nobody here wrote.
pub struct TlsUpstream {
    _process: Process,
    pub port: u16,
    _folder: TempDir,
}

impl TlsUpstream {
    /// Starts it with a certificate of this authority for this name; it serves one file's content at every path.
    pub fn start(authority: &Authority, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        authority.server(folder.path(), "server", &[name]);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nover TLS";
        for path in ["good", "stranger", "other"] {
            std::fs::write(folder.path().join(path), answer).unwrap();
        }
        let port = ports::lease();
        let mut command = Command::new("openssl");
        command.current_dir(folder.path()).args([
            "s_server",
            "-quiet",
            "-HTTP",
            "-cert",
            "server.pem",
            "-key",
            "server.key",
        ]);
        command.arg("-accept").arg(port.to_string());
        let process = Process::spawn(&mut command);
        eventually("openssl", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, port, _folder: folder }
    }
}
