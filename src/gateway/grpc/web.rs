//! gRPC-Web for services that speak gRPC alone. The messages are the same; what differs is the content type, the trailers, which a
//! browser cannot see and which therefore come as a last frame of the body, and, in the `-text` form, base64 around all of it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONTENT_TYPE},
};
use http_body::{Body, Frame, SizeHint};

use super::{
    Dialect,
    refusal::{GRPC_MESSAGE, GRPC_STATUS},
};
use crate::{body::BodyChange, gateway::hygiene};

/// Marks a frame of trailers.
const TRAILERS: u8 = 0x80;
const STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// UNKNOWN: the service ended without a word.
const UNKNOWN: HeaderValue = HeaderValue::from_static("2");

/// Makes the head of a gRPC-Web request that of a gRPC request.
pub(in crate::gateway) fn to_grpc(headers: &mut HeaderMap) {
    if let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| retyped(value, Dialect::Grpc)) {
        headers.insert(CONTENT_TYPE, value);
    }
    for name in [HeaderName::from_static("x-grpc-web"), header::ACCEPT] {
        headers.remove(name);
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
}

/// Makes the head of a gRPC answer that of gRPC-Web's; `None`: it is no answer of gRPC's, and goes on as it is. What it says in its
/// header section alone (`Trailers-Only`) is given, to be said in the body as well.
pub(in crate::gateway) fn to_web(dialect: Dialect, headers: &mut HeaderMap) -> Option<Box<HeaderMap>> {
    let value = headers.get(CONTENT_TYPE)?;
    if Dialect::of_type(value) != Some(Dialect::Grpc) {
        return None;
    }
    let value = retyped(value, dialect)?;
    headers.insert(CONTENT_TYPE, value);
    headers.remove(header::CONTENT_LENGTH);
    let said = [GRPC_STATUS, GRPC_MESSAGE, STATUS_DETAILS];
    Some(Box::new(said.into_iter().filter_map(|name| Some((name.clone(), headers.get(&name)?.clone()))).collect()))
}

/// The content type of another dialect, for the same format of messages.
fn retyped(value: &HeaderValue, dialect: Dialect) -> Option<HeaderValue> {
    let format = value.to_str().ok()?.split_once('+').map(|(_, format)| format);
    let media_type = dialect.media_type();
    HeaderValue::try_from(format.map_or(media_type.to_owned(), |format| format!("{media_type}+{format}"))).ok()
}

