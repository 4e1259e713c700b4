//! Erasing what identifies somebody: disclosures are struck out in their place, and the chain stays whole.
//!
//! A disclosure is overwritten with as many `-`, so no line moves and the gateway may go on appending meanwhile. What
//! is struck out here still stands in every copy that was made of the file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    disclosure,
    file::Identity,
    record::{LINE_BYTES, Line},
};

/// Records that are found before they are struck out, so that a long file takes no more memory than a short one.
pub(super) const AT_ONCE: usize = 4096;
/// The file is read in pieces of this size where it is read at a bounded speed.
const PIECE: u64 = 1 << 20;

/// Strikes out the disclosures that `matches` says yes to, by name (`subject`, `client`, `operator`, `address`, `path`,
/// `path_params.…`) and value; how many, once that is durable. Lines that are no records are left alone.
pub fn erase(path: &Path, matches: impl Fn(&str, &str) -> bool) -> io::Result<u64> {
    strike_all(path, &|_: &Outline, disclosed: &[Disclosed<'_>]| {
        disclosed.iter().map(|one| matches(&one.name, &one.value)).collect()
    })
}

/// Strikes out what `judge` says yes to in a file that nobody has to tell about it.
pub(super) fn strike_all(path: &Path, judge: &Judge<'_>) -> io::Result<u64> {
    let (mut pass, mut struck) = (Pass::over(path, u64::MAX, None)?, 0);
    loop {
        let found = pass.next(judge)?;
        if found.is_empty() {
            return Ok(struck);
        }
        struck += strike_out(path, &found)?;
    }
}

/// The parts of a record that say whom it is about.
#[derive(Debug, Deserialize)]
pub(super) struct Outline {
    pub(super) seq: u64,
    /// When it was made: texts of one form, which sort as the moments do.
    #[serde(default)]
    pub(super) time: String,
    /// The deletion that it tells of.
    #[serde(default)]
    pub(super) erasure: Option<String>,
    /// The request that it tells of.
    #[serde(default)]
    pub(super) request_id: Option<String>,
    #[serde(default)]
    pub(super) who: Whom,
    #[serde(default)]
    pub(super) by: Whom,
    #[serde(default, rename = "_sd")]
    digests: Vec<String>,
}

/// Who vouches for whoever is disclosed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Whom {
    #[serde(default)]
    pub(super) issuer_url: String,
}

/// A disclosure that is still there.
#[derive(Debug)]
pub(super) struct Disclosed<'a> {
    text: &'a str,
    pub(super) name: String,
    pub(super) value: String,
}

/// Says of each disclosure of a record whether it is to be struck out.
pub(super) type Judge<'a> = dyn Fn(&Outline, &[Disclosed<'_>]) -> Vec<bool> + 'a;

/// A record of which something is to be struck out.
#[derive(Debug)]
pub(super) struct Found {
    /// Its number.
    pub(super) seq: u64,
    /// The places of the disclosures among its commitments: a bit each.
    pub(super) mask: u64,
    hits: Vec<Hit>,
}

#[derive(Debug)]
struct Hit {
    at: u64,
    text: String,
    turn: Turn,
}

/// When a disclosure is struck out. What a record is found by goes last, so that after a crash it is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Path,
    Person,
}

impl Turn {
    const ALL: [Self; 3] = [Self::First, Self::Path, Self::Person];

    fn of(name: &str) -> Self {
        match name {
            "path" => Self::Path,
            "subject" | "caller" => Self::Person,
            _ => Self::First,
        }
    }
}

/// The bit of a commitment's place; all those behind the sixty-third share one.
pub(super) const fn bit(place: usize) -> u64 {
    1 << if place < 63 { place } else { 63 }
}

/// One reading of the file from its beginning to where it ended when it was begun.
pub(super) struct Pass {
    reader: BufReader<File>,
    offset: u64,
    until: u64,
    pace: Option<Pace>,
}

impl Pass {
    /// A reading of the first `until` bytes, of so many bytes in a second at most.
    pub(super) fn over(path: &Path, until: u64, bytes_per_sec: Option<u64>) -> io::Result<Self> {
        let reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        Ok(Self { reader, offset: 0, until, pace: bytes_per_sec.map(Pace::new) })
    }

    /// Whether this reads the file that is meant.
    pub(super) fn reads(&self, file: Identity) -> io::Result<()> {
        file.check(&self.reader.get_ref().metadata()?)
    }

