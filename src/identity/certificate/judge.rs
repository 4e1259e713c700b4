//! One certificate chain before one source: a pure function of both and the time.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime},
};
use serde_json::{Value, json};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    CertificateNames, Rules, Trust,
    lists::{self, List},
    trust::seconds,
};
use crate::{
    body::ClientCertificate,
    policy::{Assurance, Kind, Marks, Principal, Reason},
};

/// What a source says of a certificate.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It vouches for this caller.
    Valid(Arc<Principal>),
    /// It knows the certificate, and it is not to be believed.
    Invalid(Reason),
    /// It knows the certificate, and cannot say whether it was revoked.
    Unavailable,
    /// It knows nothing of it, or nothing good as far as it can be read: another source may.
    Unknown(Reason),
}

/// A verdict, and when it is to be made again.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The second at which something turns: a certificate begins or ends, a list ends.
    pub(super) until: u64,
}

/// The signature algorithms of the one provider.
pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    aws_lc_rs::default_provider().signature_verification_algorithms.all
}

/// Judges a chain at a time, in seconds since the epoch.
pub(super) fn judge(rules: &Rules, trust: &Trust, shown: &ClientCertificate, now: u64) -> Judged {
    let Some(turns) = turns(shown) else {
        return Judged { verdict: Verdict::Unknown(Reason::CertificateUnknown), until: u64::MAX };
    };
    let until = turns.iter().chain(&trust.turns).copied().filter(|turn| *turn > now).min().unwrap_or(u64::MAX);
    let verdict = match verify(rules, trust, shown, now) {
        Ok(()) => match principal(rules, shown) {
            Some(principal) => Verdict::Valid(Arc::new(principal)),
            None => Verdict::Unknown(Reason::CertificateUnknown),
        },
        Err(error) => fault(&error),
    };
    Judged { verdict, until }
}

/// When the shown certificates begin and end; `None` where one of them is none.
fn turns(shown: &ClientCertificate) -> Option<Vec<u64>> {
    let mut turns = Vec::with_capacity(8);
    for der in std::iter::once(shown.leaf()).chain(shown.above()) {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        turns.push(seconds(validity.not_before.timestamp()));
        turns.push(seconds(validity.not_after.timestamp()).saturating_add(1));
    }
    Some(turns)
}

/// RFC 5280 §6: a path to an authority, every certificate of it valid now, for clients' use, and not revoked.
fn verify(rules: &Rules, trust: &Trust, shown: &ClientCertificate, now: u64) -> Result<(), Error> {
    let leaf = CertificateDer::from(shown.leaf());
    let above = shown.above().map(CertificateDer::from);
    let intermediates: Vec<CertificateDer<'_>> = above.chain(trust.intermediates.iter().cloned()).collect();
    let definition = &rules.definition;
    let believe = |list: &List| now < list.next_update || definition.danger_expired_crl;
    let revoked = |path: &VerifiedPath<'_>| lists::ask(&trust.lists, path, definition.crl_depth, believe);
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            algorithms(),
            &trust.anchors,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            KeyUsage::client_auth(),
            None,
            // Asked of every path that is otherwise good, until one passes.
            (!trust.lists.is_empty()).then_some(&revoked),
        )
        .map(drop)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is webpki's and open; what is not listed is no path to us"
)]
fn fault(error: &Error) -> Verdict {
    match error {
        Error::CertRevoked => Verdict::Invalid(Reason::CertificateRevoked),
        Error::UnknownRevocationStatus => Verdict::Unavailable,
        // The path is looked for after the time, so that another source may know no more of it.
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => Verdict::Unknown(Reason::CertificateExpired),
        _ => Verdict::Unknown(Reason::CertificateUnknown),
    }
}

/// The caller whom a certificate names; `None` where that is nobody whom the source takes.
fn principal(rules: &Rules, shown: &ClientCertificate) -> Option<Principal> {
    let names = CertificateNames::read(shown.leaf())?;
    let definition = &rules.definition;
    let subject = names.subject(definition.subject)?;
    if !rules.allow.is_empty() && !rules.allow.iter().any(|pattern| pattern.matches(subject)) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of the next hundred million years are exact")]
    let numeric_date = |secs: i64| secs as f64;
    Some(Principal {
        issuer: rules.name.clone(),
        issuer_url: rules.url.clone(),
        subject: subject.into(),
        client: None,
        scopes: definition.scopes.clone().into(),
        assurance: Assurance::default(),
        expires_at: Some(numeric_date(names.not_after)),
        leeway_secs: 0.0,
        claims: claims(&names, shown),
        kind: if definition.person { Kind::Person } else { Kind::Machine },
        marks: Marks {
            id: Some(names.serial.as_str().into()),
            issued_at: Some(numeric_date(names.not_before)),
            fingerprint: Some(*shown.fingerprint()),
            ..Marks::default()
        },
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    })
}

/// What conditions and quotas see of a certificate.
fn claims(names: &CertificateNames, shown: &ClientCertificate) -> Value {
    let ip: Vec<String> = names.ip.iter().map(ToString::to_string).collect();
    json!({
        "subject_dn": names.subject_dn,
        "issuer_dn": names.issuer_dn,
        "common_name": names.common.iter().flatten().collect::<Vec<_>>(),
        "serial": names.serial,
        "not_before": names.not_before,
        "not_after": names.not_after,
        "san": {"dns": names.dns, "uri": names.uri, "email": names.email, "ip": ip},
        "policies": names.policies,
        "x5t#S256": URL_SAFE_NO_PAD.encode(shown.fingerprint()),
    })
}
