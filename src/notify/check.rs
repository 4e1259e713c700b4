//! What a message must be before it is taken into the outbox: what nobody could deliver is said to whoever sends it.

use lettre::Address;
use thiserror::Error;
use url::Host;

use super::{Channel, Message};

/// The longest address (RFC 5321 §4.5.3.1.3, less the angle brackets).
const ADDRESS_BYTES: usize = 254;
/// The longest subject line: a mail program shows a third of it.
const SUBJECT_BYTES: usize = 200;
/// The longest text, and the longest content: a notice is a page.
const CONTENT_BYTES: usize = 64 << 10;
/// The longest number and kind.
const NAME_BYTES: usize = 64;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EnqueueFault {
    /// As many messages wait for this channel as may: try again later.
    #[error("too many messages wait for this channel")]
    Full,
    /// The configuration has no such channel.
    #[error("the configuration has no such channel")]
    Unconfigured,
    /// It is not an address that mail can be sent to.
    #[error("this is not an address that mail can be sent to")]
    Address,
    /// It has passed its time already.
    #[error("the message has passed its time already")]
    Expired,
    /// Its number, kind, subject, text or content is not of a form, or larger, than can be sent.
    #[error("the message's {0} cannot be sent")]
    Content(&'static str),
}

/// Whether mail can be sent there: an ASCII mailbox at a domain, without a name.
pub fn is_address(text: &str) -> bool {
    address(text).is_some()
}

/// The address, its domain in ASCII.
pub(super) fn address(text: &str) -> Option<Address> {
    let (mailbox, domain) = text.rsplit_once('@')?;
    // Quoted mailboxes can hold anything, and what nobody has needs no parser.
    if text.len() > ADDRESS_BYTES || !mailbox.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
        return None;
    }
    let domain = match Host::parse(domain).ok()? {
        Host::Domain(domain) => domain,
        // An address without a name is nobody's mail server but a test's or an attacker's.
        Host::Ipv4(_) | Host::Ipv6(_) => return None,
    };
    Address::new(mailbox, domain).ok().filter(|address| AsRef::<str>::as_ref(address).len() <= ADDRESS_BYTES)
}

pub(super) fn check(message: &Message, now_secs: u64) -> Result<(), EnqueueFault> {
    // The number goes into a header and is signed with dots around it; the kind becomes a label of records.
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= NAME_BYTES
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let content = |good: bool, what| if good { Ok(()) } else { Err(EnqueueFault::Content(what)) };
    content(is_name(&message.id), "number")?;
    content(is_name(&message.kind), "kind")?;
    content(message.subject.len() <= SUBJECT_BYTES && !message.subject.chars().any(char::is_control), "subject")?;
    content(message.text.len() <= CONTENT_BYTES, "text")?;
    content(message.text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')), "text")?;
    content(serde_json::to_vec(&message.data).is_ok_and(|json| json.len() <= CONTENT_BYTES), "content")?;
    if let Channel::Mail { to } = &message.channel {
        address(to).ok_or(EnqueueFault::Address)?;
        content(!message.subject.is_empty(), "subject")?;
        content(!message.text.is_empty(), "text")?;
    }
    if message.expires_at <= now_secs { Err(EnqueueFault::Expired) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            id: "msg_1".into(),
            channel: Channel::Mail { to: "ann@example.com".into() },
            kind: "code".into(),
            subject: "Your code".into(),
            text: "123456".into(),
            data: serde_json::Value::Null,
            expires_at: 10,
        }
    }

    #[test]
    fn addresses_are_one_mailbox_at_one_domain() {
        for good in ["ann@example.com", "a.b+c@sub.example.com", "a@example", "o'neil@example.com"] {
            assert!(is_address(good), "{good}");
        }
        assert_eq!(address("ann@bücher.example").unwrap().to_string(), "ann@xn--bcher-kva.example");
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example.com\r\nBcc: eve@example.com",
            "ann@example.com\nRCPT TO:<eve@example.com>",
            "ann\r\n@example.com",
            "ann@example.com>, <eve@example.com",
            "ann@example.com,eve@example.com",
            "ann@example.com eve@example.com",
            "Ann <ann@example.com>",
            "\"ann\r\nX: y\"@example.com",
            "\"a b\"@example.com",
            "ann@[127.0.0.1]",
            "ann@127.0.0.1",
            "änn@example.com",
            " ann@example.com",
            "ann@example.com ",
            "ann@exa mple.com",
            "ann@example.com/x",
            "ann@example.com\0",
            &long,
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_nobody_could_deliver_is_not_taken() {
        let fault = |change: &dyn Fn(&mut Message)| {
            let mut changed = message();
            change(&mut changed);
            check(&changed, 5)
        };
        assert_eq!(fault(&|_| ()), Ok(()));
        assert_eq!(fault(&|it| it.expires_at = 5), Err(EnqueueFault::Expired));
        assert_eq!(fault(&|it| it.channel = Channel::Mail { to: "ann".into() }), Err(EnqueueFault::Address));
        assert_eq!(fault(&|it| it.subject = "a\r\nBcc: eve@example.com".into()), Err(EnqueueFault::Content("subject")));
        assert_eq!(fault(&|it| it.subject = "a".repeat(201)), Err(EnqueueFault::Content("subject")));
        assert_eq!(fault(&|it| it.subject = String::new()), Err(EnqueueFault::Content("subject")));
        assert_eq!(fault(&|it| it.text = "a\u{1b}[2J".into()), Err(EnqueueFault::Content("text")));
        assert_eq!(fault(&|it| it.text = "a".repeat(70_000)), Err(EnqueueFault::Content("text")));
        assert_eq!(fault(&|it| it.data = "a".repeat(70_000).into()), Err(EnqueueFault::Content("content")));
        assert_eq!(fault(&|it| it.id = "a.b".into()), Err(EnqueueFault::Content("number")));
        assert_eq!(fault(&|it| it.id = "a\r\nb".into()), Err(EnqueueFault::Content("number")));
        assert_eq!(fault(&|it| it.kind = "a b".into()), Err(EnqueueFault::Content("kind")));
    }
}
