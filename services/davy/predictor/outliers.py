"""Which rows of a request are outliers, told in the answer's parameters and in the metrics.

Belongs here: whether a package's rows are scored here, in which thread, and what is told of a
request. Not here: scores and thresholds (`davy.outlier`).

Rows are scored where and when the model is executed on them, as one more output of it: what
scoring takes is in the estimate of how long a request will, and of many rows it does not hold up
the event loop.

It never costs a request its answer: a package whose scorer cannot be used is served without it,
and a request whose rows cannot be scored is answered without the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from davy.core.errors import IntegrityError
from davy.core.logging import get_logger
from davy.outlier.document import OutlierDetector, read_detector
from davy.predictor.admission import Speed
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.probe import ROWS, examples
from davy.predictor.settings import OutlierMode
from davy.protocol.tensors import Array, Tensor

OUTLIERS = "outliers"
OUTLIER_ROWS = "outlier_rows"
# Places of rows that are listed in one answer.
LISTED = 32
# The further output: 1 for an outlier, 0 for another row, -1 for one that could not be scored.
# No contract can name one so.
FLAGS = "\0outliers"
NOT_SCORED = -1
_NOTHING: Mapping[str, Any] = {}
_NONE: Mapping[str, Any] = {OUTLIERS: 0}


class FlaggingModel:
    """A model with one more output, `FLAGS`: which rows are outliers.

    Parameters
    ----------
    model : Model
        Executes.
    detector : OutlierDetector
        What its package carries.

    Attributes
    ----------
    speed : Speed
        What execution and scoring took together.
    """

    def __init__(self, model: Model, detector: OutlierDetector) -> None:
        self._model = model
        self._detector = detector
        self._told = False
        self.speed = Speed()

    @property
    def together(self) -> bool:
        """Whether rows of several requests may be executed at once."""
        return self._model.together

    def try_out(self) -> None:
        """Score rows that the contract allows, and learn what that takes; raises what fails."""
        for rows in (1, ROWS):
            feed = examples(self._model.contract, rows)
            self._detector.flags(feed)
            started = time.perf_counter()
            self._detector.flags(feed)
            scored = time.perf_counter() - started
            self.speed.observe(rows, self._model.speed.seconds(rows) + scored)

    def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Execute the model, then score its rows if `FLAGS` is asked for; any thread may call it.

        Raises
        ------
        PermanentError
            As `Model.run` does; scoring raises nothing.
        """
        # First the model: what fails is not scored.
        tensors = self._model.run(feed, tuple(name for name in outputs if name != FLAGS))
        if FLAGS not in outputs:
            return tensors
        flags = self._flags(feed)
        return (*tensors, Tensor(FLAGS, "INT8", flags.shape, flags))

    def _flags(self, feed: Mapping[str, Array]) -> Array:
        try:
            return self._detector.flags(feed).astype(np.int8)
        except Exception as error:
            if not self._told:
                self._told = True
                contract = self._model.contract
                get_logger("predictor").error(
                    "rows could not be scored as outliers; said once, counted each time",
                    model=contract.name,
                    version=contract.version,
                    exc_info=error,
                )
            return np.full(next(iter(feed.values())).shape[:1], NOT_SCORED, np.int8)


class OutlierFlags:
    """Tells and counts the outliers of requests to one model.

    Parameters
    ----------
    model : FlaggingModel
        Executes the requests.
    metrics : PredictorMetrics
        Counts outliers, and requests that could not be scored.
    """

    def __init__(self, model: FlaggingModel, metrics: PredictorMetrics) -> None:
        self.model = model
        self._metrics = metrics
        metrics.score_outliers()

    def parameters(self, flags: Array, segment: int = 0) -> Mapping[str, Any]:
        """Return what an answer says of outliers, and count them.

        ``outliers`` is how many rows are some; ``outlier_rows`` the places of the first `LISTED`
        of them, from 0, as text: parameters of the protocol hold no lists. Nothing when the rows
        could not be scored. `segment` is the request's place among the segments.
        """
        if (flags == NOT_SCORED).any():
            self._metrics.outliers_failed()
            return _NOTHING
        count = int(np.count_nonzero(flags))
        if not count:
            return _NONE
        self._metrics.outliers(count, segment)
        places = np.flatnonzero(flags)[:LISTED]
        return {OUTLIERS: count, OUTLIER_ROWS: ",".join(map(str, places.tolist()))}


def flagging(model: Model, mode: OutlierMode) -> FlaggingModel | None:
    """Return the model with its package's scorer, None when its rows are not scored here.

    Reads and tries the scorer, which takes a while: not for the event loop.

    Parameters
    ----------
    model : Model
        Its package says in the contract whether scoring costs less than the model does.
    mode : {"auto", "off", "always"}
        "auto" scores what the package says is cheap, "always" whatever has a scorer.

    Raises
    ------
    IntegrityError
        The scorer's file changed since the package was verified.
    """
    contract = model.contract
    described = contract.outliers
    if mode == "off" or described is None or not (described.in_request or mode == "always"):
        return None
    try:
        scoring = FlaggingModel(model, read_detector(model.package.content(described.file)))
        # The contract's own form of a row: what does not fit it would fail in every request.
        scoring.try_out()
    except IntegrityError:
        raise
    except Exception as error:
        # Whatever is wrong with the file: the model can be served.
        get_logger("predictor").error(
            "served without its outlier scorer",
            model=contract.name,
            version=contract.version,
            error=str(error) or type(error).__name__,
        )
        return None
    return scoring
