//! One order, from the account to the certificate (RFC 8555 §7.4).

use std::{io, path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};

use super::{
    Challenges,
    challenges::{ChallengeFault, Shown},
    schedule::{Failure, Life},
    stored::{self, StoredAccount, StoredCertificate},
    transport::Transport,
};
use crate::{
    config::{Acme, AcmeChallenge, CertificateOrder},
    secret::Secret,
};

/// How long the authority may take to look at all challenges of an order, and then to make the certificate.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(120));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderFault {
    /// The authority refused, or could not be spoken with.
    #[error("{what}")]
    Authority {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: Error,
    },
    /// It looked at a challenge and was not convinced.
    #[error("the authority does not take {name} for ours: {detail}")]
    Challenge {
        /// The name.
        name: String,
        /// What it says.
        detail: String,
    },
    /// It does not offer what is configured.
    #[error("the authority offers no challenge {challenge} for {name}")]
    NotOffered {
        /// The name.
        name: String,
        /// What is configured.
        challenge: &'static str,
    },
    /// A challenge cannot be shown.
    #[error(transparent)]
    Show(#[from] ChallengeFault),
    /// The request for the certificate cannot be made.
    #[error("making the request for a certificate")]
    Request(#[from] rcgen::Error),
    /// The key of the external account is not written as it should be.
    #[error("the key of the external account is not base64url")]
    ExternalKey,
    /// There is no room for what would be ordered; the authority was not asked for it.
    #[error("keeping what the authority gives")]
    Store(#[from] io::Error),
    /// It was given, and could not be kept.
    #[error("keeping the certificate that the authority has given")]
    Lost(#[source] io::Error),
}

impl OrderFault {
    /// How it failed, for when it is tried again.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Authority { source: Error::Api(problem), .. } => match problem.r#type.as_deref() {
                // RFC 8555 §6.7: said of what is right the next time.
                Some(
                    "urn:ietf:params:acme:error:badNonce"
                    | "urn:ietf:params:acme:error:serverInternal"
                    | "urn:ietf:params:acme:error:accountDoesNotExist",
                ) => Failure::Passing,
                _ => Failure::Refused,
            },
            Self::Authority { .. } | Self::Store(_) => Failure::Passing,
            // What was given counts with the authority, and it gives so many a week.
            Self::Challenge { .. }
            | Self::NotOffered { .. }
            | Self::Show(_)
            | Self::Request(_)
            | Self::ExternalKey
            | Self::Lost(_) => Failure::Refused,
        }
    }

    /// Whether the authority does not know our account any more.
    fn is_account_unknown(&self) -> bool {
        matches!(self, Self::Authority { source: Error::Api(problem), .. }
            if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"))
    }
}

/// Says what was asked of the authority when it failed.
fn asking(what: &'static str) -> impl Fn(Error) -> OrderFault {
    move |source| OrderFault::Authority { what, source }
}

/// What an order needs besides itself.
pub(super) struct Means<'a> {
    pub(super) acme: &'a Acme,
    pub(super) transport: &'a Transport,
    pub(super) hmac_key: Option<&'a Secret>,
    pub(super) challenges: &'a Arc<Challenges>,
}

