"""What is measured, and the tables."""

import contextlib
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import load, proxies
from .machine import Failure
from .tokens import Tokens, certificate

TOKENS = 100
MANY_ROUTES = 10_000


@dataclass
class Scenario:
    """What is asked of every proxy alike."""

    binary: Path
    tls: bool = False
    secured: bool = False
    certificate: Path | None = None
    key: Path | None = None
    tokens: Tokens | None = None
    routes: list = field(default_factory=list)


def plain(chosen, folder):
    """HTTP/1.1 in the clear on both sides, keep-alive, a small answer."""
    folder.mkdir()
    scenario = Scenario(chosen.stepgate)
    samples = _interleaved(chosen, folder, {name: (name, scenario) for name in chosen.proxies}, "http")
    return _told("plain: HTTP/1.1 in the clear, 128-byte answers", samples, against="haproxy")


def secured(chosen, folder):
    """TLS, an RS256 token on each request, a quota by subject, and metrics."""
    folder.mkdir()
    cert, key = certificate(folder)
    tokens = Tokens(folder, TOKENS)
    scenario = Scenario(chosen.stepgate, True, True, cert, key, tokens)
    script = load.script(folder / "load.lua", ["/items/1"], tokens.all)
    setups = {name: (name, scenario) for name in chosen.proxies if name != "nginx"}
    samples = _interleaved(chosen, folder, setups, "https", {name: script for name in setups})
    return _told(f"secured: TLS, RS256 tokens ({TOKENS} in turn), a quota, metrics", samples, against="haproxy")


def routes(chosen, folder):
    """Stepgate with ten routes and with ten thousand, asked for ten paths and for a thousand."""
    folder.mkdir()
    if "stepgate" not in chosen.proxies:
        print("\nroutes: only Stepgate is measured, and it is left out")
        return {}
    few, many = _paths(10), _paths(MANY_ROUTES)
    setups, scripts = {}, {}
    for label, all_paths, step in (
        ("10 routes", few, 1),
        ("10000 routes, 10 in use", many, MANY_ROUTES // 10),
        ("10000 routes, 1000 in use", many, MANY_ROUTES // 1000),
    ):
        setups[label] = ("stepgate", Scenario(chosen.stepgate, routes=all_paths))
        asked = [f"{path}/list" for path in all_paths[::step]]
        scripts[label] = load.script(folder / f"{len(scripts)}.lua", asked, [])
    samples = _interleaved(chosen, folder, setups, "http", scripts)
    return _told("routes: Stepgate, plain, by number of routes", samples, against="10 routes")


def idle_memory(chosen, folder):
    """Memory of a TLS connection that had one answer and then stays open."""
    folder.mkdir()
    cert, key = certificate(folder)
    scenario = Scenario(chosen.stepgate, tls=True, certificate=cert, key=key)
    results = {}
    with proxies.upstream(folder) as behind:
        for name in chosen.proxies:
            with proxies.ALL[name](folder, behind, scenario) as proxy:
                # The first connections pay for what all share: worker state, the allocator's arenas, upstream pools.
                load.IdleConnections(proxy.port, 64, cert).close()
                time.sleep(0.5)
                before = proxy.resident_bytes()
                connections = load.IdleConnections(proxy.port, chosen.idle, cert)
                time.sleep(1)
                after, alive = proxy.resident_bytes(), connections.still_open()
                connections.close()
            if alive != chosen.idle:
                raise Failure(f"{name} kept {alive} of {chosen.idle} idle connections")
            results[name] = {"bytes_per_connection": (after - before) / chosen.idle, "base_bytes": before}
    print(f"\nidle_memory: {chosen.idle} idle TLS connections\n")
    print(f"{'':28}{'KB each':>10}{'base MB':>10}")
    for name, figures in results.items():
        print(f"{name:28}{figures['bytes_per_connection'] / 1000:>10.1f}{figures['base_bytes'] / 1e6:>10.1f}")
    return results


ALL = {"plain": plain, "secured": secured, "routes": routes, "idle_memory": idle_memory}


def _paths(count):
    """Paths as APIs have them: a few prefixes, many resources."""
    return [f"/v{number % 4}/service-{number // 100}/resource-{number}" for number in range(count)]


def _interleaved(chosen, folder, setups, scheme, scripts=None):
    """Loads each set-up once a round, in an order that turns, so that a machine that slows down slows all."""
    samples = {label: [] for label in setups}
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(proxies.upstream(folder))
        running = {}
        for number, (label, (name, scenario)) in enumerate(setups.items()):
            own = folder / str(number)
            own.mkdir()
            running[label] = stack.enter_context(proxies.ALL[name](own, behind, scenario))
        for label, proxy in running.items():
            scenario = setups[label][1]
            if scenario.secured:
                load.check_refusals(proxy, scenario.certificate, scenario.tokens)
            load.burst(proxy, scheme, 1, chosen.connections, (scripts or {}).get(label))  # warms up, not counted
        labels = list(setups)
        for turn in range(chosen.rounds):
            first = turn % len(labels)
            for label in labels[first:] + labels[:first]:
                sample = load.burst(
                    running[label], scheme, chosen.seconds, chosen.connections, (scripts or {}).get(label)
                )
                samples[label].append(sample)
    return samples


def _told(title, samples, against):
    """Prints the medians, and each one's ratio to the one that counts."""
    medians = {label: statistics.median(sample.cpu_micros for sample in taken) for label, taken in samples.items()}
    base = medians.get(against)
    print(f"\n{title}\n")
    print(f"{'':28}{'CPU us/request':>16}{'spread':>14}{'vs ' + against:>16}{'requests/s':>14}")
    results = {}
    for label, taken in samples.items():
        micros = [sample.cpu_micros for sample in taken]
        rate = statistics.median(sample.rate for sample in taken)
        spread = f"{min(micros):.1f}-{max(micros):.1f}"
        ratio = f"{medians[label] / base:.2f}" if base else "-"
        print(f"{label:28}{medians[label]:>16.2f}{spread:>14}{ratio:>16}{rate:>14.0f}", flush=True)
        results[label] = {"cpu_us_per_request": micros, "median": medians[label], "requests_per_second": rate}
    return results
