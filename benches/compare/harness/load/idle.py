"""TLS connections that have each had one answer and then stay open."""

import re
import socket
import ssl

from ..machine import Failure

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _SETTINGS_ACK = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
# GET, https and / are in HPACK's static table; the host is written out (RFC 7541, section 6.2.2).
_FIELDS = b"\x82\x87\x84\x01\x09localhost"
_HEADERS = len(_FIELDS).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + _FIELDS


class IdleConnections:
    """Opens them one by one; closes them together."""

    def __init__(self, port, count, pair, http2=False):
        context = ssl.create_default_context(cafile=str(pair.cert))
        context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
        ask = _ask_http2 if http2 else _ask_http1
        self.open = []
        try:
            for _ in range(count):
                stream = socket.create_connection(("127.0.0.1", port), 10)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = context.wrap_socket(stream, server_hostname="localhost")
                self.open.append(stream)
                ask(stream)
        except OSError as error:
            self.close()
            raise Failure(f"after {len(self.open)} idle connections: {error}") from error

    def still_open(self):
        """How many the proxy has not closed."""
        alive = 0
        for stream in self.open:
            stream.setblocking(False)
            try:
                alive += bool(stream.recv(1))
            except (ssl.SSLWantReadError, BlockingIOError):
                alive += 1
            except OSError:
                pass
        return alive

    def close(self):
        for stream in self.open:
            stream.close()


def _ask_http1(stream):
    stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    seen = b""
    while True:
        seen += _more(stream)
        head, found, body = seen.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if found and length and len(body) >= int(length[1]):
            break
    if not seen.startswith(b"HTTP/1.1 200"):
        raise Failure(f"an idle connection was answered {seen[:40]!r}")


def _ask_http2(stream):
    """One request; the answer's status is its first field, and 200 is entry 8 of the static table."""
    stream.sendall(_PREFACE + _SETTINGS + _HEADERS)
    seen, status = b"", None
    while True:
        seen += _more(stream)
        while len(seen) >= 9 and len(seen) >= 9 + (length := int.from_bytes(seen[:3], "big")):
            kind, flags, number = seen[3], seen[4], int.from_bytes(seen[5:9], "big")
            payload, seen = seen[9:9 + length], seen[9 + length:]
            if kind == 4 and not flags & 1:
                stream.sendall(_SETTINGS_ACK)
            if kind in (3, 7):
                raise Failure(f"an idle connection's request was ended by frame {kind}: {payload!r}")
            if number == 1 and kind == 1:
                # Size updates of the dynamic table may come first (RFC 7541, section 6.3).
                while payload and payload[0] & 0xE0 == 0x20:
                    payload = payload[1:] if payload[0] & 0x1F < 0x1F else payload[3:]
                status = payload[:1]
            if number == 1 and flags & 1:
                if status != b"\x88":
                    raise Failure(f"an idle connection was not answered 200: {status!r}")
                return


def _more(stream):
    data = stream.recv(65536)
    if not data:
        raise Failure("an idle connection was closed before its answer")
    return data
