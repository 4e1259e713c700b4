"""Connections: what one costs to make, and what it weighs while nothing happens."""

import time

from .. import check, load, proxies
from ..machine import Failure
from ..rounds import Contender, Scenario, measure


def handshake_full(bench):
    """A new connection with a whole handshake for each request."""
    return _handshakes(bench, "a new TLS 1.3 connection for each request, a whole handshake", False)


def handshake_resumed(bench):
    """A new connection that resumes a session for each request."""
    return _handshakes(bench, "a new TLS 1.3 connection for each request, a resumed session", True)


def idle_h1(bench):
    return _idle(bench, "HTTP/1.1", False)


def idle_h2(bench):
    return _idle(bench, "HTTP/2", True)


def _handshakes(bench, title, resumed):
    asked = bench.asked(pair=bench.pair, tickets=resumed)
    contenders = [Contender(name, name, asked, load.Handshakes(resumed)) for name in bench.chosen.proxies]
    note = "Connections a second say more of the four loaders than of the proxies."
    return measure(bench, Scenario(title, contenders, paced=False, note=note))


def _idle(bench, protocol, http2):
    """Memory of a TLS connection that had one answer and then stays open."""
    asked = bench.asked(pair=bench.pair, http2=http2)
    # Allocators keep what was freed for a while, mostly a second, before the system has it back.
    count, settling = (20, 0) if bench.chosen.check else (bench.chosen.idle, 4)
    figures = {}
    for name in bench.chosen.proxies:
        with proxies.ALL[name](bench.folder(), bench.behind, asked) as proxy:
            check.ask(proxy, asked, [] if http2 else check.plain())
            # The first connections pay for what all share: worker state, the allocator's arenas, upstream pools.
            load.IdleConnections(proxy.port, 64, bench.pair, http2).close()
            time.sleep(settling)
            before = proxy.memory_bytes()
            connections = load.IdleConnections(proxy.port, count, bench.pair, http2)
            time.sleep(settling)
            after, alive = proxy.memory_bytes(), connections.still_open()
            connections.close()
        if alive != count:
            raise Failure(f"{name} kept {alive} of {count} idle connections")
        figures[name] = {"kib": (after - before) / count / 1024, "base_bytes": before}
    if bench.chosen.check:
        return None
    return {"title": f"{count} idle TLS connections, {protocol}, that had one answer each", "base": "haproxy",
            "unit": "KiB", "note": "", "figures": figures}
