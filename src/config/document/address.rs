//! Where a listener listens, and who is at the other end: what may be written for either.

use std::net::SocketAddr;

use crate::config::{
    decode::{FromText, Refusal},
    shape::{Shape, TextShape},
    text::{FilePath, Network},
};

/// The longest path of a Unix socket: 108 bytes and a final NUL on Linux, 104 elsewhere (unix(7)).
pub(in crate::config) const UNIX_PATH_BYTES: usize = 103;

/// Where a listener listens, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum ListenAt {
    Socket(SocketAddr),
    Unix(FilePath),
    Systemd(String),
}

impl FromText for ListenAt {
    const WHAT: &'static str = "an address and a port, a Unix socket, or one of systemd's";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if let Some(name) = text.strip_prefix("systemd:") {
            // systemd.socket(5), FileDescriptorName=: printable ASCII without colons, 255 at most.
            let fits =
                (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
            let advice = || Refusal::advice("write the `FileDescriptorName=` of the socket unit: `systemd:web`");
            return fits.then(|| Self::Systemd(name.to_owned())).ok_or_else(advice);
        }
        match text.strip_prefix("unix:") {
            Some(path) => FilePath::from_text(path)
                .map(Self::Unix)
                .map_err(|_| Refusal::advice("write the path of the socket: `unix:/run/stepgate/web.sock`")),
            None => SocketAddr::from_text(text).map(Self::Socket),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "listening address",
            about: "an IP address and a port, `127.0.0.1:8443`, `[::]:8443`, a Unix socket by its path, `unix:/run/stepgate/web.sock`, or a socket that systemd hands over by its name, `systemd:web`",
            pattern: Some("(.+:[0-9]{1,5}|unix:.+|systemd:[^:]+)"),
        })
    }
}

/// Who may be at the other end of a connection: a network, or whoever reaches a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum PeerText {
    Network(Network),
    Unix,
}

impl FromText for PeerText {
    const WHAT: &'static str = "a network, or `unix`";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text == "unix" { Ok(Self::Unix) } else { Network::from_text(text).map(Self::Network) }
    }

    fn shape() -> Shape {
        Shape::Either(vec![
            <Network as FromText>::shape(),
            Shape::Words(vec![("unix", "whoever connects to a Unix socket of ours")]),
        ])
    }
}

/// The mode of a Unix socket's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct FileMode(pub(in crate::config) u32);

impl FromText for FileMode {
    const WHAT: &'static str = "a file's mode";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let octal = text.len() == 4 && text.starts_with('0');
        let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| Refusal::advice("write four octal digits, in quotes: `\"0660\"`"))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "mode", about: "a file's mode, octal: `\"0660\"`", pattern: Some("0[0-7]{3}") })
    }
}
