//! The ceremonies against an authenticator in software, and everything that must not pass.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::{soft::SoftKey, *};

const ORIGIN: &str = "https://api.example";
const HANDLE: [u8; 16] = [7; 16];

fn party(user_verification: bool) -> Passkeys {
    let origins = [Url::parse(ORIGIN).unwrap(), Url::parse("https://app.example").unwrap()];
    Passkeys::new("api.example", "Example", &origins, user_verification).unwrap()
}

fn key() -> SoftKey {
    SoftKey::new("api.example", ORIGIN)
}

fn person() -> Person<'static> {
    Person { handle: HANDLE, name: "anna" }
}

/// Through JSON and back, as the store has it.
fn kept<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

fn enrol(party: &Passkeys, key: &mut SoftKey) -> PasskeyRecord {
    let (options, state) = party.begin_enrolment(person(), &[]).unwrap();
    kept(&party.finish_enrolment(&kept(&state), &key.create(&options)).unwrap())
}

fn prove(party: &Passkeys, key: &mut SoftKey, known: &[PasskeyRecord]) -> Result<PasskeyProof, PasskeyFault> {
    let (options, state) = party.begin_proof(HANDLE, known)?;
    party.finish_proof(&kept(&state), known, &key.get(&options))
}

#[test]
fn a_passkey_that_was_enrolled_proves_who_one_is() {
    let (party, mut key) = (party(true), key());
    let record = enrol(&party, &mut key);
    let proof = prove(&party, &mut key, &[record]).unwrap();
    assert!(proof.user_verified && !proof.synchronised);
    assert_eq!(proof.categories().count(), 2, "by itself it is two");
    assert_eq!(proof.categories().or(Categories::NONE.with(Category::Knowledge)).count(), 2, "never three");
    assert_eq!(proof.amr().collect::<Vec<_>>(), ["pop", "user", "mfa"]);
}

#[test]
fn the_options_ask_for_no_attestation_and_for_a_discoverable_key() {
    let party = party(true);
    let record = enrol(&party, &mut key());
    let (options, _) = party.begin_enrolment(person(), &[record]).unwrap();
    assert_eq!(options["attestation"], "none");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "preferred");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
    assert_eq!(options["rp"]["id"], "api.example");
    assert_eq!(options["timeout"], 300_000);
}

#[test]
fn a_device_cannot_be_enrolled_twice() {
    let (party, mut key) = (party(true), key());
    let record = enrol(&party, &mut key);
    let (options, state) = party.begin_enrolment(person(), &[record]).unwrap();
    assert!(matches!(party.finish_enrolment(&state, &key.create(&options)), Err(PasskeyFault::Refused(_))));
}

#[test]
fn a_response_answers_its_own_challenge_alone() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    let (options, _) = party.begin_proof(HANDLE, &known).unwrap();
    let (_, other) = party.begin_proof(HANDLE, &known).unwrap();
    assert!(matches!(party.finish_proof(&other, &known, &key.get(&options)), Err(PasskeyFault::Refused(_))));
}

#[test]
fn a_page_of_another_origin_gets_nothing() {
    for origin in [
        "https://api.example.evil",
        "https://evil.api.example",
        "http://api.example",
        "https://api.example:8443",
        "https://evil.example",
    ] {
        let (party, mut key) = (party(true), key());
        let known = [enrol(&party, &mut key)];
        key.origin = origin.into();
        assert!(matches!(prove(&party, &mut key, &known), Err(PasskeyFault::Refused(_))), "{origin}");
        let mut fresh = SoftKey::new("api.example", origin);
        let (options, state) = party.begin_enrolment(person(), &[]).unwrap();
        assert!(party.finish_enrolment(&state, &fresh.create(&options)).is_err(), "{origin}");
    }
}

#[test]
fn an_origin_of_the_configuration_may_run_ceremonies() {
    let (party, mut key) = (party(true), SoftKey::new("api.example", "https://app.example"));
    let known = [enrol(&party, &mut key)];
    assert!(prove(&party, &mut key, &known).is_ok());
}

#[test]
fn another_relying_partys_key_gets_nothing() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    key.rp_id = "evil.example".into();
    assert!(matches!(prove(&party, &mut key, &known), Err(PasskeyFault::Refused(_))));
}

#[test]
fn a_passkey_of_somebody_else_proves_nothing() {
    let party = party(true);
    let (mut annas, mut bobs) = (key(), key());
    let anna = [enrol(&party, &mut annas)];
    let bob = [enrol(&party, &mut bobs)];
    assert!(prove(&party, &mut bobs, &anna).is_err(), "not among hers");
    let (options, state) = party.begin_proof(HANDLE, &anna).unwrap();
    assert!(party.finish_proof(&state, &bob, &bobs.get(&options)).is_err(), "her ceremony, his key");
    annas.user_handle = Some(vec![8; 16]);
    assert!(prove(&party, &mut annas, &anna).is_err(), "the device says that the key is another's");
    annas.user_handle = Some(HANDLE.to_vec());
    assert!(prove(&party, &mut annas, &anna).is_ok());
}

