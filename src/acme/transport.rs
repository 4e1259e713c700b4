//! How an authority is spoken to: by the gateway's own client, which is bounded in time and in bytes, follows nothing, and
//! believes the roots that it is given.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::time::timeout;
use url::Url;

use crate::client::{Fetcher, Outgoing, is_trustworthy};

/// How long one request may take, and how much of it a connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer: a chain with a hundred names has some dozen KiB.
const ANSWER_BYTES: usize = 1 << 20;

/// The longest that an authority may have us wait. Who says more says it again then.
const LONGEST_WAIT_SECS: u64 = 24 * 60 * 60;

/// A client for one authority.
#[derive(Clone)]
pub(super) struct Transport {
    fetcher: Arc<Fetcher>,
    /// Until when the authority wants to be left alone.
    busy: Arc<Mutex<Option<Instant>>>,
}

impl Transport {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher: Arc::new(fetcher), busy: Arc::default() }
    }

    /// How long the authority wants to be left alone; told once.
    pub(super) fn asked_to_wait(&self) -> Duration {
        let until = self.busy.lock().unwrap_or_else(PoisonError::into_inner).take();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (fetcher, busy) = (Arc::clone(&self.fetcher), Arc::clone(&self.busy));
        Box::pin(async move {
            let response = timeout(REQUEST_TIMEOUT, exchange(&fetcher, request))
                .await
                .unwrap_or_else(|_| Err(Error::Other("the authority takes too long to answer".into())))?;
            if matches!(response.parts.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                let secs = response
                    .parts
                    .headers
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let until = secs.and_then(|secs| Instant::now().checked_add(Duration::from_secs(secs)));
                *busy.lock().unwrap_or_else(PoisonError::into_inner) = until;
            }
            Ok(response)
        })
    }
}

async fn exchange(fetcher: &Fetcher, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
    let other = |error: &str| Error::Other(error.into());
    let (head, body) = request.into_parts();
    let url = Url::parse(&head.uri.to_string()).map_err(|_| other("the authority names a URL that is none"))?;
    // Directories name further URLs: what is asked of them is signed, and what they answer is believed.
    if !is_trustworthy(&url) {
        return Err(other("the authority names a URL without TLS"));
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let outgoing = Outgoing {
        method: head.method,
        target,
        fields: head.headers,
        body,
        most: Some(ANSWER_BYTES),
        connect_within: CONNECT_TIMEOUT,
    };
    let incoming = fetcher.call(&url, outgoing).await.map_err(|fault| Error::Other(Box::new(fault)))?;
    let mut response = Response::new(Full::new(Bytes::from(incoming.body)));
    *response.status_mut() = incoming.status;
    *response.headers_mut() = incoming.fields;
    bound_wait(response.headers_mut());
    Ok(BytesResponse::from(response))
}

/// A time to wait is added to the clock by who reads it, whatever it is.
fn bound_wait(headers: &mut HeaderMap) {
    let Some(value) = headers.get(header::RETRY_AFTER) else { return };
    let text = value.to_str().unwrap_or_default().trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.parse::<u64>().map_or(true, |secs| secs > LONGEST_WAIT_SECS) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(LONGEST_WAIT_SECS));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_us_wait_for_ever() {
        for (said, heard) in [
            ("5", "5"),
            ("86400", "86400"),
            ("86401", "86400"),
            ("18446744073709551615", "86400"),
            ("99999999999999999999999", "86400"),
            ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(said));
            bound_wait(&mut headers);
            assert_eq!(headers.get(header::RETRY_AFTER).unwrap(), heard);
        }
    }
}
