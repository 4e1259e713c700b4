//! The pages, rendered: what each must have whatever it shows.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use askama::Template;

use super::{assets::SCRIPT, frame::Frame, views::*};
use crate::{
    endpoint::{At, STYLE},
    policy::Factor,
};

const EVIL: &str = "\"><script>alert(1)</script>'&";

fn frame() -> Frame<'static> {
    Frame {
        base: "/stepgate",
        service: "Example Bank",
        who: Some("anna@example.com"),
        account: false,
        token: "0123456789".to_owned(),
        here: "factors",
        problem: None,
        good: None,
        style: &STYLE,
        script: &SCRIPT,
    }
}

/// Every page, with text that tries to be more than text wherever text comes from outside.
fn pages(text: &'static str) -> Vec<(&'static str, String)> {
    let at = || At::secs(1_790_000_000);
    let problem = || Frame { problem: Some(super::frame::NOT_ACCEPTED), ..frame() };
    let row = |label: &'static str, kind| FactorRow {
        id: "f1",
        label,
        kind: called(kind).0,
        created: at(),
        used: Some(at()),
        waits: None,
        suspect: false,
    };
    let choices =
        || vec![Choice::of(Factor::Passkey, false), Choice::of(Factor::Totp, false), Choice::of(Factor::Email, true)];
    let codes: Vec<String> = (0..10).map(|n| format!("k7hd-{n}m2x-9qpw-tz4c")).collect();
    let prove = || Prove {
        frame: frame(),
        title: "Confirm that it is you",
        lead: "Something important is to be done in your name. It takes a second factor.",
        asked: vec![("Asked by", text.to_owned()), ("For", "strong".to_owned())],
        ceremony: "c1",
        action: "/prove",
        send: "/prove/send",
        kept: vec![("then", text)],
        passkey: Some(format!("{{\"challenge\":\"{text}\"}}")),
        code: true,
        code_label: "Code from your authenticator app",
        code_hint: "The app shows it; it changes every half minute.".to_owned(),
        sent_to: None,
        number: None,
        others: vec![Choice::of(Factor::Email, false)],
        recovery: true,
    };
    let confirm = || Confirm {
        frame: frame(),
        title: "Set up your authenticator app",
        ceremony: "c1",
        factor: "totp",
        passkey: None,
        qr: Some("PHN2Zy8+".to_owned()),
        secret: Some("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"),
        sent_to: None,
        number: None,
        hint: "The app shows it, and a new one every half minute.".to_owned(),
    };
    let evil = || Frame { who: Some(text), service: text, ..frame() };
    vec![
        (
            "explain",
            Explain {
                frame: Frame { who: None, ..frame() },
                title: "Open this from your app",
                lead: "These pages open from the app.",
                steps: &["Go back.", "Try again."],
                go: None,
                request_id: text,
            }
            .render()
            .unwrap(),
        ),
        ("prove", prove().render().unwrap()),
        ("prove-wrong", Prove { frame: problem(), passkey: None, ..prove() }.render().unwrap()),
        (
            "prove-push",
            Prove { number: Some("47"), sent_to: Some(text), passkey: None, code: false, ..prove() }.render().unwrap(),
        ),
        (
            "done",
            Done { frame: frame(), title: "Thank you", lead: "It was you. One thing is left to do.", code: Some(text) }
                .render()
                .unwrap(),
        ),
        (
            "factors",
            FactorList {
                frame: Frame { good: Some("It was added."), ..evil() },
                factors: vec![
                    row(text, Factor::Passkey),
                    FactorRow { waits: Some(at()), ..row("Phone", Factor::Totp) },
                    FactorRow { suspect: true, used: None, ..row("Old key", Factor::Passkey) },
                ],
                recovery: Some(8),
            }
            .render()
            .unwrap(),
        ),
        ("factors-none", FactorList { frame: frame(), factors: vec![], recovery: None }.render().unwrap()),
        ("add", Add { frame: frame(), choices: choices() }.render().unwrap()),
        (
            "address",
            Address {
                frame: frame(),
                title: "Code by e-mail",
                factor: "email",
                label: "Mail address",
                hint: "Codes are sent there.",
                input: "email",
                autocomplete: "email",
            }
            .render()
            .unwrap(),
        ),
        (
            "sign-in",
            Ask {
                frame: Frame { who: None, ..problem() },
                title: "Sign in",
                lead: "With your account.",
                asked: Some(text),
                action: "/sign-in",
                kept: vec![("state", text)],
                fields: vec![AskField {
                    name: "name",
                    label: "Name or mail address",
                    hint: "",
                    kind: "text",
                    autocomplete: "username",
                    value: text,
                    required: true,
                    fixed: false,
                }],
                focus: "name",
                button: "Sign in",
                links: vec![("Forgot your password?", "/recover".to_owned())],
            }
            .render()
            .unwrap(),
        ),
        (
            "sessions",
            Sessions {
                frame: Frame { here: "sessions", account: true, ..frame() },
                sessions: vec![SessionRow { sid: text, client: text, created: at(), renewed: at(), until: at() }],
            }
            .render()
            .unwrap(),
        ),
        ("invitation", InvitationAsked { frame: frame() }.render().unwrap()),
        ("confirm-totp", confirm().render().unwrap()),
        (
            "confirm-passkey",
            Confirm { passkey: Some(text.to_owned()), qr: None, secret: None, title: "Make a passkey", ..confirm() }
                .render()
                .unwrap(),
        ),
        ("codes", Codes { frame: frame(), codes: &codes, next: "/" }.render().unwrap()),
        (
            "push",
            PushAsked {
                frame: Frame { who: None, ..frame() },
                details: vec![("For", text.to_owned())],
                token: text,
                numbers: &["13".to_owned(), "47".to_owned(), "92".to_owned()],
            }
            .render()
            .unwrap(),
        ),
        ("rename", Rename { frame: frame(), id: "f1", label: text }.render().unwrap()),
        ("remove", Remove { frame: frame(), id: "f1", label: text, last: true, invited: true }.render().unwrap()),
        ("renew", Renew { frame: frame() }.render().unwrap()),
        (
            "activity",
            Activity {
                frame: Frame { here: "activity", ..frame() },
                elevations: vec![ElevationRow {
                    level: text.to_owned(),
                    factors: "Passkey".to_owned(),
                    since: at(),
                    until: at(),
                }],
                until: at(),
            }
            .render()
            .unwrap(),
        ),
    ]
}