/// A frame of trailers: their names and values as HTTP/1.1 writes them.
pub(super) fn trailers_frame(trailers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in trailers {
        block.extend_from_slice(name.as_str().as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[TRAILERS], &length[..], &block].concat()
}

/// Takes base64 off a body as it comes. A client may end any part of it with padding, and go on.
#[derive(Debug, Default)]
pub(in crate::gateway) struct TextBody {
    /// Less than a group of four.
    rest: Vec<u8>,
}

impl BodyChange for TextBody {
    fn change(&mut self, bytes: &[u8]) -> Option<Bytes> {
        let mut text = std::mem::take(&mut self.rest);
        text.extend_from_slice(bytes);
        let (mut groups, rest) = text.split_at_checked(text.len() / 4 * 4)?;
        self.rest = rest.to_vec();
        let mut out = Vec::with_capacity(groups.len() / 4 * 3);
        while !groups.is_empty() {
            let padding = groups.iter().position(|byte| *byte == b'=');
            let end = padding.map_or(groups.len(), |at| at / 4 * 4 + 4);
            let (part, after) = groups.split_at_checked(end)?;
            STANDARD.decode_vec(part, &mut out).ok()?;
            groups = after;
        }
        Some(out.into())
    }

    fn may_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// The body of a gRPC answer on its way to a client of gRPC-Web: each part as it comes, the trailers as the last one.
pub(in crate::gateway) struct WebBody<B> {
    /// `None`: all of it was read.
    body: Option<B>,
    is_text: bool,
    /// What the head said already, for an answer without trailers.
    said: Box<HeaderMap>,
}

impl<B> WebBody<B> {
    pub(in crate::gateway) fn new(body: B, dialect: Dialect, said: Box<HeaderMap>) -> Self {
        Self { body: Some(body), is_text: dialect == Dialect::WebText, said }
    }

    /// Each part is whole base64 by itself: a message does not wait for the bytes of the next one.
    fn part(&self, bytes: Bytes) -> Frame<Bytes> {
        Frame::data(if self.is_text { STANDARD.encode(bytes).into() } else { bytes })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WebBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let trailers = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Poll::Ready(Some(Ok(this.part(data)))),
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    hygiene::clean_trailers(&mut trailers, &[]);
                    trailers
                }
            },
            None => {
                let mut said = std::mem::take(&mut *this.said);
                said.entry(GRPC_STATUS).or_insert(UNKNOWN);
                said
            }
        };
        this.body = None;
        Poll::Ready(Some(Ok(this.part(trailers_frame(&trailers).into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

    use std::{collections::VecDeque, convert::Infallible};

    use http_body_util::BodyExt;

    use super::*;

    struct Parts(VecDeque<Frame<Bytes>>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    async fn web(
        dialect: Dialect,
        frames: Vec<Frame<Bytes>>,
        head: &[(&'static str, &str)],
    ) -> (HeaderMap, Vec<Vec<u8>>) {
        let mut headers: HeaderMap =
            head.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let said = to_web(dialect, &mut headers).unwrap();
        let mut body = WebBody::new(Parts(frames.into()), dialect, said);
        let mut parts = Vec::new();
        while let Some(frame) = BodyExt::frame(&mut body).await {
            parts.push(frame.unwrap().into_data().unwrap().to_vec());
        }
        (headers, parts)
    }

    #[tokio::test]
    async fn an_answer_has_its_trailers_in_the_body() {
        let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
        let frames = || vec![Frame::data(Bytes::from_static(b"\0\0\0\0\x01a")), Frame::trailers(trailers.clone())];
        let (headers, parts) = web(Dialect::Web, frames(), &[("content-type", "application/grpc+proto")]).await;
        assert_eq!(headers[CONTENT_TYPE], "application/grpc-web+proto");
        let last = b"\x80\0\0\0\x10grpc-status: 0\r\n".to_vec();
        assert_eq!(parts, [b"\0\0\0\0\x01a".to_vec(), last.clone()]);
        let (headers, parts) = web(Dialect::WebText, frames(), &[("content-type", "application/grpc")]).await;
        assert_eq!(headers[CONTENT_TYPE], "application/grpc-web-text");
        assert_eq!(parts, [b"AAAAAAFh".to_vec(), STANDARD.encode(last).into_bytes()]);
    }

    #[tokio::test]
    async fn an_answer_without_trailers_repeats_what_its_head_said() {
        let head = [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "none")];
        let (headers, parts) = web(Dialect::Web, vec![], &head).await;
        assert_eq!(&parts[0][5..], b"grpc-status: 5\r\ngrpc-message: none\r\n");
        assert_eq!(headers["grpc-status"], "5");
        let (_, parts) = web(Dialect::Web, vec![], &head[..1]).await;
        assert_eq!(&parts[0][5..], b"grpc-status: 2\r\n");
    }

    #[test]
    fn base64_is_taken_off_however_it_is_cut_and_padded() {
        let text = [STANDARD.encode("first"), STANDARD.encode("second one"), STANDARD.encode("x")].concat();
        for size in [1, 2, 3, 4, 5, 7, 100] {
            let mut body = TextBody::default();
            let parts: Vec<Bytes> = text.as_bytes().chunks(size).map(|part| body.change(part).unwrap()).collect();
            assert_eq!(parts.concat(), b"firstsecond onex", "{size}");
            assert!(body.may_end());
        }
        let mut body = TextBody::default();
        assert_eq!(body.change(b"AAA").unwrap(), "");
        assert!(!body.may_end());
        for bad in ["A===", "AA=A", "!AAA", "AA A", "AA-_"] {
            assert_eq!(TextBody::default().change(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn heads_are_translated_with_their_format_and_others_are_left_alone() {
        let mut request =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web-text+proto"))]);
        request.insert("x-grpc-web", HeaderValue::from_static("1"));
        to_grpc(&mut request);
        assert_eq!(
            (&request[CONTENT_TYPE], &request["te"]),
            (&"application/grpc+proto".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert!(!request.contains_key("x-grpc-web"));
        let mut page = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
        assert!(to_web(Dialect::Web, &mut page).is_none());
        assert_eq!(page[CONTENT_TYPE], "text/html");
    }
}
