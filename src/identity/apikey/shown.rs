//! What a request shows of keys: one, none, or more than can be told apart.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    config::ApiKeys,
    identity::{
        Field, Kinds, Presented,
        presented::{ApiKeyPlace, Authorization},
    },
};

/// What a request shows of keys.
#[derive(Debug)]
pub(in crate::identity) enum Shown<'p> {
    /// None.
    Nothing,
    /// Several, or one beside another credential that the route takes, or one in a form that can be read in two ways.
    Several,
    /// One.
    Key(Key<'p>),
}

/// What is shown as a key. It may be anything.
pub(in crate::identity) struct Key<'p> {
    pub(super) bytes: Cow<'p, [u8]>,
    pub(super) place: Place<'p>,
}

impl std::fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Where a key stood.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'p> {
    /// In a field of its own.
    Own(&'p ApiKeyPlace),
    /// As the user name of Basic credentials (RFC 7617).
    UserName,
}

impl Place<'_> {
    /// Whether a source looks for keys there.
    pub(super) fn is_read_by(&self, keys: &ApiKeys) -> bool {
        match self {
            Self::Own(ApiKeyPlace::Header(name)) => keys.header == *name,
            Self::Own(ApiKeyPlace::Parameter(name)) => keys.danger_query.as_ref() == Some(name),
            Self::UserName => keys.basic_username,
        }
    }
}

/// What a request shows to sources that look for keys, on a route that takes credentials of these kinds.
pub(super) fn shown<'p, 's>(
    presented: &Presented<'p>,
    kinds: Kinds,
    sources: impl Iterator<Item = &'s ApiKeys> + Clone,
) -> Shown<'p> {
    let mut found = None;
    for field in presented.keys {
        let place = Place::Own(&field.place);
        if !sources.clone().any(|keys| place.is_read_by(keys)) {
            continue;
        }
        let (Some(value), None) = (&field.value, &found) else { return Shown::Several };
        found = Some(Key { bytes: Cow::Borrowed(value.expose()), place });
    }
    let by_name = sources.clone().any(|keys| keys.basic_username);
    match (beside(presented, kinds, by_name), found) {
        (Beside::Nothing, None) | (Beside::Other, None) => Shown::Nothing,
        (Beside::Nothing, Some(key)) | (Beside::Key(key), None) => Shown::Key(key),
        (Beside::Other | Beside::Key(_), Some(_)) => Shown::Several,
    }
}

/// What `Authorization` holds.
enum Beside<'p> {
    /// Nothing that is a credential here.
    Nothing,
    /// A credential of another kind.
    Other,
    /// A key.
    Key(Key<'p>),
}

fn beside<'p>(presented: &Presented<'p>, kinds: Kinds, by_name: bool) -> Beside<'p> {
    let value = match presented.authorization {
        Field::Absent => return Beside::Nothing,
        Field::Several => return Beside::Other,
        Field::One(value) => value,
    };
    let other_if = |taken: bool| if taken { Beside::Other } else { Beside::Nothing };
    match Authorization::parse(value) {
        Authorization::Basic(encoded) if by_name => match user_name(encoded) {
            Some(name) => Beside::Key(Key { bytes: Cow::Owned(name), place: Place::UserName }),
            // With a password, or broken: for who takes passwords; where nobody does, it is no key either.
            None if kinds.has(Kinds::BASIC) => Beside::Other,
            None => Beside::Key(Key { bytes: Cow::Borrowed(b""), place: Place::UserName }),
        },
        Authorization::Basic(_) => other_if(kinds.has(Kinds::BASIC)),
        Authorization::Bearer(_) | Authorization::Dpop(_) => other_if(kinds.has(Kinds::TOKEN)),
        Authorization::OtherScheme => Beside::Nothing,
    }
}

/// The user name of Basic credentials without a password.
fn user_name(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    if colon + 1 != decoded.len() {
        return None;
    }
    decoded.truncate(colon);
    Some(decoded)
}
