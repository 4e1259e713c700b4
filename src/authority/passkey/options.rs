//! The options that browsers get, where ours differ from webauthn-rs's. None of it is part of what is verified afterwards.

use serde_json::{Value, json};
use webauthn_rs::prelude::{CreationChallengeResponse, RequestChallengeResponse};

use super::PasskeyFault;

/// The value of `publicKey` for `navigator.credentials.create`, in the JSON form of WebAuthn Level 3, §5.1.8.
pub(super) fn creation(options: &CreationChallengeResponse) -> Result<Value, PasskeyFault> {
    let mut options = public_key(serde_json::to_value(options))?;
    // Discoverable where the device has room for it, so that a passkey shows up in the person's own list of them.
    if let Some(selection) = options.get_mut("authenticatorSelection").and_then(Value::as_object_mut) {
        selection.insert("residentKey".into(), json!("preferred"));
        selection.insert("requireResidentKey".into(), json!(false));
    }
    // webauthn-rs hints at security keys alone where user verification is not required; passkeys are as welcome there.
    if let Some(options) = options.as_object_mut() {
        options.remove("hints");
    }
    Ok(options)
}

/// The value of `publicKey` for `navigator.credentials.get`, §5.1.9.
pub(super) fn request(options: &RequestChallengeResponse) -> Result<Value, PasskeyFault> {
    let mut options = public_key(serde_json::to_value(options))?;
    if let Some(options) = options.as_object_mut() {
        options.remove("hints");
    }
    Ok(options)
}

fn public_key(options: serde_json::Result<Value>) -> Result<Value, PasskeyFault> {
    let options = options.ok().and_then(|mut options| options.get_mut("publicKey").map(Value::take));
    options.ok_or(PasskeyFault::Malformed)
}
