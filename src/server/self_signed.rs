//! A certificate of our own making for `localhost`, for listeners that say `danger_self_signed: true`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::config::{Config, ListenerMode};

/// Makes the certificates that the configuration wants made and that are not there yet.
///
/// # Errors
/// When the state directory or a file in it cannot be written.
pub fn make_self_signed(config: &Config) -> io::Result<()> {
    for listener in &config.listeners {
        let ListenerMode::Tls(tls) = &listener.mode else { continue };
        let Some(certificate) = tls.certificates.first().filter(|_| tls.self_signed) else { continue };
        let pair = &certificate.files;
        if pair.cert.path.exists() && pair.key.path.exists() {
            continue;
        }
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        if let Some(folder) = pair.cert.path.parent() {
            fs::create_dir_all(folder)?;
        }
        write(&pair.key.path, 0o600, &made.signing_key.serialize_pem())?;
        write(&pair.cert.path, 0o644, &made.cert.pem())?;
    }
    Ok(())
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
