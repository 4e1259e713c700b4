//! The gateway's own credential for an upstream, made into a header once, when the configuration is compiled.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    config::{Materials, Problem, Source, Span, Upstream, UpstreamCredential},
    secret::Secret,
};

/// Makes the header that carries a service's credential, if it has one.
pub fn credential(
    upstream: &Upstream,
    materials: &dyn Materials,
) -> Result<Option<(HeaderName, HeaderValue)>, Problem> {
    let Some(credential) = &upstream.credential else { return Ok(None) };
    let (name, source, value) = match credential {
        UpstreamCredential::Basic { username, password } => {
            (AUTHORIZATION, password, basic(username, &read(password, materials)?, &upstream.span)?)
        }
        UpstreamCredential::Header { name, value } => (name.clone(), value, read(value, materials)?),
    };
    let mut header = HeaderValue::from_bytes(value.expose())
        .map_err(|_| Problem::error(span(source), "the value holds a character that no header may hold"))?;
    header.set_sensitive(true);
    Ok(Some((name, header)))
}

/// RFC 7617 §2: neither part holds control characters, and the user name no colon.
fn basic(username: &str, password: &Secret, at: &Span) -> Result<Secret, Problem> {
    if username.contains(':') {
        return Err(Problem::error(at, "the user name of a Basic credential can't hold a colon"));
    }
    if username.bytes().chain(password.expose().iter().copied()).any(|byte| byte.is_ascii_control()) {
        return Err(Problem::error(at, "a Basic credential can't hold control characters"));
    }
    let pair = Secret::new([username.as_bytes(), b":", password.expose()].concat());
    Ok(Secret::new(format!("Basic {}", STANDARD.encode(pair.expose()))))
}

fn read(source: &Source, materials: &dyn Materials) -> Result<Secret, Problem> {
    let secret = match source {
        Source::File(file) => Secret::new(without_final_newline(
            materials.read_file(&file.path).map_err(|fault| Problem::error(&file.span, fault))?,
        )),
        Source::Env { span, name } => Secret::new(
            materials
                .env(name)
                .ok_or_else(|| Problem::error(span, format!("the environment variable {name} is not set")))?,
        ),
        Source::Inline { value, .. } => value.clone(),
    };
    if secret.expose().is_empty() {
        return Err(Problem::error(span(source), "the credential is empty"));
    }
    Ok(secret)
}

/// Editors end a file with a newline that is no part of the secret.
fn without_final_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn span(source: &Source) -> &Span {
    match source {
        Source::File(file) => &file.span,
        Source::Env { span, .. } | Source::Inline { span, .. } => span,
    }
}
