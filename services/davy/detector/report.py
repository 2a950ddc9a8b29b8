"""What GET /windows answers.

Belongs here: the watcher's records as plain objects, fit for JSON. Not here: routes, tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from davy.detector.state import Failure, Tested, Watched


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
        "features": [
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
            for verdict in item.result.features
        ],
    }


def _plain(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
