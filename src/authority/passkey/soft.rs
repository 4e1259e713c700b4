//! An authenticator and a browser in software, for tests: ES256, no attestation, a counter that tests may turn back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};

/// A device with one key.
pub(crate) struct SoftKey {
    pair: EcdsaKeyPair,
    pub(crate) id: Vec<u8>,
    pub(crate) counter: u32,
    pub(crate) counts: bool,
    pub(crate) origin: String,
    pub(crate) rp_id: String,
    pub(crate) verifies: bool,
    pub(crate) synchronised: bool,
    pub(crate) user_handle: Option<Vec<u8>>,
}

const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const MAY_BE_COPIED: u8 = 0x08;
const ATTESTED: u8 = 0x40;

impl SoftKey {
    pub(crate) fn new(rp_id: &str, origin: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let id = digest::digest(&digest::SHA256, pair.public_key().as_ref()).as_ref().to_vec();
        Self {
            pair,
            id,
            counter: 0,
            counts: true,
            origin: origin.into(),
            rp_id: rp_id.into(),
            verifies: true,
            synchronised: false,
            user_handle: None,
        }
    }

    /// What a browser would send after `navigator.credentials.create(options)`.
    pub(crate) fn create(&mut self, options: &Value) -> Vec<u8> {
        self.counter += 1;
        let client = self.client_data("webauthn.create", options);
        let mut auth = self.auth_data(ATTESTED);
        auth.extend_from_slice(&[0; 16]);
        auth.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        auth.extend_from_slice(&self.id);
        auth.extend_from_slice(&self.cose_key());
        // {"fmt": "none", "attStmt": {}, "authData": h'…'} in CBOR
        let mut object = vec![0xa3, 0x63];
        object.extend_from_slice(b"fmt\x64none\x67attStmt\xa0\x68authData");
        object.push(0x59);
        object.extend_from_slice(&u16::try_from(auth.len()).unwrap().to_be_bytes());
        object.extend_from_slice(&auth);
        self.response(json!({
            "attestationObject": B64.encode(object),
            "clientDataJSON": B64.encode(client),
            "transports": ["internal"],
        }))
    }

    /// What a browser would send after `navigator.credentials.get(options)`.
    pub(crate) fn get(&mut self, options: &Value) -> Vec<u8> {
        self.counter += 1;
        let client = self.client_data("webauthn.get", options);
        let auth = self.auth_data(0);
        let mut signed = auth.clone();
        signed.extend_from_slice(digest::digest(&digest::SHA256, &client).as_ref());
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        self.response(json!({
            "authenticatorData": B64.encode(auth),
            "clientDataJSON": B64.encode(client),
            "signature": B64.encode(signature),
            "userHandle": self.user_handle.as_ref().map(|handle| B64.encode(handle)),
        }))
    }

    fn response(&self, response: Value) -> Vec<u8> {
        let id = B64.encode(&self.id);
        let credential = json!({
            "id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": response,
        });
        credential.to_string().into_bytes()
    }

    fn client_data(&self, ceremony: &str, options: &Value) -> Vec<u8> {
        let data = json!({
            "type": ceremony, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false,
        });
        data.to_string().into_bytes()
    }

    fn auth_data(&self, flags: u8) -> Vec<u8> {
        let mut data = digest::digest(&digest::SHA256, self.rp_id.as_bytes()).as_ref().to_vec();
        let verified = if self.verifies { VERIFIED } else { 0 };
        let copied = if self.synchronised { MAY_BE_COPIED } else { 0 };
        data.push(flags | PRESENT | verified | copied);
        data.extend_from_slice(&if self.counts { self.counter } else { 0 }.to_be_bytes());
        data
    }

    fn cose_key(&self) -> Vec<u8> {
        let point = self.pair.public_key().as_ref();
        // {1: 2, 3: -7, -1: 1, -2: x, -3: y} (RFC 9053 §7.1.1)
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        key.extend_from_slice(&point[1..33]);
        key.extend_from_slice(&[0x22, 0x58, 0x20]);
        key.extend_from_slice(&point[33..65]);
        key
    }
}
