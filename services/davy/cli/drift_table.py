"""Verdicts on a window's features as a table, for every command that shows some.

Belongs here: which features are shown, and how. Not here: where they come from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table


def drift_table(
    features: Sequence[dict[str, Any]],
    active: Collection[tuple[str, str]],
    *,
    everything: bool,
) -> Table:
    """Return the features that drifted or are near it, largest effect first.

    Parameters
    ----------
    features : sequence of dict
        Verdicts, as `davy.detector.report.verdicts` gives them.
    active : collection of (feature, detector)
        Those that are in drift.
    everything : bool
        Show every feature.
    """
    table = Table("feature", "detector", "verdict", "effect", "floor", "p", "then → now")
    for item in sorted(features, key=lambda item: -(item["effect"] or 0)):
        key = (item["feature"], item["detector"])
        near = item["effect"] is not None and item["effect"] >= 0.75 * (item["floor"] or 0)
        if everything or near or key in active or item["status"] == "drift":
            verdict = "ACTIVE" if key in active else item["status"]
            table.add_row(
                escape(item["feature"]),
                item["detector"],
                verdict,
                _number(item["effect"]),
                _number(item["floor"]),
                _number(item["p_value"]),
                escape(item["reason"]) or "; ".join(_compared(c) for c in item["comparisons"]),
            )
    return table


def _compared(item: dict[str, Any]) -> str:
    return f"{item['what']} {_number(item['reference'])} → {_number(item['window'])}"


def _number(value: float | str | None) -> str:
    if isinstance(value, str):  # "inf", which JSON has no number for
        return value
    return "-" if value is None else f"{value:.3g}"
