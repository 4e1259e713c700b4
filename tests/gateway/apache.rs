//! Debian's Apache as the service, with its own ideas of HTTP/1.1 and, by mod_http2, of HTTP/2 without TLS.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Gateway, Process, World, eventually, get, lease_port, post};

const CONF: &str = "ServerRoot <folder>
ServerName service.example
PidFile <folder>/pid
Mutex file:<folder> default
Listen 127.0.0.1:<port>
ErrorLog /dev/stderr
<user>KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
StartServers 1
ThreadsPerChild 16
LoadModule mpm_event_module <modules>/mod_mpm_event.so
LoadModule authz_core_module <modules>/mod_authz_core.so
LoadModule alias_module <modules>/mod_alias.so
LoadModule cgid_module <modules>/mod_cgid.so
LoadModule http2_module <modules>/mod_http2.so
Protocols h2c http/1.1
ScriptSock <folder>/cgi
DocumentRoot <folder>/files
ScriptAlias /cgi <folder>/echo
<Directory />
    Require all granted
</Directory>
";

/// Says what it was asked, in as many pieces as it likes: without a length, so that the server must frame it.
const ECHO: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
printf '%s %s %s %s ' \"$SERVER_PROTOCOL\" \"$REQUEST_METHOD\" \"$HTTP_HOST\" \"$QUERY_STRING\"
cat
";

struct Apache {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Apache {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), lease_port());
        let path = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        // Its children run as nobody, who must be able to look.
        let mut chmod = Command::new("chmod");
        std::fs::write(folder.path().join("echo"), ECHO).unwrap();
        chmod.args(["755", &path, &format!("{path}/echo"), &format!("{path}/files")]).stdout(Stdio::null());
        assert!(chmod.status().unwrap().success());
        let conf = CONF
            .replace("<folder>", &path)
            .replace("<port>", &port.to_string())
            .replace("<modules>", "/usr/lib/apache2/modules")
            .replace("<user>", if is_root() { "User nobody\nGroup nogroup\n" } else { "" });
        std::fs::write(folder.path().join("apache.conf"), conf).unwrap();
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("apache2");
        command.env("PATH", path).args(["-DFOREGROUND", "-f"]).arg(folder.path().join("apache.conf"));
        let process = Process::spawn(&mut command);
        eventually("apache2", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { process, port, folder }
    }

    fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join("files").join(name), content).unwrap();
    }
}

impl Drop for Apache {
    /// It ends its children itself, which would outlive it otherwise.
    fn drop(&mut self) {
        self.process.signal("TERM");
        self.process.wait();
    }
}

/// Root's Apache wants to know as whom its children run.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn in_front(world: &World, apache: &Apache, protocol: &str) -> Gateway {
    world.start(&format!(
        "upstreams:\n  api: {{targets: [http://127.0.0.1:{}], protocol: {protocol}}}\nroutes:\n  - {{path: /**, upstream: api, auth: none}}\n",
        apache.port
    ))
}

#[test]
fn what_it_frames_itself_comes_whole_and_connections_are_kept() {
    let apache = Apache::start();
    for (protocol, version) in [("http1", "HTTP/1.1"), ("http2", "HTTP/2.0")] {
        let world = World::new();
        let gateway = in_front(&world, &apache, protocol);
        let mut wire = gateway.connect();
        for round in 0..5 {
            let answer = get(&format!("/cgi?round={round}%2F")).send_on(&mut wire).expect(200);
            assert_eq!(answer.text(), format!("{version} GET gateway.example round={round}%2F "));
            let body = "x".repeat(100_000);
            let answer = post("/cgi", &body).send_on(&mut wire).expect(200);
            assert_eq!(answer.text(), format!("{version} POST gateway.example  {body}"));
            // Too long for Apache to know its length beforehand; of a short one it knows it where the program has ended by then.
            assert!(!answer.has("content-length"));
        }
        let opened = gateway.metric("stepgate_upstream_connections_opened_total", &["upstream=\"api\""]);
        assert_eq!(opened, 1.0, "{protocol}");
    }
}

#[test]
fn ranges_conditions_and_heads_are_its_own_affair() {
    let apache = Apache::start();
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n * 7) as u8).collect();
    apache.file("data.bin", &content);
    for protocol in ["http1", "http2"] {
        let world = World::new();
        let gateway = in_front(&world, &apache, protocol);
        let whole = get("/data.bin").send(&gateway).expect(200);
        assert!(whole.body == content && whole.header("accept-ranges") == "bytes");
        let etag = whole.header("etag").to_owned();
        let part = get("/data.bin").header("Range", "bytes=1000-1999").send(&gateway).expect(206);
        assert!(part.body == content[1000..2000] && part.header("content-range") == "bytes 1000-1999/300000");
        let parts = get("/data.bin").header("Range", "bytes=0-9,100-109").send(&gateway).expect(206);
        assert!(parts.header("content-type").starts_with("multipart/byteranges"));
        get("/data.bin").header("Range", "bytes=400000-").send(&gateway).expect(416);
        let same = get("/data.bin").header("If-None-Match", &etag).send(&gateway).expect(304);
        assert!(same.body.is_empty() && same.header("etag") == etag);
        let mut wire = gateway.connect();
        wire.send("HEAD /data.bin HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
        let head = wire.answer_to_head().expect(200);
        assert_eq!(head.header("content-length"), "300000");
        get("/none").send_on(&mut wire).expect(404);
    }
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_and_its_body_arrives() {
    let apache = Apache::start();
    for protocol in ["http1", "http2"] {
        let world = World::new();
        let gateway = in_front(&world, &apache, protocol);
        let mut wire = gateway.connect();
        wire.send("POST /cgi HTTP/1.1\r\nHost: gateway.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(wire.head().unwrap().0, 100, "{protocol}");
        wire.send("hello");
        assert!(wire.answer().expect(200).text().ends_with(" hello"), "{protocol}");
        // In chunks, and on the same connection.
        wire.send(
            "POST /cgi HTTP/1.1\r\nHost: gateway.example\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert_eq!(wire.head().unwrap().0, 100, "{protocol}");
        wire.send("3\r\nabc\r\n").send("2\r\nde\r\n0\r\n\r\n");
        assert!(wire.answer().expect(200).text().ends_with(" abcde"), "{protocol}");
    }
}
