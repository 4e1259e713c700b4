"""What is measured: for each curve, series of points with the CPU time of a request."""

import contextlib
import re
import time
import urllib.request

from harness import check, proxies
from harness.load.sample import Sample, started
from harness.machine import CORES, Failure
from harness.rounds import Contender, Scenario, figures_of, measure, turns
from harness.scenarios.growth import LONG, route_paths
from harness.scenarios.tokens import WIDE

CONNECTIONS = [100, 1_000, 5_000, 15_000]
ROUTES = [1, 10, 100, 1_000, 10_000]
KEYS = [1, 100, 10_000, 100_000, 1_000_000]


def workers(bench):
    """Plain requests and those with all that a gateway does, at full load."""
    issuer = bench.issuer("RS256")
    tokens, series = issuer.tokens(1000), {"plain": [], "with everything": []}
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= CORES]
    contenders = []
    for count in counts:
        plain = bench.asked(workers=count)
        full = bench.asked(workers=count, pair=bench.pair, issuer=issuer, quota=WIDE, access_log=True, metrics=True)
        contenders.append(Contender(f"plain {count}", "stepgate", plain, bench.wrk("plain", plain)))
        contenders.append(Contender(f"with everything {count}", "stepgate", full, bench.wrk("full", full, tokens=tokens),
                                    check.tokens_looked_at(issuer)))
    figures = measure(bench, Scenario("workers", contenders, paced=False))["figures"]
    for name in series:
        series[name] = [_point(count, figures[f"{name} {count}"]) for count in counts]
    return series


def routes(bench):
    """Plain requests to up to a hundred of the routes."""
    contenders = []
    for count in ROUTES:
        paths = route_paths(count)
        asked = bench.asked(routes=tuple(paths))
        wrk = bench.wrk("routes", asked, paths=[f"{path}/list" for path in paths[::max(1, count // 100)]])
        contenders.append(Contender(str(count), "stepgate", asked, wrk, [check.Question("a path", 200, wrk.paths[-1])]))
    figures = measure(bench, Scenario("routes", contenders, paced=False))["figures"]
    return {"plain": [_point(count, figures[str(count)]) for count in ROUTES]}


def keys(bench):
    """Plain requests under a quota, whose keys were all seen before and come by chance."""
    contenders = []
    counts = [count for count in KEYS if count <= (10_000 if bench.chosen.short else KEYS[-1])]
    asked = bench.asked(quota=LONG)
    for count in counts:
        order = "random" if count > 1 else "turn"
        warm = bench.wrk("fill", asked, keys=count, order="once") if count > 1000 else None
        contenders.append(Contender(str(count), "stepgate", asked, bench.wrk("keys", asked, keys=count, order=order),
                                    [check.Question("a key", 200, headers={"X-Key": "1"})], warm))
    figures = measure(bench, Scenario("keys", contenders, paced=False))["figures"]
    return {"plain, one quota": [_point(count, figures[str(count)]) for count in counts]}


def connections(bench):
    """The same rate over more connections. They are opened first: what is measured lies between two looks at the gateway's
    own count of requests."""
    samples, running = {count: [] for count in CONNECTIONS}, {}
    asked = bench.asked(unbounded=True)
    with contextlib.ExitStack() as stack:
        for count in CONNECTIONS:
            running[count] = stack.enter_context(proxies.ALL["stepgate"](bench.folder(), bench.behind, asked))
            check.ask(running[count], asked, check.plain())
        for _, count in turns(CONNECTIONS, bench.chosen.rounds):
            if sample := _window(bench, asked, running[count], count):
                samples[count].append(sample)
    return {f"plain, {bench.chosen.rate:,} requests a second": [
        _point(count, figures_of(taken, [])) for count, taken in samples.items() if taken]}


ALL = {"workers": workers, "connections": connections, "routes": routes, "keys": keys}


def _window(bench, asked, process, count):
    settled = 1 + count / 3000
    wrk = bench.wrk(f"connections-{count}", asked, connections=count)
    child = started(wrk.command(process, settled + bench.chosen.seconds + 2, bench.chosen.rate))
    try:
        time.sleep(settled)
        if (open_now := _metric(process, "stepgate_connections")) < count:
            print(f"{count} connections: only {open_now:.0f} are open here, so they are left out", flush=True)
            return None
        requests, before, begun = _metric(process, "stepgate_requests_total"), process.cpu(), time.monotonic()
        time.sleep(bench.chosen.seconds)
        cpu, took = process.cpu() - before, time.monotonic() - begun
        requests = _metric(process, "stepgate_requests_total") - requests
        memory = process.memory_bytes()
        wrk.read([child.communicate(timeout=60)[0]])
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return Sample(requests, took, cpu, memory)


def _metric(process, name):
    with urllib.request.urlopen(process.metrics, timeout=10) as answer:
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([\d.e+]+)$", answer.read().decode(), re.MULTILINE)
    if not found:
        raise Failure(f"there is no metric {name}")
    return sum(map(float, found))


def _point(at, figures):
    return {"at": at} | {name: figures[name] for name in ("us", "us_low", "us_high", "rate", "memory_bytes")}
