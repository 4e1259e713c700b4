//! The room as a whole, with real keys and a provider on a real socket: up, down, slow, lying and rotating.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Accepted, Kinds, RefreshOutcome,
    testing::{ISSUER, MadeUp, Provider, Reply, Signer, claims, compile, inline, issuer, now, services, set_of, start},
    tokens::Tokens,
};
use crate::{
    clock::Now,
    config::{File, Issuer, KeySource, SecretEncoding, Span},
    jose::{Algorithm, VerifyingKey},
    policy::{Credential, Principal, Reason},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn judge(authenticator: &Tokens, token: &str, now: Now) -> Result<Arc<Principal>, Reason> {
    match authenticator.authenticate(token.as_bytes(), &Accepted::default(), now).await {
        Credential::Valid(principal) => Ok(principal),
        Credential::Invalid(reason) => Err(reason),
        Credential::Unavailable { reason, retry_after_secs } => {
            assert!(reason == Reason::KeysUnavailable && (1..=60).contains(&retry_after_secs), "{retry_after_secs}");
            Err(reason)
        }
        Credential::Absent => panic!("a token was sent"),
    }
}

fn public_key(signer: &Signer) -> KeySource {
    KeySource::PublicKey(inline(signer.jwk().to_string()))
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

// -- judging a token

#[tokio::test]
async fn every_algorithm_verifies_with_its_own_key_and_not_with_a_list_that_lacks_it() {
    let now = now();
    for one in Algorithm::ALL {
        let signer = Signer::new(one, "k");
        let keys = match one.secret_bytes() {
            None => public_key(&signer),
            Some(_) => KeySource::Secret { source: inline([7; 64]), encoding: SecretEncoding::Raw },
        };
        let mut issuer = issuer("main", keys);
        issuer.algorithms = one.into();
        let token = signer.token(&claims(now));
        let (authenticator, _) = start(std::slice::from_ref(&issuer));
        assert_eq!(&*judge(&authenticator, &token, now).await.unwrap().subject, "alice", "{}", one.name());

        let forged = signer.token_with(&json!({"alg": "none", "typ": "JWT"}), &claims(now));
        assert_eq!(judge(&authenticator, &forged, now).await, Err(Reason::TokenAlgorithm), "{}", one.name());
        let other = Signer::new(one, "k");
        if one.secret_bytes().is_none() {
            let stranger = other.token(&claims(now));
            assert_eq!(judge(&authenticator, &stranger, now).await, Err(Reason::TokenSignature), "{}", one.name());
        }
    }
}

#[tokio::test]
async fn a_token_is_refused_for_the_first_thing_that_is_wrong_with_it() {
    let now = now();
    let signer = Signer::ed("k");
    let mut issuer = issuer("main", public_key(&signer));
    issuer.token_bytes = 1000;
    let (authenticator, ears) = start(&[issuer]);
    let good = claims(now);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt"});
    let secs = now.unix_secs();
    let cases = [
        ("x".repeat(1001), Reason::TokenTooLarge),
        ("not a token".to_owned(), Reason::TokenMalformed),
        (signer.token(&with(good.clone(), "iss", json!("https://idp.example"))), Reason::TokenIssuerUnknown),
        (signer.token(&json!({"sub": "alice"})), Reason::TokenIssuerUnknown),
        (signer.token(&with(good.clone(), "iss", json!([ISSUER]))), Reason::TokenClaims),
        (signer.token_with(&with(header.clone(), "typ", json!("stepgate-grant+jwt")), &good), Reason::TokenType),
        (signer.token_with(&with(header.clone(), "typ", json!("")), &good), Reason::TokenType),
        (signer.token_with(&with(header.clone(), "typ", json!("absent")), &good), Reason::TokenType),
        (signer.token_with(&with(header.clone(), "alg", json!("RS384")), &good), Reason::TokenAlgorithm),
        (signer.token_with(&with(header.clone(), "alg", json!("RS256")), &good), Reason::TokenKeyUnknown),
        (signer.token_with(&with(header.clone(), "crit", json!(["x"])), &good), Reason::TokenMalformed),
        (Signer::ed("k").token(&good), Reason::TokenSignature),
        (signer.token(&with(good.clone(), "sub", json!(""))), Reason::TokenClaims),
        (signer.token(&with(good.clone(), "aud", json!("https://other.example"))), Reason::TokenAudience),
        (signer.token(&with(good.clone(), "exp", json!(secs - 30))), Reason::TokenExpired),
        (signer.token(&with(good.clone(), "nbf", json!(secs + 60))), Reason::TokenNotYetValid),
        (signer.token(&with(good.clone(), "iat", json!(secs + 60))), Reason::TokenIssuedInFuture),
    ];
    for (token, reason) in &cases {
        assert_eq!(judge(&authenticator, token, now).await, Err(*reason), "{token}");
        assert_eq!(ears.verifications.lock().unwrap().last().unwrap().1, Err(*reason));
        // A refusal is never kept.
        assert!(
            authenticator
                .authenticate_cached(token, &Accepted::default(), now)
                .is_none_or(|_| *reason == Reason::TokenTooLarge)
        );
    }
    assert!(judge(&authenticator, &signer.token(&good), now).await.is_ok());
}

#[tokio::test]
async fn the_type_is_compared_as_a_media_type() {
    let now = now();
    let signer = Signer::ed("k");
    let mut strict = issuer("main", public_key(&signer));
    strict.types = vec!["at+jwt".into()];
    strict.type_absent = false;
    let (authenticator, _) = start(&[strict]);
    let token = |typ: Value| signer.token_with(&json!({"alg": "EdDSA", "typ": typ}), &claims(now));
    for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(judge(&authenticator, &token(json!(good)), now).await.is_ok(), "{good}");
    }
    for bad in
        ["JWT", "at+jwt ", "application/", "text/at+jwt", "application/x/at+jwt", "application/application/at+jwt"]
    {
        assert_eq!(judge(&authenticator, &token(json!(bad)), now).await, Err(Reason::TokenType), "{bad}");
    }
    let untyped = signer.token_with(&json!({"alg": "EdDSA"}), &claims(now));
    assert_eq!(judge(&authenticator, &untyped, now).await, Err(Reason::TokenType));
}

#[tokio::test]
async fn a_route_takes_the_tokens_of_its_own_issuers_only_cached_or_not() {
    let now = now();
    let (ours, theirs) = (Signer::ed("a"), Signer::ed("b"));
    let mut other = issuer("other", public_key(&theirs));
    other.url = "https://other.example/".into();
    let (authenticator, _) = start(&[issuer("main", public_key(&ours)), other]);
    let token = theirs.token(&with(claims(now), "iss", json!("https://other.example/")));
    let main = Accepted::new(["main".into()].into(), Kinds::TOKEN);
    let both = Accepted::new(["main".into(), "other".into()].into(), Kinds::TOKEN);
    for _ in 0..2 {
        let refused = authenticator.authenticate(token.as_bytes(), &main, now).await;
        assert!(matches!(refused, Credential::Invalid(Reason::TokenIssuerNotAccepted)));
        assert!(matches!(authenticator.authenticate(token.as_bytes(), &both, now).await, Credential::Valid(_)));
        assert!(matches!(
            authenticator.authenticate(token.as_bytes(), &Accepted::default(), now).await,
            Credential::Valid(_)
        ));
    }
    // One issuer's key vouches for no other issuer's tokens.
    let forged = ours.token(&with(claims(now), "iss", json!("https://other.example/")));
    assert_eq!(judge(&authenticator, &forged, now).await, Err(Reason::TokenKeyUnknown));
}

#[tokio::test]
async fn keys_inside_a_token_are_never_used() {
    let now = now();
    let (real, evil) = (Signer::ed("k"), Signer::ed("k"));
    let provider = Provider::start().await;
    provider.set("/evil", Reply::Ok("", set_of(&[&evil])));
    let (authenticator, _) = start(&[issuer("main", public_key(&real))]);
    let header = json!({
        "alg": "EdDSA", "typ": "at+jwt", "jwk": evil.jwk(),
        "jku": format!("{}/evil", provider.base), "x5u": format!("{}/evil", provider.base),
    });
    let token = evil.token_with(&header, &claims(now));
    assert!(judge(&authenticator, &token, now).await.is_err());
    assert_eq!(provider.hits(), 0);
}

#[tokio::test]
async fn a_token_with_any_one_character_changed_is_never_valid() {
    let now = now();
    let signer = Signer::ed("k");
    let (authenticator, _) = start(&[issuer("main", public_key(&signer))]);
    let token = signer.token(&claims(now));
    assert!(judge(&authenticator, &token, now).await.is_ok());
    for at in 0..token.len() {
        for other in ["A", "_", ".", "=", "%", ""] {
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            if changed != token {
                assert!(judge(&authenticator, &changed, now).await.is_err(), "{at} {other}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_told_from_any_other_of_the_same_person_cached_or_not() {
    let now = now();
    let signer = Signer::ed("k");
    let (authenticator, _) = start(&[issuer("main", public_key(&signer))]);
    let [one, other] = ["1", "2"].map(|id| signer.token(&with(claims(now), "jti", json!(id))));
    let digest = |token: &str| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    for token in [&one, &other, &one, &other] {
        let found = judge(&authenticator, token, now).await.unwrap();
        assert_eq!(found.marks.fingerprint.unwrap(), digest(token).as_ref());
    }
}

// -- the cache

#[tokio::test]
async fn a_token_that_was_seen_is_judged_without_waiting_and_still_expires_on_time() {
    let now = now();
    let signer = Signer::ed("k");
    let (authenticator, ears) = start(&[issuer("main", public_key(&signer))]);
    let token = signer.token(&with(claims(now), "exp", json!(now.unix_secs() + 60)));
    assert!(authenticator.authenticate_cached(&token, &Accepted::default(), now).is_none());
    assert!(judge(&authenticator, &token, now).await.is_ok());
    assert!(matches!(authenticator.authenticate_cached(&token, &Accepted::default(), now), Some(Credential::Valid(_))));
    assert_eq!(ears.verifications.lock().unwrap().len(), 1);

    let last = Now { unix_ms: (now.unix_secs() + 89) * 1000, ..now };
    assert!(matches!(
        authenticator.authenticate_cached(&token, &Accepted::default(), last),
        Some(Credential::Valid(_))
    ));
    let over = Now { unix_ms: (now.unix_secs() + 90) * 1000, ..now };
    let expired = authenticator.authenticate_cached(&token, &Accepted::default(), over);
    assert!(matches!(expired, Some(Credential::Invalid(Reason::TokenExpired))));
    // The whole token counts: one with another signature is another token.
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(judge(&authenticator, &format!("{signed}.AAAA"), now).await, Err(Reason::TokenSignature));
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change_and_forgets_what_did() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    provider.publish(&[&signer]);
    let (services, ears) = services();
    let first = issuer("main", provider.jwks());
    let before = compile(std::slice::from_ref(&first), &services, None).unwrap();
    let now = now();
    let token = signer.token(&claims(now));
    assert!(judge(&before, &token, now).await.is_ok());

    // The same issuer on another line: its keys and its tokens stay.
    let mut moved = first.clone();
    moved.span.line = 99;
    let same = compile(&[moved], &services, Some(&before)).unwrap();
    assert!(matches!(same.authenticate_cached(&token, &Accepted::default(), now), Some(Credential::Valid(_))));

    // Another audience: its keys stay, its tokens are judged anew; the old snapshot is not disturbed.
    let mut narrower = first.clone();
    narrower.audience = vec!["https://elsewhere.example".into()];
    let changed = compile(&[narrower], &services, Some(&same)).unwrap();
    assert!(changed.authenticate_cached(&token, &Accepted::default(), now).is_none());
    assert_eq!(judge(&changed, &token, now).await, Err(Reason::TokenAudience));
    assert!(matches!(same.authenticate_cached(&token, &Accepted::default(), now), Some(Credential::Valid(_))));
    assert_eq!((provider.hits(), ears.count()), (1, 1));

    // Back again: what was verified by the definition in between is not taken for this one's.
    let back = compile(&[first], &services, Some(&changed)).unwrap();
    assert!(judge(&back, &token, now).await.is_ok());
    assert_eq!(provider.hits(), 1);

    // Without the issuer nothing is left of it.
    let none = compile(&[], &services, Some(&back)).unwrap();
    assert!(none.authenticate(token.as_bytes(), &Accepted::default(), now).await.is_invalid());
}

trait IsInvalid {
    fn is_invalid(&self) -> bool;
}

impl IsInvalid for Credential {
    fn is_invalid(&self) -> bool {
        matches!(self, Credential::Invalid(_))
    }
}

#[tokio::test]
async fn a_changed_secret_ends_the_tokens_of_the_old_one() {
    let now = now();
    let secret = |byte: u8| KeySource::Secret { source: inline([byte; 32]), encoding: SecretEncoding::Raw };
    let mut issuer = issuer("legacy", secret(7));
    issuer.algorithms = Algorithm::HS256.into();
    let (services, _) = services();
    let before = compile(std::slice::from_ref(&issuer), &services, None).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[7; 32]);
    let token = {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
        let signed = format!("{}.{}", B64.encode(r#"{"alg":"HS256"}"#), B64.encode(claims(now).to_string()));
        format!("{signed}.{}", B64.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    assert!(judge(&before, &token, now).await.is_ok());
    issuer.keys = secret(8);
    let after = compile(&[issuer], &services, Some(&before)).unwrap();
    assert!(after.authenticate_cached(&token, &Accepted::default(), now).is_none());
    assert_eq!(judge(&after, &token, now).await, Err(Reason::TokenSignature));
}

// -- keys that are fetched

#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    provider.publish(&[&signer]);
    let url = format!("{}/realms/one/", provider.base);
    let metadata = json!({"issuer": url, "jwks_uri": format!("{}/jwks", provider.base)}).to_string();
    provider.set("/realms/one/.well-known/openid-configuration", Reply::Ok("", metadata));
    let mut issuer = issuer("main", KeySource::Discovery);
    issuer.url = url.as_str().into();
    let (authenticator, _) = start(&[issuer]);
    let now = now();
    let token = signer.token(&with(claims(now), "iss", json!(url)));
    assert!(judge(&authenticator, &token, now).await.is_ok());
    assert_eq!(provider.hits(), 2);
}

#[tokio::test]
async fn metadata_of_another_issuer_or_with_keys_elsewhere_is_refused() {
    let signer = Signer::ed("k");
    let provider = Provider::start().await;
    provider.publish(&[&signer]);
    let jwks = format!("{}/jwks", provider.base);
    for metadata in [
        json!({"issuer": format!("{}/", provider.base), "jwks_uri": jwks}),
        json!({"issuer": provider.base, "jwks_uri": "http://idp.example/jwks"}),
        json!({"issuer": provider.base, "jwks_uri": "/jwks"}),
        json!({"issuer": provider.base, "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": provider.base}),
        json!([]),
    ] {
        provider.set("/.well-known/openid-configuration", Reply::Ok("", metadata.to_string()));
        let mut issuer = issuer("main", KeySource::Discovery);
        issuer.url = provider.base.as_str().into();
        let (authenticator, ears) = start(&[issuer]);
        assert_eq!(ears.refreshed(1).await[0], RefreshOutcome::Failed, "{metadata}");
        let now = now();
        let token = signer.token(&with(claims(now), "iss", json!(provider.base)));
        assert_eq!(judge(&authenticator, &token, now).await, Err(Reason::KeysUnavailable), "{metadata}");
    }
}

#[tokio::test]
async fn while_the_provider_is_down_at_the_start_tokens_cannot_be_verified_and_then_they_can() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    assert_eq!(ears.refreshed(1).await[0], RefreshOutcome::Failed);
    let now = now();
    let token = signer.token(&claims(now));
    assert_eq!(judge(&authenticator, &token, now).await, Err(Reason::KeysUnavailable));
    let readiness = authenticator.readiness(now);
    assert_eq!((readiness[0].ready, readiness[0].age, readiness[0].failures), (false, None, 1));
    assert_eq!(
        readiness[0].detail,
        "keys have never been read: fetching the keys: the answer's status is 404 Not Found, not 200"
    );

    provider.publish(&[&signer]);
    ears.refreshed_as(1, 0).await;
    assert!(judge(&authenticator, &token, now).await.is_ok());
    assert!(authenticator.readiness(now)[0].ready);
}

#[tokio::test]
async fn garbage_keeps_the_last_good_keys() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    let keys = set_of(&[&signer]);
    provider.set("/jwks", Reply::Ok("cache-control: max-age=1\r\n", keys.clone()));
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    let now = now();
    let token = |number: usize| signer.token(&with(claims(now), "jti", json!(number.to_string())));
    assert!(judge(&authenticator, &token(0), now).await.is_ok());
    for (number, garbage) in [
        Reply::Ok("", "<html>maintenance</html>".into()),
        Reply::Ok("", r#"{"keys":[]}"#.into()),
        Reply::Ok("", keys[..keys.len() - 3].into()),
        Reply::Raw("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into()),
        Reply::Raw(format!("HTTP/1.1 302 Found\r\nlocation: {}/other\r\ncontent-length: 0\r\n\r\n", provider.base)),
        Reply::Raw("SSH-2.0-OpenSSH\r\n".into()),
        Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".into()),
        Reply::Flood,
    ]
    .into_iter()
    .enumerate()
    {
        provider.set("/jwks", garbage);
        provider.set("/other", Reply::Ok("", set_of(&[&Signer::ed("other")])));
        // A kid that nobody knows makes the task look again at once, cooldown permitting.
        let later = now.after(seconds(11 * (number as u64 + 1)));
        let stranger = Signer::ed("unknown").token(&with(claims(later), "jti", json!(number)));
        assert_eq!(judge(&authenticator, &stranger, later).await, Err(Reason::KeysUnavailable), "{number}");
        assert!(ears.count() >= number + 2);
        assert!(judge(&authenticator, &token(number + 1), now).await.is_ok(), "{number}");
    }
    assert!(authenticator.readiness(now)[0].detail.starts_with("the last good keys serve; "));
}

#[tokio::test]
async fn a_provider_that_hangs_or_drips_is_given_three_seconds() {
    for reply in [Reply::Silence, Reply::Drip] {
        let provider = Provider::start().await;
        provider.set("/jwks", reply);
        let began = std::time::Instant::now();
        let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
        assert_eq!(ears.refreshed(1).await[0], RefreshOutcome::Failed);
        assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
        let now = now();
        let token = Signer::ed("k").token(&claims(now));
        assert_eq!(judge(&authenticator, &token, now).await, Err(Reason::KeysUnavailable));
    }
}

#[tokio::test]
async fn the_last_good_keys_serve_for_max_stale_and_not_longer() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    provider.publish(&[&signer]);
    let mut issuer = issuer("main", provider.jwks());
    issuer.jwks_max_stale = seconds(600);
    let (authenticator, ears) = start(&[issuer]);
    ears.refreshed(1).await;
    let now = now();
    let mut lasting = claims(now);
    lasting["exp"] = json!(now.unix_secs() + 100_000);
    let token = signer.token(&lasting);
    assert!(judge(&authenticator, &token, now).await.is_ok());
    assert!(judge(&authenticator, &token, now.after(seconds(3600 + 590))).await.is_ok());
    let too_late = now.after(seconds(3600 + 601));
    assert_eq!(judge(&authenticator, &token, too_late).await, Err(Reason::KeysUnavailable));
    assert!(authenticator.readiness(too_late)[0].detail.starts_with("keys are too old to serve"));
}

#[tokio::test]
async fn a_new_key_is_found_by_its_first_token_with_one_fetch_for_all_who_wait() {
    let provider = Provider::start().await;
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    provider.publish(&[&old]);
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    ears.refreshed(1).await;
    provider.publish(&[&old, &new]);
    let now = now();
    let tokens: Vec<_> =
        (0..50).map(|number| new.token(&with(claims(now), "jti", json!(number.to_string())))).collect();
    let authenticator = Arc::new(authenticator);
    let waiting: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { judge(&authenticator, &token, now).await.is_ok() })
        })
        .collect();
    for answer in waiting {
        assert!(answer.await.unwrap());
    }
    assert_eq!(provider.hits(), 2);
}

#[test]
fn keys_are_fetched_on_one_runtime_for_requests_that_wait_on_others() {
    let signers = Arc::new([Signer::ed("old"), Signer::ed("new")]);
    let (ready, started) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let keys = Arc::clone(&signers);
    let service = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let provider = Provider::start().await;
            provider.publish(&[&keys[0]]);
            let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
            ears.refreshed(1).await;
            provider.publish(&[&keys[0], &keys[1]]);
            ready.send((provider, authenticator)).unwrap();
            stopped.await.unwrap();
        });
    });
    let (provider, authenticator) = started.recv().unwrap();
    let now = now();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let token = signers[1].token(&with(claims(now), "jti", json!(worker)));
            let authenticator = &authenticator;
            scope.spawn(move || {
                let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                assert!(worker.block_on(judge(authenticator, &token, now)).is_ok());
            });
        }
    });
    assert_eq!(provider.hits(), 2);
    stop.send(()).unwrap();
    service.join().unwrap();
}

