"""Line charts as SVG text: axes, lines, bands, steps; nothing to install, nothing to load.

Belongs here: drawing. Not here: what is drawn (`davy.rollout.picture`).

Colours are told apart by people who see red and green alike; every line has its name beside it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

WIDTH, LEFT, RIGHT = 900, 70, 190
TITLE, FOOT = 26, 34
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"
BLUE, ORANGE, GREEN = "#0b62a4", "#c2410c", "#0f766e"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to a place between 0 and 1; a logarithmic one clips what is not positive."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, clipped to the scale."""
        low, high = self._at(self.low), self._at(self.high)
        found = low if self.log and value <= 0 else self._at(min(max(value, self.low), self.high))
        return (found - low) / (high - low) if high > low else 0.0

    def ticks(self) -> list[float]:
        """Return round values on the scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10 ** math.floor(math.log10(span))
        step = next(s for s in (step / 5, step / 2, step, 2 * step) if span / s <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing to draw: a line, a stair or a level, with the name that stands beside it."""

    points: Sequence[Point]
    colour: str
    label: str = ""
    dashed: bool = False
    stair: bool = False
    width: float = 2.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: title, scales, what is drawn, and a band between two lines if there is one."""

    title: str
    x: Scale
    y: Scale
    marks: Sequence[Mark] = ()
    band: tuple[Sequence[Point], Sequence[Point]] | None = None
    height: int = 150
    x_title: str = ""
    x_values: Sequence[float] = ()  # where the axis is labelled; round values when empty
    y_text: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    x_text: Callable[[float], str] = field(default=lambda value: f"{value:g}")


def drawing(title: str, panels: Sequence[Panel], *, notes: Sequence[str] = ()) -> str:
    """Return panels below each other as one SVG document."""
    parts, top = [], 34.0 + 17 * len(notes)
    for index, note in enumerate(notes):
        parts.append(_text(LEFT, 46 + 17 * index, note, colour=FAINT, size=12))
    for panel in panels:
        parts.extend(_panel(panel, top + TITLE))
        top += TITLE + panel.height + FOOT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 6:.0f}" '
        f'width="{WIDTH}" height="{top + 6:.0f}" font-family="sans-serif" role="img" '
        f'aria-label="{html.escape(title)}">'
    )
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    heading = _text(LEFT, 24, title, size=16, weight="bold")
    return "\n".join((head, background, heading, *parts, "</svg>")) + "\n"


def _panel(panel: Panel, top: float) -> Iterator[str]:
    width, height = WIDTH - LEFT - RIGHT, panel.height

    def place(point: Point) -> Point:
        x = LEFT + width * panel.x.place(point[0])
        return x, top + height * (1 - panel.y.place(point[1]))

    yield _text(LEFT, top - 8, panel.title, size=13, weight="bold")
    for value in panel.y.ticks():
        y = place((panel.x.low, value))[1]
        yield _line((LEFT, y), (LEFT + width, y), GRID)
        yield _text(LEFT - 8, y + 4, panel.y_text(value), anchor="end", colour=FAINT, size=11)
    for value in panel.x_values or panel.x.ticks():
        x = place((value, panel.y.low))[0]
        yield _line((x, top + height), (x, top + height + 4), FAINT)
        text = panel.x_text(value)
        yield _text(x, top + height + 16, text, anchor="middle", colour=FAINT, size=11)
    if panel.x_title:
        yield _text(
            LEFT + width, top + height + 29, panel.x_title, anchor="end", colour=FAINT, size=11
        )
    if panel.band is not None:
        there = [*panel.band[0], *reversed(panel.band[1])]
        yield f'<polygon points="{_points(map(place, there))}" fill="{BLUE}" fill-opacity="0.15"/>'
    taken: list[float] = []
    for mark in panel.marks:
        points = [place(point) for point in (_stair(mark.points) if mark.stair else mark.points)]
        if not points:
            continue
        dash = ' stroke-dasharray="6 4"' if mark.dashed else ""
        yield (
            f'<polyline points="{_points(iter(points))}" fill="none" stroke="{mark.colour}" '
            f'stroke-width="{mark.width:g}"{dash}/>'
        )
        if mark.label:
            y = _free(points[-1][1] + 4, taken)
            taken.append(y)
            yield _text(LEFT + width + 8, y, mark.label, colour=mark.colour, size=12)


def _stair(points: Sequence[Point]) -> list[Point]:
    """Return points that keep each value until the next."""
    stairs = list(points[:1])
    for x, y in points[1:]:
        stairs += [(x, stairs[-1][1]), (x, y)]
    return stairs


def _free(wanted: float, taken: Sequence[float]) -> float:
    """Return the nearest height at which a label covers no other."""
    for offset in (0, 14, -14, 28, -28, 42, -42, 56, -56):
        if all(abs(wanted + offset - other) >= 13 for other in taken):
            return wanted + offset
    return wanted


def _points(points: Iterator[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(start: Point, end: Point, colour: str) -> str:
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{colour}"/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, size: int = 13,
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}" font-weight="{weight}">{html.escape(text)}</text>'
    )
