"""How large, fast and good each candidate is, measured side by side.

Belongs here: latency, size and quality of ONNX files. Not here: what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from davy.compression.candidates import Made
from davy.core.clock import Clock
from davy.core.errors import InvalidInputError
from davy.data.task import Task
from davy.packaging.contract import CompressionCandidate
from davy.training.bootstrap import holm_intervals, interval, resample
from davy.training.evaluate import request_quality, segment_groups
from davy.training.examples import Examples
from davy.training.scoring import OUTPUT, open_session, session_scores
from davy.training.timing import Floats, median_interval, side_by_side

DRAWS = 4000


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
    """Return seconds a run of each session, one value a round, side by side."""
    inputs = dict(batch)
    runs = {name: partial(session.run, [OUTPUT], inputs) for name, session in sessions.items()}
    return side_by_side(runs, clock)


def _batch(test: Examples, rows: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.resize(column, rows) for name, column in test.features.items()}


def _quality(task: Task, session: Any, test: Examples) -> Floats:
    scores = session_scores(session, test.features)
    return request_quality(task, test, scores.astype(np.float64))
