"""Measures what stands side by side, in turns, so that a machine that slows down slows all."""

import contextlib
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from . import check, proxies
from .asked import Asked

# How many rounds are paced: the medians of three hold, and each takes as long as one at full load.
PACED_ROUNDS = 3


@dataclass
class Contender:
    """One line of a table: a proxy, what is asked of it, with what load, and what it must answer first."""

    label: str
    proxy: str
    asked: Asked
    load: object
    questions: list = field(default_factory=check.plain)
    # A load that comes first and is not counted; by default a second of its own.
    warm: object = None
    # Whether it starts anew before each burst, and so remembers nothing.
    fresh: bool = False


@dataclass
class Scenario:
    """A table."""

    title: str
    contenders: list
    # The label that ratios are to.
    base: str = "haproxy"
    unit: str = "us"
    paced: bool = True
    note: str = ""


def measure(bench, scenario):
    """Starts all, checks all, warms all up, loads each once a round in an order that turns; then, paced, again."""
    with contextlib.ExitStack() as stack:
        running = {}
        for contender in scenario.contenders:
            process = proxies.ALL[contender.proxy](bench.folder(), bench.behind, contender.asked)
            if process:
                running[contender.label] = (contender, stack.enter_context(process))
        for contender, process in running.values():
            check.ask(process, contender.asked, contender.questions)
        if bench.chosen.check:
            _tried(running)
            return None
        for contender, process in running.values():
            (contender.warm or contender.load).burst(process, 1)
        samples, paced = _loaded(bench, running), {}
        if scenario.paced and bench.chosen.rate:
            paced = _paced(bench, running)
    figures = {label: figures_of(samples[label], paced.get(label, [])) for label in running}
    for label, (contender, process) in running.items():
        if contender.asked.access_log:
            figures[label]["logged_share"] = process.logged_share()
    return {
        "title": scenario.title, "base": scenario.base, "unit": scenario.unit, "note": scenario.note,
        "figures": figures,
    }


def turns(labels, rounds):
    """Each once a round; who is first changes."""
    for turn in range(rounds):
        first = turn % len(labels)
        yield from ((turn, label) for label in labels[first:] + labels[:first])


def _tried(running):
    """A second of each load, all at once: whether they work, and not how fast."""
    with ThreadPoolExecutor(len(running) or 1) as side_by_side:
        for tried in [side_by_side.submit(contender.load.burst, process, 1) for contender, process in running.values()]:
            tried.result()


def _loaded(bench, running):
    samples = {label: [] for label in running}
    for turn, label in turns(list(running), bench.chosen.rounds):
        contender, process = running[label]
        if contender.fresh:
            process.restart()
            contender.warm.burst(process, 1)
        memory = turn == bench.chosen.rounds - 1  # looking takes time, so in the last round alone
        samples[label].append(contender.load.burst(process, bench.chosen.seconds, memory))
    return samples


def _paced(bench, running):
    samples = {label: [] for label in running}
    for _, label in turns(list(running), min(PACED_ROUNDS, bench.chosen.rounds)):
        contender, process = running[label]
        samples[label].append(contender.load.paced(process, bench.chosen.seconds, bench.chosen.rate))
    return samples


def figures_of(samples, paced):
    """Medians of what was sampled."""
    micros = [sample.micros() for sample in samples]
    figures = {
        "requests": sum(sample.requests for sample in samples),
        "us": statistics.median(micros), "us_low": min(micros), "us_high": max(micros),
        "user_us": statistics.median(sample.micros("user") for sample in samples),
        "system_us": statistics.median(sample.micros("system") for sample in samples),
        "rate": statistics.median(sample.rate for sample in samples),
        "memory_bytes": samples[-1].memory_bytes,
    }
    for part in ("rate", "p50", "p99", "p999"):
        if paced:
            name = "paced_rate" if part == "rate" else f"{part}_us"
            figures[name] = statistics.median(getattr(latency, part) for latency in paced)
    return figures
