"""The pictures for people: how the bounds of a rollout moved, and what a plan can find.

Belongs here: what is drawn of a record and of a plan. Not here: drawing (`davy.rollout.svg`).
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from davy.core.errors import InvalidInputError
from davy.core.files import write_atomic
from davy.rollout.plan import Plan, words
from davy.rollout.record import DAVY, LookLine, Record, VerdictLine
from davy.rollout.replay import Replay
from davy.rollout.svg import BLUE, GREEN, INK, ORANGE, Mark, Panel, Point, Scale, drawing
from davy.rollout.verdict import Criterion

# A ratio is drawn between a tenth and a hundredfold, a rate from one in 100,000 on.
RATIOS = Scale(0.1, 100.0, log=True)
LOWEST_RATE = 1e-5
MOST_POINTS = 400


def record_picture(record: Record, replayed: Replay | None = None) -> str:
    """Return the bounds of each indicator over time with what is tolerable, and the weights.

    A record whose replay found a difference says so in its picture.
    """
    header = record.header
    title = f"Rollout {header.rollout}: {header.canary} against {header.arms().reference}"
    if not record.looks:
        return drawing(title, (), notes=("No look was taken yet.",))
    looks = _thinned(record.looks)
    start = record.looks[0].time
    seconds = [(look.time - start).total_seconds() for look in looks]
    unit, divisor = _unit(max(seconds[-1], 1.0))
    times = [second / divisor for second in seconds]
    x = Scale(0.0, max(times[-1], 1e-9))
    panels: list[Panel] = []
    for criterion in record.spec().criteria():
        panels.extend(_indicator(criterion, looks, times, x))
    panels.append(_weights(looks, times, x, f"{unit} since the first look"))
    last = record.looks[-1].decision
    notes = [f"{last.phase} ({last.reason}) after {record.looks[-1].look} looks"]
    notes += [
        f"{look.actor} decided at look {look.look}: {look.decision.message}"
        for look in record.looks
        if look.actor != DAVY
    ]
    if replayed is not None and replayed.difference is not None:
        notes.insert(0, f"THIS RECORD DOES NOT REPLAY: {replayed.difference}")
    return drawing(title, panels, notes=[note[:120] for note in notes])


def _indicator(
    criterion: Criterion, looks: Sequence[LookLine], times: Sequence[float], x: Scale
) -> Iterator[Panel]:
    found = [
        (time, verdict)
        for time, look in zip(times, looks, strict=True)
        for verdict in look.verdicts
        if verdict.indicator == criterion.name
    ]
    if not found:
        return
    outcome = found[-1][1].outcome
    lower = [(time, verdict.ratio_lower) for time, verdict in found]
    upper = [(time, _upper(verdict)) for time, verdict in found]
    yield Panel(
        f"{criterion.name}: canary's rate over the stable's ({outcome})",
        x,
        RATIOS,
        marks=(
            _level(x, criterion.ratio, f"tolerable {criterion.ratio:g}"),
            Mark(upper, BLUE, "upper bound" if found[-1][1].ratio_upper else "no upper bound yet"),
            Mark(lower, BLUE, "lower bound" if found[-1][1].ratio_lower else "no lower bound yet"),
        ),
        band=(lower, upper),
        height=120,
    )
    if not criterion.allowance:
        return
    low = [(time, verdict.rate_lower) for time, verdict in found]
    high = [(time, verdict.rate_upper) for time, verdict in found]
    yield Panel(
        f"{criterion.name}: canary's own rate",
        x,
        Scale(LOWEST_RATE, 1.0, log=True),
        marks=(
            _level(x, criterion.allowance, f"allowed {_percent(criterion.allowance)}"),
            Mark(high, BLUE, "upper bound"),
            Mark(low, BLUE, "lower bound"),
        ),
        band=(low, high),
        height=120,
        y_text=_percent,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _upper(verdict: VerdictLine) -> float:
    return RATIOS.high if verdict.ratio_upper is None else verdict.ratio_upper


def _weights(
    looks: Sequence[LookLine], times: Sequence[float], x: Scale, x_title: str
) -> Panel:  # fmt: skip
    asked = [(t, float(look.decision.weight)) for t, look in zip(times, looks, strict=True)]
    read: list[Point] = [
        (t, float(look.weights.read))
        for t, look in zip(times, looks, strict=True)
        if look.weights.read is not None
    ]
    return Panel(
        "canary's weight in percent",
        x,
        Scale(0.0, 100.0),
        marks=(
            Mark(asked, INK, "asked for", stair=True),
            Mark(read, GREEN, "as the router had it", stair=True, dashed=True),
        ),
        height=90,
        x_title=x_title,
    )


def plan_picture(made: Plan) -> str:
    """Return the power curves: the chance of a rollback and its canary requests by true rate."""
    panels: list[Panel] = []
    for item in made.indicators:
        name, rates = item.criterion.name, [chance.rate for chance in item.chances]
        x = Scale(rates[0] / 1.2, min(rates[-1] * 1.2, 1.0), log=True)
        limit = max(item.criterion.ratio * item.stable, item.criterion.allowance)
        panels.append(
            Panel(
                f"{name}: what becomes of a canary, by its true rate",
                x,
                Scale(0.0, 100.0),
                marks=(
                    Mark([(limit, 0.0), (limit, 100.0)], ORANGE, "", dashed=True),
                    Mark([(c.rate, 100 * c.power.rolled_back) for c in item.chances], BLUE,
                         "rolled back"),
                    Mark([(c.rate, 100 * c.power.promoted) for c in item.chances], GREEN,
                         "promoted"),
                ),
                y_text=lambda value: f"{value:g} %",
                x_text=_percent,
                x_values=tuple(rates),
                x_title=f"true rate; dashed: the largest that is tolerable, {_percent(limit)}",
            )
        )  # fmt: skip
        found = [(c.rate, c.power.requests) for c in item.chances if c.power.requests]
        if found:
            panels.append(
                Panel(
                    f"{name}: canary requests until the rollback (median)",
                    x,
                    Scale(10.0, 10 * max(value for _, value in found), log=True),
                    marks=(Mark(found, BLUE, "canary requests"),),
                    height=110,
                    y_text=lambda value: f"{value:,.0f}",
                    x_text=_percent,
                    x_values=tuple(rates),
                )
            )
    steps = ", ".join(f"{step.weight} %" for step in made.spec.steps)
    title = f"Plan of {made.spec.candidate.version}: steps {steps}"
    first = next(words(made))
    return drawing(title, panels, notes=(first, f"{made.healthy.runs} rollouts a point"))


def _level(x: Scale, value: float, label: str) -> Mark:
    return Mark([(x.low, value), (x.high, value)], ORANGE, label, dashed=True)


def _unit(seconds: float) -> tuple[str, float]:
    if seconds >= 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds >= 300 else ("seconds", 1.0)


def _thinned(looks: Sequence[LookLine]) -> list[LookLine]:
    if len(looks) <= MOST_POINTS:
        return list(looks)
    kept = {round(i * (len(looks) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)}
    # The looks at which something was done are never left out.
    kept |= {i for i, look in enumerate(looks) if look.decision.action != "hold"}
    return [looks[i] for i in sorted(kept)]


def write_picture(path: Path, svg: str, *, title: str, text: str) -> None:
    """Write a picture as SVG, or as a page with the sentences below it, by the file's ending.

    Raises
    ------
    InvalidInputError
        The name ends otherwise, or the file cannot be written.
    """
    if path.suffix == ".svg":
        content = svg
    elif path.suffix in {".html", ".htm"}:
        content = (
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
            f"<title>{html.escape(title)}</title>\n"
            f'<body style="font-family:sans-serif;margin:2em;max-width:64em">\n{svg}'
            f'<pre style="white-space:pre-wrap">{html.escape(text)}</pre>\n</body></html>\n'
        )
    else:
        raise InvalidInputError(
            f"a picture ends in .svg or .html, not '{path.suffix}'", where=str(path)
        )
    try:
        write_atomic(path, content)
    except OSError as error:
        raise InvalidInputError(f"cannot be written ({error.strerror})", where=str(path)) from None
