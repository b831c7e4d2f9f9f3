"""Small plots as inline SVG: presentation comes from the style sheet, since the pages allow no inline style.

Each plot has a text that says what it shows; the numbers stand beside it in a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 480, 96
STRIP_HEIGHT = 22
SVG = Markup('<svg class="plot {}" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>')
RECT = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
LINE = Markup('<line class="{}" x1="0" x2="{}" y1="{}" y2="{}"/>')


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a plot: what it stands for, and its parts from the bottom, each a class and a value.

    A bar without parts is a gap: nothing is known there.
    """

    label: str
    parts: Sequence[tuple[str, float]] = ()
    text: str = ""

    @property
    def total(self) -> float:
        """Return the height of the bar in the unit of the plot."""
        return sum(value for _, value in self.parts)


def bar_plot(bars: Sequence[Bar], *, text: str, top: float | None = None, limit: float | None = None) -> Markup:
    """Return a plot of bars; `text` says what it shows.

    `top` is the value at its upper edge, by default the highest one; `limit` is drawn as a line.
    """
    high = top or max([*(bar.total for bar in bars), limit or 0.0]) or 1.0
    width = WIDTH / max(len(bars), 1)
    shapes = [shape for index, bar in enumerate(bars) for shape in _parts(bar, index * width, width, high)]
    if limit is not None and limit <= high:
        at = _number(HEIGHT - limit / high * HEIGHT)
        shapes.append(LINE.format("limit", WIDTH, at, at))
    shapes.append(LINE.format("axis", WIDTH, HEIGHT, HEIGHT))
    return SVG.format("bars", text, WIDTH, HEIGHT, Markup("").join(shapes))


def _parts(bar: Bar, x: float, width: float, high: float) -> list[Markup]:
    shapes, y, gap = [], float(HEIGHT), min(width * 0.2, 3.0)
    for name, value in bar.parts:
        height = value / high * HEIGHT
        y -= height
        if height > 0:
            title = f"{bar.label}: {bar.text}" if bar.text else bar.label
            shapes.append(
                RECT.format(name, _number(x + gap / 2), _number(y), _number(width - gap), _number(height), title)
            )
    return shapes


def attempt_strip(recent: str) -> Markup:
    """Return the outcomes of the last attempts, a `+` or `-` each, the newest on the right: failures are short."""
    failed = recent.count("-")
    text = f"{len(recent)} attempts, {failed} failed; the newest is on the right" if recent else "no attempt yet"
    shapes, width = [], WIDTH / 100
    for index, outcome in enumerate(recent, start=100 - len(recent)):
        good = outcome == "+"
        height = STRIP_HEIGHT if good else STRIP_HEIGHT / 2
        name, title = ("good", "delivered") if good else ("bad", "failed")
        x, y = _number(index * width), _number(STRIP_HEIGHT - height)
        shapes.append(RECT.format(name, x, y, _number(width * 0.75), _number(height), title))
    shapes.append(LINE.format("axis", WIDTH, STRIP_HEIGHT, STRIP_HEIGHT))
    return SVG.format("strip", text, WIDTH, STRIP_HEIGHT, Markup("").join(shapes))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
