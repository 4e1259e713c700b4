//! One attempt at each channel.

use super::*;

async fn sent(channels: &Channels, message: Message) -> Delivery {
    let now = SystemClock.now();
    channels.deliver(&Waiting { at: now.unix_secs(), message }, now).await
}

fn mail_at(scheme: &str, server: &MailServer, more: &str) -> Channels {
    channels(&format!(
        "  mail: {{server: \"{scheme}://127.0.0.1:{}\", from: \"Gate <gate@example.com>\"{more}}}",
        server.port
    ))
}

fn with_login(certificates: &Certificates) -> String {
    format!(", username: gateway, password: mail-password, ca: {}", certificates.path("ca.pem").display())
}

const CLEARTEXT: &str = ", danger_cleartext: true";

/// What the operator reads of a failure, which never has the address, the code or a secret.
fn why(delivery: &Delivery) -> &str {
    let (Delivery::Later(why) | Delivery::Refused(why)) = delivery else { panic!("it was delivered") };
    for secret in [ADDRESS, "ann.private", CODE, "mail-password", "MfKQ9r8G"] {
        assert!(!why.contains(secret), "{why}");
    }
    why
}

fn is_later(delivery: &Delivery, reason: &str) {
    assert!(matches!(delivery, Delivery::Later(_)) && why(delivery).contains(reason), "{delivery:?}");
}

