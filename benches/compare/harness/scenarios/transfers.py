"""Large bodies: 1 MiB down, and 1 MiB up. What counts is how much a second of processor time carries."""

from .. import check
from ..rounds import Contender, Scenario, measure

MIB = 1 << 20
CONNECTIONS = 16


def download(bench):
    return _carried(bench, "1 MiB down", "/1m", None, paths=["/1m"])


def upload(bench):
    return _carried(bench, "1 MiB up", "/sink", b"x" * MIB, paths=["/sink"], body_bytes=MIB)


def _carried(bench, title, path, body, **load):
    asked = bench.asked(pair=bench.pair)
    questions = [check.Question("a large body", 200, path, body=body)]
    contenders = [
        Contender(name, name, asked, bench.wrk(name, asked, connections=CONNECTIONS, **load), questions)
        for name in bench.chosen.proxies
    ]
    title = f"{title} over TLS 1.3, {CONNECTIONS} connections"
    return measure(bench, Scenario(title, contenders, base="nginx", unit="MiB", paced=False))
