//! Passkeys and security keys: the relying party of WebAuthn (W3C, Level 3), pure. Each ceremony is a pair of calls with a
//! state between them that serialises; who keeps the state once, for how long and for whom is `ceremony.rs`'s affair.
//!
//! ```text
//! begin_enrolment ─ options → browser ─ response → finish_enrolment → PasskeyRecord
//! begin_proof     ─ options → browser ─ response → finish_proof     → PasskeyProof, and the record that replaces the old
//! ```
//!
//! The challenge, the origin, the relying party's identifier, user presence and (where the configuration asks) user
//! verification are webauthn-rs's to check. Here stand the choices: no attestation, discoverable where the device can, one
//! credential of a device once, and a signature counter that may only grow.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use url::Url;
use webauthn_rs::prelude::{
    Credential, Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential,
    SecurityKey, SecurityKeyAuthentication, SecurityKeyRegistration, Uuid, Webauthn, WebauthnBuilder, WebauthnError,
};

use crate::{
    config,
    policy::{Categories, Category},
};

mod options;
#[cfg(test)]
pub(crate) mod soft;
#[cfg(test)]
mod tests;

/// How long a browser may take, and a ceremony lives.
pub const CEREMONY: std::time::Duration = std::time::Duration::from_secs(300);

/// The longest response of a browser that is looked at, in bytes: an attestation with certificates is about 4 KiB.
pub const RESPONSE_BYTES: usize = 32 * 1024;

/// The relying party.
#[derive(Debug)]
pub struct Passkeys {
    webauthn: Webauthn,
    user_verification: bool,
}

/// Whose passkey it is to be, as an authenticator keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// WebAuthn's user handle: 16 bytes that name nobody (§14.6.1), the same for each passkey of the person.
    pub handle: [u8; 16],
    /// What the person calls themselves, for telling passkeys apart in the device's list.
    pub name: &'a str,
}

/// A passkey as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasskeyRecord {
    credential: Passkey,
}

/// What the server keeps between the halves of an enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentState {
    /// User verification is required.
    Verified(PasskeyRegistration),
    /// User verification is preferred.
    Present(SecurityKeyRegistration),
}

/// What the server keeps between the halves of a proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofState {
    handle: [u8; 16],
    asked: Asked,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Verified(PasskeyAuthentication),
    Present(SecurityKeyAuthentication),
}

/// A proof that was accepted.
#[derive(Debug, Clone)]
pub struct PasskeyProof {
    /// Which of the person's passkeys it was: the place among those that were given.
    pub index: usize,
    /// The record that takes its place: the counter has moved on.
    pub record: PasskeyRecord,
    /// Whether the device verified the person, by a code or a finger say.
    pub user_verified: bool,
    /// Whether copies of the key may exist elsewhere, as with passkeys that are synchronised.
    pub synchronised: bool,
}

/// Why a ceremony of a passkey came to nothing. What the caller is told is one thing; this is for the records.
#[derive(Debug, Error)]
pub enum PasskeyFault {
    /// The response is not one, or is too long.
    #[error("not a WebAuthn response")]
    Malformed,
    /// The response does not answer the ceremony.
    #[error("the passkey's response was refused: {0}")]
    Refused(WebauthnError),
    /// The counter did not grow: the passkey at this place was copied, or its device is broken.
    #[error("the passkey's signature counter went back")]
    CounterWentBack {
        /// The place among those that were given.
        index: usize,
    },
    /// The person has no passkey that could be used.
    #[error("no passkey that could be used")]
    NoneUsable,
    /// The configuration does not make a relying party.
    #[error("passkeys cannot be offered: {0}")]
    Configuration(WebauthnError),
}

impl Passkeys {
    /// The relying party of a configuration; `None`: passkeys are off.
    pub fn of(config: &config::Authority) -> Result<Option<Self>, PasskeyFault> {
        let Some(passkey) = &config.passkey else { return Ok(None) };
        let origins: Vec<Url> = [&config.url].into_iter().chain(&passkey.origins).cloned().collect();
        Self::new(&passkey.rp_id, &passkey.rp_name, &origins, passkey.user_verification).map(Some)
    }

    /// The relying party of a configuration: `origins` are the pages that may run ceremonies, the authority's own first.
    pub fn new(rp_id: &str, rp_name: &str, origins: &[Url], user_verification: bool) -> Result<Self, PasskeyFault> {
        let (own, further) = origins.split_first().ok_or(PasskeyFault::Configuration(WebauthnError::Configuration))?;
        let builder = WebauthnBuilder::new(rp_id, own).map_err(PasskeyFault::Configuration)?;
        let builder = further.iter().fold(builder, WebauthnBuilder::append_allowed_origin);
        let webauthn = builder
            .rp_name(rp_name)
            .timeout(CEREMONY)
            .allow_subdomains(false)
            .allow_any_port(false)
            .build()
            .map_err(PasskeyFault::Configuration)?;
        Ok(Self { webauthn, user_verification })
    }

    /// Begins to enrol another passkey: the options for `navigator.credentials.create`, and what to keep. Devices that hold
    /// one of the `known` already are left out by the browser, and refused here.
    pub fn begin_enrolment(
        &self,
        person: Person<'_>,
        known: &[PasskeyRecord],
    ) -> Result<(Value, EnrolmentState), PasskeyFault> {
        let Person { handle, name } = person;
        let handle = Uuid::from_bytes(handle);
        let known = Some(known.iter().map(|record| record.credential.cred_id().clone()).collect());
        let (options, state) = if self.user_verification {
            let begun = self.webauthn.start_passkey_registration(handle, name, name, known);
            begun.map(|(options, state)| (options, EnrolmentState::Verified(state)))
        } else {
            let begun = self.webauthn.start_securitykey_registration(handle, name, name, known, None, None);
            begun.map(|(options, state)| (options, EnrolmentState::Present(state)))
        }
        .map_err(PasskeyFault::Refused)?;
        Ok((options::creation(&options)?, state))
    }