    /// The next records of which something is to be struck out; none at the end.
    pub(super) fn next(&mut self, judge: &Judge<'_>) -> io::Result<Vec<Found>> {
        let (mut found, mut line) = (Vec::new(), Vec::new());
        while found.len() < AT_ONCE && self.offset < self.until {
            line.clear();
            let read = self.reader.by_ref().take(LINE_BYTES as u64).read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                // What was durable and is not there any more stands somewhere else, and nobody was struck out of it.
                let is_whole = self.until == u64::MAX;
                return if is_whole { Ok(found) } else { Err(io::Error::other("it is shorter than it was left")) };
            }
            found.extend(judged(&line, self.offset, judge));
            self.offset += read;
            if let Some(pace) = &mut self.pace {
                pace.passed(read);
            }
        }
        Ok(found)
    }
}

/// What of a line is to be struck out.
fn judged(line: &[u8], offset: u64, judge: &Judge<'_>) -> Option<Found> {
    let record = line.strip_suffix(b"\n").and_then(Line::split).filter(Line::is_sound)?;
    let disclosed: Vec<Disclosed<'_>> = record.disclosures.iter().filter_map(|text| Disclosed::read(text)).collect();
    if disclosed.is_empty() {
        return None;
    }
    let outline: Outline = serde_json::from_slice(&record.object()).ok()?;
    let mut found = Found { seq: outline.seq, mask: 0, hits: Vec::new() };
    for (one, _) in disclosed.iter().zip(judge(&outline, &disclosed)).filter(|(_, is_hit)| *is_hit) {
        let digest = disclosure::digest_of(one.text);
        // One that the record did not commit to is a fault for `verify` to find, and none of ours.
        let Some(place) = outline.digests.iter().position(|committed| *committed == digest) else { continue };
        // The salt makes it unique, and behind the body there is nothing that it could be part of.
        let Some(at) = line.windows(one.text.len()).rposition(|window| window == one.text.as_bytes()) else { continue };
        found.mask |= bit(place);
        found.hits.push(Hit { at: offset + at as u64, text: one.text.to_owned(), turn: Turn::of(&one.name) });
    }
    (!found.hits.is_empty()).then_some(found)
}

impl<'a> Disclosed<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if disclosure::is_struck_out(text) {
            return None;
        }
        disclosure::read(text).map(|(name, value)| Self { text, name, value })
    }
}

/// Overwrites what was found; how many, once that is durable.
pub(super) fn strike_out(path: &Path, found: &[Found]) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut struck, mut there) = (0, Vec::new());
    for turn in Turn::ALL {
        for hit in found.iter().flat_map(|found| &found.hits).filter(|hit| hit.turn == turn) {
            // Somebody may have changed the file since: nothing but the disclosure itself is ever overwritten.
            there.resize(hit.text.len(), 0);
            file.seek(SeekFrom::Start(hit.at))?;
            file.read_exact(&mut there)?;
            if there != hit.text.as_bytes() {
                return Err(io::Error::other("the file changed while it was read"));
            }
            file.seek(SeekFrom::Start(hit.at))?;
            file.write_all("-".repeat(hit.text.len()).as_bytes())?;
            struck += 1;
        }
        file.sync_data()?;
    }
    Ok(struck)
}

/// Keeps a reading from taking the disk from whoever serves requests.
struct Pace {
    bytes_per_sec: u64,
    began: Instant,
    read: u64,
    rested: u64,
}

impl Pace {
    fn new(bytes_per_sec: u64) -> Self {
        Self { bytes_per_sec, began: Instant::now(), read: 0, rested: 0 }
    }

    fn passed(&mut self, bytes: u64) {
        self.read += bytes;
        if self.read - self.rested < PIECE {
            return;
        }
        self.rested = self.read;
        let due = Duration::from_secs_f64(self.read as f64 / self.bytes_per_sec.max(1) as f64);
        thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

/// What of a strike may be on the disk after a crash: every turn before, and of the present one what a pattern of bits says.
#[cfg(test)]
pub(super) fn as_after_a_crash(mut found: Vec<Found>, turn: usize, pattern: u32) -> Vec<Found> {
    let mut nth = 0;
    for record in &mut found {
        record.hits.retain(|hit| {
            let at = Turn::ALL.iter().position(|turn| *turn == hit.turn).unwrap_or_default();
            nth += 1;
            at < turn || at == turn && (nth * 7 + pattern).is_multiple_of(3)
        });
    }
    found
}
