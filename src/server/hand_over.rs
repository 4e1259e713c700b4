//! How two processes of one state folder speak when one takes over from the other: over a Unix socket in that folder, which only
//! its owner can reach.
//!
//! ```text
//!   new                                              old
//!    │ ask: which protocol, which version ──────────> │
//!    │ <───────────── offer: the listening sockets    │  serves on
//!    │   (reads, checks, binds what is new)           │
//!    │ ready ───────────────────────────────────────> │  stops accepting; ends what needs the store and the audit log
//!    │ <──────────────────────────────── released     │  has let go of store, log and lock
//!    │   (opens them, serves)                         │
//!    │ serving: what it took ───────────────────────> │  lets its connections end
//! ```
//! A connection that ends before `ready` changes nothing; one that ends between `released` and `serving` has the old process take all
//! back. The lock on the folder decides in the end who may. What one side waits for has a deadline, however it arrives.

use std::{
    fs, io,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::{HandedSocket, SocketKind, SocketName};

/// The socket's name in the state folder.
const FILE: &str = "hand-over.sock";
/// The form of what is said; another one is not understood.
const PROTOCOL: u32 = 1;
/// The longest thing that is said: the names of a thousand listeners.
const LONGEST: usize = 1 << 20;
/// The most sockets: a listener for each of a hundred addresses, of each of forty workers.
const MOST_SOCKETS: usize = 4096;
/// How long the other side may take for what needs no work.
const PROMPT: Duration = Duration::from_secs(5);
/// How long it may take to read and check a configuration, or to open a store: all of its file is read.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a last word may take: who says it does not wait for whether it is read.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Why a hand-over did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandOverFault {
    /// Nobody is there to take over from.
    #[error("no stepgate that runs can be reached at {path}")]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The other process said why it will not.
    #[error("the other process refuses: {0}")]
    Refused(String),
    /// It said something that has no place there.
    #[error("the other process is of a version that hands over in another way")]
    Unknown,
    /// It is gone, or says nothing.
    #[error("speaking to the other process")]
    Io(#[from] io::Error),
}

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Word {
    Ask { protocol: u32, version: String, pid: u32 },
    Offer { protocol: u32, version: String, pid: u32, sockets: Vec<Offered> },
    Ready,
    Released,
    Refused { why: String },
    Serving { taken: Vec<Offered> },
}

/// A socket's name, as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    server: Box<str>,
    address: Box<str>,
    nth: usize,
    kind: Box<str>,
}

/// A connection to the other process, on which all blocks, and nothing for longer than until the deadline: each byte that comes
/// brings it nearer to that, and none moves it.
#[derive(Debug)]
struct Line {
    stream: UnixStream,
    until: Instant,
}

impl Line {
    fn new(stream: UnixStream) -> Self {
        Self { stream, until: Instant::now() + PROMPT }
    }

    /// What follows has so long, all together.
    fn within(&mut self, patience: Duration) -> &mut Self {
        self.until = Instant::now() + patience;
        self
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn say(&mut self, word: &Word) -> Result<(), HandOverFault> {
        let text = serde_json::to_vec(word).map_err(io::Error::from)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.write_all(&[&length.to_be_bytes()[..], &text].concat())?;
        Ok(())
    }

    fn hear(&mut self) -> Result<Word, HandOverFault> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(HandOverFault::Unknown);
        }
        let mut text = vec![0; length];
        self.read_exact(&mut text)?;
        match serde_json::from_slice(&text) {
            Ok(Word::Refused { why }) => Err(HandOverFault::Refused(why)),
            Ok(word) => Ok(word),
            Err(_) => Err(HandOverFault::Unknown),
        }
    }

    /// Sends a socket along with one byte, so that the two stay together.
    fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let sockets = [socket];
        let sent = retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            self.stream.set_write_timeout(Some(self.left().map_err(|_| Errno::TIMEDOUT)?)).map_err(|_| Errno::IO)?;
            sendmsg(&self.stream, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())
        })?;
        if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        #[cfg(target_os = "linux")]
        let flags = RecvFlags::CMSG_CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = RecvFlags::empty();
        self.stream.set_read_timeout(Some(self.left()?))?;
        retry_on_intr(|| recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags))?;
        let mut socket = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
                socket = socket.or_else(|| sockets.next());
            }
        }
        socket.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Offered {
    fn of(name: &SocketName, kind: &str) -> Self {
        Self { server: name.server.clone(), address: name.address.clone(), nth: name.nth, kind: kind.into() }
    }

    fn name(&self) -> SocketName {
        SocketName { server: self.server.clone(), address: self.address.clone(), nth: self.nth }
    }
}

/// Where the next process asks.
#[derive(Debug)]
pub struct HandOverDoor {
    listener: UnixListener,
    path: PathBuf,
    place: (u64, u64),
}

