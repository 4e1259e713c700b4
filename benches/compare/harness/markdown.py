"""The results as a section of a document: goals first, then every table; losses as plainly as wins."""

import statistics

from . import table
from .goals import GOALS, PEOPLE
from .machine import Failure

def joined(runs):
    """Several runs as one: medians of their figures. They must be of one machine, with the same programs."""
    if any(run["machine"] != runs[0]["machine"] for run in runs):
        raise Failure("the files are of different machines or programs, which are not comparable")
    found = {}
    for run in runs:
        for name, result in run["scenarios"].items():
            found.setdefault(name, []).append(result)
    return {name: _median(results) for name, results in found.items()}


def section(runs):
    """Everything between the marks."""
    results, machine = joined(runs), runs[0]["machine"]
    settings = runs[0]["settings"]
    parts = [
        f"{programs_told(machine, machine['programs'])} "
        f"{_counted(len(runs), 'run')} of {_counted(settings['rounds'], 'round')} with {settings['seconds']:g} s each; "
        f"round trips at {settings['rate']:,} requests a second.",
        "### Goals", _goals(results, runs), "### All figures",
        *(_scenario(name, result) for name, result in results.items()),
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def programs_told(machine, names):
    """The machine and the versions of these programs, as a sentence."""
    programs = ", ".join(f"{PEOPLE.get(name, name)} {machine['programs'][name]}" for name in names
                         if machine["programs"].get(name))
    return f"Measured on: {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}; {programs}."


def _goals(results, runs):
    lines = ["| scenario | Stepgate | compared with | ratio | goal | met |", "|---|---|---|---|---|---|"]
    met = missed = 0
    for goal in GOALS:
        reached = goal.reached(results.get(goal.scenario))
        if not reached:
            lines.append(f"| {goal.told} | not measured | | | {goal.bound_told()} | |")
            continue
        own, other, counts = reached
        each = [one[2] for run in runs if (one := goal.reached(run["scenarios"].get(goal.scenario)))]
        spread = f" ({min(each):.2f} to {max(each):.2f})" if len(each) > 1 else ""
        compared = f"{PEOPLE[goal.to]}: {other:.1f}" if goal.to else "itself"
        ratio = f"**{counts:.2f}**{spread}" if goal.to else ""
        met, missed = (met + 1, missed) if goal.met(counts) else (met, missed + 1)
        lines.append(f"| {goal.told} | {own:.1f} {_unit(results[goal.scenario])} | {compared} | {ratio} | "
                     f"{goal.bound_told()} | {'yes' if goal.met(counts) else '**no**'} |")
    return "\n".join(lines) + f"\n\n{met} met, {missed} not met, {len(GOALS) - met - missed} not measured."


def _scenario(name, result):
    lines = [f"**`{name}`**: {result['title']}", ""]
    if result["unit"] == "KiB":
        lines += ["| | KiB each | ratio | base MB |", "|---|---|---|---|"]
    else:
        heading = "MiB a CPU second" if result["unit"] == "MiB" else "CPU µs"
        lines += [f"| | ratio | {heading} | user + system | lowest to highest µs | a second at most | p50 / p99 / p99.9 µs | MB |",
                  "|---|---|---|---|---|---|---|---|"]
    base = result["base"] if result["base"] in result["figures"] else None
    for label, figures in result["figures"].items():
        own = table.value(result, label)
        ratio = f"{own / table.value(result, base):.2f}" if base else ""
        if result["unit"] == "KiB":
            lines.append(f"| {_told(label)} | {own:.1f} | {ratio} | {figures['base_bytes'] / 1e6:.1f} |")
            continue
        late = " / ".join(f"{figures[part]:.0f}" for part in ("p50_us", "p99_us", "p999_us") if part in figures)
        memory = f"{figures['memory_bytes'] / 1e6:.0f}" if figures["memory_bytes"] else ""
        lines.append(
            f"| {_told(label)} | {ratio} | {own:.1f} | {figures['user_us']:.1f} + {figures['system_us']:.1f} | "
            f"{figures['us_low']:.1f} to {figures['us_high']:.1f} | {figures['rate']:,.0f} | {late} | {memory} |")
    if base:
        lines += ["", f"Ratios are to {_told(base)}. {table.notes(result)}".rstrip()]
    return "\n".join(lines)


def _told(label):
    """A label for people: it begins with a proxy's name, or it is none."""
    name, comma, rest = label.partition(",")
    return PEOPLE.get(name, name) + comma + rest


def _unit(result):
    return {"us": "µs", "MiB": "MiB", "KiB": "KiB"}[result["unit"]]


def _counted(count, word):
    return f"{count} {word}{'' if count == 1 else 's'}"


def _median(results):
    """One result of several: each figure's median, where all have it."""
    figures = {}
    for label in results[0]["figures"]:
        have = [result["figures"][label] for result in results if label in result["figures"]]
        figures[label] = {
            key: None if have[0][key] is None else statistics.median(one[key] for one in have if one.get(key) is not None)
            for key in have[0]
        }
        for key, most in (("us_low", min), ("us_high", max)):
            if key in have[0]:
                figures[label][key] = most(one[key] for one in have)
    return results[0] | {"figures": figures}
