//! Where an issuer's keys come from: prepared once when a configuration is compiled, with every problem said at the
//! place in the file that it stems from, and then read as often as need be.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls::{RootCertStore, pki_types::CertificateDer};
use serde::Deserialize;
use url::Url;

use crate::{
    client::{FetchFault, Fetcher, MachineRoots, authorities, is_loopback_http, is_trustworthy},
    config::{File, Issuer, KeySource, Materials, Problem, SecretEncoding, Span},
    files,
    jose::{JwkSet, PublishedKeys, SetFault, VerifyingKey},
    secret::Secret,
};

/// How often a key file is looked at.
pub(super) const FILE_POLL: Duration = Duration::from_secs(2);
/// How often, and after which pauses, the authority's keys are looked for where it has published none: a second in all.
const OWN_LOOKS: u32 = 50;
const OWN_PAUSE: Duration = Duration::from_millis(20);
/// The largest key file that is read.
const FILE_BYTES: u64 = 1 << 20;

/// Where keys come from, valid and complete. Equal sources give the same keys, so a reload keeps what it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeyPlace {
    /// There are none.
    Absent,
    /// The gateway's own authority publishes them.
    Authority,
    /// Keys that stand in the configuration: they never change and never grow old.
    Fixed(VerifyingKey),
    /// A JWK Set in a file.
    File(PathBuf),
    /// A JWK Set behind a URL.
    Jwks { url: Url, ca: Option<Vec<CertificateDer<'static>>> },
    /// A JWK Set behind a URL that the issuer's metadata names.
    Discovery { url: Url, issuer: Arc<str>, ca: Option<Vec<CertificateDer<'static>>> },
}

/// Why there were no keys this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFault {
    #[error("fetching the keys took longer than {}s", super::refresh::ATTEMPT_TIMEOUT.as_secs())]
    Timeout,
    #[error("fetching the issuer's metadata: {0}")]
    Metadata(FetchFault),
    #[error("the issuer's metadata is not JSON with `issuer` and `jwks_uri`")]
    MetadataFormat,
    #[error("the metadata is that of another issuer")]
    OtherIssuer,
    #[error("the metadata's `jwks_uri` is neither https nor on the machine that the metadata came from")]
    JwksUri,
    #[error("fetching the keys: {0}")]
    Keys(FetchFault),
    #[error("reading the key file: {0}")]
    File(io::Error),
    #[error("the authority has published no keys yet")]
    Unpublished,
    #[error("{0}")]
    Set(#[from] SetFault),
}

/// Keys, as their source gave them.
pub(super) struct Reading {
    pub(super) set: JwkSet,
    /// How long they are good for, if the source says so.
    pub(super) lifetime: Option<Duration>,
}

impl KeyPlace {
    /// Prepares an issuer's source of keys, with the keys that stand on this machine.
    pub(super) fn prepare(issuer: &Issuer, materials: &dyn Materials) -> Result<(Self, Vec<VerifyingKey>), Problem> {
        let allowed = issuer.algorithms;
        match &issuer.keys {
            KeySource::Absent => Ok((Self::Absent, Vec::new())),
            KeySource::Authority => Ok((Self::Authority, Vec::new())),
            KeySource::Secret { source, encoding } => {
                let span = source.span();
                let secret = decode_secret(&materials.secret(source)?, *encoding)
                    .ok_or_else(|| Problem::error(span, format!("the secret is not {}", encoding_name(*encoding))))?;
                VerifyingKey::from_secret(secret.expose(), allowed)
                    .map(Self::fixed)
                    .map_err(|fault| Problem::error(span, format!("the secret {fault}")))
            }
            KeySource::PublicKey(source) => {
                let text = materials.secret(source)?;
                VerifyingKey::from_public(text.expose())
                    .and_then(|key| key.limited_to(allowed))
                    .map(Self::fixed)
                    .map_err(|fault| Problem::error(source.span(), format!("the key {fault}")))
            }
            KeySource::JwksFile(file) => {
                let set = read_set(materials, file)?;
                Ok((Self::File(file.path.clone()), set.keys))
            }
            KeySource::JwksUrl(url) => {
                trustworthy(url, &issuer.span)?;
                Ok((Self::Jwks { url: url.clone(), ca: authorities(issuer.ca.as_ref(), materials)? }, Vec::new()))
            }
            KeySource::Discovery => {
                let url = metadata_url(&issuer.url)
                    .ok_or_else(|| Problem::error(&issuer.span, "the issuer is not a URL, which discovery needs"))?;
                trustworthy(&url, &issuer.span)?;
                let ca = authorities(issuer.ca.as_ref(), materials)?;
                Ok((Self::Discovery { url, issuer: issuer.url.clone(), ca }, Vec::new()))
            }
        }
    }

    fn fixed(key: VerifyingKey) -> (Self, Vec<VerifyingKey>) {
        (Self::Fixed(key.clone()), vec![key])
    }

    /// The roots that this source believes; nobody's where nobody is asked.
    pub(super) fn roots(&self, machine: &MachineRoots) -> Arc<RootCertStore> {
        match self {
            Self::Absent | Self::Authority | Self::Fixed(_) | Self::File(_) => MachineRoots::nobody().unless(None),
            Self::Jwks { ca, .. } | Self::Discovery { ca, .. } => machine.unless(ca.as_deref()),
        }
    }

    /// Reads the keys, now.
    pub(super) async fn read(&self, fetcher: &Fetcher, own: &PublishedKeys) -> Result<Reading, ReadFault> {
        match self {
            Self::Absent => Ok(Reading { set: JwkSet { keys: Vec::new(), left_aside: Vec::new() }, lifetime: None }),
            Self::Authority => {
                // At a start both come up together, and the first requests wait for this attempt.
                for _ in 0..OWN_LOOKS {
                    if !own.keys().is_empty() {
                        break;
                    }
                    tokio::time::sleep(OWN_PAUSE).await;
                }
                let keys = own.keys();
                if keys.is_empty() {
                    return Err(ReadFault::Unpublished);
                }
                let set = JwkSet { keys: keys.to_vec(), left_aside: Vec::new() };
                Ok(Reading { set, lifetime: Some(FILE_POLL) })
            }
            Self::Fixed(key) => {
                Ok(Reading { set: JwkSet { keys: vec![key.clone()], left_aside: Vec::new() }, lifetime: None })
            }
            Self::File(path) => {
                Ok(Reading { set: JwkSet::parse(&read_bounded(path).await?)?, lifetime: Some(FILE_POLL) })
            }
            Self::Jwks { url, .. } => read_url(fetcher, url).await,
            Self::Discovery { url, issuer, .. } => {
                let metadata = fetcher.get(url).await.map_err(ReadFault::Metadata)?;
                let metadata: Metadata =
                    serde_json::from_slice(&metadata.body).map_err(|_| ReadFault::MetadataFormat)?;
                // OpenID Connect Discovery 1.0 §4.3: exactly, not merely equivalent.
                if metadata.issuer != **issuer {
                    return Err(ReadFault::OtherIssuer);
                }
                let uri = named_url(&metadata.jwks_uri, url).ok_or(ReadFault::JwksUri)?;
                read_url(fetcher, &uri).await
            }
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// An address, if metadata from there may name it: a remote provider must not point the gateway at what listens on the
/// gateway's own machine.
pub(super) fn named_url(text: &str, metadata: &Url) -> Option<Url> {
    let usable = |uri: &Url| is_trustworthy(uri) && (!is_loopback_http(uri) || is_loopback_http(metadata));
    Url::parse(text).ok().filter(usable)
}

async fn read_url(fetcher: &Fetcher, url: &Url) -> Result<Reading, ReadFault> {
    let answer = fetcher.get(url).await.map_err(ReadFault::Keys)?;
    Ok(Reading { set: JwkSet::parse(&answer.body)?, lifetime: answer.lifetime })
}

async fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadFault> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || files::read(&path, FILE_BYTES)).await;
    read.unwrap_or_else(|error| Err(error.into())).map_err(ReadFault::File)
}

/// OpenID Connect Discovery 1.0 §4: a final `/` of the issuer goes, then the well-known path is appended.
pub(super) fn metadata_url(issuer: &str) -> Option<Url> {
    let issuer = Url::parse(issuer).ok().filter(|url| url.query().is_none() && url.fragment().is_none())?;
    let base = issuer.as_str().strip_suffix('/').unwrap_or(issuer.as_str());
    Url::parse(&format!("{base}/.well-known/openid-configuration")).ok()
}

fn trustworthy(url: &Url, span: &Span) -> Result<(), Problem> {
    if is_trustworthy(url) {
        return Ok(());
    }
    Err(Problem::error(span, format!("keys are fetched over https, or over http from this machine alone: {url}"))
        .with_help("whoever can change the answer on its way can sign any token"))
}

fn read_set(materials: &dyn Materials, file: &File) -> Result<JwkSet, Problem> {
    let bytes = materials
        .read_file(&file.path)
        .map_err(|error| Problem::error(&file.span, format!("cannot read {}: {error}", file.path.display())))?;
    JwkSet::parse(&bytes).map_err(|fault| Problem::error(&file.span, format!("{}: {fault}", file.path.display())))
}

fn encoding_name(encoding: SecretEncoding) -> &'static str {
    match encoding {
        SecretEncoding::Raw => "raw",
        SecretEncoding::Base64 => "base64",
        SecretEncoding::Base64Url => "base64url",
        SecretEncoding::Hex => "hexadecimal",
    }
}

/// Decodes a shared secret. Spaces around the text are dropped where they cannot be part of it.
fn decode_secret(secret: &Secret, encoding: SecretEncoding) -> Option<Secret> {
    const EITHER_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = match encoding {
        SecretEncoding::Raw => return Some(secret.clone()),
        SecretEncoding::Base64 => {
            GeneralPurpose::new(&alphabet::STANDARD, EITHER_PADDING).decode(secret.expose().trim_ascii()).ok()?
        }
        SecretEncoding::Base64Url => {
            GeneralPurpose::new(&alphabet::URL_SAFE, EITHER_PADDING).decode(secret.expose().trim_ascii()).ok()?
        }
        SecretEncoding::Hex => decode_hex(secret.expose().trim_ascii())?,
    };
    Some(Secret::new(bytes))
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn decoded(text: &str, encoding: SecretEncoding) -> Option<Vec<u8>> {
        decode_secret(&Secret::new(text), encoding).map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn a_secret_is_read_in_each_of_its_encodings() {
        let bytes = Some(vec![0xfb, 0xff, 0x01, 0x02]);
        for text in ["+/8BAg==", "+/8BAg", " +/8BAg==\n"] {
            assert_eq!(decoded(text, SecretEncoding::Base64), bytes, "{text}");
        }
        for text in ["-_8BAg==", "-_8BAg", "-_8BAg\r\n"] {
            assert_eq!(decoded(text, SecretEncoding::Base64Url), bytes, "{text}");
        }
        for text in ["fbff0102", "FBff0102", "FBFF0102\n"] {
            assert_eq!(decoded(text, SecretEncoding::Hex), bytes, "{text}");
        }
        assert_eq!(decoded(" as it is ", SecretEncoding::Raw), Some(b" as it is ".to_vec()));
    }

    #[test]
    fn a_secret_in_another_encoding_is_refused() {
        for (text, encoding) in [
            ("-_8BAg==", SecretEncoding::Base64),
            ("+/8BAg==", SecretEncoding::Base64Url),
            ("fbff010", SecretEncoding::Hex),
            ("fbff01xx", SecretEncoding::Hex),
            ("fb ff", SecretEncoding::Hex),
        ] {
            assert_eq!(decoded(text, encoding), None, "{text}");
        }
    }

    #[test]
    fn remote_metadata_cannot_point_at_this_machine() {
        let from = |metadata: &str, uri: &str| named_url(uri, &metadata.parse().unwrap()).is_some();
        assert!(from("https://idp.example/", "https://keys.example/jwks"));
        assert!(from("http://127.0.0.1:8000/", "http://localhost:8001/jwks"));
        for uri in
            ["http://127.0.0.1:9090/metrics", "http://localhost/", "http://[::1]/", "http://keys.example/", "/jwks"]
        {
            assert!(!from("https://idp.example/", uri), "{uri}");
        }
    }

    #[test]
    fn the_metadata_stands_below_the_issuer() {
        for (issuer, url) in [
            ("https://idp.example", "https://idp.example/.well-known/openid-configuration"),
            ("https://idp.example/", "https://idp.example/.well-known/openid-configuration"),
            ("https://idp.example/realms/a", "https://idp.example/realms/a/.well-known/openid-configuration"),
            ("https://idp.example/tenant/v2.0/", "https://idp.example/tenant/v2.0/.well-known/openid-configuration"),
        ] {
            assert_eq!(metadata_url(issuer).unwrap().as_str(), url);
        }
        for issuer in ["idp", "https://idp.example/?tenant=1", "https://idp.example/#a"] {
            assert_eq!(metadata_url(issuer), None, "{issuer}");
        }
    }
}
