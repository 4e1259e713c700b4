//! Client certificates as a credential: whose they are is judged once a connection, and again when something turns.
//!
//! ```text
//!   handshake ─ the listener's client_ca ─> ClientCertificate, for as long as the connection lives
//!                                                │ each request that sends no other credential
//!        memo of the connection ── still holds ──┼──────────────────────────────────────────> Credential
//!                                                │ first, or a certificate or list ended, or the files changed
//!             judge: path to the source's ca ─ valid now ─ for clients ─ not revoked ─ named ─ allowed
//!                                                ▲
//!                            Trust: authorities and lists ── watched, read again, whole or not at all
//! ```
//!
//! What is remembered stands beside what it follows from: the number of the set of sources, the number of the trust, and
//! the second at which it turns. A resumed session shows the same certificates and is judged like a new one.

mod judge;
mod lists;
mod names;
mod pattern;
#[cfg(test)]
mod tests;
mod trust;
mod watch;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

pub use self::names::CertificateNames;
use self::{
    judge::{Judged, Verdict, judge},
    pattern::Pattern,
    trust::{Files, Place, Trust, TrustFault},
    watch::{Watch, Watching},
};
use super::{Accepted, SourceReadiness, SourceServices, source_url};
use crate::{
    body::ClientCertificate,
    clock::Now,
    config::{CertificateSubject, ClientCertificates, CredentialSource, File, Materials, Problem, Span},
    policy::{Credential, IssuerName, Reason},
};

/// A list that is missing comes when its authority publishes it, which nobody waits for.
const RETRY_AFTER_SECS: u32 = 60;

/// What a source says of its callers.
#[derive(Debug)]
struct Rules {
    name: IssuerName,
    url: Arc<str>,
    definition: ClientCertificates,
    allow: Box<[Pattern]>,
}

/// One source, with what it trusts now.
#[derive(Debug)]
struct Source {
    rules: Rules,
    trust: Arc<ArcSwap<Trust>>,
    watching: Watching,
}

/// All sources of client certificates, in the order of the configuration. Their number is never used again.
#[derive(Debug)]
pub(super) struct Certificates {
    number: u64,
    sources: Box<[Arc<Source>]>,
}

/// What the sources have said of a connection's certificates.
#[derive(Debug)]
struct Memo {
    number: u64,
    said: Box<[RefCell<Option<Said>>]>,
}

#[derive(Debug)]
struct Said {
    trust: u64,
    from: u64,
    judged: Judged,
}

impl Certificates {
    /// Finds what is wrong with the sources' files, and what is no longer good.
    pub(super) fn check(all: &[Arc<CredentialSource>], materials: &dyn Materials, now: Now) -> Vec<Problem> {
        let mut found = Vec::new();
        for (_, definition) in configured(all) {
            match read(definition, materials) {
                Ok(trust) => {
                    let remarks = trust.remarks(now.unix_secs());
                    found.extend(remarks.into_iter().map(|(place, why)| remark(definition, place, why)));
                }
                Err(problem) => found.push(problem),
            }
        }
        found
    }