#[tokio::test]
async fn mail_goes_by_starttls_or_tls_with_a_login_and_says_what_it_was_told() {
    let certificates = Certificates::new();
    for (mode, scheme) in [("starttls", "smtp"), ("tls", "smtps")] {
        let server = MailServer::start(mode, &certificates);
        let channels = mail_at(scheme, &server, &with_login(&certificates));
        let message = to_mail(300);
        let id = message.id.clone();
        let delivery = sent(&channels, message).await;
        assert!(matches!(delivery, Delivery::Delivered), "{mode}: {delivery:?}");
        let mail = server.takes(1).await.remove(0);
        assert_eq!(mail["from"], "gate@example.com");
        assert_eq!(mail["to"], json!([ADDRESS]));
        assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!("gateway")), "{mode}");
        assert_eq!(mail["hello"], "example.com");
        let text = mail["text"].as_str().unwrap();
        assert!(text.contains(&format!("Message-ID: <{id}@example.com>\r\n")), "{text}");
        assert!(text.contains("Auto-Submitted: auto-generated\r\n") && text.contains(CODE), "{text}");
        assert!(text.contains("=C3=BC") && text.contains("\r\n.\r\nRCPT TO:<eve@example.com>\r\n"), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_cannot_prove_who_it_is() {
    let certificates = Certificates::new();
    let login = ", username: gateway, password: mail-password";
    for (mode, scheme) in [("starttls", "smtp"), ("tls", "smtps")] {
        let server = MailServer::start(mode, &certificates);
        is_later(&sent(&mail_at(scheme, &server, login), to_mail(300)).await, "TLS to the mail server");
        let other = Certificates::new();
        is_later(&sent(&mail_at(scheme, &server, &with_login(&other)), to_mail(300)).await, "TLS to the mail server");
        assert!(server.received().is_empty());
    }
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_unless_the_configuration_says_so() {
    let certificates = Certificates::new();
    let server = MailServer::start("plain", &certificates);
    is_later(&sent(&mail_at("smtp", &server, ""), to_mail(300)).await, "offers no STARTTLS");
    assert!(server.received().is_empty());
    assert!(matches!(sent(&mail_at("smtp", &server, CLEARTEXT), to_mail(300)).await, Delivery::Delivered));
    assert_eq!(server.takes(1).await[0]["tls"], false);
}

#[tokio::test]
async fn what_is_said_before_tls_counts_for_nothing_afterwards() {
    let certificates = Certificates::new();
    let server = MailServer::start("inject", &certificates);
    let delivery = sent(&mail_at("smtp", &server, &with_login(&certificates)), to_mail(300)).await;
    is_later(&delivery, "more came than the mail server was asked for");
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_since_it_is_no_fault_of_the_message() {
    let certificates = Certificates::new();
    let server = MailServer::start("starttls", &certificates);
    let more = with_login(&certificates).replace("mail-password", "wrong");
    is_later(&sent(&mail_at("smtp", &server, &more), to_mail(300)).await, "refused the login: 535");
}

#[tokio::test]
async fn what_a_server_refuses_for_good_is_not_tried_again() {
    let certificates = Certificates::new();
    for (mode, stage) in [("refuse", "the recipient: 550"), ("spam", "the message: 554")] {
        let server = MailServer::start(mode, &certificates);
        let delivery = sent(&mail_at("smtp", &server, CLEARTEXT), to_mail(300)).await;
        assert!(matches!(delivery, Delivery::Refused(_)) && why(&delivery).contains(stage), "{delivery:?}");
    }
    for (mode, stage) in [("sender", "the sender: 553"), ("busy", "the recipient: 451"), ("defer", "the message: 451")]
    {
        let server = MailServer::start(mode, &certificates);
        is_later(&sent(&mail_at("smtp", &server, CLEARTEXT), to_mail(300)).await, stage);
    }
}

#[tokio::test]
async fn a_server_that_hangs_or_closes_is_left_in_time() {
    let certificates = Certificates::new();
    for (mode, reason) in
        [("hang", "took longer than 300ms"), ("late", "took longer than 300ms"), ("close", "the greeting")]
    {
        let server = MailServer::start(mode, &certificates);
        let channels = mail_at("smtp", &server, &format!("{CLEARTEXT}, timeout: 300ms"));
        is_later(&sent(&channels, to_mail(300)).await, reason);
        let channels = mail_at("smtp", &server, ", timeout: 300ms");
        assert!(matches!(sent(&channels, to_mail(300)).await, Delivery::Later(_)), "{mode}");
    }
}

fn hooks(entries: &str) -> Channels {
    channels(&format!("  webhooks:\n{entries}"))
}

fn hook(name: &str, url: &str, more: &str) -> String {
    format!("    {name}: {{url: \"{url}\", secret: \"{SECRET}\"{more}}}\n")
}

#[tokio::test]
async fn a_webhook_is_signed_so_that_the_reference_library_verifies_it() {
    let certificates = Certificates::new();
    for tls in [false, true] {
        let receiver = Receiver::start(Mood::Status(204), tls.then_some(&certificates)).await;
        let (scheme, ca) = match tls {
            true => ("https", format!(", ca: {}", certificates.path("ca.pem").display())),
            false => ("http", String::new()),
        };
        let url = format!("{scheme}://127.0.0.1:{}/hook?x=1", receiver.port);
        let more = format!("{ca}, previous_secret: \"{OLD_SECRET}\"");
        let message = to_hook("notify", 300);
        let delivery = sent(&hooks(&hook("notify", &url, &more)), message.clone()).await;
        assert!(matches!(delivery, Delivery::Delivered), "{delivery:?}");
        let call = receiver.gets(1).await.remove(0);
        assert_eq!((call.path.as_str(), call.header("content-type")), ("/hook", "application/json"));
        assert_eq!(call.header("webhook-id"), message.id);
        let body = call.json();
        assert_eq!((&body["id"], &body["type"], &body["data"]), (&json!(message.id), &json!("code"), &message.data));
        let time: jiff::Timestamp = body["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second().abs_diff(call.header("webhook-timestamp").parse::<i64>().unwrap()) <= 2);
        assert_eq!(call.verified(SECRET), "good");
        assert_eq!(call.verified(OLD_SECRET), "good", "the one before, until every receiver knows the new one");
        assert!(call.verified("whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB").starts_with("bad"));
        let forged = receiver::Call { body: call.body.replace(CODE, "000000"), ..call };
        assert!(forged.verified(SECRET).starts_with("bad"));
    }
}

#[tokio::test]
async fn a_webhook_has_got_a_message_only_if_it_says_so_itself() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let channels = hooks(&hook("notify", &format!("http://127.0.0.1:{}/", receiver.port), ", timeout: 500ms"));
    for (mood, reason) in [
        (Mood::Status(500), "answered 500"),
        (Mood::Status(404), "answered 404"),
        (Mood::Status(410), "answered 410"),
        (Mood::Redirect, "answered 307"),
        (Mood::Endless, "speaking HTTP"),
        (Mood::Hang, "no answer within 500ms"),
    ] {
        receiver.answer_with(mood);
        is_later(&sent(&channels, to_hook("notify", 300)).await, reason);
    }
    assert!(receiver.calls().iter().all(|call| call.path == "/"), "a redirect is not followed");
    for mood in [Mood::Status(200), Mood::Status(204), Mood::Flood] {
        receiver.answer_with(mood);
        assert!(matches!(sent(&channels, to_hook("notify", 300)).await, Delivery::Delivered), "{mood:?}");
    }
}

#[tokio::test]
async fn a_webhook_that_cannot_prove_who_it_is_is_told_nothing() {
    let certificates = Certificates::new();
    let receiver = Receiver::start(Mood::Status(200), Some(&certificates)).await;
    let channels = hooks(&hook("notify", &format!("https://127.0.0.1:{}/", receiver.port), ""));
    is_later(&sent(&channels, to_hook("notify", 300)).await, "TLS");
    assert!(receiver.calls().is_empty());
}

#[test]
fn secrets_codes_and_addresses_are_not_in_what_is_printed() {
    let notify = format!(
        "  mail: {{server: \"smtps://mail.example\", username: gateway, password: mail-password, from: {ADDRESS}}}\n  webhooks:\n{}",
        hook("notify", "https://hooks.example/", "")
    );
    let printed = format!(
        "{:?} {:?} {:?} {:?}",
        channels(&notify),
        to_mail(300),
        to_hook("notify", 300),
        configured(&notify).notify
    );
    for secret in [ADDRESS, "ann.private", CODE, "mail-password", "MfKQ9r8G"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn secrets_that_cannot_be_used_are_problems_at_their_place() {
    let compiled = |notify: &str| {
        let config = configured(notify);
        let problems =
            Channels::compile(config.notify.as_deref(), &Disk, &crate::client::MachineRoots::nobody()).unwrap_err();
        problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    assert_eq!(
        compiled(
            "  webhooks:\n    a: {url: \"https://a.example/\", secret: hunter2}\n    b: {url: \"https://b.example/\", secret: {file: /nowhere/b}}"
        ),
        [
            "a webhook's secret is base64 of 24 to 64 bytes",
            "cannot read /nowhere/b: No such file or directory (os error 2)"
        ]
    );
    assert_eq!(
        compiled("  mail: {server: \"smtps://mail.example\", from: a@example.com, ca: /nowhere/ca.pem}"),
        ["cannot read /nowhere/ca.pem: No such file or directory (os error 2)"]
    );
}

/// The first block of this language in the page that receivers read.
fn snippet(language: &str) -> String {
    let page = include_str!("../../../docs/notify.md");
    let (_, block) = page.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn what_the_documentation_gives_receivers_verifies_a_message_and_no_forged_one() {
    let receiver = Receiver::start(Mood::Status(200), None).await;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let channels = hooks(&hook("notify", &url, &format!(", previous_secret: \"{OLD_SECRET}\"")));
    assert!(matches!(sent(&channels, to_hook("notify", 300)).await, Delivery::Delivered));
    let call = receiver.gets(1).await.remove(0);
    let stale = (SystemClock.now().unix_secs() - 301).to_string();
    let forged = call.body.replace(CODE, "000000");
    let stamp = call.header("webhook-timestamp");
    let other = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
    let folder = tempfile::tempdir().unwrap();
    for (secret, stamp, body, good) in [
        (SECRET, stamp, &call.body, true),
        (OLD_SECRET, stamp, &call.body, true),
        (other, stamp, &call.body, false),
        (SECRET, &stale, &call.body, false),
        (SECRET, stamp, &forged, false),
    ] {
        std::fs::write(folder.path().join("body"), body).unwrap();
        let run = |program: &str, script: &str| {
            let mut command = std::process::Command::new(program);
            command.args(["-c", script]).current_dir(folder.path());
            command.env("secret", secret).env("id", call.header("webhook-id")).env("stamp", stamp);
            command.env("signature", call.header("webhook-signature")).output().unwrap().status.code()
        };
        let python = format!(
            "{}\nimport os, sys\ne = os.environ\nheaders = {{'webhook-id': e['id'], 'webhook-timestamp': e['stamp'], \
             'webhook-signature': e['signature']}}\nsys.exit(0 if verified(e['secret'], headers, open('body', 'rb').read()) else 1)",
            snippet("python")
        );
        assert_eq!(run("python3", &python), Some(i32::from(!good)), "python: {secret} {stamp} {body}");
        assert_eq!(run("sh", &snippet("sh")), Some(i32::from(!good)), "sh: {secret} {stamp} {body}");
    }
}
