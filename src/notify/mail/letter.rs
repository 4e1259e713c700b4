//! A message as mail (RFC 5322): plain text in UTF-8, for one recipient, with a Message-ID that a repetition has again, and a
//! word to auto-responders (RFC 3834 §5). No pictures, no links of its own, nothing that tells who read it.

use std::time::{Duration, UNIX_EPOCH};

use lettre::{
    Address, Message as Letter,
    message::{
        Mailbox, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use crate::notify::message::Waiting;

/// The latest `Date`: the year 9999 ends there, and with it what RFC 5322 can say.
const LATEST: u64 = 253_402_300_799;

/// Writes the letter; `None` if it cannot be.
pub(super) fn write(waiting: &Waiting, from: &Mailbox, to: &Address) -> Option<Vec<u8>> {
    let message = &waiting.message;
    // The library cannot write these in a name, and panics. The configuration has none, and this does not rely on it.
    if from.name.iter().any(|name| name.chars().any(char::is_control)) {
        return None;
    }
    // A lone CR is no end of a line (RFC 5322 §2.3), and the library would send it as it is.
    let text = message.text.replace("\r\n", "\n").replace('\r', "\n");
    let mut letter = Letter::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(message.subject.clone())
        .date(UNIX_EPOCH + Duration::from_secs(waiting.at.min(LATEST)))
        .message_id(Some(format!("<{}@{}>", message.id, from.email.domain())))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text))
        .ok()?;
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    letter.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Some(letter.formatted())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::{Channel, Message};

    fn letter(from: &str, subject: &str, text: &str) -> Option<String> {
        let message = Message {
            id: "msg_1".into(),
            channel: Channel::Mail { to: "ann@example.com".into() },
            kind: "code".into(),
            subject: subject.into(),
            text: text.into(),
            data: serde_json::Value::Null,
            expires_at: 2_000_000_000,
        };
        let from = Mailbox::new(Some(from.to_owned()), "gate@example.com".parse().unwrap());
        let waiting = Waiting { at: 1_795_315_217, message };
        let to = "ann@example.com".parse().unwrap();
        write(&waiting, &from, &to).map(|letter| String::from_utf8(letter).unwrap())
    }

    fn fields(letter: &str) -> Vec<String> {
        let (head, _) = letter.split_once("\r\n\r\n").unwrap();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.split("\r\n").map(|line| line.split_once(':').unwrap().0.to_ascii_lowercase()).collect()
    }

    const FIELDS: [&str; 9] = [
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "auto-submitted",
    ];

    fn has_exactly_its_fields(letter: &str) -> bool {
        let mut found = fields(letter);
        let mut wanted = FIELDS.map(str::to_owned).to_vec();
        found.sort();
        wanted.sort();
        found == wanted
    }

    #[test]
    fn a_letter_says_whom_it_is_from_and_that_a_machine_wrote_it() {
        let letter = letter("Gate", "Your code", "It is 123456.\n").unwrap();
        for line in [
            "From: Gate <gate@example.com>\r\n",
            "To: ann@example.com\r\n",
            "Subject: Your code\r\n",
            "Message-ID: <msg_1@example.com>\r\n",
            "Date: Sun, 22 Nov 2026 02:40:17 +0000\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "It is 123456.\r\n",
        ] {
            assert!(letter.contains(line), "{line:?} is not in {letter}");
        }
    }

    #[test]
    fn a_line_break_in_a_subject_or_a_name_makes_no_field() {
        let injected = "x\r\nBcc: eve@example.com\r\n\r\nbody";
        assert_eq!(letter(injected, "s", "t"), None);
        for letter in [letter("n", injected, "t"), letter("n", "s", injected)] {
            let letter = letter.unwrap();
            assert!(has_exactly_its_fields(&letter), "{letter}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_a_letter_has_its_fields_and_no_others(from in ".{0,40}", subject in "(?s).{0,80}", text in "(?s).{0,200}") {
            let Some(letter) = letter(&from, &subject, &text) else {
                prop_assert!(from.chars().any(char::is_control));
                return Ok(());
            };
            prop_assert!(has_exactly_its_fields(&letter), "{letter:?}");
            prop_assert!(letter.is_ascii());
            prop_assert!(!letter.replace("\r\n", "").contains(['\r', '\n']));
        }
    }
}