#[tokio::test]
async fn invented_kids_cost_one_fetch_a_cooldown_and_never_a_good_token() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    provider.publish(&[&signer]);
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    ears.refreshed(1).await;
    let now = now();
    for number in 0..200 {
        let forged = Signer::ed(&format!("invented {number}")).token(&claims(now));
        assert_eq!(judge(&authenticator, &forged, now).await, Err(Reason::TokenKeyUnknown));
    }
    assert!(judge(&authenticator, &signer.token(&claims(now)), now).await.is_ok());
    assert_eq!(provider.hits(), 2);
    let later = now.after(seconds(10));
    assert_eq!(
        judge(&authenticator, &Signer::ed("x").token(&claims(later)), later).await,
        Err(Reason::TokenKeyUnknown)
    );
    assert_eq!(provider.hits(), 3);
}

#[tokio::test]
async fn a_key_that_was_taken_out_stops_working_at_the_refresh_for_cached_tokens_too() {
    let provider = Provider::start().await;
    let (kept, removed) = (Signer::ed("kept"), Signer::ed("removed"));
    provider.set("/jwks", Reply::Ok("cache-control: max-age=1\r\n", set_of(&[&kept, &removed])));
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    let now = now();
    let (good, bad) = (kept.token(&claims(now)), removed.token(&claims(now)));
    assert!(judge(&authenticator, &good, now).await.is_ok());
    assert!(judge(&authenticator, &bad, now).await.is_ok());
    provider.publish(&[&kept]);
    ears.refreshed_as(1, 0).await;
    assert!(matches!(authenticator.authenticate_cached(&good, &Accepted::default(), now), Some(Credential::Valid(_))));
    assert!(authenticator.authenticate_cached(&bad, &Accepted::default(), now).is_none());
    assert_eq!(judge(&authenticator, &bad, now).await, Err(Reason::TokenKeyUnknown));
}

