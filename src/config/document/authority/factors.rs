//! `authority.factors` and what proofs are worth: `authority.acr`, and the same rule in a level.

use std::time::Duration;

use super::WebOrigin;
use crate::{
    config::{
        ClaimPath, Problem,
        decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section, words},
        quantity::Count,
        shape::{Shape, TextShape},
        text::{AssuranceValue, Name},
        yaml::{Entry, Node, Value},
    },
    policy::Factor,
};

section! {
    /// The factors that people can have. What is left out is off.
    "factors" Factors {
        /// Passkeys and security keys (WebAuthn): the only factor that answers to no page but yours.
        passkey: Option<Passkey>,
        /// Authenticator apps (RFC 6238).
        totp: Option<Totp>,
        /// Codes by e-mail. Needs `notify.mail`.
        email: Option<Email>,
        /// Codes through a webhook, for a provider of text messages.
        webhook: Option<Webhook>,
        /// Approvals on another device, through a webhook.
        push: Option<Push>,
        /// Recovery codes, for the day when all else is lost.
        recovery: Option<Recovery>,
    }
}

section! {
    /// Passkeys and security keys.
    "passkey" Passkey {
        /// The domain that passkeys are made for: the host of `url`, which is the default, or a domain above it. Passkeys cannot
        /// be moved to another.
        rp_id: Option<At<String>>,
        /// The name that people are shown; by default the host of `url`.
        rp_name: Option<At<String>>,
        /// Origins whose pages may use passkeys, besides `url`: at `rp_id` or below it.
        origins: Vec<At<WebOrigin>> = "[]",
        /// Whether the device must verify the person, by a PIN or a fingerprint.
        user_verification: At<UserVerification> = "required",
    }
}

/// Whether the device must verify the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum UserVerification {
    Required,
    Preferred,
}

words! { UserVerification, "a rule for user verification":
    "required" => Self::Required, "a passkey is two factors by itself";
    "preferred" => Self::Preferred, "a device that cannot verify the person is taken as well, as possession alone";
}

section! {
    /// Authenticator apps: codes of 30 seconds, with HMAC-SHA-1, as every app has them.
    "totp" Totp {
        /// What the app shows as the name of the service; by default the host of `url`.
        label: Option<At<Label>>,
        /// How many digits a code has: 6 or 8. Some apps only know 6.
        digits: At<Count<6, 8>> = "6",
        /// How many steps of 30 seconds before and after now are taken, for clocks that are off.
        skew: At<Count<0, 4>> = "1",
    }
}

section! {
    /// Codes by e-mail.
    "codes by e-mail" Email {
        /// Where a token has the address; without this key the person says it when enrolling, and proves it by a code.
        claim: Option<ClaimPath>,
        /// How long a code is good for, at most 30m.
        ttl: At<Duration> = "10m",
    }
}

section! {
    /// Codes through a webhook.
    "codes through a webhook" Webhook {
        /// The name under `notify.webhooks`.
        webhook: At<Name>,
        /// Where a token has the address or number; without this key the person says it when enrolling, and proves it by a code.
        claim: Option<ClaimPath>,
        /// How long a code is good for, at most 30m.
        ttl: At<Duration> = "5m",
    }
}

section! {
    /// Approvals through a webhook: the person sees a number here and chooses it there.
    "approvals" Push {
        /// The name under `notify.webhooks`.
        webhook: At<Name>,
        /// How long an approval is waited for, at most 30m.
        ttl: At<Duration> = "2m",
    }
}

section! {
    /// Recovery codes.
    "recovery" Recovery {
        /// How many a set has.
        codes: Count<4, 32> = "10",
    }
}

section! {
    /// What a proof takes. Every key that is given must hold; no key: any factor.
    "a rule for factors" RuleText {
        /// The factors of which one must be shown.
        factors: Option<NonEmpty<At<FactorText>>>,
        /// One that answers to no page but ours must be shown: a passkey.
        phishing_resistant: Option<At<bool>>,
        /// How many of knowledge, possession and inherence must be shown, the first factor's included.
        categories: Option<At<Count<1, 2>>>,
    }
}

/// A factor that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct FactorText(pub(in crate::config) Factor);

/// The factors that a level can name, and what they are.
const NAMED: [(Factor, &str); 7] = [
    (Factor::Passkey, "a passkey or security key"),
    (Factor::Totp, "a code of an authenticator app"),
    (Factor::Email, "a code by e-mail"),
    (Factor::Webhook, "a code through a webhook, by text message say"),
    (Factor::Push, "an approval on another device"),
    (Factor::Recovery, "a recovery code"),
    (Factor::Password, "the password of an account that the authority keeps"),
];

impl FromText for FactorText {
    const WHAT: &'static str = "a factor";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        Factor::from_name(text)
            .map(Self)
            .ok_or_else(|| crate::config::decode::unknown_word(text, &NAMED.map(|(factor, _)| factor.name())))
    }

    fn shape() -> Shape {
        Shape::Words(NAMED.iter().map(|(factor, about)| (factor.name(), *about)).collect())
    }
}

/// The name of a service in an authenticator app: the app parts it from the account by a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Label(pub(in crate::config) String);

impl FromText for Label {
    const WHAT: &'static str = "a name for authenticator apps";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > 64 || text.contains(':') || text.chars().any(char::is_control) {
            return Err(Refusal::because("it must have 1 to 64 bytes, no colon and no control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "label",
            about: "a text of up to 64 bytes, without a colon",
            pattern: Some("[^:]+"),
        })
    }
}

/// `acr` values and what each takes, in the order of the file.
#[derive(Debug, Clone)]
pub(in crate::config) struct WorthTable(pub(in crate::config) Vec<(At<AssuranceValue>, Option<RuleText>)>);

impl Decode for WorthTable {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let span = cx.span(node.place);
            if !matches!(node.value, Value::Faulty) {
                let problem = Problem::error(&span, "a section of `acr` values is expected here");
                cx.report(problem.with_help("write {urn:example:acr:mfa: {}}"));
            }
            return None;
        };
        let mut table = Vec::with_capacity(entries.len());
        for Entry { key, place, node, .. } in entries {
            let read = cx.within(key, |cx| {
                let span = cx.span(*place);
                let rule = RuleText::decode(node, cx);
                match AssuranceValue::from_text(key) {
                    Ok(value) => Some((At { value, span, shown: key.as_str().into() }, rule)),
                    Err(refusal) => {
                        let why = refusal.why.unwrap_or_default();
                        cx.report(Problem::error(&span, format!("this is not an `acr` value: {why}")));
                        None
                    }
                }
            });
            table.extend(read);
        }
        Some(Self(table))
    }

    fn substitute() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn shape() -> Shape {
        let key = Box::new(<AssuranceValue as FromText>::shape());
        Shape::Keyed { key, item: Box::new(RuleText::shape()) }
    }
}
