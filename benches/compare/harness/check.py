"""Asks each proxy, before it is measured, for what it is to do and to refuse: one that looks at nothing would win."""

import http.client
import ssl
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


def quota_spent(headers):
    return [Question("the one request that the quota has", 200, headers=headers),
            Question("one too many", 429, headers=headers)]


def ask(process, asked, questions):
    """Asks all, each over a connection of its own, and that the metrics are there where they are asked for."""
    for question in questions:
        status, headers, version = _answer(process, asked, question)
        if status != question.expected:
            raise Failure(f"{process.name} answers {status} to {question.told}; {question.expected} was expected\n"
                          f"{process.told()}")
        if question.challenge not in headers.get("WWW-Authenticate", ""):
            raise Failure(f"{process.name} does not say {question.challenge} to {question.told}")
        if asked.pair and version != "TLSv1.3":
            raise Failure(f"{process.name} speaks {version}")
    if asked.metrics:
        with urllib.request.urlopen(process.metrics, timeout=10) as answer:
            if not answer.read().startswith(b"#"):
                raise Failure(f"{process.name} has no metrics at {process.metrics}")
    if asked.access_log and not _logged(process):
        raise Failure(f"{process.name} logs nothing")


def _answer(process, asked, question):
    if asked.pair:
        context = ssl.create_default_context(cafile=str(asked.pair.cert))
        client = http.client.HTTPSConnection("localhost", process.port, timeout=10, context=context)
    else:
        client = http.client.HTTPConnection("localhost", process.port, timeout=10)
    try:
        client.request("POST" if question.body else "GET", question.path, question.body, question.headers)
        answer = client.getresponse()
        length = len(answer.read())
        if question.path == "/1m" and length != 1 << 20:
            raise Failure(f"{process.name} sent {length} bytes of 1 MiB")
        return answer.status, answer.headers, client.sock.version() if asked.pair and client.sock else "TLSv1.3"
    finally:
        client.close()


def _logged(process):
    """Access records are batched: the newest may still be on their way, but the file is there."""
    file = process.folder / "access.log"
    return file.exists() or b'"GET / HTTP/1.1"' in (process.folder / f"{process.name}.log").read_bytes()
