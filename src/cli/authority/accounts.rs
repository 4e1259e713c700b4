//! `stepgate users import` and `stepgate users invite`: accounts that the authority keeps.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Authorities, Fault, ask_and_print, end};
use crate::{authority::accounts, cli::Exit, cli::complain, cli::print_line, files};

/// The most lines of one call, and the most bytes: what the store takes in seconds, and the admin API in one body.
const PIECE_LINES: usize = 200;
const PIECE_BYTES: usize = 256 << 10;

/// Makes accounts from a file.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The accounts: `name,email,hash` or a JSON object with these a line; argon2id in PHC form, or bcrypt
    #[arg(value_name = "ACCOUNTS")]
    file: PathBuf,
    /// Leaves lines out that cannot be imported, instead of all
    #[arg(long)]
    skip_bad: bool,
}

/// Invites somebody to register.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The mail address that the invitation is sent to: it needs no confirmation then
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// How long it is good for: 12h, 3d. Without it, `authority.invitation_ttl`
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Who asks
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Some lines of a file.
struct Piece<'t> {
    /// The number of the first.
    first_line: usize,
    text: &'t str,
}

/// Invites somebody to register.
pub(crate) fn invite(args: &InviteArgs) -> Exit {
    let mut body = Map::new();
    for (name, text) in [("email", &args.email), ("ttl", &args.ttl), ("by", &args.by)] {
        body.extend(text.as_deref().map(|text| (name.to_owned(), text.into())));
    }
    ask_and_print(&args.config, Method::POST, "/accounts/invitations", &Value::Object(body))
}

/// Imports a file.
pub(crate) fn import(args: &ImportArgs) -> Exit {
    let text = match files::read_text(&args.file, accounts::MOST_BYTES as u64) {
        Ok(text) => text,
        Err(error) => {
            complain(&std::io::Error::new(error.kind(), format!("reading {}: {error}", args.file.display())));
            return Exit::Io;
        }
    };
    let (_, faults) = accounts::read_import(&text);
    let mut bad = Vec::new();
    if !args.skip_bad {
        let name = args.file.display();
        bad.extend(faults.iter().map(|fault| format!("{name}:{}: {}", fault.line, fault.what)));
        if !bad.is_empty() {
            return refuse(&bad);
        }
    }
    let pieces = pieces(&text);
    let mut refused = false;
    let exit = end(Authorities::open(&args.config).and_then(|authority| {
        if !args.skip_bad {
            for piece in &pieces {
                bad.extend(ask(&authority, piece, args, true)?.1);
            }
            if !bad.is_empty() {
                refused = true;
                return Ok(());
            }
        }
        let (mut made, mut there) = (0, 0);
        for piece in &pieces {
            let (answer, faults) = ask(&authority, piece, args, false)?;
            made += answer.0;
            there += answer.1;
            bad.extend(faults);
        }
        print_line(&json!({"made": made, "there": there}).to_string());
        Ok(())
    }));
    if refused { refuse(&bad) } else { left_out(&bad, exit) }
}

/// Says what is wrong, and that nothing was done.
fn refuse(bad: &[String]) -> Exit {
    bad.iter().for_each(|line| complain_line(line));
    complain_line("nothing was imported");
    Exit::Failure
}

/// Says which lines were left out.
fn left_out(bad: &[String], exit: Exit) -> Exit {
    bad.iter().for_each(|line| complain_line(&format!("{line} (left out)")));
    exit
}

fn complain_line(text: &str) {
    complain(&std::io::Error::other(text.to_owned()));
}

/// Has one piece imported, or looked at: how many accounts were made and were there, and what is wrong.
fn ask(
    authority: &Authorities,
    piece: &Piece<'_>,
    args: &ImportArgs,
    check: bool,
) -> Result<((u64, u64), Vec<String>), Fault> {
    let body = json!({"text": piece.text, "first_line": piece.first_line, "skip_bad": args.skip_bad, "check": check});
    let answer = authority.ask(Method::POST, "/accounts/import", &body)?.body;
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
    let faults = answer.get("faults").and_then(Value::as_array).into_iter().flatten();
    Ok(((number("made"), number("there")), faults.map(|fault| told(&args.file, fault)).collect()))
}

fn told(file: &Path, fault: &Value) -> String {
    let line = fault.get("line").and_then(Value::as_u64).unwrap_or_default();
    format!("{}:{line}: {}", file.display(), fault.get("what").and_then(Value::as_str).unwrap_or_default())
}

/// The lines in pieces that one call takes.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut end, mut lines, mut number) = (0, 0, 0, 1);
    for line in text.split_inclusive('\n') {
        if lines == PIECE_LINES || (lines > 0 && end - start + line.len() > PIECE_BYTES) {
            pieces.extend(text.get(start..end).map(|text| Piece { first_line: number, text }));
            number += lines;
            (start, lines) = (end, 0);
        }
        end += line.len();
        lines += 1;
    }
    pieces.extend(text.get(start..end).filter(|text| !text.is_empty()).map(|text| Piece { first_line: number, text }));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_taken_in_pieces_that_know_their_lines() {
        let text: String = (1..=450).map(|n| format!("line {n}\n")).collect();
        let cut = pieces(&text);
        let firsts: Vec<(usize, Option<&str>)> =
            cut.iter().map(|piece| (piece.first_line, piece.text.lines().next())).collect();
        assert_eq!(firsts, [(1, Some("line 1")), (201, Some("line 201")), (401, Some("line 401"))]);
        assert_eq!(cut.iter().map(|piece| piece.text).collect::<String>(), text);
        assert!(pieces("").is_empty());
    }
}
