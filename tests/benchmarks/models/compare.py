"""Models on the same test rows: each one's measures, and their difference to Davy's.

Belongs here: means over seeds, the paired bootstrap over households, the lines of a table.
Not here: fitting anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from davy.training.bootstrap import draw_weights
from davy.training.tabular_measures import calibration_error, pr_auc, roc_auc

Floats = npt.NDArray[np.float64]
DRAWS = 300
LEVEL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model gives the test rows, once a seed; one only where nothing is drawn.

    ``chance`` says that scores are probabilities, so that their calibration can be measured.
    """

    name: str
    scores: Sequence[Floats]
    chance: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: values are means over seeds, ``spread`` their range over seeds."""

    name: str
    seeds: int
    value: float
    low: float
    high: float
    spread: float
    second: float
    calibration: float | None
    ahead: tuple[float, float, float] | None

    def cells(self) -> list[str]:
        """Return the row as text; the difference is Davy's minus this one's."""
        error = "-" if self.calibration is None else f"{self.calibration:.3f}"
        ahead = "-"
        if self.ahead is not None:
            ahead = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*self.ahead)
        spread = f"±{self.spread / 2:.4f}" if self.seeds > 1 else "-"
        return [
            self.name,
            f"{self.value:.4f} [{self.low:.3f}, {self.high:.3f}]",
            f"{self.seeds} {spread}".removesuffix(" -"),
            f"{self.second:.3f}",
            error,
            ahead,
        ]


def binary_lines(
    label: Floats, unit: npt.NDArray[np.int64], ours: Scored, others: Sequence[Scored]
) -> list[Line]:
    """Compare models of two classes by PR-AUC, first Davy's own.

    The same draws of households serve all, so a difference is paired; a difference is of the means
    over seeds of both sides.
    """
    weights = list(draw_weights(unit, draws=DRAWS, rng=np.random.default_rng(0)))
    drawn = {
        one.name: np.array([_mean(pr_auc, label, one, weight) for weight in weights])
        for one in (ours, *others)
    }
    even = np.ones(label.size)
    best = _mean(pr_auc, label, ours, even)
    lines = []
    for one in (ours, *others):
        values = [pr_auc(label, score, even) for score in one.scores]
        low, high = np.quantile(drawn[one.name], LEVEL)
        ahead = None
        if one is not ours:
            lower, upper = np.quantile(drawn[ours.name] - drawn[one.name], LEVEL)
            ahead = (best - float(np.mean(values)), float(lower), float(upper))
        lines.append(
            Line(
                name=one.name,
                seeds=len(one.scores),
                value=float(np.mean(values)),
                low=float(low),
                high=float(high),
                spread=float(np.ptp(values)),
                second=_mean(roc_auc, label, one, even),
                calibration=_mean(calibration_error, label, one, even) if one.chance else None,
                ahead=ahead,
            )
        )
    return lines


def _mean(
    measure: Callable[[Floats, Floats, Floats], float], label: Floats, one: Scored, weight: Floats
) -> float:
    return float(np.mean([measure(label, score, weight) for score in one.scores]))


def table(lines: Sequence[Line], *, measures: tuple[str, str]) -> str:
    """Return the lines as a Markdown table."""
    first, second = measures
    head = ["", f"{first}, 95 %", "seeds, ± half range", second, "calibration error",
            "Davy ahead by"]  # fmt: skip
    rows = [head, ["---"] * len(head), *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
