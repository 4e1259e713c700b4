"""Requests that are passed on: in the clear, over TLS, over HTTP/2."""

from dataclasses import replace

from .. import load
from ..rounds import Contender, Scenario, measure

FLOOR = "HAProxy, only bytes"


def plain(bench):
    """HTTP/1.1 in the clear on both sides, keep-alive, a small answer."""
    return measure(bench, _passed_on(bench, "HTTP/1.1 in the clear, keep-alive, 128-byte answers", bench.asked()))


def tls(bench):
    """The same over TLS 1.3."""
    return measure(bench, _passed_on(bench, "HTTP/1.1 over TLS 1.3, keep-alive", bench.asked(pair=bench.pair)))


def h2_tls(bench):
    """HTTP/2, many streams on few connections."""
    asked = bench.asked(pair=bench.pair, http2=True)
    contenders = [
        Contender(name, name, asked, load.H2load(bench.folder()), questions=[]) for name in bench.chosen.proxies
    ]
    return measure(bench, Scenario("HTTP/2 over TLS 1.3, 10 connections with 100 streams each", contenders))


def _passed_on(bench, title, asked):
    """Beside it, the floor: HAProxy that passes on bytes."""
    contenders = [Contender(name, name, asked, bench.wrk(name, asked)) for name in bench.chosen.proxies]
    note = ""
    if "haproxy" in bench.chosen.proxies:
        unread = replace(asked, unread=True)
        contenders.append(Contender(FLOOR, "haproxy", unread, bench.wrk(FLOOR, unread)))
        note = f"{FLOOR} knows nothing of HTTP: what passing on costs at least."
    return Scenario(title, contenders, note=note)