#[tokio::test]
async fn a_kid_given_to_another_key_ends_the_tokens_of_the_first() {
    let provider = Provider::start().await;
    let (first, second) = (Signer::ed("same"), Signer::ed("same"));
    provider.set("/jwks", Reply::Ok("cache-control: max-age=1\r\n", set_of(&[&first])));
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    let now = now();
    let token = first.token(&claims(now));
    assert!(judge(&authenticator, &token, now).await.is_ok());
    provider.publish(&[&second, &Signer::new(Algorithm::HS256, "left aside")]);
    ears.refreshed_as(1, 1).await;
    assert_eq!(judge(&authenticator, &token, now).await, Err(Reason::TokenSignature));
    assert!(judge(&authenticator, &second.token(&claims(now)), now).await.is_ok());
}

#[tokio::test]
async fn a_token_without_a_kid_is_tried_with_up_to_four_keys() {
    let provider = Provider::start().await;
    let mut signers: Vec<_> = (0..5).map(|number| Signer::ed(&format!("k{number}"))).collect();
    let bare = |signer: &mut Signer| signer.kid = None;
    let now = now();
    provider.publish(&signers[..4].iter().collect::<Vec<_>>());
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    ears.refreshed(1).await;
    provider.publish(&signers.iter().collect::<Vec<_>>());
    signers.iter_mut().for_each(bare);
    assert!(judge(&authenticator, &signers[3].token(&claims(now)), now).await.is_ok());
    assert_eq!(
        judge(&authenticator, &Signer::ed("x").token_with(&json!({"alg": "EdDSA"}), &claims(now)), now).await,
        Err(Reason::TokenSignature)
    );

    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    ears.refreshed(1).await;
    assert_eq!(judge(&authenticator, &signers[3].token(&claims(now)), now).await, Err(Reason::TokenKeyUnknown));
}

