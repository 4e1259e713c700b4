//! Who is asked for names: the machine's name servers, or those that the configuration names. Nothing is kept here: an answer is
//! good for as long as it says, and [`Name`](super::names::Name) keeps it. On the runtime of background work alone.

use std::{
    collections::HashMap,
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
use crate::{
    config::Dns,
    files::{self, Look},
};

/// How long one name server may take for an answer, and how often it is asked: an answer that did not come within a second is
/// usually lost.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
const SERVER_ATTEMPTS: usize = 2;
/// What is written in a file is good until the file changes.
const HOSTS_LAST: Duration = Duration::from_secs(300);
/// Places that one question finds: more would be no service of one gateway, and answers are written by others.
pub(super) const MOST_PLACES: usize = 256;
/// Hosts of one SRV answer, as each is a question of its own.
const MOST_HOSTS: usize = 64;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// The longest file of hosts: lists of tens of thousands of names are in use.
const HOSTS_BYTES: u64 = 4 << 20;

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
    made: Mutex<Option<(Looks, Arc<Made>)>>,
}

/// What the machine's files say, and who is asked besides.
#[derive(Debug)]
struct Made {
    hosts: HashMap<String, Vec<IpAddr>>,
    resolver: TokioResolver,
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
        let made = self.made()?;
        match question {
            Question::Addresses(name) => {
                let (addresses, until) = made.addresses(name).await?;
                let found = addresses.into_iter().take(MOST_PLACES);
                let found = found.map(|ip| Found { ip, port: None, weight: 1, heaviest: 1, priority: 0 }).collect();
                Ok(Answer { found, lasts: until.saturating_duration_since(Instant::now()) })
            }
            Question::Services(name) => made.services(name).await,
        }
    }

    /// The resolver by what the machine's files say now.
    fn made(&self) -> Result<Arc<Made>, NoAnswer> {
        let looks = looks();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, same)) = &*made
            && *before == looks
        {
            return Ok(Arc::clone(same));
        }
        let resolver = make(&self.dns).map_err(|error| no_answer(&error))?;
        let text = files::read(Path::new(HOSTS), HOSTS_BYTES).unwrap_or_default();
        let new = Arc::new(Made { hosts: hosts(&String::from_utf8_lossy(&text)), resolver });
        *made = Some((looks, Arc::clone(&new)));
        Ok(new)
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
    // What is kept is kept by the name; the file of hosts is ours to read, as what it has is not asked of anybody.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
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

impl Made {
    async fn addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Instant), NoAnswer> {
        if let Some(written) = self.hosts.get(&folded(name)) {
            return Ok((written.clone(), Instant::now() + HOSTS_LAST));
        }
        let answer = self.resolver.lookup_ip(name).await.map_err(|error| no_answer(&error))?;
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
    async fn services(&self, name: &str) -> Result<Answer, NoAnswer> {
        let answer = self.resolver.lookup(name, RecordType::SRV).await.map_err(|error| no_answer(&error))?;
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
                let of_host = match self.addresses(&host).await {
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
                found.push(Found { ip: *ip, port: Some(service.port), weight, heaviest: weight, priority });
            }
        }
        if found.is_empty() {
            return Err(last.unwrap_or_else(|| NoAnswer { why: "the name has no service".to_owned(), lasts: None }));
        }
        found.truncate(MOST_PLACES);
        let heaviest: Vec<(u16, u16)> = found.iter().map(|found| (found.priority, found.weight)).collect();
        for found in &mut found {
            let class = heaviest.iter().filter(|(priority, _)| *priority == found.priority);
            found.heaviest = class.map(|(_, weight)| *weight).max().unwrap_or(found.weight);
        }
        // A host that could not be found may be found soon.
        let lasts = if last.is_some() { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        Ok(Answer { found, lasts })
    }
}

/// A file of hosts (hosts(5)).
fn hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|address| address.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let of_name = hosts.entry(folded(name)).or_default();
            if !of_name.contains(&ip) {
                of_name.push(ip);
            }
        }
    }
    hosts
}

/// A name as it is compared: in lower case, without the root's dot.
fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn no_answer(error: &NetError) -> NoAnswer {
    let lasts = if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
        none.negative_ttl.map(|secs| Duration::from_secs(secs.into()))
    } else {
        None
    };
    NoAnswer { why: error.to_string(), lasts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_written() {
        let read = hosts("# none\n127.0.0.1 localhost\n::1\tlocalhost Ip6 # more\n127.0.0.1 LOCALHOST.\nnonsense x\n");
        let of =
            |name: &str| read.get(&folded(name)).map(|found| found.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        assert_eq!(of("localhost"), Some(vec!["127.0.0.1".to_owned(), "::1".to_owned()]));
        assert_eq!(of("ip6."), Some(vec!["::1".to_owned()]));
        assert_eq!((of("x"), of("none"), read.len()), (None, None, 2));
    }
}
