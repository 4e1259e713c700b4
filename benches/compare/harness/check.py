"""Asks each proxy, before it is measured, for what it is to do and to refuse: one that looks at nothing would win."""

import http.client
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass, field

from .machine import Failure
from .tokens import forged


@dataclass(frozen=True)
class Question:
    """A request in words, and the status that must come."""

    told: str
    expected: int
    path: str = "/"
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    challenge: str = ""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def plain():
    return [Question("a request", 200)]


def tokens_looked_at(issuer, path="/"):
    """What must hold of whoever says that it verifies tokens."""
    good, other = issuer.tokens(2)
    head, claims, _ = good.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    return [
        Question("no token", 401, path),
        Question("a good token", 200, path, bearer(good)),
        Question("another's signature", 401, path, bearer(forged([good, other]))),
        Question("no signature", 401, path, bearer(f"{head}.{claims}.")),
        Question("the algorithm none", 401, path, bearer(f"{none}.{claims}.")),
        Question("a good token again", 200, path, bearer(good)),
    ]


def quota_spent(issuer):
    """A quota of one request, counted for each subject by itself."""
    first, second = (bearer(token) for token in issuer.tokens(2))
    return [Question("the one request that the quota has", 200, headers=first),
            Question("one too many", 429, headers=first),
            Question("another subject's first", 200, headers=second),
            Question("no token", 401)]


def ask(process, asked, questions):
    """Asks all, each over a connection of its own, and that the metrics are there where they are asked for."""
    _wait_until_ready(process, asked)
    for question in questions:
        status, headers = _answer(process, asked, question)
        if status != question.expected:
            raise Failure(f"{process.name} answers {status} to {question.told}; {question.expected} was expected\n"
                          f"{process.told()}")
        if question.challenge not in headers.get("WWW-Authenticate", ""):
            raise Failure(f"{process.name} does not say {question.challenge} to {question.told}")
    if asked.metrics:
        with urllib.request.urlopen(process.metrics, timeout=10) as answer:
            if not answer.read().startswith(b"#"):
                raise Failure(f"{process.name} has no metrics at {process.metrics}")
    if asked.access_log and not _logged(process):
        raise Failure(f"{process.name} logs nothing")


def _wait_until_ready(process, asked):
    """A proxy may listen before it has read where to: it then has no certificate, or knows no route."""
    path = f"{asked.routes[0]}/list" if asked.routes else "/"
    deadline = time.monotonic() + 10
    while True:
        try:
            if asked.http2:
                _connected(process, asked).close()
                return
            if _answer(process, asked, Question("", 0, path))[0] not in (404, 503):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failure(f"{process.name}: {error}\n{process.told()}") from error
        if time.monotonic() > deadline:
            raise Failure(f"{process.name} knows no route\n{process.told()}")
        time.sleep(0.1)


def _connected(process, asked):
    """A connection; over TLS, in the one version and with the one protocol that are asked for."""
    stream = socket.create_connection(("127.0.0.1", process.port), 10)
    if not asked.pair:
        return stream
    context = ssl.create_default_context(cafile=str(asked.pair.cert))
    context.set_alpn_protocols([asked.protocol])
    stream = context.wrap_socket(stream, server_hostname="localhost")
    if (stream.version(), stream.selected_alpn_protocol()) != ("TLSv1.3", asked.protocol):
        raise Failure(f"{process.name} speaks {stream.version()} and {stream.selected_alpn_protocol()}")
    return stream


def _answer(process, asked, question):
    client = http.client.HTTPConnection("localhost", process.port, timeout=10)
    client.sock = _connected(process, asked)
    try:
        client.request("POST" if question.body else "GET", question.path, question.body, question.headers)
        answer = client.getresponse()
        length = len(answer.read())
        if question.path == "/1m" and length != 1 << 20:
            raise Failure(f"{process.name} sent {length} bytes of 1 MiB")
        return answer.status, answer.headers
    finally:
        client.close()


def _logged(process):
    """Access records are batched: the newest may still be on their way, but the file is there."""
    file = process.folder / "access.log"
    return file.exists() or b'"GET / HTTP/1.1"' in (process.folder / f"{process.name}.log").read_bytes()
