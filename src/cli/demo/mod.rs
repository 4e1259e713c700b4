//! `stepgate demo`: a sample API, a development issuer and a gateway before them, and what to try.
//!
//! The gateway is the real one, run by the root's `gateway.yaml`; the other two are servers of their own on loopback.

mod api;
mod issuer;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use clap::Args;
use http::{Response, StatusCode, header};

use self::{api::OrdersApi, issuer::DevelopmentIssuer};
use super::{Exit, complain, load, print_line, reload::Seen, run::Running};
use crate::{
    body::{ResponseBody, Serve},
    config::{Loaded, Materials},
    runtime::DiskMaterials,
    server::{ListenerPlan, PlanMode, Server, ServerError, ServerPlan},
    telemetry::{EventFormat, init_tracing},
};

/// The configuration of the demo is the one that everyone starts from.
const GATEWAY_YAML: &str = include_str!("../../../gateway.yaml");
/// The ports that it names: gateway, redirect, admin, issuer, API.
const PORTS: [u16; 5] = [8443, 8080, 9090, 9200, 9100];

/// How to run the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the configuration, the certificate, the logs and the audit trail go
    #[arg(long, value_name = "DIR", default_value = "stepgate-demo")]
    dir: PathBuf,
}

/// Runs the demo until it is told to stop.
pub(crate) fn demo(args: &DemoArgs) -> Exit {
    let _events = init_tracing(EventFormat::Text).inspect_err(|fault| complain(fault));
    let ports = match free_ports() {
        Ok(ports) => ports,
        Err(error) => {
            complain(&error);
            return Exit::Unavailable;
        }
    };
    let (file, loaded) = match prepare(&args.dir, ports) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Exit::Io;
        }
    };
    let result = runtime.block_on(async {
        let _others = start_others(&loaded, ports)?;
        let materials: Arc<dyn Materials + Send + Sync> = Arc::new(DiskMaterials);
        let running = Running::start((&file, Seen::look(file.clone())), loaded, materials)?;
        print_line(&instructions(&args.dir, ports));
        running.until_told_to_stop().await
    });
    match result {
        Ok(()) => Exit::Success,
        Err(fault) => {
            complain(&fault);
            fault.exit()
        }
    }
}

/// The demo's ports where they are free, others where they are not.
fn free_ports() -> std::io::Result<[u16; 5]> {
    let mut ports = PORTS;
    // All are held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    for port in &mut ports {
        let socket = TcpListener::bind(("127.0.0.1", *port)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
        *port = socket.local_addr()?.port();
        held.push(socket);
    }
    Ok(ports)
}

/// Writes the configuration with the ports that are free, and loads it.
fn prepare(dir: &Path, ports: [u16; 5]) -> Result<(PathBuf, Loaded), Exit> {
    let mut text = GATEWAY_YAML
        .replace("address: 127.0.0.1:9090\n", "address: 127.0.0.1:9090\naccess_log: {file: access.jsonl}\n");
    for (from, to) in PORTS.iter().zip(ports) {
        text = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
        text = text.replace(&format!("redirect_to_https: {from}"), &format!("redirect_to_https: {to}"));
    }
    let file = dir.join("gateway.yaml");
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, &text));
    if let Err(error) = written {
        complain(&std::io::Error::new(error.kind(), format!("writing {}: {error}", file.display())));
        return Err(Exit::Io);
    }
    match load::load(&file, &DiskMaterials) {
        Ok(loaded) => Ok((file, loaded)),
        Err(fault) => {
            load::print_fault(&fault);
            Err(Exit::Config)
        }
    }
}

/// Starts the API and the issuer, each on a thread and a port of its own.
fn start_others(loaded: &Loaded, ports: [u16; 5]) -> Result<[Server; 2], super::run::StartFault> {
    let [_, _, _, issuer_port, api_port] = ports;
    let issuer = DevelopmentIssuer::new(&format!("http://127.0.0.1:{issuer_port}"), "https://orders.example")
        .map_err(super::run::StartFault::Demo)?;
    let issuer = Arc::new(issuer);
    let orders = Arc::new(OrdersApi::default());
    Ok([
        serve(loaded, issuer_port, move || Rc::new(issuer::Endpoint(issuer.clone())))?,
        serve(loaded, api_port, move || Rc::new(api::Endpoint(orders.clone())))?,
    ])
}

