//! A client that sends exactly the bytes it is given and reads answers as RFC 9112 frames them, over TCP or TLS.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

use super::{Answer, PATIENCE};

/// A connection to a gateway.
pub struct Wire {
    stream: Stream,
    /// What was read and belongs to the next answer.
    pub pending: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects to a port of loopback.
    pub fn connect(port: u16) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST.into(), port)
    }

    /// Connects from a given address of loopback (127.0.0.2 is another client than 127.0.0.1).
    pub fn connect_from(source: IpAddr, port: u16) -> Self {
        let stream = tcp(source, port).unwrap_or_else(|error| panic!("connecting to {port}: {error}"));
        Self { stream: Stream::Plain(stream), pending: Vec::new() }
    }

    /// Connects and shakes hands; the error is that of the handshake.
    pub fn tls(port: u16, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let tcp = tcp(Ipv4Addr::LOCALHOST.into(), port)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), pending: Vec::new() })
    }

    /// What TLS agreed on; panics on a plain connection.
    pub fn session(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Tls(stream) => &stream.conn,
            Stream::Plain(_) => panic!("not a TLS connection"),
        }
    }

    /// Sends bytes; a connection that was closed meanwhile is the peer's right, and seen when the answer is read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.try_send(bytes.as_ref());
        self
    }

    /// Sends bytes and says whether that worked.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends no more, but still listens.
    pub fn finish_sending(&mut self) {
        self.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// The socket under it.
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// How long reading may take from here on.
    pub fn patience(&mut self, time: Duration) -> &mut Self {
        self.socket().set_read_timeout(Some(time)).unwrap();
        self
    }

    /// Reads what there is; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => match stream.read(buffer) {
                // A peer that ends TCP without a close_notify is, for us, simply gone.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }

    /// Reads exactly so many bytes that no answer frames.
    pub fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < count {
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.pending.drain(..count).collect())
    }

    fn more(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let read = self.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    /// Reads the answer to a request that was not HEAD.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap_or_else(|error| panic!("reading an answer: {error}; so far {:?}", self.text()))
    }

    /// Reads the answer to a HEAD request.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer(true).unwrap_or_else(|error| panic!("reading an answer: {error}; so far {:?}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// Reads an answer, or the error that came instead of it.
    pub fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) {
                interim.push(status);
                continue;
            }
            let mut answer = Answer { status, headers, body: Vec::new(), trailers: Vec::new(), interim };
            if !to_head && status != 204 && status != 304 {
                self.body(&mut answer)?;
            }
            return Ok(answer.checked());
        }
    }

    /// Reads a status line and headers.
    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let lines = self.lines()?;
        let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {:?}", lines[0])))?;
        Ok((status, fields(&lines[1..])))
    }

    /// Reads lines up to an empty one.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() && !lines.is_empty() {
                return Ok(lines);
            }
            if line.is_empty() {
                return Ok(Vec::from([String::new()]));
            }
            lines.push(line);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
                self.pending.drain(..end + 2);
                return Ok(line);
            }
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn body(&mut self, answer: &mut Answer) -> io::Result<()> {
        if answer.all("transfer-encoding") == ["chunked"] {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                answer.body.extend(chunk);
            }
            let trailers = self.lines()?;
            answer.trailers = fields(&trailers);
        } else if let [length] = answer.all("content-length")[..] {
            answer.body = self.read_exactly(length.parse().unwrap())?;
        } else {
            while self.more()? {}
            answer.body = std::mem::take(&mut self.pending);
        }
        Ok(())
    }

    /// Reads one chunk of a chunked body; the last is empty, and its trailers are still to be read.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = self.line()?;
        let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).map_err(io::Error::other)?;
        let chunk = self.read_exactly(size)?;
        if size > 0 {
            assert_eq!(self.line()?, "");
        }
        Ok(chunk)
    }

    /// Whether the peer closes the connection now, without another byte of an answer.
    pub fn is_closed(&mut self) -> bool {
        self.pending.is_empty() && !self.more().is_err_and(|error| is_timeout(&error)) && self.pending.is_empty()
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more().is_ok_and(|more| more) {}
        std::mem::take(&mut self.pending)
    }
}

/// Whether reading took too long.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn fields(lines: &[String]) -> Vec<(String, String)> {
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn tcp(source: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}
