"""A line chart as SVG: few points, the horizontal axis logarithmic. It is readable on light and on dark pages."""

import math
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 36, 44, 48
COLOURS = ["#2f6fd0", "#c2571a", "#3a8f4d"]
_STYLE = """text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold}.axis{stroke:#8c959f}.grid{stroke:#d0d7de}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}}"""


def chart(title, across, up, series):
    """`series`: names, each with points (x, y, lowest y, highest y). The vertical axis begins at nought."""
    points = [point for all_points in series.values() for point in all_points]
    first, last = min(point[0] for point in points), max(point[0] for point in points)
    step = _step(max(point[3] for point in points))
    top = step * math.ceil(max(point[3] for point in points) / step)

    def x(value):
        share = math.log(value / first) / math.log(last / first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style>", _text(LEFT, 20, title, css="title"),
        _text(WIDTH / 2, HEIGHT - 8, across, "middle"), _text(LEFT, 37, up),
    ]
    for number in range(round(top / step) + 1):
        level = number * step
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        drawn.append(_text(LEFT - 8, y(level) + 4, f"{level:g}", "end"))
    for value in sorted({point[0] for point in points}):
        drawn.append(_text(x(value), HEIGHT - BOTTOM + 18, f"{value:,}", "middle"))
    for number, (name, all_points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(point[0]):.1f},{y(point[1]):.1f}" for point in all_points)
        drawn.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        for at, level, lowest, highest in all_points:
            drawn.append(f'<line stroke="{colour}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(lowest):.1f}" '
                         f'y2="{y(highest):.1f}"/><circle fill="{colour}" cx="{x(at):.1f}" cy="{y(level):.1f}" r="4"/>')
        if len(series) > 1:
            drawn.append(f'<text x="{WIDTH - RIGHT}" y="{20 + 17 * number}" text-anchor="end" style="fill:{colour}">'
                         f'{escape(name)}</text>')
    return "\n".join([*drawn, f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/></svg>\n'])


def _step(highest):
    """A round number of which four to ten make up the axis."""
    rough = highest / 5
    power = 10 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _text(x, y, text, anchor="start", css=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{escape(text)}</text>'
