"""The SLO file: objectives of one model over a period.

Belongs here: its schema and what is refused. Not here: what is made of it (`davy.slo.rules`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from davy.core.files import HandWritten, read_model

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+)([mhdw])")


def parse_period(value: Any) -> timedelta:
    """Read ``30d``, ``4w``, ``36h``: Prometheus's words, with one unit."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"'{value}' is not a duration such as 30d, 4w or 36h")
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


Period = Annotated[timedelta, BeforeValidator(parse_period)]
# What goes into a query or the name of a group as it is.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")]
Target = Annotated[float, Field(gt=0, lt=1)]


class Objective(HandWritten):
    """What all objectives have: a name, and the share of good events that is promised.

    ``minimum_requests`` is how many events the long window of an alert must hold before a rate is
    believed; left out, so many that five bad ones are needed to alert.
    """

    name: Name
    target: Target
    description: str = ""
    minimum_requests: int | None = Field(default=None, ge=1)


class Availability(Objective):
    """Requests that are answered; those that break the model's contract (400) do not count."""

    kind: Literal["availability"]


class Latency(Objective):
    """Requests that are answered within ``seconds``, a bound of the predictor's histogram."""

    kind: Literal["latency"]
    seconds: float = Field(gt=0)


class _OverTime(Objective):
    """An objective of a gauge: its share of bad time, whatever the traffic."""

    minimum_requests: None = None


class Freshness(_OverTime):
    """Time in which the newest window of predictions that was judged is no older than that."""

    kind: Literal["freshness"]
    max_age: Period


class Quality(_OverTime):
    """Time in which an estimated or realised metric of all requests is at least ``floor``."""

    kind: Literal["quality"]
    source: Literal["estimate", "realised"]
    metric: Name
    floor: float


AnyObjective = Annotated[Availability | Latency | Freshness | Quality, Field(discriminator="kind")]


class Slo(HandWritten):
    """The objectives of one model.

    ``name`` tells it from others of the same model, such as one in another namespace (default: the
    model's); ``period`` is what the error budget is counted over; ``selector`` adds to the label
    matchers of every query (``namespace="shop"``).
    """

    schema_version: Literal[1] = 1
    model: Name
    name: Name | None = None
    period: Period = timedelta(days=30)
    team: Name
    selector: str = ""
    objectives: tuple[AnyObjective, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sensible(self) -> Slo:
        names = [objective.name for objective in self.objectives]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"an objective is named twice: {', '.join(twice)}")
        if not timedelta(days=7) <= self.period <= timedelta(days=90):
            raise ValueError("period must be between 7d and 90d: burn rates are of days and hours")
        if "{" in self.selector or "}" in self.selector:
            raise ValueError('selector holds label matchers without braces, as in job="x"')
        return self


def read_slo(path: Path) -> Slo:
    """Read an SLO file.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It does not fit; names the field and, for a misspelt one, its nearest match.
    """
    return read_model(path, Slo)
