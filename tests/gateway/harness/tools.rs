//! Programs that nobody here wrote: curl and h2load as clients, nginx as the API behind, Prometheus and promtool.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::{Authority, Finished, Process, Wire, eventually, get, ports, run};

/// Runs curl, quietly but for errors, without any configuration of the machine's.
pub fn curl(arguments: &[&str]) -> Finished {
    run(Command::new("curl").args(["--disable", "--silent", "--show-error", "--max-time", "20"]).args(arguments), "")
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
        let folder = tempfile::tempdir().unwrap();
        let port = ports::lease();
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

    /// Writes a file that it serves under `/files/`.
    pub fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join("files").join(name), content).unwrap();
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
