"""Curves for people: on the terminal, as plots, as a section of a document; and what they would come to on more cores."""

import plot
from harness.markdown import programs_told

# Titles, and what stands along the horizontal axis.
TITLES = {
    "workers": ("CPU time of a request by number of workers", "workers, one a core"),
    "connections": ("CPU time of a request by number of connections", "open connections"),
    "routes": ("CPU time of a request by number of routes", "routes"),
    "keys": ("CPU time of a request by number of quota keys", "quota keys that were seen"),
}
PAPER_CORES = 64


def on_terminal(name, curve):
    print(f"\n{TITLES[name][0]}\n")
    print(f"{'':32}{TITLES[name][1]:>28}{'CPU µs':>9}{'µs from–to':>14}{'a second':>10}{'MB':>8}")
    for series, points in curve.items():
        for point in points:
            spread = f"{point['us_low']:.1f}–{point['us_high']:.1f}"
            print(f"{series:32}{point['at']:>28,}{point['us']:>9.1f}{spread:>14}{point['rate']:>10.0f}"
                  f"{point['memory_bytes'] / 1e6:>8.1f}", flush=True)


def as_plot(name, curve):
    title, across = TITLES[name]
    series = {label: [(point["at"], point["us"], point["us_low"], point["us_high"]) for point in points]
              for label, points in curve.items()}
    return plot.chart(title, across, "CPU µs a request; bars: lowest to highest round", series)


def as_markdown(results):
    """The section between the marks."""
    parts = [programs_told(results["machine"], ["stepgate", "nginx", "wrk"])]
    for name, curve in results["curves"].items():
        title, across = TITLES[name]
        parts.append(f"![{title}](images/scale-{name}.svg)")
        rows = [f"| | {across} | CPU µs | lowest to highest | a second | MB |", "|---|---|---|---|---|---|"]
        for series, points in curve.items():
            rows += [f"| {series} | {point['at']:,} | {point['us']:.1f} | {point['us_low']:.1f} to {point['us_high']:.1f} | "
                     f"{point['rate']:,.0f} | {point['memory_bytes'] / 1e6:.1f} |" for point in points]
        parts.append("\n".join(rows))
    if "workers" in results["curves"]:
        parts.append(_on_paper(results["curves"]["workers"]))
    return "\n" + "\n\n".join(parts) + "\n"


def _on_paper(curve):
    """The growth for each further worker, between one and as many as there are, and what follows if it goes on."""
    rows = [f"| | t(1), µs | t(n), µs | n | s, µs | noise, µs | {PAPER_CORES} cores: at most times one core | if s is 0 |",
            "|---|---|---|---|---|---|---|---|"]
    for series, points in curve.items():
        one, most = points[0], points[-1]
        if one["at"] == most["at"]:
            continue
        more = most["at"] - 1
        shared = max(0.0, (most["us"] - one["us"]) / more)
        noise = (most["us_high"] - most["us_low"] + one["us_high"] - one["us_low"]) / 2 / more
        speed_up = PAPER_CORES * one["us"] / (one["us"] + shared * (PAPER_CORES - 1))
        rows.append(f"| {series} | {one['us']:.1f} | {most['us']:.1f} | {most['at']} | {shared:.2f} | ±{noise:.2f} | "
                    f"{speed_up:.0f} | {PAPER_CORES} |")
    return "\n".join(rows)
