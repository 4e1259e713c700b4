//! `stepgate explain`: what would become of a request, by the same code that judges real ones. Nothing is forwarded,
//! counted or recorded.

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use http::{HeaderName, HeaderValue, Method, Request, header};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use super::{Exit, complain, explain_shaping, load, print_line};
use crate::{
    body::{Arrival, Bounds, ClientCertificate, ConnectionInfo, ConnectionWatch, Memory, TlsInfo},
    client::MachineRoots,
    clock::{Clock, Now, SystemClock},
    config::{AccessLog, Config, Covered, LimitKey, Materials},
    gateway::{Enforcement, Gathered, Inbound, Matched, Planned, Refusal, RequestId, form_to_read, gather, own},
    identity::{Authenticator, SourceServices, Unobserved, revocation::Revocations},
    limit::Quota,
    policy::{
        Challenge, Check, Credential, Denial, Factor, Held, Kind, Reason, Requirement, explain as explain_policy,
    },
    route::NormalPath,
    runtime::{DiskMaterials, Goal, Means, Side, Snapshot},
    telemetry::Metrics,
};

/// How long the issuers' keys may take.
const KEYS_TIMEOUT: Duration = Duration::from_secs(4);

/// A request to explain.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The method
    method: String,
    /// The URL, or a path: `https://api.example/items/7`
    url: String,
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The access token; `-` reads it from standard input, which keeps it out of the shell's history
    #[arg(short, long)]
    token: Option<String>,
    /// A DPoP proof for the URL over https; the access token is then sent by that scheme
    #[arg(long, value_name = "PROOF", requires = "token")]
    dpop: Option<String>,
    /// The client's certificate, PEM, with those that lead from it to an authority
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// A header field, `Name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
}

/// Explains a request: exit code 0 if it would be forwarded, or served by the gateway itself, 1 if not.
pub(crate) fn explain(args: &ExplainArgs) -> Exit {
    let loaded = match load::load(&args.config, &DiskMaterials) {
        Ok(loaded) => loaded,
        Err(fault) => {
            load::print_fault(&fault);
            return Exit::Config;
        }
    };
    let certificate = match args.client_cert.as_deref().map(certificate).transpose() {
        Ok(certificate) => certificate,
        Err(why) => {
            complain(&std::io::Error::other(why));
            return Exit::Usage;
        }
    };
    let request = match request(args) {
        Ok(request) => request,
        Err(why) => {
            complain(&std::io::Error::other(why));
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Exit::Io;
        }
    };
    let revocations = match Revocations::read(&loaded.config.server.state_dir, SystemClock.now()) {
        Ok(revocations) => revocations,
        Err(fault) => {
            complain(&fault);
            return Exit::Io;
        }
    };
    runtime.block_on(async {
        let services = SourceServices {
            handle: tokio::runtime::Handle::current(),
            roots: MachineRoots::default(),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Unobserved),
            revocations: Arc::new(revocations),
            authority_keys: Default::default(),
        };
        let metrics = match Metrics::new() {
            Ok(metrics) => metrics,
            Err(error) => {
                complain(&error);
                return Exit::Io;
            }
        };
        // Nothing is recorded or signed, so no file is opened and no key made.
        let config = Config { access_log: AccessLog::Off, assertions: None, ..loaded.config.clone() };
        let means = Means { issuers: &services, metrics: &metrics, in_flight: &Default::default(), keeping: None };
        let snapshot = match Snapshot::compile(config, &DiskMaterials, &means, None) {
            Ok(snapshot) => snapshot,
            Err(found) => {
                load::print_problems(&loaded.report(found));
                return Exit::Config;
            }
        };
        if args.token.is_some() {
            wait_for_keys(&snapshot.authenticator).await;
        }
        report(&snapshot, request, connection(&snapshot.config, args.client, certificate)).await
    })
}

/// The certificates that the client would show; whether they would pass the listener's handshake is not judged.
fn certificate(file: &Path) -> Result<ClientCertificate, String> {
    let pem = DiskMaterials.read_file(file).map_err(|why| format!("reading {}: {why}", file.display()))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    ClientCertificate::new(chain.iter().map(AsRef::as_ref))
        .ok_or_else(|| format!("{} holds no certificate in PEM", file.display()))
}

