"""The pictures of the report, as SVG text.

Belongs here: drawing. Not here: the page around it, and choosing what is said.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from davy.rollout.record import LookLine, Record

COLORS = {"pass": "#2e7d32", "fail": "#c62828", "inconclusive": "#9e9e9e"}
BLUE, ORANGE, GREY = "#1565c0", "#ef6c00", "#616161"
SMALLEST_RATIO, LARGEST_RATIO = 0.01, 1000.0


def rollout_picture(record: Record) -> str:
    """Draw weights, bounds and verdicts of a rollout over time."""
    looks = [look for look in record.looks if look.weights.read is not None]
    start = record.header.time.timestamp()
    times = [look.time.timestamp() - start for look in looks]
    indicators = [item.name for item in record.spec().analysis.indicators]
    figure = Figure(figsize=(10, 2.0 + 2.2 * len(indicators)), layout="constrained")
    axes = figure.subplots(1 + len(indicators), 1, sharex=True, squeeze=False)[:, 0]
    axes[0].step(times, [look.weights.read for look in looks], where="post", color=BLUE)
    axes[0].set_ylabel("canary weight, %")
    axes[0].set_ylim(-4, 104)
    for axis, item in zip(axes[1:], record.spec().analysis.indicators, strict=True):
        _bounds(axis, item.name, looks, times)
        axis.axhline(item.allowance, color=GREY, linestyle="--", linewidth=1)
        axis.annotate(
            f"allowance {item.allowance:.1%}",
            (0.005, item.allowance),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color=GREY,
            va="bottom",
        )
    axes[-1].set_xlabel("seconds since the start of the rollout")
    axes[-1].set_xlim(left=0)
    return _svg(figure)


def _bounds(axis: Axes, name: str, looks: Sequence[LookLine], times: Sequence[float]) -> None:
    """Draw the confidence bounds of the canary's own rate, colored by verdict."""
    found = [
        (at, verdict)
        for at, look in zip(times, looks, strict=True)
        for verdict in look.verdicts
        if verdict.indicator == name
    ]
    for at, verdict in found:
        axis.vlines(
            at, verdict.rate_lower, verdict.rate_upper, color=COLORS[verdict.outcome], linewidth=3
        )
    for outcome, color in COLORS.items():
        axis.plot([], [], color=color, linewidth=3, label=outcome)
    axis.set_ylabel(f"{name}: canary's rate")
    axis.set_yscale("symlog", linthresh=0.01)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axis.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)


def ratio_picture(record: Record) -> str:
    """Draw the confidence sequence of the ratio of rates, canary over stable.

    Indicators without an event say nothing of a ratio and are left out; empty when all are.
    """
    start = record.header.time.timestamp()
    items = [item for item in record.spec().analysis.indicators if _has_ratio(record, item.name)]
    if not items:
        return ""
    figure = Figure(figsize=(10, 2.2 * len(items)), layout="constrained")
    axes = figure.subplots(len(items), 1, sharex=True, squeeze=False)[:, 0]
    for axis, item in zip(axes, items, strict=True):
        for look in record.looks:
            for verdict in look.verdicts:
                if verdict.indicator != item.name:
                    continue
                upper = verdict.ratio_upper if verdict.ratio_upper is not None else LARGEST_RATIO
                axis.vlines(
                    look.time.timestamp() - start,
                    max(verdict.ratio_lower, SMALLEST_RATIO),
                    min(upper, LARGEST_RATIO),
                    color=COLORS[verdict.outcome],
                    linewidth=3,
                )
        axis.set_yscale("log")
        axis.set_ylim(SMALLEST_RATIO, LARGEST_RATIO)
        axis.axhline(item.ratio, color=GREY, linestyle="--", linewidth=1)
        axis.set_ylabel(f"{item.name}: ratio")
        axis.set_xlim(left=0)
    axes[-1].set_xlabel("seconds since the start of the rollout")
    return _svg(figure)


def _has_ratio(record: Record, indicator: str) -> bool:
    return any(
        verdict.ratio_lower > SMALLEST_RATIO
        or (verdict.ratio_upper is not None and verdict.ratio_upper < LARGEST_RATIO)
        for look in record.looks
        for verdict in look.verdicts
        if verdict.indicator == indicator
    )


def traffic_picture(
    lines: Sequence[Mapping[str, Any]], names: Mapping[str, str], drift_sent: float
) -> str:
    """Draw requests a second by the model that answered, errors, and latency."""
    start = lines[0]["time"]
    times = [line["time"] - start for line in lines[1:]]
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for version, name in names.items():
        above.plot(times, _rates(lines, "answered", version), label=f"{name} ({version})")
        latency = [line["latency"].get(version, {}).get("p99") for line in lines[1:]]
        below.plot(times, [v * 1000 if v is not None else float("nan") for v in latency])
    errors = _rates(lines, "errors", None)
    # Zero is where no line is: it would lie on the axis, over the models'.
    shown = [rate or float("nan") for rate in errors]
    above.plot(
        times,
        shown,
        color=COLORS["fail"],
        marker=".",
        label=f"errors ({sum(lines[-1]['errors'].values())})",
    )
    for axis in (above, below):
        axis.axvline(drift_sent - start, color=GREY, linestyle="--", linewidth=1)
    above.set_ylabel("answers a second")
    above.legend(fontsize=8, frameon=False)
    below.set_ylabel("p99, ms")
    below.set_yscale("log")
    below.set_xlabel("seconds since the start of the traffic (dashed: the upstream breaks)")
    return _svg(figure)


def _rates(lines: Sequence[Mapping[str, Any]], kind: str, key: str | None) -> list[float]:
    totals = [sum(line[kind].values()) if key is None else line[kind].get(key, 0) for line in lines]
    return [
        (after - before) / max(1e-9, late["time"] - early["time"])
        for before, after, early, late in zip(totals, totals[1:], lines, lines[1:], strict=False)
    ]


def drift_picture(windows: Sequence[Mapping[str, Any]], drift_sent: float) -> str:
    """Draw each feature's effect by window, over its floor."""
    ends = [datetime.fromisoformat(w["end"]).timestamp() - drift_sent for w in windows]
    effects: dict[str, list[float]] = {}
    for window in windows:
        for item in window["features"]:
            if item["effect"] is not None and item["floor"]:
                name = f"{item['feature']} ({item['detector']})"
                effects.setdefault(name, []).append(item["effect"] / item["floor"])
    figure = Figure(figsize=(10, 4), layout="constrained")
    axis = figure.subplots()
    loudest = sorted(effects, key=lambda name: -max(effects[name]))[:6]
    for name, values in effects.items():
        if len(values) == len(ends):
            label = name if name in loudest else None
            color = None if label else "#bdbdbd"
            axis.plot(ends, values, marker="o", markersize=3, label=label, color=color)
    axis.axhline(1.0, color=GREY, linestyle="--", linewidth=1)
    axis.axvline(0.0, color=GREY, linestyle="--", linewidth=1)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("effect / floor")
    axis.set_xlabel("end of the window, seconds since the upstream broke")
    axis.legend(fontsize=8, frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    with io.StringIO() as out:
        figure.savefig(out, format="svg")
        text = out.getvalue()
    # Only the element: the declaration before it has no place inside a page.
    return text[text.index("<svg") :]