    /// Ends an enrolment with the browser's response.
    pub fn finish_enrolment(&self, state: &EnrolmentState, response: &[u8]) -> Result<PasskeyRecord, PasskeyFault> {
        let response: RegisterPublicKeyCredential = read(response)?;
        let credential = match state {
            EnrolmentState::Verified(state) => self.webauthn.finish_passkey_registration(&response, state),
            EnrolmentState::Present(state) => {
                let key = self.webauthn.finish_securitykey_registration(&response, state);
                key.map(|key| Passkey::from(Credential::from(key)))
            }
        }
        .map_err(PasskeyFault::Refused)?;
        Ok(PasskeyRecord { credential })
    }

    /// Begins a proof by one of the person's passkeys, those that are suspect left out: the options for `navigator.credentials.get`, and what to keep.
    pub fn begin_proof(&self, handle: [u8; 16], known: &[PasskeyRecord]) -> Result<(Value, ProofState), PasskeyFault> {
        if known.is_empty() {
            return Err(PasskeyFault::NoneUsable);
        }
        let known = known.iter().map(|record| record.credential.clone());
        let (options, asked) = if self.user_verification {
            let begun = self.webauthn.start_passkey_authentication(&known.collect::<Vec<_>>());
            begun.map(|(options, state)| (options, Asked::Verified(state)))
        } else {
            let keys: Vec<_> = known.map(|key| SecurityKey::from(Credential::from(key))).collect();
            let begun = self.webauthn.start_securitykey_authentication(&keys);
            begun.map(|(options, state)| (options, Asked::Present(state)))
        }
        .map_err(PasskeyFault::Refused)?;
        Ok((options::request(&options)?, ProofState { handle, asked }))
    }

    /// Ends a proof with the browser's response. `known` are the person's passkeys as they are now, those that are suspect left
    /// out: one that was removed meanwhile proves nothing, and a counter is compared with the one that was written last.
    pub fn finish_proof(
        &self,
        state: &ProofState,
        known: &[PasskeyRecord],
        response: &[u8],
    ) -> Result<PasskeyProof, PasskeyFault> {
        let response: PublicKeyCredential = read(response)?;
        // §7.2 step 6: where the device says whose the key is, it must be the person that was asked.
        if response.get_user_unique_id().is_some_and(|handle| handle != state.handle) {
            return Err(PasskeyFault::Refused(WebauthnError::InvalidUserUniqueId));
        }
        let (index, record) = known
            .iter()
            .enumerate()
            .find(|(_, record)| record.credential.cred_id().as_slice() == response.get_credential_id())
            .ok_or(PasskeyFault::Refused(WebauthnError::CredentialNotFound))?;
        let result = match &state.asked {
            Asked::Verified(state) => self.webauthn.finish_passkey_authentication(&response, state),
            Asked::Present(state) => self.webauthn.finish_securitykey_authentication(&response, state),
        };
        let result = result.map_err(|fault| {
            // It is looked at after the signature, so that nobody without the key can make it seem copied.
            let went_back = matches!(fault, WebauthnError::CredentialPossibleCompromise);
            if went_back { PasskeyFault::CounterWentBack { index } } else { PasskeyFault::Refused(fault) }
        })?;
        // The state knows the counter of when the ceremony began; another may have ended meanwhile.
        let counter = Credential::from(record.credential.clone()).counter;
        if (counter > 0 || result.counter() > 0) && result.counter() <= counter {
            return Err(PasskeyFault::CounterWentBack { index });
        }
        let mut record = record.clone();
        record.credential.update_credential(&result);
        Ok(PasskeyProof {
            index,
            record,
            user_verified: result.user_verified(),
            synchronised: result.backup_eligible(),
        })
    }
}

impl PasskeyRecord {
    /// Whether copies of the key may exist elsewhere.
    pub fn is_synchronised(&self) -> bool {
        Credential::from(self.credential.clone()).backup_eligible
    }
}

impl fmt::Debug for PasskeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasskeyRecord(…)")
    }
}

impl PasskeyProof {
    /// Its categories. A person who was verified by the device gave a code (known) or a finger (is), and the relying party is
    /// not told which: it counts as known, so that with a password before it two categories are never taken for three.
    pub fn categories(&self) -> Categories {
        let possession = Categories::NONE.with(Category::Possession);
        if self.user_verified { possession.with(Category::Knowledge) } else { possession }
    }

    /// What it is called in `amr` (RFC 8176 §2). `hwk` is never said: without attestation nobody knows of hardware.
    pub fn amr(&self) -> impl Iterator<Item = &'static str> {
        let key = if self.synchronised { Some("swk") } else { None };
        let verified = if self.user_verified { Some("mfa") } else { None };
        ["pop"].into_iter().chain(key).chain(["user"]).chain(verified)
    }
}

fn read<T: serde::de::DeserializeOwned>(response: &[u8]) -> Result<T, PasskeyFault> {
    if response.len() > RESPONSE_BYTES {
        return Err(PasskeyFault::Malformed);
    }
    serde_json::from_slice(response).map_err(|_| PasskeyFault::Malformed)
}
