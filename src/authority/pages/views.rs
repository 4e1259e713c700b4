//! What each page shows, for its template. Templates escape all text; nothing here is HTML.

use askama::Template;

use super::frame::Frame;
use crate::{endpoint::At, policy::Factor};

/// What a factor is called on the pages, and a line about it.
pub(super) fn called(factor: Factor) -> (&'static str, &'static str) {
    match factor {
        Factor::Password => ("Password", "Something that you know"),
        Factor::Passkey => ("Passkey", "Your device, or a security key. The safest way, and the quickest"),
        Factor::Totp => ("Authenticator app", "An app on your phone that shows a code"),
        Factor::Email => ("Code by e-mail", "We send a code to your mail address"),
        Factor::Webhook => ("Code by message", "We send a code to your phone"),
        Factor::Push => ("Approval on another device", "You choose a number on your phone"),
        Factor::Recovery => ("Recovery code", "One of the codes that you kept"),
    }
}

#[derive(Template)]
#[template(path = "explain.html")]
pub(super) struct Explain<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) lead: &'a str,
    pub(super) steps: &'a [&'a str],
    pub(super) go: Option<(&'a str, String)>,
    pub(super) request_id: &'a str,
}

#[derive(Template)]
#[template(path = "prove.html")]
pub(super) struct Prove<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) lead: &'a str,
    /// Who asks, and for what.
    pub(super) asked: Vec<(&'a str, String)>,
    pub(super) ceremony: &'a str,
    /// Where it is sent, below the base.
    pub(super) action: &'a str,
    /// Where another factor is asked for.
    pub(super) send: &'a str,
    /// What the forms carry along.
    pub(super) kept: Vec<(&'a str, &'a str)>,
    /// WebAuthn's options.
    pub(super) passkey: Option<String>,
    /// Whether a code may be typed.
    pub(super) code: bool,
    pub(super) code_label: &'a str,
    pub(super) code_hint: String,
    pub(super) sent_to: Option<&'a str>,
    pub(super) number: Option<&'a str>,
    pub(super) others: Vec<Choice>,
    pub(super) recovery: bool,
}

/// A factor that may be chosen.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) factor: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) needs_address: bool,
}

impl Choice {
    pub(super) fn of(factor: Factor, needs_address: bool) -> Self {
        let (title, about) = called(factor);
        Self { factor: factor.name(), title, about, needs_address }
    }
}

#[derive(Template)]
#[template(path = "done.html")]
pub(super) struct Done<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) lead: &'a str,
    pub(super) code: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "factors.html")]
pub(super) struct FactorList<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) factors: Vec<FactorRow<'a>>,
    /// How many recovery codes are left, where there are any.
    pub(super) recovery: Option<usize>,
}

/// A factor in the list.
pub(super) struct FactorRow<'a> {
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) kind: &'static str,
    pub(super) created: At,
    pub(super) used: Option<At>,
    /// From when on it may delete something, if that is still to come.
    pub(super) waits: Option<At>,
    pub(super) suspect: bool,
}

#[derive(Template)]
#[template(path = "add.html")]
pub(super) struct Add<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) choices: Vec<Choice>,
}

/// A page with one form of fields to fill in.
#[derive(Template)]
#[template(path = "ask.html")]
pub(super) struct Ask<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) lead: &'a str,
    /// Who asks.
    pub(super) asked: Option<&'a str>,
    /// Where it is sent, below the base.
    pub(super) action: &'a str,
    /// What the form carries along.
    pub(super) kept: Vec<(&'a str, &'a str)>,
    pub(super) fields: Vec<AskField<'a>>,
    /// The field that has the focus.
    pub(super) focus: &'a str,
    pub(super) button: &'a str,
    /// Other ways, below the base.
    pub(super) links: Vec<(&'a str, String)>,
}

/// A field to fill in.
pub(super) struct AskField<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    pub(super) hint: &'a str,
    pub(super) kind: &'a str,
    pub(super) autocomplete: &'a str,
    pub(super) value: &'a str,
    pub(super) required: bool,
    /// Whether it is there to be read alone.
    pub(super) fixed: bool,
}

#[derive(Template)]
#[template(path = "sessions.html")]
pub(super) struct Sessions<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) sessions: Vec<SessionRow<'a>>,
}

/// A session in the list.
pub(super) struct SessionRow<'a> {
    pub(super) sid: &'a str,
    pub(super) client: &'a str,
    pub(super) created: At,
    pub(super) renewed: At,
    pub(super) until: At,
}

#[derive(Template)]
#[template(path = "address.html")]
pub(super) struct Address<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) factor: &'a str,
    pub(super) label: &'a str,
    pub(super) hint: &'a str,
    pub(super) input: &'a str,
    pub(super) autocomplete: &'a str,
}

#[derive(Template)]
#[template(path = "invitation.html")]
pub(super) struct InvitationAsked<'a> {
    pub(super) frame: Frame<'a>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) ceremony: &'a str,
    pub(super) factor: &'a str,
    pub(super) passkey: Option<String>,
    /// The QR code: SVG in base64.
    pub(super) qr: Option<String>,
    pub(super) secret: Option<&'a str>,
    pub(super) sent_to: Option<&'a str>,
    pub(super) number: Option<&'a str>,
    pub(super) hint: String,
}

#[derive(Template)]
#[template(path = "codes.html")]
pub(super) struct Codes<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) codes: &'a [String],
    pub(super) next: &'a str,
}

#[derive(Template)]
#[template(path = "rename.html")]
pub(super) struct Rename<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) id: &'a str,
    pub(super) label: &'a str,
}

#[derive(Template)]
#[template(path = "remove.html")]
pub(super) struct Remove<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) id: &'a str,
    pub(super) label: &'a str,
    pub(super) last: bool,
    /// Whether another first factor takes an invitation.
    pub(super) invited: bool,
}

#[derive(Template)]
#[template(path = "renew.html")]
pub(super) struct Renew<'a> {
    pub(super) frame: Frame<'a>,
}

#[derive(Template)]
#[template(path = "activity.html")]
pub(super) struct Activity<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) elevations: Vec<ElevationRow>,
    pub(super) until: At,
}

/// An elevation in the list.
pub(super) struct ElevationRow {
    pub(super) level: String,
    pub(super) factors: String,
    pub(super) since: At,
    pub(super) until: At,
}

#[derive(Template)]
#[template(path = "push.html")]
pub(super) struct PushAsked<'a> {
    pub(super) frame: Frame<'a>,
    /// What is asked, from where, and when.
    pub(super) details: Vec<(&'a str, String)>,
    pub(super) token: &'a str,
    /// What to choose from.
    pub(super) numbers: &'a [String],
}