#[tokio::test]
async fn dropping_the_authenticator_ends_its_tasks() {
    let provider = Provider::start().await;
    let (services, ears) = services();
    let authenticator = compile(&[issuer("main", provider.jwks())], &services, None).unwrap();
    ears.refreshed(1).await;
    // The task, the services here, and the test hold the ears.
    assert!(Arc::strong_count(&ears) >= 4);
    drop(authenticator);
    for _ in 0..1000 {
        if Arc::strong_count(&ears) == 2 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the task lives on");
}

#[tokio::test]
async fn a_flood_of_invented_kids_piles_up_within_a_bound_and_holds_up_no_good_token() {
    let provider = Provider::start().await;
    let signer = Signer::ed("k");
    provider.publish(&[&signer]);
    let (authenticator, ears) = start(&[issuer("main", provider.jwks())]);
    ears.refreshed(1).await;
    provider.set("/jwks", Reply::Silence);
    let now = now();
    let authenticator = Arc::new(authenticator);
    let forged = Signer::ed("invented").token(&claims(now));
    let began = std::time::Instant::now();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..1500 {
        let (authenticator, forged) = (Arc::clone(&authenticator), forged.clone());
        flood.spawn(async move { judge(&authenticator, &forged, now).await.err() });
    }
    // Those beyond the bound are told at once, while the others still wait and a good token passes.
    for _ in 0..1500 - 1024 {
        assert_eq!(flood.join_next().await.unwrap().unwrap(), Some(Reason::KeysUnavailable));
    }
    assert!(began.elapsed() < seconds(2), "{:?}", began.elapsed());
    assert!(judge(&authenticator, &signer.token(&claims(now)), now).await.is_ok());
    while let Some(answer) = flood.join_next().await {
        assert_eq!(answer.unwrap(), Some(Reason::KeysUnavailable));
    }
    assert_eq!(provider.hits(), 2);
}

// -- keys over TLS

fn server_tls(name: &str) -> (rustls::ServerConfig, String) {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (config, certified.cert.pem())
}

#[tokio::test]
async fn keys_over_tls_are_believed_only_from_a_certificate_that_the_issuer_names() {
    let signer = Signer::ed("k");
    let (tls, pem) = server_tls("127.0.0.1");
    let provider = Provider::start_tls(tls).await;
    provider.publish(&[&signer]);
    let file = |path: &str| File { span: Span::default(), path: path.into() };
    let now = now();
    let token = signer.token(&claims(now));
    let (_, stranger_pem) = server_tls("127.0.0.1");
    let materials = MadeUp {
        files: [("ca.pem".to_owned(), pem.into_bytes()), ("other.pem".to_owned(), stranger_pem.into_bytes())].into(),
        ..MadeUp::default()
    };
    for (ca, expected) in [(Some("ca.pem"), true), (Some("other.pem"), false), (None, false)] {
        let mut issuer = issuer("main", provider.jwks());
        issuer.ca = ca.map(file);
        let (services, ears) = services();
        let authenticator = Tokens::compile(&[Arc::new(issuer)], &materials, &services, None).unwrap();
        ears.refreshed(1).await;
        assert_eq!(judge(&authenticator, &token, now).await.is_ok(), expected, "{ca:?}");
    }
}

// -- the authority's own keys

#[tokio::test]
async fn the_authoritys_tokens_wait_for_its_keys_and_end_with_them() {
    let signer = Signer::ed("own");
    let now = now();
    let token = signer.token(&claims(now));
    let (services, ears) = services();
    let keys = services.authority_keys.clone();
    let issuers = [Arc::new(issuer("authority", KeySource::Authority))];
    let tokens = Tokens::compile(&issuers, &MadeUp::default(), &services, None).unwrap();
    let publish = async {
        tokio::task::yield_now().await;
        keys.publish(vec![VerifyingKey::from_jwk(signer.jwk().to_string().as_bytes()).unwrap()]);
    };
    let (first, ()) = tokio::join!(judge(&tokens, &token, now), publish);
    assert!(first.is_ok(), "a request at the very start waits: {first:?}");
    let other = Signer::ed("next");
    keys.publish(vec![VerifyingKey::from_jwk(other.jwk().to_string().as_bytes()).unwrap()]);
    assert!(
        judge(&tokens, &other.token(&claims(now)), now.after(seconds(20))).await.is_ok(),
        "a new key is found at once"
    );
    assert_eq!(judge(&tokens, &token, now).await, Err(Reason::TokenKeyUnknown), "and the one before it is dead");
    drop(ears);
}

// -- keys in files

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    std::fs::write(&path, set_of(&[&old])).unwrap();
    let source = KeySource::JwksFile(File { span: Span::default(), path: path.clone() });
    let (authenticator, ears) = start(&[issuer("main", source)]);
    let now = now();
    let (first, second) = (old.token(&claims(now)), new.token(&claims(now)));
    // At hand at once, without waiting for the task.
    assert!(authenticator.readiness(now)[0].ready);
    assert!(judge(&authenticator, &first, now).await.is_ok());

    // Renamed into place, as whoever writes keys should do it: a reader never sees half of it.
    let replace = |text: &str| {
        let draft = folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
    };
    replace("{\"keys\":[");
    while !ears.refreshed(ears.count() + 1).await.contains(&RefreshOutcome::Failed) {}
    assert!(judge(&authenticator, &first, now).await.is_ok());

    replace(&set_of(&[&new, &Signer::new(Algorithm::HS256, "left aside")]));
    ears.refreshed_as(1, 1).await;
    assert!(authenticator.authenticate_cached(&first, &Accepted::default(), now).is_none());
    assert!(judge(&authenticator, &second, now.after(seconds(20))).await.is_ok());
}