#[test]
fn what_comes_from_outside_is_text_on_every_page() {
    for (name, page) in pages(EVIL) {
        assert!(!page.contains("<script>"), "{name}");
        assert!(!page.contains("alert(1)</"), "{name}");
    }
}

#[test]
fn every_page_has_what_a_screen_reader_needs_and_no_style_or_script_in_it() {
    for (name, page) in pages("Anna") {
        if let Ok(dir) = std::env::var("PREVIEW") {
            std::fs::write(format!("{dir}/{name}.html"), &page).unwrap();
        }
        assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}");
        assert_eq!(page.matches("<h1").count(), 1, "{name}");
        assert_eq!(page.matches("<main").count(), 1, "{name}");
        assert!(page.matches("autofocus").count() <= 1, "{name}");
        assert!(!page.contains(" style=") && !page.contains(" onclick") && !page.contains("<style"), "{name}");
        assert_eq!(page.matches("<script").count(), page.matches("integrity=\"sha384-").count() - 1, "{name}");
        for form in page.split("<form").skip(1) {
            let form = form.split("</form>").next().unwrap();
            assert!(form.contains("method=\"post\""), "{name}");
            assert!(name == "push" || form.contains("name=\"token\""), "{name}");
        }
        for input in page.split("<input").skip(1) {
            let input = input.split('>').next().unwrap();
            let id = input.split(" id=\"").nth(1).and_then(|rest| rest.split('"').next());
            assert!(
                input.contains("type=\"hidden\"") || page.contains(&format!("<label for=\"{}\"", id.unwrap())),
                "{name}: {input}"
            );
        }
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_a_page_that_says_so_and_nothing_more() {
    let bench = crate::authority::testing::Bench::new();
    let fault = crate::authority::Fault::Store(crate::store::StoreFault::Unavailable("/var/lib/secret.db".to_owned()));
    let answer = super::Pages::of(&bench.authority).fault_page(&fault, None, "r-1");
    assert_eq!(answer.response.status(), 503);
    assert!(answer.response.headers().contains_key("retry-after"));
    let page = String::from_utf8(answer.response.body().to_vec()).unwrap();
    assert!(page.contains("Nothing was changed.") && page.contains("r-1") && !page.contains("secret"), "{page}");
}
