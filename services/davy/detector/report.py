"""What GET /windows and GET /drift answer.

Belongs here: the watcher's records as plain objects, fit for JSON. Not here: routes, tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from davy.detector.failures import Failure
from davy.detector.state import Tested, Watched
from davy.drift.result import DriftResult


def report(
    watched: Iterable[Watched],
    failures: Mapping[str, Failure],
    dropped: Mapping[str, int],
    waiting: Mapping[str, int],
) -> dict[str, Any]:
    """Return every version with its last windows, oldest first.

    A number that is not there (an effect of a feature without values) is None; JSON has no
    infinity, so that is the text "inf" or "-inf".
    """
    return {
        "versions": [_version(item, waiting) for item in watched],
        "not_watched": [
            {"version": version, "reason": failure.reason, "message": failure.message}
            for version, failure in failures.items()
        ],
        "dropped": dict(dropped),
    }


def drift(watched: Iterable[Watched]) -> dict[str, Any]:
    """Return what has drifted of every version: those active, and the last window's verdicts.

    ``streaks`` says in how many windows in a row a feature has drifted, or has not.
    """
    return {"versions": [_drift(item) for item in watched]}


def verdicts(result: DriftResult) -> list[dict[str, Any]]:
    """Return a window's verdicts, feature by feature."""
    return [
        {
            "feature": verdict.feature,
            "detector": verdict.detector,
            "status": verdict.status,
            "effect": _plain(verdict.effect),
            "floor": _plain(verdict.floor),
            "p_value": _plain(verdict.p_value),
            "adjusted": _plain(verdict.adjusted),
            "statistic": _plain(verdict.statistic),
            "reason": verdict.reason,
            "comparisons": [
                {
                    "what": c.what,
                    "reference": _plain(c.reference),
                    "window": _plain(c.window),
                }
                for c in verdict.comparisons
            ],
            "examples": [_plain(value) for value in verdict.examples],
        }
        for verdict in result.features
    ]


def _drift(watched: Watched) -> dict[str, Any]:
    last = _tested(watched.history[-1]) if watched.history else None
    return {
        "model": watched.subject.model,
        "version": watched.subject.version,
        "active": [{"feature": f, "detector": d} for f, d in watched.active],
        "streaks": [
            {"feature": f, "detector": d, "drifted": streak.drifted, "quiet": streak.quiet}
            for (f, d), streak in sorted(watched.streaks.items())
        ],
        "window": {name: last[name] for name in ("start", "end", "rows", "scored", "status")}
        if last
        else None,
        "features": last["features"] if last else [],
    }


def _version(watched: Watched, waiting: Mapping[str, int]) -> dict[str, Any]:
    return {
        "model": watched.subject.model,
        "version": watched.subject.version,
        "window_rows": watched.subject.rules.window_rows,
        "rows": watched.windower.rows,
        "waiting": waiting.get(watched.subject.version, 0),
        "active": [{"feature": f, "detector": d} for f, d in watched.active],
        "windows": [_tested(item) for item in watched.history],
    }


def _tested(item: Tested) -> dict[str, Any]:
    return {
        "start": item.window.start.isoformat(),
        "end": item.window.end.isoformat(),
        "rows": item.result.rows,
        "scored": item.window.scored,
        "status": item.result.status,
        "reason": item.result.reason,
        "seconds": item.seconds,
        "active": [{"feature": f, "detector": d} for f, d in item.active],
        "features": verdicts(item.result),
    }


def _plain(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
