"""What a dashboard holds, whatever draws it.

Belongs here: panels, rows, pages. Not here: Grafana's JSON (`davy.dashboards.grafana`), which
queries there are (the modules beside this one, a page each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["lines", "areas", "number", "table"]
Unit = Literal["short", "reqps", "s", "percent", "percentunit", "rps", "cps", "ratio"]


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and how its series are called (``{{label}}`` is a label's value)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """From this value on, a number or a line is of this colour."""

    value: float
    color: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes
    ----------
    title, description : str
        What it shows; what to read from it, in a sentence.
    queries : tuple of Query
        What is drawn.
    unit : str
        Of the values.
    shape : {"lines", "areas", "number", "table"}
        How it is drawn; a number and a table show the last values.
    width : int
        Of 24.
    levels : tuple of Level
        Thresholds, ascending.
    low, high : float, optional
        Ends of the scale.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    shape: Shape = "lines"
    width: int = 12
    levels: tuple[Level, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable: the values of a label among the series of a metric, any number of them."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard; ``uid`` is its address, ``davy-overview`` for example."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
    span: str = "now-6h"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All its panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


MODEL = Choice("model", "model", "davy_requests_total")
ROLLOUT = Choice("rollout", "rollout", "davy_rollout_weight")
# Which alerts tell of trouble: the watchdog always fires, and is none.
TROUBLE = 'alertname=~"Davy.*",alertname!="DavyWatchdog"'
