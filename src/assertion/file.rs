//! The keys of our own making, in a file that only its owner may read. It is replaced as a whole: after a crash it is the
//! old one or the new.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    files,
    jose::{Algorithm, Entry, Ring, SigningKey},
};

/// Longer than any file of ours.
const LONGEST: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u64,
    keys: Vec<WireKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    made: u64,
    algorithm: String,
    pkcs8: String,
}

/// Reads the keys; none, where there is no such file.
pub(super) fn load(path: &Path) -> io::Result<Ring> {
    let text = match files::read_text(path, LONGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ring::default()),
        Err(error) => return Err(error),
    };
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it does not hold the keys that were written to it");
    let wire: Wire = serde_json::from_str(&text).map_err(|_| bad())?;
    let keys = wire.keys.iter().map(|key| {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == key.algorithm)?;
        let key_pair = SigningKey::from_pkcs8(algorithm, &STANDARD.decode(&key.pkcs8).ok()?).ok()?;
        Some(Entry { made: key.made, key: key_pair })
    });
    let entries = keys.collect::<Option<Vec<_>>>().filter(|_| wire.v == 1).ok_or_else(bad)?;
    Ok(Ring::new(entries))
}

/// Writes the keys, durably.
pub(super) fn save(path: &Path, ring: &Ring) -> io::Result<()> {
    let keys = ring.entries().map(|entry| WireKey {
        made: entry.made,
        algorithm: entry.key.algorithm().name().to_owned(),
        pkcs8: STANDARD.encode(entry.key.pkcs8().expose()),
    });
    let text = serde_json::to_string(&Wire { v: 1, keys: keys.collect() })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    files::replace(path, |file| file.write_all(text.as_bytes()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/keys.json");
        assert_eq!(load(&path).unwrap().entries().count(), 0);
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        let kid = key.kid().to_owned();
        save(&path, &Ring::new(vec![Entry { made: 7, key }])).unwrap();
        let loaded = load(&path).unwrap();
        let entry = loaded.entries().next().unwrap();
        assert_eq!((entry.made, entry.key.kid()), (7, &*kid));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_a_fault_and_never_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        for bad in
            ["", "{}", r#"{"v":2,"keys":[]}"#, r#"{"v":1,"keys":[{"made":1,"algorithm":"ES256","pkcs8":"AAAA"}]}"#]
        {
            fs::write(&path, bad).unwrap();
            assert_eq!(load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad}");
        }
    }
}