#[tokio::test]
async fn a_public_key_in_a_pem_file_serves_tokens_whatever_kid_they_name() {
    let pem = concat!(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n",
        "-----END PUBLIC KEY-----\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pem).unwrap();
    let file = crate::config::Source::File(File { span: Span::default(), path });
    let (authenticator, _) = start(&[issuer("main", KeySource::PublicKey(file))]);
    let now = now();
    // Whoever holds another key gets as far as the signature.
    let token = Signer::ed("any name").token(&claims(now));
    assert_eq!(judge(&authenticator, &token, now).await, Err(Reason::TokenSignature));
    assert_eq!(authenticator.readiness(now)[0].age, None);
}

// -- what is wrong with key material

fn problems(issuer: Issuer) -> Vec<String> {
    let materials = MadeUp {
        files: [("empty".to_owned(), b"\n".to_vec()), ("short".to_owned(), b"secret\n".to_vec())].into(),
        env: [("WEAK".to_owned(), "weak".to_owned())].into(),
    };
    Tokens::check(&[Arc::new(issuer)], &materials).into_iter().map(|problem| problem.message).collect()
}

#[test]
fn key_material_that_is_not_fit_is_a_problem_that_quotes_no_secret() {
    let file = |path: &str| File { span: Span::default(), path: path.into() };
    let secret = |source, encoding| {
        let mut issuer = issuer("main", KeySource::Secret { source, encoding });
        issuer.algorithms = Algorithm::HS256.into();
        issuer
    };
    let from_file = |path: &str| crate::config::Source::File(file(path));
    let from_env = |name: &str| crate::config::Source::Env { span: Span::default(), name: name.into() };
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (issuer, message) in [
        (
            secret(from_file("short"), SecretEncoding::Raw),
            "the secret is shorter than 32 bytes, which its algorithm asks for",
        ),
        (secret(from_file("empty"), SecretEncoding::Raw), "the secret is empty"),
        (secret(from_file("nowhere"), SecretEncoding::Raw), "cannot read nowhere: entity not found"),
        (secret(from_env("WEAK"), SecretEncoding::Hex), "the secret is not hexadecimal"),
        (secret(from_env("UNSET"), SecretEncoding::Raw), "the environment variable UNSET is not set"),
        (issuer("main", KeySource::PublicKey(inline(private))), "the key is private: only the public key belongs here"),
        (
            issuer("main", KeySource::PublicKey(inline("x"))),
            "the key is neither a PEM public key (SPKI or PKCS#1) nor a JWK",
        ),
        (
            issuer("main", KeySource::PublicKey(inline(Signer::new(Algorithm::ES384, "k").jwk().to_string()))),
            "the key serves none of the algorithms",
        ),
        (issuer("main", KeySource::JwksFile(file("short"))), "short: the answer is not a JWK Set"),
        (
            issuer("main", KeySource::JwksUrl("http://idp.example/jwks".parse().unwrap())),
            "keys are fetched over https, or over http from this machine alone: http://idp.example/jwks",
        ),
    ] {
        assert_eq!(problems(issuer), [message]);
    }
}

#[test]
fn two_issuers_with_one_identifier_are_a_problem() {
    let one = Arc::new(issuer("one", public_key(&Signer::ed("k"))));
    let two = Arc::new(issuer("two", public_key(&Signer::ed("k"))));
    let found = Tokens::check(&[one, two], &MadeUp::default());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "`one` and `two` have the same `issuer`");
}