fn request(args: &ExplainArgs) -> Result<Request<()>, String> {
    let url = if args.url.starts_with('/') { format!("https://localhost{}", args.url) } else { args.url.clone() };
    // Only a URL that is one, but the path as it was typed: that is what there is to explain.
    let parsed = Url::parse(&url).map_err(|error| format!("`{}` is not a URL: {error}", args.url))?;
    let authority = parsed.authority();
    let target = url.split_once(authority).map_or("/", |(_, target)| target);
    let target = target.split('#').next().filter(|target| !target.is_empty()).unwrap_or("/");
    let method: Method = args.method.parse().map_err(|_| format!("`{}` is not a method", args.method))?;
    let mut request = Request::builder().method(method).uri(target).header(header::HOST, authority);
    for field in &args.headers {
        let (name, value) = field.split_once(':').ok_or_else(|| format!("`{field}` is not `Name: value`"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("`{name}` is not a header name"))?;
        let value: HeaderValue = value.trim().parse().map_err(|_| format!("the value of `{name}` is not one"))?;
        request = request.header(name, value);
    }
    if let Some(token) = &args.token {
        let mut text = token.clone();
        if token == "-" {
            text.clear();
            std::io::stdin().read_to_string(&mut text).map_err(|error| format!("reading the token: {error}"))?;
        }
        let scheme = if args.dpop.is_some() { "DPoP" } else { "Bearer" };
        let value = format!("{scheme} {}", text.trim());
        let value: HeaderValue = value.parse().map_err(|_| "the token is not a header value".to_owned())?;
        request = request.header(header::AUTHORIZATION, value);
    }
    if let Some(proof) = &args.dpop {
        let value: HeaderValue = proof.parse().map_err(|_| "the proof is not a header value".to_owned())?;
        request = request.header("dpop", value);
    }
    request.body(()).map_err(|error| format!("not a request: {error}"))
}

async fn wait_for_keys(authenticator: &Authenticator) {
    let deadline = Instant::now() + KEYS_TIMEOUT;
    while Instant::now() < deadline {
        if authenticator.readiness(SystemClock.now()).iter().all(|issuer| issuer.ready || issuer.failures > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A connection as the first TLS listener would give it.
fn connection(config: &Config, client: IpAddr, certificate: Option<ClientCertificate>) -> ConnectionInfo {
    let peer = SocketAddr::new(client, 0);
    let bounds = Rc::new(Bounds::unlimited());
    ConnectionInfo {
        peer,
        arrival: Arrival::Direct,
        local: config.listeners.first().and_then(|listener| listener.address.socket()).unwrap_or(peer),
        listener: Arc::from("explain"),
        listener_index: 0,
        tls: Some(TlsInfo { version: "TLSv1.3", sni: None, alpn: None, client_certificate: certificate }),
        watch: ConnectionWatch::new(bounds, Instant::now()),
        memory: Memory::default(),
        alternative: None,
    }
}

async fn report(snapshot: &Snapshot, request: Request<()>, info: ConnectionInfo) -> Exit {
    let now = SystemClock.now();
    let (mut parts, ()) = request.into_parts();
    let uri = parts.uri.clone();
    print_line(&format!("request    {} {}", parts.method, uri));
    let judged = async {
        let inbound = Inbound::parse(&mut parts, &info, &snapshot.config.server, RequestId::Given("explain".into()))?;
        if let Some((route, answered)) = inbound.preflight(snapshot, uri.path()) {
            print_line(&format!("route      {}: a preflight is answered from its cors, whoever asks", route.name));
            let status = answered?.as_u16();
            print_line(&format!("decision   allowed: the gateway would answer it {status}, as far as quotas allow"));
            return Ok(());
        }
        let path = own::path(snapshot, &inbound, uri.path())?;
        if let Some(own) = own::find(snapshot, &inbound, &path) {
            print_line(&format!("route      none: {}", own.describe()));
            own.check_method(&inbound.method)?;
            print_line("decision   allowed: the request would be answered here, as far as quotas allow");
            return Ok(());
        }
        if form_to_read(snapshot, &inbound, &path)?.is_some() {
            print_line("body       the service may find another method in it, which is not looked for here");
        }
        let matched = Matched::find(snapshot, &inbound, &path, None)?;
        print_matched(&inbound, &path, &matched);
        matched.refuse_doubtful()?;
        let Gathered { evidence, .. } = gather(snapshot, &inbound, &info, &matched, now).await;
        print_credential(&evidence.credential, now);
        if let Some(possession) = evidence.possession {
            print_line(&format!("possession {possession}"));
        }
        let enforcement = Enforcement { inbound: &inbound, path: &path, matched: &matched, now };
        let (several, guarded) = (matched.ways().count() > 1, matched.guarded());
        for (route, method) in matched.ways() {
            let checks = enforcement.facts(route, method, &evidence, |facts| explain_policy(&route.policy, facts));
            let way = several.then(|| format!("{method} {}", route.name));
            print_checks(way.as_deref(), &checks);
            print_second_factor(
                way.as_deref(),
                snapshot,
                matched.planned_requirement(route).or_else(|| route.policy.requirement(guarded)),
                matched.planned.is_some() || guarded && route.policy.deletion.is_some(),
            );
        }
        if inbound.shown.is_some() {
            print_line("           the code or grant that came is not looked at here");
        }
        print_quotas(&matched, &evidence.credential);
        if let Some(refusal) = enforcement.refusal(&evidence) {
            return Err(refusal);
        }
        if matched.covered.iter().any(|cover| cover.what == Covered::Whole) {
            return Err(Refusal::of(Reason::DeletionCovered));
        }
        let outcome = match matched.planned {
            None if matched.route.backend(Side::Own).is_none() => "the client would be sent elsewhere".to_owned(),
            None => "the request would be forwarded".to_owned(),
            Some(Planned { plan, .. }) => {
                format!("plan {} would take the deletion over, if it is of the caller's own data", plan.plan.name)
            }
        };
        print_line(&format!("decision   allowed: {outcome}, as far as quotas allow"));
        Ok(())
    };
    match judged.await {
        Ok(()) => Exit::Success,
        Err(refusal) => {
            let problem = refusal.problem();
            let detail = refusal.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            print_line(&format!(
                "decision   refused: {} {} — {}{detail}",
                problem.status.as_u16(),
                problem.name,
                refusal.reason.name()
            ));
            Exit::Failure
        }
    }
}

fn print_matched(inbound: &Inbound, path: &NormalPath<'_>, matched: &Matched<'_>) {
    print_line(&format!("client     {}", inbound.origin.client));
    if path.folds() {
        print_line(&format!("path       {} (a lax server may take it for {})", path.as_str(), path.folded()));
    } else {
        print_line(&format!("path       {}", path.as_str()));
    }
    if let Some(said) = &matched.said {
        print_line(&format!(
            "method     {} by an override, {said} by the request line: both are judged",
            matched.method
        ));
    }
    let route = matched.route;
    let target = matched.target_path.as_deref().unwrap_or(path.as_str());
    match &route.goal {
        Goal::Backend(backend) => {
            print_line(&format!("route      {} → {} {target}", route.name, backend.upstream.name))
        }
        Goal::Redirect(redirect) => {
            let status = redirect.status.as_u16();
            let origin = redirect.origin.as_deref().unwrap_or_default();
            print_line(&format!("route      {} → redirect {status} to {origin}{}", route.name, redirect.path));
        }
    }
    if let Some(shaping) = &route.shaping {
        explain_shaping::print(inbound, route, &shaping.rules);
    }
    for alias in &matched.aliases {
        print_line(&format!("           also judged as {}", alias.name));
    }
    for operation in &matched.operations {
        let left = if route.policy.deletion.is_none() { " — but the route has left the guard" } else { "" };
        print_line(&format!("guarded    by `{}`{left}", operation.text));
    }
    if let Some(Planned { plan, operation, is_exact }) = matched.planned {
        let how = if is_exact { "taken over by" } else { "not in the exact form that is taken over by" };
        print_line(&format!("deletion   {how} plan {} as `{}`", plan.plan.name, operation.text));
    }
    for cover in &matched.covered {
        let when = match &cover.what {
            Covered::Whole => "refused".to_owned(),
            Covered::Mutations(fields) => format!("its body decides: refused where it reaches {}", fields.join(" or ")),
            Covered::Batch => "its body decides: refused where it holds such an operation".to_owned(),
        };
        print_line(&format!("deletion   covered by `{}`: {when}", cover.text));
    }
}

fn print_credential(credential: &Credential, now: Now) {
    let text = match credential {
        Credential::Absent => "none, or none is looked at here".to_owned(),
        Credential::Invalid(reason) => format!("invalid: {}", reason.name()),
        Credential::Unavailable { reason, .. } => format!("cannot be verified now: {}", reason.name()),
        Credential::Valid(principal) => {
            let assurance = &principal.assurance;
            let acr = assurance.acr.as_deref().unwrap_or("none");
            let amr: Vec<&str> = assurance.amr.iter().map(|value| &**value).collect();
            let ago = |auth_time| format!("{:.0} s ago", now.numeric_date() - auth_time);
            let when = assurance.auth_time.map_or_else(|| "at an unknown time".to_owned(), ago);
            let scopes: Vec<&str> = principal.scopes.iter().map(|scope| &**scope).collect();
            format!(
                "{}{} of {}; acr {acr}; amr {}; authenticated {when}; scopes {}",
                if principal.kind == Kind::Machine { "the machine " } else { "" },
                principal.subject,
                principal.issuer,
                if amr.is_empty() { "none".to_owned() } else { amr.join(" ") },
                if scopes.is_empty() { "none".to_owned() } else { scopes.join(" ") },
            )
        }
    };
    print_line(&format!("credential {text}"));
}

/// Prints each requirement; `way` tells apart the ways in which the request may be taken, where there are several.
fn print_checks(way: Option<&str>, checks: &[Check]) {
    let of = way.map(|way| format!(" [{way}]")).unwrap_or_default();
    for check in checks {
        let text = match &check.held {
            Held::NotAsked => "not asked for".to_owned(),
            Held::Yes => "held".to_owned(),
            Held::BySecondFactor => "held: by a second factor in the token's place".to_owned(),
            Held::Instead => "held: a machine's proof of possession stands in its place".to_owned(),
            Held::No(denial) => format!("MISSING: {}{}", denial.reason.name(), wanted(denial)),
        };
        print_line(&format!("{:<10} {text}{of}", check.name));
    }
}

/// Prints what would do in the token's place, where the authority could be shown it.
fn print_second_factor(way: Option<&str>, snapshot: &Snapshot, wanted: Option<&Requirement>, guarded: bool) {
    let (Some(wanted), Some(authority)) = (wanted, snapshot.config.authority.as_deref()) else { return };
    let of = way.map(|way| format!(" [{way}]")).unwrap_or_default();
    let level = wanted.level.as_deref().map(|level| format!(" of level {level}")).unwrap_or_default();
    let ways = match (wanted.bind, guarded) {
        (true, _) => format!("a grant{level} that is bound to the request"),
        (false, true) => format!("a code with the request (Stepgate-OTP) or a grant{level}; no elevation"),
        (false, false) => format!("an elevation{level}, a code with the request (Stepgate-OTP), or a grant"),
    };
    let names: Vec<&str> = authority.taken_by(wanted.factors).iter().map(Factor::name).collect();
    let names = if names.is_empty() { "none that is offered here".to_owned() } else { names.join(", ") };
    let categories = wanted.factors.map_or(0, |rule| rule.categories);
    let categories = if categories > 1 { format!(", {categories} categories in all") } else { String::new() };
    print_line(&format!("second     {ways}, by {names}{categories}{of}"));
}

/// What the challenge of a denial asks for.
fn wanted(denial: &Denial) -> String {
    let mut text = match &denial.challenge {
        Challenge::Scope(scopes) => format!("; wanted: {}", scopes.join(" ")),
        Challenge::StepUp(step_up) => {
            let mut parts = Vec::new();
            if !step_up.acr_values.is_empty() {
                parts.push(format!("acr of {}", step_up.acr_values.join(", ")));
            }
            if !step_up.amr_values.is_empty() {
                parts.push(format!("amr of {}", step_up.amr_values.join(", ")));
            }
            if let Some(max_age) = step_up.max_age {
                parts.push(format!("authenticated within {} s", max_age.as_secs()));
            }
            if step_up.factors.is_some() {
                parts.push("a second factor that was shown to the authority".to_owned());
            }
            if step_up.grant {
                parts.push("a grant that is bound to the request".to_owned());
            }
            format!("; wanted: {}", parts.join(", "))
        }
        Challenge::Token
        | Challenge::InvalidRequest
        | Challenge::InvalidToken
        | Challenge::Later(_)
        | Challenge::Nothing => String::new(),
    };
    if let Some(detail) = &denial.detail {
        text.push_str("; ");
        text.push_str(detail);
    }
    text
}

fn print_quotas(matched: &Matched<'_>, credential: &Credential) {
    let named = |quota: &Arc<Quota>| {
        let early = if *quota.key() == LimitKey::Ip { " (before authentication)" } else { "" };
        format!("{}{early}", quota.name())
    };
    let guarded = matched.guarded() && matched.all().any(|route| route.policy.deletion.is_some());
    let own = matched.all().flat_map(|route| route.early_quotas.iter().chain(&route.late_quotas));
    let mut names: Vec<String> = Vec::new();
    // Each quota is named once, however many of the routes name it.
    for name in own.chain(guarded.then(|| matched.deletion_quotas()).into_iter().flatten()).map(named) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let Credential::Valid(principal) = credential {
        for name in
            principal.limits.iter().filter(|name| !names.iter().any(|known| **known == ***name)).collect::<Vec<_>>()
        {
            names.push(name.to_string());
        }
    }
    if !names.is_empty() {
        print_line(&format!("quotas     {}", names.join(", ")));
    }
}
