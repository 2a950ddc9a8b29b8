"""How large, fast and good each candidate is, measured side by side.

Belongs here: latency, size and quality of ONNX files. Not here: what follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from davy.compression.candidates import Made
from davy.core.clock import Clock
from davy.core.errors import InvalidInputError
from davy.data.task import Task
from davy.packaging.contract import CompressionCandidate, Interval
from davy.training.bootstrap import holm_intervals, interval, resample
from davy.training.evaluate import request_quality, segment_groups
from davy.training.examples import Examples
from davy.training.scoring import OUTPUT, open_session, session_scores

ROUNDS = 60
RUNS_PER_ROUND = 8
WARM_UP_RUNS = 20
DRAWS = 4000

Floats = npt.NDArray[np.float64]


def measure(
    task: Task, made: Sequence[Made], test: Examples, clock: Clock
) -> list[CompressionCandidate]:
    """Measure all candidates on the same test requests.

    Parameters
    ----------
    task : Task
        Batch size, budget, objective, seed.
    made : sequence of Made
        The candidates' files, fp32 first.
    test : Examples
        Requests that neither training nor calibration has seen.
    clock : Clock
        Where the time comes from.

    Returns
    -------
    list of CompressionCandidate
        Not yet judged. ``difference`` is paired over requests with households resampled; the
        bounds of ``segments`` hold for all segments at once (Holm).

    Raises
    ------
    InvalidInputError
        fp32 is not the first, or a model does not take the rows.
    """
    if not made or made[0].name != "fp32":
        raise InvalidInputError("fp32 must come first", where="compression candidates")
    sessions = {item.name: open_session(item.path) for item in made}
    times = latencies(sessions, _batch(test, task.compression.batch), clock)
    quality = {name: _quality(task, session, test) for name, session in sessions.items()}
    resamples = resample(test.household, draws=DRAWS, rng=np.random.default_rng(task.model.seed))
    groups, _ = segment_groups(test)
    measured = []
    for item in made:
        change = quality[item.name] - quality["fp32"]
        first = item.name == "fp32"
        measured.append(
            CompressionCandidate(
                name=item.name,
                bytes=item.path.stat().st_size,
                batch=task.compression.batch,
                latency_seconds=median_interval(times[item.name]),
                quality=interval(resamples, quality[item.name]),
                difference=None if first else interval(resamples, change),
                segments={}
                if first
                else holm_intervals(resamples, change, groups, above=-task.compression.budget),
                eligible=False,
                reason="not judged yet",
                details=dict(item.details),
            )
        )
    return measured


def latencies(
    sessions: Mapping[str, Any], batch: Mapping[str, npt.NDArray[Any]], clock: Clock
) -> dict[str, Floats]:
    """Return seconds a run of each session, one value a round.

    The candidates take turns within a round, starting with another one each time, so that a
    busy moment of the machine meets all of them. A round's value is its fastest run: what a
    neighbour takes from the processor is no property of the model.
    """
    names = list(sessions)
    inputs = dict(batch)
    for name in names:
        for _ in range(WARM_UP_RUNS):
            sessions[name].run([OUTPUT], inputs)
    times = {name: np.empty(ROUNDS) for name in names}
    for turn in range(ROUNDS):
        for offset in range(len(names)):
            name = names[(turn + offset) % len(names)]
            fastest = math.inf
            for _ in range(RUNS_PER_ROUND):
                started = clock.monotonic()
                sessions[name].run([OUTPUT], inputs)
                fastest = min(fastest, clock.monotonic() - started)
            times[name][turn] = fastest
    return times


def median_interval(values: Floats, *, level: float = 0.95) -> Interval:
    """Return the median with its distribution-free interval from order statistics.

    The number of values below the true median is Binomial(n, 1/2), whatever the distribution
    (David and Nagaraja, "Order statistics", 2003, section 7.1).

    Examples
    --------
    >>> found = median_interval(np.arange(1.0, 101.0))
    >>> found.value, found.lower, found.upper
    (50.5, 40.0, 61.0)
    """
    ordered = np.sort(values)
    count = ordered.size
    low = max(0, int(stats.binom.ppf((1.0 - level) / 2.0, count, 0.5)) - 1)
    return Interval(
        value=float(np.median(ordered)),
        lower=float(ordered[low]),
        upper=float(ordered[count - 1 - low]),
        n=count,
        level=level,
    )


def _batch(test: Examples, rows: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.resize(column, rows) for name, column in test.features.items()}


def _quality(task: Task, session: Any, test: Examples) -> Floats:
    scores = session_scores(session, test.features)
    return request_quality(task, test, scores.astype(np.float64))
