//! Who is asked for names: the machine's name servers, or those that the configuration names. Nothing is kept here: an answer is
//! good for as long as it says, and [`Name`](super::names::Name) keeps it. On the runtime of background work alone.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
    system_conf,
};

use super::names::{Found, Question};
use crate::{config::Dns, files::Look};

/// How long one name server may take for an answer, and how often it is asked: an answer that did not come within a second is
/// usually lost.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
const SERVER_ATTEMPTS: usize = 2;
/// Places that one question finds: more would be no service of one gateway, and answers are written by others.
pub(super) const MOST_PLACES: usize = 256;
/// Hosts of one SRV answer, as each is a question of its own.
const MOST_HOSTS: usize = 64;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What was answered, and until when it is good.
pub(super) struct Answer {
    pub(super) found: Vec<Found>,
    pub(super) lasts: Duration,
}

/// Why there is no answer, and for how long that is said to hold.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) why: String,
    pub(super) lasts: Option<Duration>,
}

/// Who is asked.
#[derive(Debug)]
pub(super) struct Resolver {
    dns: Dns,
    made: Mutex<Option<(Looks, Arc<TokioResolver>)>>,
}

/// What the files looked like that the machine's way to resolve is written in.
pub(super) type Looks = [Look; 2];

/// Looks at them.
pub(super) fn looks() -> Looks {
    [RESOLV_CONF, HOSTS].map(|path| Look::at(Path::new(path)))
}

impl Resolver {
    pub(super) fn new(dns: &Dns) -> Arc<Self> {
        Arc::new(Self { dns: dns.clone(), made: Mutex::new(None) })
    }

    /// Whether it asks those that `dns` says.
    pub(super) fn asks(&self, dns: &Dns) -> bool {
        self.dns == *dns
    }

    /// Asks.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, NoAnswer> {
        let resolver = self.made()?;
        match question {
            Question::Addresses(name) => {
                let (addresses, until) = addresses(&resolver, name).await?;
                let found = addresses.into_iter().take(MOST_PLACES);
                let found = found.map(|ip| Found { ip, port: None, weight: 1, priority: 0 }).collect();
                Ok(Answer { found, lasts: until.saturating_duration_since(Instant::now()) })
            }
            Question::Services(name) => services(&resolver, name).await,
        }
    }

    /// The resolver by what the machine's files say now.
    fn made(&self) -> Result<Arc<TokioResolver>, NoAnswer> {
        let looks = looks();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, resolver)) = &*made
            && *before == looks
        {
            return Ok(Arc::clone(resolver));
        }
        let resolver = Arc::new(make(&self.dns).map_err(|error| no_answer(&error))?);
        *made = Some((looks, Arc::clone(&resolver)));
        Ok(resolver)
    }
}

fn make(dns: &Dns) -> Result<TokioResolver, NetError> {
    let (config, mut options) = if dns.servers.is_empty() {
        // Without the file there are still the names in the other one.
        system_conf::read_system_conf().unwrap_or_default()
    } else {
        let servers = dns.servers.iter().map(|server| name_server(*server)).collect();
        (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
    };
    // What is kept is kept by the name.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = SERVER_TIMEOUT;
    options.attempts = SERVER_ATTEMPTS;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    config.connections = std::mem::take(&mut config.connections).into_iter().map(at_port).collect();
    config
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<(Vec<IpAddr>, Instant), NoAnswer> {
    let answer = resolver.lookup_ip(name).await.map_err(|error| no_answer(&error))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in answer.iter() {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if addresses.is_empty() {
        return Err(NoAnswer { why: "the name has no address".to_owned(), lasts: None });
    }
    Ok((addresses, answer.valid_until()))
}

/// SRV (RFC 2782), and the addresses of the hosts that it names. A host without an address is left out.
async fn services(resolver: &TokioResolver, name: &str) -> Result<Answer, NoAnswer> {
    let answer = resolver.lookup(name, RecordType::SRV).await.map_err(|error| no_answer(&error))?;
    let mut until = answer.valid_until();
    let mut hosts: Vec<(String, Vec<IpAddr>)> = Vec::new();
    let (mut found, mut last) = (Vec::new(), None);
    for record in answer.answers() {
        let RData::SRV(service) = &record.data else { continue };
        // RFC 2782: a root label says that there is decidedly no such service.
        if service.target.is_root() || service.port == 0 {
            continue;
        }
        let host = service.target.to_ascii();
        if !hosts.iter().any(|(known, _)| *known == host) {
            if hosts.len() >= MOST_HOSTS {
                continue;
            }
            let of_host = match addresses(resolver, &host).await {
                Ok((addresses, host_until)) => {
                    until = until.min(host_until);
                    addresses
                }
                Err(fault) => {
                    last = Some(fault);
                    Vec::new()
                }
            };
            hosts.push((host.clone(), of_host));
        }
        let of_host = hosts.iter().find(|(known, _)| *known == host).map(|(_, addresses)| addresses.as_slice());
        for ip in of_host.unwrap_or_default() {
            let (weight, priority) = (service.weight, service.priority);
            found.push(Found { ip: *ip, port: Some(service.port), weight, priority });
        }
    }
    if found.is_empty() {
        return Err(last.unwrap_or_else(|| NoAnswer { why: "the name has no service".to_owned(), lasts: None }));
    }
    found.truncate(MOST_PLACES);
    // A host that could not be found may be found soon.
    let lasts = if last.is_some() { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
    Ok(Answer { found, lasts })
}

fn no_answer(error: &NetError) -> NoAnswer {
    let lasts = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.negative_ttl.map(|secs| Duration::from_secs(secs.into())),
        _ => None,
    };
    NoAnswer { why: error.to_string(), lasts }
}
