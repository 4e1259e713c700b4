//! Webhooks: a POST of JSON, signed as Standard Webhooks has it (www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`,
//! and in `webhook-signature` for each secret `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`. The timestamp is
//! the attempt's, so that a receiver can refuse what is older than some minutes and still take a late repetition.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::{Delivery, message::Waiting};
use crate::{
    client::{Fetcher, MachineRoots, authorities},
    clock::Now,
    config::{Materials, Problem, Source, Webhook},
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How long a secret is, decoded.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Base64, padded or not: both are written.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A webhook, ready to be told.
pub(super) struct Hook {
    url: Url,
    timeout: Duration,
    /// The secret, and the one before it.
    keys: Vec<hmac::Key>,
    fetcher: Fetcher,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

/// What is posted.
#[derive(Serialize)]
struct Payload<'a> {
    id: &'a str,
    r#type: &'a str,
    /// When it happened, in RFC 3339.
    time: String,
    data: &'a Value,
}

impl Hook {
    pub(super) fn new(webhook: &Webhook, materials: &dyn Materials, roots: &MachineRoots) -> Result<Self, Problem> {
        let sources = std::iter::once(&webhook.secret).chain(&webhook.previous_secret);
        let ca = authorities(webhook.ca.as_ref(), materials)?;
        Ok(Self {
            url: webhook.url.clone(),
            timeout: webhook.timeout,
            keys: sources.map(|source| key(source, materials)).collect::<Result<_, _>>()?,
            fetcher: Fetcher::new(roots.unless(ca.as_deref()))
                .map_err(|error| Problem::error(&webhook.span, format!("TLS to the webhook: {error}")))?,
        })
    }

    /// Posts a message. A status of 2xx says that the receiver has it; with any other it may not have: it is told again.
    pub(super) async fn deliver(&self, waiting: &Waiting, now: Now) -> Delivery {
        let message = &waiting.message;
        let moment = i64::try_from(waiting.at).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
        let payload = Payload {
            id: &message.id,
            r#type: &message.kind,
            time: moment.unwrap_or(jiff::Timestamp::MAX).to_string(),
            data: &message.data,
        };
        let Ok(body) = serde_json::to_vec(&payload) else {
            return Delivery::Refused("the message is not JSON".to_owned());
        };
        let Some(fields) = self.fields(&message.id, now.unix_secs(), &body) else {
            return Delivery::Refused("the message's number is not one for a header".to_owned());
        };
        match timeout(self.timeout, self.fetcher.tell(&self.url, fields, Bytes::from(body))).await {
            Ok(Ok(status)) if status.is_success() => Delivery::Delivered,
            Ok(Ok(status)) => Delivery::Later(format!("the webhook answered {}", status.as_u16())),
            Ok(Err(fault)) => Delivery::Later(fault.to_string()),
            Err(_) => Delivery::Later(format!("no answer within {:?}", self.timeout)),
        }
    }

    fn fields(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<HeaderMap> {
        let signatures: Vec<String> =
            self.keys.iter().map(|key| format!("v1,{}", sign(key, id, timestamp, body))).collect();
        Some(HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ID, HeaderValue::from_str(id).ok()?),
            (TIMESTAMP, HeaderValue::from(timestamp)),
            (SIGNATURE, HeaderValue::from_str(&signatures.join(" ")).ok()?),
        ]))
    }
}

fn sign(key: &hmac::Key, id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    STANDARD.encode(context.sign())
}

/// Reads a secret: base64, with `whsec_` before it or not.
fn key(source: &Source, materials: &dyn Materials) -> Result<hmac::Key, Problem> {
    let secret = materials.secret(source)?;
    let text = secret.expose().strip_prefix(b"whsec_").unwrap_or(secret.expose());
    let bytes = LENIENT.decode(text).ok().map(crate::secret::Secret::new);
    let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.expose().len())).ok_or_else(|| {
        Problem::error(source.span(), "a webhook's secret is base64 of 24 to 64 bytes")
            .with_help("`openssl rand -base64 32` makes one")
    })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes.expose()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_signature_is_that_of_the_reference_libraries() {
        let secret = LENIENT.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn secrets_are_base64_of_24_to_64_bytes() {
        struct Nothing;
        impl Materials for Nothing {
            fn read_file(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
                Err("there is no such file".to_owned())
            }
            fn env(&self, _: &str) -> Option<String> {
                None
            }
        }
        let read = |text: &str| {
            let value = crate::secret::Secret::new(text.as_bytes());
            key(&Source::Inline { span: crate::config::Span::default(), value }, &Nothing).is_ok()
        };
        for good in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(read(good), "{good}");
        }
        assert!(read(&STANDARD.encode([7; 64])) && read(STANDARD.encode([7; 32]).trim_end_matches('=')));
        for bad in ["whsec_", "correct horse battery staple", &STANDARD.encode([7; 23]), &STANDARD.encode([7; 65])] {
            assert!(!read(bad), "{bad}");
        }
    }
}