impl HandOverDoor {
    /// Opens it in a state folder whose lock the caller holds; whatever stood there before is somebody's who is gone.
    ///
    /// # Errors
    /// Whatever the system says; a path longer than a socket's may be is one.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let (path, next) = (state_dir.join(FILE), state_dir.join("hand-over.next"));
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&next)?;
        // Nobody knows it by its name before others are kept out.
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600))?;
        fs::rename(&next, &path)?;
        let found = fs::symlink_metadata(&path)?;
        Ok(Self { listener, path, place: (found.dev(), found.ino()) })
    }

    /// Waits for a process that asks, and is this one's owner's.
    pub async fn asked(&self) -> Visitor {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // For want of file descriptors, most likely.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let is_own = stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw());
            if !is_own {
                tracing::warn!("another user's process asked for a hand-over");
                continue;
            }
            let blocking = stream.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
            if let Ok(stream) = blocking {
                return Visitor(Line::new(stream));
            }
        }
    }
}

impl Drop for HandOverDoor {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.place);
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A process that asks. All of it blocks, for as long as the other side may take.
#[derive(Debug)]
pub struct Visitor(Line);

/// Ends what is spoken with a visitor, wherever that blocks, when it is dropped.
#[derive(Debug)]
pub struct CallOff(Option<UnixStream>);

impl CallOff {
    /// There is nothing to end any more.
    pub fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for CallOff {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            // Whoever is gone needs not to be told.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Visitor {
    /// What ends the visit from outside.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn call_off(&self) -> io::Result<CallOff> {
        self.0.stream.try_clone().map(|stream| CallOff(Some(stream)))
    }

    /// Gives it the sockets, and waits until it has everything ready: for a minute in all.
    ///
    /// # Errors
    /// Why nothing comes of it: nothing has changed.
    pub fn offer(&mut self, sockets: &[HandedSocket]) -> Result<u32, HandOverFault> {
        let Word::Ask { protocol, pid, .. } = self.0.within(PROMPT).hear()? else { return Err(HandOverFault::Unknown) };
        self.0.within(PATIENCE);
        if protocol != PROTOCOL {
            let why = format!("it speaks protocol {PROTOCOL} of hand-overs, not {protocol}");
            self.0.say(&Word::Refused { why })?;
            return Err(HandOverFault::Unknown);
        }
        let names = sockets.iter().map(|socket| Offered::of(&socket.name, socket.kind.name()));
        self.0.say(&Word::Offer {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            sockets: names.collect(),
        })?;
        for socket in sockets {
            self.0.send(socket.socket.as_fd())?;
        }
        match self.0.hear()? {
            Word::Ready => Ok(pid),
            Word::Ask { .. } | Word::Offer { .. } | Word::Released | Word::Refused { .. } | Word::Serving { .. } => {
                Err(HandOverFault::Unknown)
            }
        }
    }

    /// Says that everything has been let go of, and waits until the other process serves; gives the listeners that it took.
    ///
    /// # Errors
    /// It does not serve.
    pub fn released(&mut self) -> Result<Vec<SocketName>, HandOverFault> {
        self.0.within(PATIENCE).say(&Word::Released)?;
        match self.0.hear()? {
            Word::Serving { taken } => Ok(taken.iter().map(Offered::name).collect()),
            Word::Ask { .. } | Word::Offer { .. } | Word::Released | Word::Refused { .. } | Word::Ready => {
                Err(HandOverFault::Unknown)
            }
        }
    }

    /// Says why nothing comes of it.
    pub fn refuse(&mut self, why: &str) {
        // Whoever is gone needs not to be told.
        let _ = self.0.within(LAST_WORD).say(&Word::Refused { why: why.to_owned() });
    }
}

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor(Line);

impl Predecessor {
    /// Asks the process that runs over a state folder for its sockets.
    ///
    /// # Errors
    /// Nobody is there, or it will not.
    pub fn ask(state_dir: &Path) -> Result<(Self, Vec<HandedSocket>), HandOverFault> {
        let path = state_dir.join(FILE);
        let stream = UnixStream::connect(&path).map_err(|source| HandOverFault::Nobody { path, source })?;
        let mut line = Line::new(stream);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        line.say(&Word::Ask { protocol: PROTOCOL, version, pid: std::process::id() })?;
        // It may have another visitor before this one.
        let Word::Offer { protocol: PROTOCOL, version, pid, sockets } = line.within(2 * PATIENCE).hear()? else {
            return Err(HandOverFault::Unknown);
        };
        if sockets.len() > MOST_SOCKETS {
            return Err(HandOverFault::Unknown);
        }
        let mut handed = Vec::with_capacity(sockets.len());
        for offered in sockets {
            let socket = line.receive()?;
            // A kind that this version does not know is not taken: the other process empties its queue and closes it.
            if let Some(kind) = SocketKind::named(&offered.kind) {
                handed.push(HandedSocket { name: offered.name(), kind, socket });
            }
        }
        tracing::info!(version, pid, sockets = handed.len(), "taking over");
        Ok((Self(line), handed))
    }