#[test]
fn a_key_of_the_same_name_needs_the_same_secret() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    let mut forged = SoftKey::new("api.example", ORIGIN);
    forged.id = key.id.clone();
    forged.counter = 1000;
    assert!(matches!(prove(&party, &mut forged, &known), Err(PasskeyFault::Refused(_))));
    forged.counter = 0;
    assert!(matches!(prove(&party, &mut forged, &known), Err(PasskeyFault::Refused(_))), "nor can it make it suspect");
}

#[test]
fn who_was_not_verified_is_refused_where_the_configuration_asks_for_it() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    key.verifies = false;
    assert!(matches!(prove(&party, &mut key, &known), Err(PasskeyFault::Refused(WebauthnError::UserNotVerified))));
    let (options, state) = party.begin_enrolment(person(), &[]).unwrap();
    let mut unverified = self::key();
    unverified.verifies = false;
    assert!(party.finish_enrolment(&state, &unverified.create(&options)).is_err());
}

#[test]
fn a_security_key_without_verification_is_one_category_where_it_is_let_in() {
    let (party, mut key) = (party(false), key());
    key.verifies = false;
    let known = [enrol(&party, &mut key)];
    let proof = prove(&party, &mut key, &known).unwrap();
    assert!(!proof.user_verified);
    assert_eq!(proof.categories().count(), 1);
    assert_eq!(proof.categories().or(Categories::NONE.with(Category::Knowledge)).count(), 2);
    assert_eq!(proof.amr().collect::<Vec<_>>(), ["pop", "user"]);
}

#[test]
fn a_rule_that_becomes_stricter_holds_for_keys_that_were_there_before() {
    let mut key = key();
    key.verifies = false;
    let known = [enrol(&party(false), &mut key)];
    assert!(prove(&party(true), &mut key, &known).is_err());
    key.verifies = true;
    assert!(prove(&party(true), &mut key, &known).is_ok());
}

#[test]
fn a_counter_that_does_not_grow_is_refused_and_told() {
    let (party, mut key) = (party(true), key());
    let first = enrol(&party, &mut key);
    let second = prove(&party, &mut key, &[first]).unwrap().record;
    key.counter -= 1;
    let replayed = prove(&party, &mut key, std::slice::from_ref(&second));
    assert!(matches!(replayed, Err(PasskeyFault::CounterWentBack { index: 0 })));
}

#[test]
fn a_copy_that_answers_a_ceremony_begun_earlier_is_found_out() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    let (options, state) = party.begin_proof(HANDLE, &known).unwrap();
    let by_the_copy = key.get(&options);
    key.counter += 5;
    let moved_on = [prove(&party, &mut key, &known).unwrap().record];
    let late = party.finish_proof(&state, &moved_on, &by_the_copy);
    assert!(matches!(late, Err(PasskeyFault::CounterWentBack { index: 0 })));
}

#[test]
fn a_device_without_a_counter_is_fine() {
    let (party, mut key) = (party(true), key());
    key.synchronised = true;
    key.counts = false;
    let record = enrol(&party, &mut key);
    assert!(record.is_synchronised());
    let proof = prove(&party, &mut key, &[record]).unwrap();
    assert_eq!(proof.amr().collect::<Vec<_>>(), ["pop", "swk", "user", "mfa"]);
}

#[test]
fn a_passkey_that_was_removed_meanwhile_proves_nothing() {
    let (party, mut key) = (party(true), key());
    let known = [enrol(&party, &mut key)];
    let (options, state) = party.begin_proof(HANDLE, &known).unwrap();
    assert!(party.finish_proof(&state, &[], &key.get(&options)).is_err());
    assert!(matches!(party.begin_proof(HANDLE, &[]), Err(PasskeyFault::NoneUsable)));
}

#[test]
fn what_is_kept_shows_nothing_in_debug() {
    let record = enrol(&party(true), &mut key());
    assert_eq!(format!("{record:?}"), "PasskeyRecord(…)");
}

proptest! {
    #[test]
    fn no_response_makes_it_panic_or_pass(bytes in proptest::collection::vec(any::<u8>(), 0..512), at in 0usize..2000, with: u8) {
        let (party, mut key) = (party(true), key());
        let known = [enrol(&party, &mut key)];
        let (options, state) = party.begin_proof(HANDLE, &known).unwrap();
        prop_assert!(party.finish_proof(&state, &known, &bytes).is_err());
        let mut response = key.get(&options);
        let at = at % response.len();
        if response[at] != with {
            response[at] = with;
            // A byte that is not part of what is signed may differ; the proof is then still that key's.
            if let Ok(proof) = party.finish_proof(&state, &known, &response) {
                prop_assert_eq!(proof.index, 0);
            }
        }
    }
}
