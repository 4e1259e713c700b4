//! `stepgate demo`: a sample API, a development issuer and a gateway before them, and what to try.
//!
//! The gateway is the real one, run by the root's `gateway.yaml`; the other two are servers of their own on loopback.

mod api;
mod app;
mod issuer;
mod search;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use http::{Response, StatusCode, header};

use self::{api::OrdersApi, issuer::DevelopmentIssuer, search::SearchIndex};
use super::{
    Exit, complain, load, print_line,
    reload::Seen,
    run::{Origin, Running},
};
use crate::{
    body::{Aside, ResponseBody},
    config::{Loaded, Materials},
    runtime::DiskMaterials,
    server::{ListenerPlan, PlanMode, Server, ServerError, ServerPlan},
    telemetry::{EventFormat, init_tracing},
};

/// The configuration of the demo is the one that everyone starts from.
const GATEWAY_YAML: &str = include_str!("../../../gateway.yaml");
/// The ports that it names: gateway, redirect, admin, issuer, API, search index.
const PORTS: Ports = [8443, 8080, 9090, 9200, 9100, 9110];
type Ports = [u16; 6];

/// What the commands of operators show the gateway.
const ADMIN_TOKEN: &str = "state/admin.token";
/// What second factors and deletions are encrypted with.
const SEALING_KEY: &str = "sealing.key";

