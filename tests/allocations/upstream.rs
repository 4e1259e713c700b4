//! A service that answers every request at once, in a thread of its own.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

/// What it answers: 128 bytes, as the services of `benches/compare` do.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 128\r\n\r\n";

/// Starts one; it ends with the process.
pub fn start() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let answer = [HEAD.as_bytes(), &[b'x'; 128]].concat();
    let (mut buffer, mut length) = ([0; 8192], 0);
    loop {
        length += stream.read(&mut buffer[length..]).ok().filter(|read| *read > 0)?;
        if buffer[..length].ends_with(b"\r\n\r\n") {
            stream.write_all(&answer).ok()?;
            length = 0;
        }
    }
}
