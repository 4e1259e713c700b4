"""Tables on the terminal."""


def told(result):
    """One scenario."""
    print(f"\n{result['title']}\n")
    if result["unit"] == "KiB":
        _idle(result)
    else:
        _loaded(result)
    if notes(result):
        print(f"\n{notes(result)}")


def notes(result):
    """What else there is to say: the scenario's own note, and whose access log lacks records."""
    lacking = [
        f"{label} wrote {figures['logged_share']:.1%} of its access records." for label, figures in result["figures"].items()
        if figures.get("logged_share", 1) < 0.99
    ]
    return " ".join([result["note"], *lacking]).strip()


def value(result, label):
    """The figure that counts, in the scenario's unit: less is better of µs and KiB, more of MiB."""
    figures = result["figures"][label]
    if result["unit"] == "KiB":
        return figures["kib"]
    return 1e6 / figures["us"] if result["unit"] == "MiB" else figures["us"]


def _loaded(result):
    heading = "MiB/CPU s" if result["unit"] == "MiB" else "CPU µs"
    print(f"{'':36}{heading:>10}{'ratio':>7}{'user':>8}{'system':>8}{'µs from–to':>16}{'a second':>10}{'p50 µs':>8}"
          f"{'p99':>8}{'p99.9':>8}{'MB':>7}")
    base = result["base"] if result["base"] in result["figures"] else None
    for label, figures in result["figures"].items():
        ratio = f"{value(result, label) / value(result, base):.2f}" if base else ""
        spread = f"{figures['us_low']:.1f}–{figures['us_high']:.1f}"
        late = "".join(f"{figures[part]:>8.0f}" if part in figures else f"{'':8}"
                       for part in ("p50_us", "p99_us", "p999_us"))
        memory = f"{figures['memory_bytes'] / 1e6:>7.1f}" if figures["memory_bytes"] else ""
        print(f"{label:36}{value(result, label):>10.1f}{ratio:>7}{figures['user_us']:>8.1f}{figures['system_us']:>8.1f}"
              f"{spread:>16}{figures['rate']:>10.0f}{late}{memory}")


def _idle(result):
    print(f"{'':36}{'KiB each':>10}{'base MB':>10}")
    for label, figures in result["figures"].items():
        print(f"{label:36}{figures['kib']:>10.1f}{figures['base_bytes'] / 1e6:>10.1f}")
