//! A whole answer of bytes alone, for tests and fuzzing: read by [`Answers`], as a connection does it.

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body::Frame;

use super::{
    answers::{Answers, is_interim},
    connection::CutOff,
};
use crate::upstream::{answer, fault::UpstreamFault};

/// An answer that was read to its end, with what came behind it.
#[derive(Debug)]
pub struct WholeAnswer {
    /// Its head.
    pub head: Response<()>,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
    /// What came behind it, which is no answer to anything.
    pub unread: Bytes,
}

/// Reads the answer to a request from a connection of which `pieces` come, one at a time, and which then ends.
///
/// # Errors
/// Why it is none that may be passed on, or not whole.
pub fn read_answer<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    asked: &Method,
) -> Result<WholeAnswer, UpstreamFault> {
    let (mut pieces, mut answers) = (pieces.into_iter(), Answers::new());
    let mut more = |answers: &mut Answers| {
        pieces.next().map(|piece| {
            answers.room().extend_from_slice(piece);
            answers.grow();
        })
    };
    let mut head = loop {
        match answers.head(&mut HeaderMap::new(), false)? {
            Some(head) if is_interim(head.answer.status()) => {}
            Some(head) => break head.answer,
            None if more(&mut answers).is_some() => {}
            None => {
                let has_begun = answers.has_more();
                answers.head(&mut HeaderMap::new(), true)?;
                return Err(if has_begun { CutOff::Head } else { CutOff::Unanswered }.into());
            }
        }
    };
    let checked = answer::check(&mut head, false)?;
    answers.begin_body(&head, &checked, asked)?;
    let (mut body, mut trailers) = (Vec::new(), None);
    while !answers.decoder().is_over() {
        match answers.take()?.map(Frame::into_data) {
            Some(Ok(data)) => body.extend_from_slice(&data),
            Some(Err(frame)) => trailers = frame.into_trailers().ok(),
            None if answers.decoder().is_over() => {}
            None => {
                if more(&mut answers).is_none() && !answers.at_eof() {
                    return Err(CutOff::Body.into());
                }
            }
        }
    }
    Ok(WholeAnswer { head, body, trailers, unread: answers.into_unread() })
}
