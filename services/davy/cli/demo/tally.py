"""What became of every request: the count that the demo is held to.

Belongs here: counting answers and errors by the version that gave them. Not here: sending.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

UNKNOWN = "none"
REFUSED = 503
# What a reason measures differs each time: kept as it stands, each refusal would be a key of its
# own, and every line of the traffic file tells all keys.
_MEASURED = re.compile(r"\d+\.\d+")


@dataclass(slots=True)
class Tally:
    """Counts since the start of the traffic.

    ``errors`` is keyed ``version|status|reason``; the version is ``none`` where nothing that
    names one answered (a refused connection, a time-out).
    """

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def record_answer(self, version: str, seconds: float) -> None:
        """Count a good answer and how long it took."""
        self.answered[version] += 1
        self.latencies[version].append(seconds)

    def record_error(self, version: str | None, status: int, reason: str) -> None:
        """Count an error answer, or with status 0 a request that got no answer."""
        text = _MEASURED.sub("…", " ".join(reason.replace("|", "/").split()))[:80]
        self.errors[f"{version or UNKNOWN}|{status}|{text}"] += 1

    @property
    def settled(self) -> int:
        """Requests whose end is known."""
        return self.answered.total() + self.errors.total()

    def line(self, *, time: float, phase: str) -> dict[str, Any]:
        """Return the totals and the latencies since the last line, which are then forgotten.

        Latencies are in seconds.
        """
        latency = {
            version: {
                "p50": round(float(np.quantile(values, 0.5)), 6),
                "p99": round(float(np.quantile(values, 0.99)), 6),
            }
            for version, values in self.latencies.items()
            if values
        }
        self.latencies.clear()
        return {
            "time": time,
            "phase": phase,
            "sent": self.sent,
            "answered": dict(self.answered),
            "errors": dict(self.errors),
            "latency": latency,
        }

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> Self:
        """Rebuild the totals from a line of the traffic file."""
        return cls(line["sent"], Counter(line["answered"]), Counter(line["errors"]))

    def errors_of(self, version: str) -> int:
        """Errors that ``version`` answered with."""
        return sum(n for key, n in self.errors.items() if key.split("|", 1)[0] == version)

    @property
    def refused(self) -> int:
        """Errors that say no more than that there was no room: the machine is too busy."""
        return sum(n for key, n in self.errors.items() if key.split("|")[1] == str(REFUSED))
