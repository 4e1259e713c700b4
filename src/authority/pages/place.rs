//! The pages' addresses, below `authority.path`.

use http::Method;

use crate::policy::Factor;

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// The list of factors, or what to do without a session.
    Home,
    /// Where a link leads.
    Open,
    /// A factor is shown, for whatever the browser was let in for.
    StepUp,
    /// A factor is shown, so that factors may be changed; and where both are answered.
    Prove,
    /// A code is to be sent, or an approval asked for.
    Send,
    /// A factor is added.
    Add,
    /// A factor is added that takes an address.
    AddAt(Factor),
    /// An invitation is typed.
    Invitation,
    /// A factor that is added is confirmed.
    Confirm,
    /// A factor gets another name.
    Rename(&'p str),
    /// A factor is removed.
    Remove(&'p str),
    /// New recovery codes.
    RecoveryCodes,
    /// What is elevated.
    Activity,
    /// That is ended.
    End,
    /// The session is ended.
    Leave,
    /// An approval on another device: no session.
    Push,
    /// An account signs in: no session, nor for the four after it.
    SignIn,
    /// A factor is shown for that, or for a recovery.
    Enter,
    /// Another one is asked for.
    EnterAgain,
    /// An account is made.
    Register,
    /// By the code that was mailed.
    Registered,
    /// A forgotten password.
    Recover,
    /// By the code that was mailed.
    Recovered,
    /// The password is changed.
    Password,
    /// Where the account is signed in.
    Sessions,
    /// And is not any more.
    EndSessions,
}

impl<'p> Place<'p> {
    /// The page of a path.
    pub(super) fn of(path: &'p str) -> Option<Self> {
        Some(match path {
            "" | "/" => Self::Home,
            "/open" => Self::Open,
            "/step-up" => Self::StepUp,
            "/prove" => Self::Prove,
            "/prove/send" => Self::Send,
            "/add" => Self::Add,
            "/invitation" => Self::Invitation,
            "/confirm" => Self::Confirm,
            "/recovery-codes" => Self::RecoveryCodes,
            "/activity" => Self::Activity,
            "/activity/end" => Self::End,
            "/leave" => Self::Leave,
            "/push" => Self::Push,
            "/sign-in" => Self::SignIn,
            "/sign-in/factor" => Self::Enter,
            "/sign-in/send" => Self::EnterAgain,
            "/register" => Self::Register,
            "/register/code" => Self::Registered,
            "/recover" => Self::Recover,
            "/recover/code" => Self::Recovered,
            "/password" => Self::Password,
            "/sessions" => Self::Sessions,
            "/sessions/end" => Self::EndSessions,
            path => {
                if let Some(factor) = path.strip_prefix("/add/") {
                    return Factor::from_name(factor).map(Self::AddAt);
                }
                let (id, action) = path.strip_prefix("/factors/")?.split_once('/')?;
                let is_id = (1..=64).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                match action {
                    "rename" if is_id => Self::Rename(id),
                    "remove" if is_id => Self::Remove(id),
                    _ => return None,
                }
            }
        })
    }

    /// Whether it is for somebody who is not signed in.
    pub(super) fn is_outside(self) -> bool {
        matches!(
            self,
            Self::SignIn
                | Self::Enter
                | Self::EnterAgain
                | Self::Register
                | Self::Registered
                | Self::Recover
                | Self::Recovered
        )
    }

    /// Whether there is such a page only where the authority keeps accounts.
    pub(super) fn is_of_accounts(self) -> bool {
        self.is_outside() || matches!(self, Self::Password | Self::Sessions | Self::EndSessions)
    }

    /// The methods that it takes.
    pub(super) fn methods(self) -> &'static [Method] {
        const LOOK: &[Method] = &[Method::GET, Method::HEAD];
        const SEND: &[Method] = &[Method::POST];
        const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
        match self {
            Self::Home | Self::StepUp | Self::Activity | Self::AddAt(_) | Self::Sessions => LOOK,
            // No HEAD: it would use the ticket up and show nothing.
            Self::Open => &[Method::GET],
            Self::Send
            | Self::Confirm
            | Self::End
            | Self::Leave
            | Self::Enter
            | Self::EnterAgain
            | Self::Registered
            | Self::Recovered
            | Self::EndSessions => SEND,
            Self::Prove
            | Self::Add
            | Self::Invitation
            | Self::Rename(_)
            | Self::Remove(_)
            | Self::RecoveryCodes
            | Self::Push
            | Self::SignIn
            | Self::Register
            | Self::Recover
            | Self::Password => BOTH,
        }
    }

    /// Whether the browser may be sent to it after a factor was shown; never anywhere else.
    pub(super) fn follows(path: &'p str) -> bool {
        match Self::of(path) {
            Some(
                Self::Home
                | Self::StepUp
                | Self::Add
                | Self::AddAt(_)
                | Self::Rename(_)
                | Self::Remove(_)
                | Self::RecoveryCodes
                | Self::Password,
            ) => path.starts_with('/'),
            Some(
                Self::Open
                | Self::Prove
                | Self::Send
                | Self::Invitation
                | Self::Confirm
                | Self::Activity
                | Self::End
                | Self::Leave
                | Self::Push
                | Self::SignIn
                | Self::Enter
                | Self::EnterAgain
                | Self::Register
                | Self::Registered
                | Self::Recover
                | Self::Recovered
                | Self::Sessions
                | Self::EndSessions,
            )
            | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_is_sent_to_pages_of_ours_alone() {
        for path in ["/", "/add", "/add/email", "/step-up", "/factors/ab-c_9/remove", "/recovery-codes"] {
            assert!(Place::follows(path), "{path}");
        }
        for path in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/add?x",
            "/factors/../remove",
            "/factors//remove",
            "/open",
            "/leave",
            "/add/unknown",
            "/factors/a/b/remove",
            "javascript:alert(1)",
        ] {
            assert!(!Place::follows(path), "{path}");
        }
    }
}