    /// Prepares the sources and watches their files from now on. A source that did not change since `previous` stays.
    pub(super) fn compile(
        all: &[Arc<CredentialSource>],
        materials: &dyn Materials,
        services: &SourceServices,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let (mut prepared, mut problems) = (Vec::new(), Vec::new());
        for (source, definition) in configured(all) {
            match read(definition, materials) {
                Ok(trust) => prepared.push((source, definition, trust)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let start = |(source, definition, trust): (&Arc<CredentialSource>, &ClientCertificates, Trust)| {
            let before = previous.and_then(|previous| previous.named(&source.name));
            match before.filter(|before| before.is(definition)) {
                Some(before) => Arc::clone(before),
                None => Arc::new(Source::start(Rules::new(&source.name, definition), trust, services)),
            }
        };
        let sources: Box<[_]> = prepared.into_iter().map(start).collect();
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Ok(Self { number: NUMBERS.fetch_add(1, Ordering::Relaxed), sources })
    }

    /// Judges the certificates of a connection for a route that takes these sources: the first that knows them decides.
    /// Never [`Credential::Absent`].
    pub(super) fn authenticate(&self, shown: &ClientCertificate, accepted: &Accepted, now: Now) -> Credential {
        let memo = self.memo(shown);
        let mut unknown = Reason::CertificateUnknown;
        for at in self.asked(accepted) {
            let (Some(source), Some(said)) = (self.sources.get(at), memo.said.get(at)) else { continue };
            match source.say(said, shown, now) {
                Verdict::Valid(principal) => return Credential::Valid(principal),
                Verdict::Invalid(reason) => return Credential::Invalid(reason),
                Verdict::Unavailable => {
                    let reason = Reason::RevocationUnavailable;
                    return Credential::Unavailable { reason, retry_after_secs: RETRY_AFTER_SECS };
                }
                Verdict::Unknown(Reason::CertificateExpired) => unknown = Reason::CertificateExpired,
                Verdict::Unknown(_) => {}
            }
        }
        Credential::Invalid(unknown)
    }

    /// How each source stands, in the order of the configuration.
    pub(super) fn readiness(&self, now: Now) -> impl Iterator<Item = SourceReadiness> {
        self.sources.iter().map(move |source| source.readiness(now))
    }

    /// The sources that a route takes, by their places, in the route's order.
    fn asked<'a>(&'a self, accepted: &'a Accepted) -> impl Iterator<Item = usize> + 'a {
        let every = accepted.names().is_empty().then_some(0..self.sources.len());
        let place = |name: &IssuerName| self.sources.iter().position(|source| source.rules.name == *name);
        every.into_iter().flatten().chain(accepted.names().iter().filter_map(place))
    }

    fn memo(&self, shown: &ClientCertificate) -> Rc<Memo> {
        if let Some(memo) = shown.recall::<Memo>().filter(|memo| memo.number == self.number) {
            return memo;
        }
        let memo =
            Rc::new(Memo { number: self.number, said: self.sources.iter().map(|_| RefCell::default()).collect() });
        shown.remember(Rc::clone(&memo));
        memo
    }

    fn named(&self, name: &IssuerName) -> Option<&Arc<Source>> {
        self.sources.iter().find(|source| source.rules.name == *name)
    }
}

impl Rules {
    fn new(name: &IssuerName, definition: &ClientCertificates) -> Self {
        let (separators, lower): (&[u8], _) = match definition.subject {
            CertificateSubject::SubjectDn => (b",+", false),
            CertificateSubject::CommonName => (b"", false),
            CertificateSubject::SanDns => (b".", true),
            CertificateSubject::SanUri => (b"/", false),
            CertificateSubject::SanEmail => (b"@", false),
        };
        let escapes = definition.subject == CertificateSubject::SubjectDn;
        let pattern = |text: &Arc<str>| match lower {
            true => Pattern::new(&text.to_ascii_lowercase(), separators, escapes),
            false => Pattern::new(text, separators, escapes),
        };
        Self {
            name: name.clone(),
            url: source_url(name),
            definition: definition.clone(),
            allow: definition.allow.iter().map(pattern).collect(),
        }
    }
}

impl Source {
    fn start(rules: Rules, trust: Trust, services: &SourceServices) -> Self {
        let trust = Arc::new(ArcSwap::from_pointee(trust));
        let watching = Watch::start(&rules, Arc::clone(&trust), services);
        Self { rules, trust, watching }
    }

    /// Whether this is the source of that definition, wherever in the file it stands.
    fn is(&self, definition: &ClientCertificates) -> bool {
        without_places(&self.rules.definition) == without_places(definition)
    }

    /// What was said before, as far as it still holds, or what is to be said now.
    fn say(&self, said: &RefCell<Option<Said>>, shown: &ClientCertificate, now: Now) -> Verdict {
        let trust = self.trust.load();
        let now = now.unix_secs();
        if let Some(said) = &*said.borrow()
            && said.trust == trust.number
            && (said.from..said.judged.until).contains(&now)
        {
            return said.judged.verdict.clone();
        }
        let judged = judge(&self.rules, &trust, shown, now);
        let verdict = judged.verdict.clone();
        *said.borrow_mut() = Some(Said { trust: trust.number, from: now, judged });
        verdict
    }

    fn readiness(&self, now: Now) -> SourceReadiness {
        let trust = self.trust.load();
        let next = trust.next_update();
        let ended = next.is_some_and(|next| next <= now.unix_secs());
        let (failures, fault) = self.watching.failures();
        let mut detail = match next {
            None => "revocation is not checked".to_owned(),
            Some(next) if ended => format!("a list of revoked certificates ended on {}", trust::date(next)),
            Some(next) => format!("the next list of revoked certificates is due on {}", trust::date(next)),
        };
        if let Some(fault) = fault {
            detail.push_str(&format!("; the last good files serve: {fault}"));
        }
        SourceReadiness {
            name: self.rules.name.clone(),
            ready: !ended || self.rules.definition.danger_expired_crl,
            detail,
            keys: trust.authorities(),
            age: trust.oldest_list().map(|made| Duration::from_secs(now.unix_secs().saturating_sub(made))),
            failures,
        }
    }
}

fn configured(all: &[Arc<CredentialSource>]) -> impl Iterator<Item = (&Arc<CredentialSource>, &ClientCertificates)> {
    all.iter().filter_map(|source| Some((source, source.kind.client_certificates()?)))
}

/// Reads a source's files where a configuration is checked or compiled.
fn read(definition: &ClientCertificates, materials: &dyn Materials) -> Result<Trust, Problem> {
    let bytes = |file: &File, bytes: Result<Vec<u8>, String>| {
        bytes.map_err(|why| Problem::error(&file.span, format!("cannot read {}: {why}", file.path.display())))
    };
    let ca = bytes(&definition.ca, materials.read_file(&definition.ca.path))?;
    let lists = definition.crl.iter().map(|file| bytes(file, materials.read_list(&file.path)));
    let files = Files { ca, lists: lists.collect::<Result<_, _>>()? };
    Trust::read(&files).map_err(|(place, fault)| {
        let problem = Problem::error(&span(definition, place), describe(definition, place, &fault.to_string()));
        match fault {
            TrustFault::Stranger(_) => problem.with_help("add the certificate of the authority that signed it to `ca`"),
            TrustFault::NoAuthority
            | TrustFault::BadAuthority(_)
            | TrustFault::NoRoot
            | TrustFault::NoList
            | TrustFault::BadList(_)
            | TrustFault::Signature(_)
            | TrustFault::Usage(_) => problem,
        }
    })
}

fn remark(definition: &ClientCertificates, place: Place, why: String) -> Problem {
    let problem = Problem::warning(&span(definition, place), describe(definition, place, &why));
    match place {
        Place::List(_) if definition.danger_expired_crl => problem.with_help("`danger_expired_crl` lets it serve"),
        Place::List(_) => problem.with_help("until a new list is there, what it is asked about is refused"),
        Place::Ca => problem.with_help("what it has issued is still taken: only its own name and key count"),
    }
}

fn file(definition: &ClientCertificates, place: Place) -> &File {
    match place {
        Place::Ca => &definition.ca,
        Place::List(at) => definition.crl.get(at).unwrap_or(&definition.ca),
    }
}

fn span(definition: &ClientCertificates, place: Place) -> Span {
    file(definition, place).span.clone()
}

fn describe(definition: &ClientCertificates, place: Place, why: &str) -> String {
    format!("{}: {why}", file(definition, place).path.display())
}

/// The definition without the places in the file where it stands: moving a line changes nothing.
fn without_places(definition: &ClientCertificates) -> ClientCertificates {
    let mut definition = definition.clone();
    definition.ca.span = Span::default();
    definition.crl.iter_mut().for_each(|file| file.span = Span::default());
    definition
}
