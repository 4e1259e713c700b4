//! An override among the members of a JSON body: Laravel, Phoenix and Slim read it there, as many an Express application does.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Add, ConflictingOverride, is_parameter};

const LAX: ConflictingOverride = ConflictingOverride::Unreadable("the body is no JSON, or only to lax readers");

/// Finds overrides. A body that is no JSON to us may be some to a lax reader, so it is refused.
pub(super) fn find(body: &[u8], add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    let text = std::str::from_utf8(body).map_err(|_| LAX)?.trim_ascii();
    if text.is_empty() {
        return Ok(());
    }
    if !text.starts_with('{') {
        // A list has no members, nor has a number.
        return serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|_| LAX);
    }
    let Said(values) = serde_json::from_str(text).map_err(|_| LAX)?;
    values.iter().try_for_each(|value| match value {
        Value::String(value) => add(value.as_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(ConflictingOverride::NoMethod)
        }
    })
}

/// What the members of an object say that are overrides, each as often as it is there.
struct Said(Vec<Value>);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if is_parameter(&name) {
                found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Said(found))
    }
}