fn serve<S: Serve>(
    loaded: &Loaded,
    port: u16,
    make: impl Fn() -> Rc<S> + Send + Sync + 'static,
) -> Result<Server, ServerError> {
    let address = ([127, 0, 0, 1], port).into();
    let listener = ListenerPlan { name: "demo".into(), address, mode: PlanMode::Http1 };
    let plan = ServerPlan { workers: 1, listeners: vec![listener], limits: loaded.config.server.limits.clone() };
    Server::start(&plan, move |_| make(), Arc::new(()))
}

/// An answer of the demo's own servers.
fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody<()>> {
    let mut response = Response::new(ResponseBody::full(body, ()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// This program as a shell takes it: by its own path, since nothing says that it is installed.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("stepgate"));
    quoted(&path)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '@' | '%' | ',' | ':');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What to paste, and what each line shows.
fn instructions(dir: &Path, ports: [u16; 5]) -> String {
    let [gateway, redirect, admin, issuer, _] = ports;
    let dir = quoted(dir);
    let program = program();
    format!(
        r#"
Stepgate is running: an orders API that knows nothing of tokens, an issuer for trying things out, and the gateway.
The policy is {dir}/gateway.yaml: change it and save, and it is in force. Ctrl-C ends everything.
In another terminal, in this folder:

  # ready for use below: the gateway with its self-signed certificate, an ordinary token, one with a second factor
  G() {{ curl --silent --show-error --include --cacert {dir}/state/self-signed.pem "$@"; echo; }}
  TOKEN=$(curl -s 'http://127.0.0.1:{issuer}/token?sub=alice')
  MFA=$(curl -s 'http://127.0.0.1:{issuer}/token?sub=alice&acr=urn:example:acr:mfa')

  # 401: no token, and where to get one
  G https://localhost:{gateway}/orders

  # 200: the same with a token
  G https://localhost:{gateway}/orders -H "Authorization: Bearer $TOKEN"

  # 401 insufficient_user_authentication: a payment needs a second factor (RFC 9470)
  G https://localhost:{gateway}/payments -d amount=100 -H "Authorization: Bearer $TOKEN"

  # 201: the same after step-up
  G https://localhost:{gateway}/payments -d amount=100 -H "Authorization: Bearer $MFA"

  # 401: nothing is deleted without a recent second factor, whatever the route says
  G -X DELETE https://localhost:{gateway}/orders/1 -H "Authorization: Bearer $TOKEN"

  # 204: with one
  G -X DELETE https://localhost:{gateway}/orders/1 -H "Authorization: Bearer $MFA"

  # 429 after five: a quota for each user
  for i in 1 2 3 4 5 6; do G https://localhost:{gateway}/reports -H "Authorization: Bearer $TOKEN" | head -1; done

  # 308: the plain port only redirects
  G http://localhost:{redirect}/orders

  # the metrics, and the audit trail of the deletions
  curl -s http://127.0.0.1:{admin}/metrics | grep '^stepgate_decisions_total' | grep -v ' 0$'
  {program} audit verify {dir}/state/audit.jsonl
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/usr/bin/stepgate")), "/usr/bin/stepgate");
        assert_eq!(quoted(Path::new("a folder/it's")), r"'a folder/it'\''s'");
    }

    #[test]
    fn the_instructions_name_the_program_and_the_ports_that_are_used() {
        let text = instructions(Path::new("a b"), [1, 2, 3, 4, 5]);
        assert!(text.contains("audit verify 'a b'/state/audit.jsonl"), "{text}");
        assert!(text.contains(&program()) && text.contains("https://localhost:1/orders"), "{text}");
    }
}
