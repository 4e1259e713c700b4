//! Why the authority did not do what it was asked: coarse on purpose. What would help somebody guess is one answer.

use thiserror::Error;

use crate::{
    endpoint::{Answer, Refused},
    policy::Reason,
    store::StoreFault,
};

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// What was shown is wrong, used, expired, belongs to somebody else, or was not looked at.
    #[error("the proof is refused")]
    Proof,
    /// There is no right to enrol, change or remove a factor.
    #[error("the enrolment is refused")]
    Enrolment,
    /// The call is not in the form that it takes. The text is for the caller.
    #[error("the call is refused: {0}")]
    Call(&'static str),
    /// A grant is not good for the request.
    #[error("the grant is refused")]
    Grant,
    /// The grant was used before.
    #[error("the grant was used before")]
    Spent,
    /// An account's name and password, session or refresh token let nobody in.
    #[error("the sign-in is refused")]
    SignIn,
    /// More codes were asked for than are sent; seconds to wait.
    #[error("more codes were asked for than are sent")]
    Sending(u64),
    /// No credential came with a call that needs one.
    #[error("no credential came with the call")]
    Anonymous,
    /// The call came by a way that others may read.
    #[error("the call came in the clear")]
    Cleartext,
    /// There is no such thing, or it is not the caller's.
    #[error("there is no such thing")]
    NotFound,
    /// The path is there, not with this method.
    #[error("there is no such method")]
    Method(&'static [http::Method]),
    /// The store cannot be asked or written.
    #[error("the store: {0}")]
    Store(StoreFault),
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl Fault {
    /// What it is called in records and told to callers.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Proof => Reason::ProofRefused,
            Self::Enrolment => Reason::EnrolmentRefused,
            Self::Call(_) | Self::Cleartext => Reason::CallRefused,
            Self::Grant => Reason::GrantInvalid,
            Self::Spent => Reason::GrantSpent,
            Self::SignIn => Reason::SignInRefused,
            Self::Sending(_) => Reason::SendingLimited,
            Self::Anonymous => Reason::TokenMissing,
            Self::NotFound => Reason::RouteNotFound,
            Self::Method(_) => Reason::MethodNotAllowed,
            Self::Store(_) => Reason::AuthorityUnavailable,
        }
    }

    /// A refusal in the house's form.
    pub(super) fn answer(&self) -> Answer {
        let detail = match self {
            Self::Call(detail) => Some(*detail),
            Self::Cleartext => Some("Codes and tokens are taken over TLS alone, and this call came without."),
            Self::Proof
            | Self::Enrolment
            | Self::Grant
            | Self::Spent
            | Self::SignIn
            | Self::Sending(_)
            | Self::Anonymous
            | Self::NotFound
            | Self::Method(_)
            | Self::Store(_) => None,
        };
        let allow = if let Self::Method(allow) = self { *allow } else { &[] };
        Answer::refused(self.reason(), Refused { detail, retry_after: self.retry_after(), allow })
    }

    /// Seconds to wait, for `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Sending(secs) => Some(*secs),
            Self::Store(_) => Some(1),
            Self::Proof
            | Self::Enrolment
            | Self::Call(_)
            | Self::Grant
            | Self::Spent
            | Self::SignIn
            | Self::Anonymous
            | Self::Cleartext
            | Self::NotFound
            | Self::Method(_) => None,
        }
    }
}