    /// Says that all is ready, and waits until the other process has let go. `patience` is what that has for its operations under way.
    ///
    /// # Errors
    /// It did not.
    pub fn ready(&mut self, patience: Duration) -> Result<(), HandOverFault> {
        self.0.within(patience.saturating_add(PATIENCE)).say(&Word::Ready)?;
        match self.0.hear()? {
            Word::Released => Ok(()),
            Word::Ask { .. } | Word::Offer { .. } | Word::Ready | Word::Refused { .. } | Word::Serving { .. } => {
                Err(HandOverFault::Unknown)
            }
        }
    }

    /// Says that this process serves, on which of the listeners.
    ///
    /// # Errors
    /// The other process is gone, which is as good.
    pub fn serving(mut self, taken: &[SocketName]) -> Result<(), HandOverFault> {
        self.0.within(PROMPT).say(&Word::Serving { taken: taken.iter().map(|name| Offered::of(name, "")).collect() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn socket(listener: &TcpListener) -> HandedSocket {
        let name = SocketName { server: "worker".into(), address: "127.0.0.1:0".into(), nth: 0 };
        HandedSocket { name, kind: SocketKind::Tcp, socket: listener.as_fd().try_clone_to_owned().unwrap() }
    }

    #[tokio::test]
    async fn a_socket_changes_hands_with_the_connections_that_wait_in_its_queue() {
        let folder = tempfile::tempdir().unwrap();
        let door = HandOverDoor::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"x").unwrap();
        let state_dir = folder.path().to_owned();
        let next = std::thread::spawn(move || {
            let (mut before, sockets) = Predecessor::ask(&state_dir).unwrap();
            before.ready(Duration::from_secs(1)).unwrap();
            let listener = TcpListener::from(sockets.into_iter().next().unwrap().socket);
            let mut byte = [0];
            listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
            before.serving(&[SocketName { server: "worker".into(), address: "127.0.0.1:0".into(), nth: 0 }]).unwrap();
            byte[0]
        });
        let mut visitor = door.asked().await;
        visitor.offer(&[socket(&listener)]).unwrap();
        drop(listener);
        assert_eq!(visitor.released().unwrap().len(), 1);
        assert_eq!(next.join().unwrap(), b'x');
        drop(door);
        assert!(!folder.path().join(FILE).exists());
    }

    #[tokio::test]
    async fn one_that_goes_away_before_it_is_ready_is_a_fault_and_so_is_one_that_speaks_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let door = HandOverDoor::open(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        for said in [&b""[..], b"\0\0\0\x02{}", b"\xff\xff\xff\xff", b"\0\0\0\x07\"ready\"", b"GET / HTTP/1.1\r\n\r\n"]
        {
            let mut stranger = UnixStream::connect(&path).unwrap();
            stranger.write_all(said).unwrap();
            stranger.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(door.asked().await.offer(&[]).is_err(), "{said:?}");
        }
        let mut newer = Line::new(UnixStream::connect(&path).unwrap());
        newer.say(&Word::Ask { protocol: 2, version: "9.9.9".into(), pid: 1 }).unwrap();
        assert!(door.asked().await.offer(&[]).is_err());
        assert!(matches!(newer.hear(), Err(HandOverFault::Refused(_))));
    }

    #[test]
    fn a_word_that_comes_in_drips_has_no_longer_than_one_that_comes_at_once() {
        let (mut other, own) = UnixStream::pair().unwrap();
        // A word all the same, for who would wait for each byte anew.
        let word = format!("{:396}\"ready\"", "");
        let dripping = std::thread::spawn(move || {
            let length = u32::try_from(word.len()).unwrap().to_be_bytes();
            for byte in length.iter().chain(word.as_bytes()) {
                if other.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut line = Line::new(own);
        let heard = line.within(Duration::from_millis(300)).hear();
        assert!(matches!(heard, Err(HandOverFault::Io(_))), "{heard:?}");
        drop(line);
        dripping.join().unwrap();
    }

    #[tokio::test]
    async fn a_visit_that_is_called_off_ends_wherever_it_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let door = HandOverDoor::open(folder.path()).unwrap();
        let mut silent = UnixStream::connect(folder.path().join(FILE)).unwrap();
        let mut visitor = door.asked().await;
        let call_off = visitor.call_off().unwrap();
        let offered = std::thread::spawn(move || visitor.offer(&[]));
        drop(call_off);
        assert!(offered.join().unwrap().is_err());
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn where_nobody_runs_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Predecessor::ask(folder.path()), Err(HandOverFault::Nobody { .. })));
    }
}