/// What takes days in earnest, and a minute here.
const HASTE: [(&str, &str); 2] = [("grace: 30d", "grace: 1m"), ("after: [0s, 1h, 24h]", "after: [0s, 1s]")];

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
        let running = Running::start((&file, Seen::look(file.clone())), loaded, materials, Origin::default())?;
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
fn free_ports() -> std::io::Result<Ports> {
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
fn prepare(dir: &Path, ports: Ports) -> Result<(PathBuf, Loaded), Exit> {
    let admin =
        format!("address: 127.0.0.1:9090\n  token: {{file: {ADMIN_TOKEN}}}\naccess_log: {{file: access.jsonl}}\n");
    let mut text = in_full(&GATEWAY_YAML.replace("address: 127.0.0.1:9090\n", &admin));
    for (from, to) in HASTE {
        text = text.replace(from, to);
    }
    for (from, to) in PORTS.iter().zip(ports) {
        text = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
        text = text.replace(&format!("https://localhost:{from}"), &format!("https://localhost:{to}"));
        text = text.replace(&format!("redirect_to_https: {from}"), &format!("redirect_to_https: {to}"));
    }
    let file = dir.join("gateway.yaml");
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| make_secret(&dir.join(ADMIN_TOKEN)))
        .and_then(|()| make_secret(&dir.join(SEALING_KEY)))
        .and_then(|()| std::fs::write(&file, &text));
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

/// The example with its commented sections in force. Each begins with a key, two characters further than where it belongs.
fn in_full(text: &str) -> String {
    let begins = |line: &str| {
        ["# sealing:", "# authority:", "# deletions:", "  # search:"].iter().any(|key| line.starts_with(key))
    };
    let (mut inside, mut lines) = (false, String::with_capacity(text.len()));
    for line in text.lines() {
        inside = begins(line) || (inside && line.starts_with("#   "));
        lines.push_str(&if inside { line.replacen("# ", "", 1) } else { line.to_owned() });
        lines.push('\n');
    }
    lines
}

/// Makes a secret of 32 random bytes, in base64, for this user alone; one that is there already stays.
fn make_secret(file: &Path) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};

    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random bytes"))?;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    match opened {
        Ok(mut file) => file.write_all(STANDARD.encode(bytes).as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts the API, its search index and the issuer, each on a thread and a port of its own.
fn start_others(loaded: &Loaded, ports: Ports) -> Result<[Server; 3], super::run::StartFault> {
    let [_, _, _, issuer_port, api_port, search_port] = ports;
    let issuer = DevelopmentIssuer::new(&format!("http://127.0.0.1:{issuer_port}"), "https://orders.example")
        .map_err(super::run::StartFault::Demo)?;
    let issuer = Arc::new(issuer);
    let orders = Arc::new(OrdersApi::default());
    let index = Arc::new(SearchIndex::default());
    Ok([
        serve(loaded, issuer_port, move || Aside::new(issuer::Endpoint(issuer.clone())))?,
        serve(loaded, api_port, move || Aside::new(api::Endpoint(orders.clone())))?,
        serve(loaded, search_port, move || Aside::new(search::Endpoint(index.clone())))?,
    ])
}

fn serve(
    loaded: &Loaded,
    port: u16,
    make: impl Fn() -> Rc<Aside> + Send + Sync + 'static,
) -> Result<Server, ServerError> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let listener = ListenerPlan::plain("demo".into(), address, PlanMode::Http1);
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
fn instructions(dir: &Path, ports: Ports) -> String {
    let [gateway, redirect, admin, issuer, _, _] = ports;
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

  # ready for use: a provider that has no second factor is no reason to have none. An operator invites alice ...
  A=https://localhost:{gateway}/stepgate/api/v1
  J() {{ G -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@" | tee {dir}/answer.txt | cut -c 1-300; }}
  IN() {{ sed -n 's/.*"'$1'":"\([^"]*\)".*/\1/p' {dir}/answer.txt; }}
  INVITATION=$({program} invite --config {dir}/gateway.yaml --issuer demo --subject alice | sed 's/.*"code":"\([^"]*\)".*/\1/')

  # 201: ... and with that and her own token she enrols an authenticator app
  J $A/factors -d '{{"kind": "totp", "label": "phone", "right": {{"invitation": "'$INVITATION'"}}}}'

  # for your own app, if you like to scan it; the demo has one, too: CODE prints its next code
  SECRET=$(IN secret); FACTOR=$(IN id); printf '%b\n' "$(IN qr_text)"
  CODE() {{ curl -s "http://127.0.0.1:{issuer}/app?secret=$SECRET"; }}

  # 201: the first code confirms it; the recovery codes are shown this once
  J $A/factors/$FACTOR/confirm -d '{{"code": "'$(CODE)'"}}'

  # 204: a deletion with a code in the request itself, which any old script can send
  G -X DELETE https://localhost:{gateway}/orders/2 -H "Authorization: Bearer $TOKEN" -H "Stepgate-OTP: $(CODE)"

  # 401: that proof was for that request alone
  G https://localhost:{gateway}/payments -d amount=100 -H "Authorization: Bearer $TOKEN"

  # 201: an app steps up instead: a challenge for the level that was refused ...
  J $A/challenges -d '{{"level": "mfa", "factor": "totp"}}'

  # 200: ... its answer ...
  J $A/challenges/$(IN id)/verify -d '{{"code": "'$(CODE)'"}}'

  # 201: ... and the very token that was refused passes now
  G https://localhost:{gateway}/payments -d amount=100 -H "Authorization: Bearer $TOKEN"

  # 401: nothing is deleted on the strength of it, though
  G -X DELETE https://localhost:{gateway}/orders/3 -H "Authorization: Bearer $TOKEN"

  # 201: people do it at a page: bob's browser opens this link within a minute, once, and he enrols a passkey or an app there
  BOB=$(curl -s 'http://127.0.0.1:{issuer}/token?sub=bob')
  INVITATION=$({program} invite --config {dir}/gateway.yaml --issuer demo --subject bob | sed 's/.*"code":"\([^"]*\)".*/\1/')
  G $A/page-links -H "Authorization: Bearer $BOB" -H 'Content-Type: application/json' -d '{{"purpose": "enrol", "invitation": "'$INVITATION'"}}'

  # what the operator sees of it
  {program} factors list --config {dir}/gateway.yaml

  # ready for use: carol, with a recent second factor
  CAROL=$(curl -s 'http://127.0.0.1:{issuer}/token?sub=carol&acr=urn:example:acr:mfa')
  C() {{ G -H "Authorization: Bearer $CAROL" "$@" | tee {dir}/answer.txt | cut -c 1-600; }}

  # 403: nobody deletes somebody else's account
  C -X DELETE https://localhost:{gateway}/accounts/bob

  # 202: nor is one's own deleted at once: it is held for a minute, and the answer says what goes, what stays, and when
  C -X DELETE https://localhost:{gateway}/accounts/carol
  STATUS=$(IN status_url); CANCEL=$(IN cancel_url)

  # 403: meanwhile the account is blocked ...
  C https://localhost:{gateway}/accounts/carol

  # 200: ... but for seeing how the deletion stands ...
  C $STATUS

  # 200: ... and for cancelling it
  C -X POST $CANCEL

  # 200: all is as before
  C https://localhost:{gateway}/accounts/carol

  # 202: she asks again, and leaves it at that
  C -X DELETE https://localhost:{gateway}/accounts/carol; ID=$(IN id)

  # a minute later it is gone from the API and from its search index; each was looked at before and afterwards
  until {program} erasures show --config {dir}/gateway.yaml $ID | tee {dir}/erasure.txt | grep -q '^state *erased'; do sleep 1; done
  cat {dir}/erasure.txt

  # 401: her tokens are refused from now on, whatever their expiry
  C https://localhost:{gateway}/orders

  # the certificate of it, signed, and with nothing of hers in it
  {program} erasures report --config {dir}/gateway.yaml $ID | tee {dir}/certificate.jws | cut -c 1-300

  # 429 after five: a quota for each user
  for i in 1 2 3 4 5 6; do G https://localhost:{gateway}/reports -H "Authorization: Bearer $TOKEN" | head -1; done

  # 308: the plain port only redirects
  G http://localhost:{redirect}/orders

  # the metrics, and the audit trail of the deletions, which the certificate must fit
  curl -s http://127.0.0.1:{admin}/metrics | grep '^stepgate_decisions_total' | grep -v ' 0$'
  {program} audit verify {dir}/state/audit.jsonl --certificate {dir}/certificate.jws
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
        let text = instructions(Path::new("a b"), [1, 2, 3, 4, 5, 6]);
        assert!(text.contains("audit verify 'a b'/state/audit.jsonl"), "{text}");
        assert!(text.contains(&program()) && text.contains("https://localhost:1/orders"), "{text}");
    }
}