impl Means<'_> {
    /// Opens the account, which is made if there is none yet.
    pub(super) async fn account(&self) -> Result<Account, OrderFault> {
        stored::make_folder(&self.acme.folder)?;
        let file = stored::account_file(self.acme);
        let contact: Vec<String> = self.acme.contact.iter().map(|address| format!("mailto:{address}")).collect();
        let named: Vec<&str> = contact.iter().map(String::as_str).collect();
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        if let Some(known) = StoredAccount::read(&file) {
            // Read twice, since opening takes it.
            let account = builder.from_credentials(known.credentials).await.map_err(asking("opening the account"))?;
            if known.contact != contact {
                let changed = account.update_contacts(&named).await.map_err(asking("changing the account's contacts"));
                self.note_unknown(&file, changed)?;
                if let Some(known) = StoredAccount::read(&file) {
                    StoredAccount { contact, ..known }.write(&file)?;
                }
            }
            return Ok(account);
        }
        let external = self.external_account()?;
        let new = NewAccount { contact: &named, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder
            .create(&new, self.acme.directory.to_string(), external.as_ref())
            .await
            .map_err(asking("making an account"))?;
        StoredAccount { contact, credentials }.write(&file)?;
        Ok(account)
    }

    fn external_account(&self) -> Result<Option<ExternalAccountKey>, OrderFault> {
        let (Some(account), Some(key)) = (&self.acme.external_account, self.hmac_key) else { return Ok(None) };
        let text = key.expose().trim_ascii().trim_ascii_end();
        let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let bytes = URL_SAFE_NO_PAD.decode(text.get(..end).unwrap_or_default()).map_err(|_| OrderFault::ExternalKey)?;
        Ok(Some(ExternalAccountKey::new(account.key_id.to_string(), &bytes)))
    }

    /// An account that the authority does not know is made anew the next time.
    fn note_unknown<T>(&self, file: &Path, result: Result<T, OrderFault>) -> Result<T, OrderFault> {
        if let Err(fault) = &result
            && fault.is_account_unknown()
        {
            stored::forget_account(file);
        }
        result
    }

    /// Orders a certificate and writes it down. `replaces` is the one that it follows, where the authority wants to know
    /// (RFC 9773 §5).
    pub(super) async fn order(
        &self,
        account: &Account,
        wanted: &CertificateOrder,
        replaces: Option<CertificateIdentifier<'_>>,
    ) -> Result<StoredCertificate, OrderFault> {
        stored::make_room(&wanted.file)?;
        let names: Vec<Identifier> = wanted.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let mut new = NewOrder::new(&names);
        if let Some(replaces) = replaces {
            new = new.replaces(replaces);
        }
        let order = account.new_order(&new).await.map_err(asking("ordering a certificate"));
        let mut order = self.note_unknown(&stored::account_file(self.acme), order)?;
        // Shown until the authority has made up its mind.
        let shown = self.show(&mut order).await?;
        let status = order.poll_ready(&PATIENCE).await.map_err(asking("waiting for the challenges"))?;
        drop(shown);
        if status == OrderStatus::Invalid {
            return Err(why_invalid(&mut order).await);
        }
        let key = rcgen::KeyPair::generate()?;
        let mut params =
            rcgen::CertificateParams::new(wanted.names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        order.finalize_csr(request.der()).await.map_err(asking("asking for the certificate"))?;
        let chain = order.poll_certificate(&PATIENCE).await.map_err(asking("waiting for the certificate"))?;
        StoredCertificate::write(&wanted.file, &chain, &key.serialize_pem()).map_err(OrderFault::Lost)
    }

    /// Shows the challenges of an order, and says so to the authority.
    async fn show(&self, order: &mut Order) -> Result<Vec<Shown>, OrderFault> {
        let mut shown = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(asking("reading what is to be shown"))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let (kind, challenge) = match self.acme.challenge {
                AcmeChallenge::TlsAlpn => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
                AcmeChallenge::Http => (ChallengeType::Http01, "http-01"),
            };
            let Some(mut handle) = authorization.challenge(kind) else {
                return Err(OrderFault::NotOffered { name, challenge });
            };
            let key = handle.key_authorization();
            shown.push(match self.acme.challenge {
                AcmeChallenge::TlsAlpn => self.challenges.show_tls(&name, key.digest().as_ref())?,
                AcmeChallenge::Http => self.challenges.show_http(&handle.token, key.as_str())?,
            });
            handle.set_ready().await.map_err(asking("saying that a challenge is shown"))?;
        }
        Ok(shown)
    }
}

/// What the authority says of the challenges that did not convince it.
async fn why_invalid(order: &mut Order) -> OrderFault {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return OrderFault::Challenge {
                name,
                detail: readable(problem.detail.as_deref().unwrap_or("no reason is given")),
            };
        }
    }
    OrderFault::Challenge { name: "a name".to_owned(), detail: "no reason is given".to_owned() }
}

/// What an authority wrote, as a line of bounded length.
fn readable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

/// The certificate's name for the authority, and the window in which it proposes that it be renewed; with how long that
/// holds. `None`: it proposes nothing.
pub(super) async fn proposal(
    account: &Account,
    certificate: &StoredCertificate,
) -> Option<(CertificateIdentifier<'static>, Life, Duration)> {
    let identifier = CertificateIdentifier::try_from(&certificate.leaf).ok()?.into_owned();
    let (info, again) = account.renewal_info(&identifier).await.ok()?;
    let secs = |time: i64| u64::try_from(time).unwrap_or(0);
    let window = info.suggested_window;
    let window = Life { from: secs(window.start.unix_timestamp()), to: secs(window.end.unix_timestamp()) };
    // RFC 9773 §4.2: one that ends before it begins is none.
    (window.to > window.from).then_some((identifier, window, again))
}
