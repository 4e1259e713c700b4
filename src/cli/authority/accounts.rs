//! The accounts' part of the admin API, and of the command line: importing, and inviting somebody to register.
//!
//! | call | does | answers |
//! |---|---|---|
//! | `POST /accounts/import` | makes accounts of `text`, CSV or lines of JSON; `skip_bad` leaves bad lines out | 200; 422 and nothing done where lines are bad |
//! | `POST /accounts/invitations` | invites somebody to register, by `email`, `ttl`, `by`, each if there is one | 201 with the code, which is shown this once |

use std::path::Path;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Authorities, Kept, api::Operators};
use crate::{
    authority::{
        self,
        accounts::{Imported, MOST_BYTES, read_import},
    },
    cli::{
        Exit,
        answers::{bad, operator, read},
        place::{Fault, ask_and_print, end, refusal},
        print_line,
    },
    config, files,
    server::AdminAnswer,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    text: String,
    #[serde(default)]
    skip_bad: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    email: Option<String>,
    ttl: Option<String>,
    by: Option<String>,
}

impl Operators<'_> {
    /// Makes accounts of a file's text.
    pub(super) fn import_accounts(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let Import { text, skip_bad } = read(body)?;
        let now = self.now;
        let imported: Imported = self.done(move |authority| async move {
            let accounts = authority.accounts().ok_or(authority::Fault::NotFound)?;
            let (lines, faults) = read_import(&text);
            accounts.import(&lines, faults, skip_bad, now).await
        })?;
        let is_done = skip_bad || imported.faults.is_empty();
        tracing::info!(made = imported.made, there = imported.there, "accounts were imported");
        let status = if is_done { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let faults: Vec<Value> =
            imported.faults.iter().map(|fault| json!({"line": fault.line, "what": fault.what.to_string()})).collect();
        let detail = if is_done { "done" } else { "lines are bad, and nothing was imported" };
        let body = json!({"made": imported.made, "there": imported.there, "faults": faults, "detail": detail});
        Ok(AdminAnswer { status, body })
    }

    /// Invites somebody to register.
    pub(super) fn invite_account(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let Invite { email, ttl, by } = read(body)?;
        let by = operator(by)?;
        let ttl = match ttl {
            None => None,
            Some(ttl) => Some(config::duration(&ttl).ok_or_else(|| bad("`ttl` is a duration: 3d, 12h"))?),
        };
        let now = self.now;
        let invitation = self.done(move |authority| async move {
            let accounts = authority.accounts().ok_or(authority::Fault::NotFound)?;
            accounts.invite_account(&by, email.as_deref(), ttl, now).await
        })?;
        Ok(AdminAnswer { status: StatusCode::CREATED, body: json!(invitation) })
    }
}

/// Imports a file of accounts.
pub(crate) fn import(config: &Path, file: &Path, skip_bad: bool) -> Exit {
    end(files::read_text(file, MOST_BYTES as u64)
        .map_err(|error| Fault::Read(file.to_owned(), error))
        .and_then(|text| Ok((text, Authorities::open(config)?)))
        .and_then(|(text, authority)| {
            let answer =
                authority.look(Method::POST, "/accounts/import", &json!({"text": text, "skip_bad": skip_bad}))?;
            for fault in answer.body.get("faults").and_then(Value::as_array).into_iter().flatten() {
                let (line, what) =
                    (fault.get("line").and_then(Value::as_u64), fault.get("what").and_then(Value::as_str));
                print_line(&format!("{}:{}: {}", file.display(), line.unwrap_or_default(), what.unwrap_or_default()));
            }
            if !answer.status.is_success() {
                return Err(refusal(answer.status, &answer.body));
            }
            let number = |name: &str| answer.body.get(name).and_then(Value::as_u64).unwrap_or_default();
            print_line(&format!("{} accounts made, {} were there already", number("made"), number("there")));
            Ok(())
        }))
}

/// Invites somebody to register.
pub(crate) fn invite(config: &Path, email: Option<&str>, ttl: Option<&str>, by: Option<&str>) -> Exit {
    ask_and_print::<Kept>(config, Method::POST, "/accounts/invitations", &json!({"email": email, "ttl": ttl, "by": by}))
}
