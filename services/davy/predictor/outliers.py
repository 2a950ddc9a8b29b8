"""Which rows of a request are outliers, told in the answer's parameters and in the metrics.

Belongs here: whether a package's rows are scored here, and what is told of a request.
Not here: scores and thresholds (`davy.outlier`).

It never costs a request its answer: a package whose scorer cannot be used is served without it,
and a request whose rows cannot be scored is answered without the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.logging import get_logger
from davy.outlier.document import OutlierDetector, read_detector
from davy.packaging.contract import Contract
from davy.packaging.package import Package
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.probe import examples
from davy.predictor.settings import OutlierMode
from davy.protocol.tensors import Array

OUTLIERS = "outliers"
OUTLIER_ROWS = "outlier_rows"
# Places of rows that are listed in one answer.
LISTED = 32
_NOTHING: Mapping[str, Any] = {}
_NONE: Mapping[str, Any] = {OUTLIERS: 0}


class OutlierFlags:
    """Scores the rows of requests to one model.

    Parameters
    ----------
    detector : OutlierDetector
        What its package carries.
    contract : Contract
        Names the model and its version in the log.
    metrics : PredictorMetrics
        Counts outliers, and requests that could not be scored.
    """

    def __init__(
        self, detector: OutlierDetector, contract: Contract, metrics: PredictorMetrics
    ) -> None:
        self._detector = detector
        self._contract = contract
        self._metrics = metrics
        self._told = False
        metrics.score_outliers()

    def parameters(self, feed: Mapping[str, Array]) -> Mapping[str, Any]:
        """Return what an answer to `feed` says of outliers, and count them.

        ``outliers`` is how many rows are some; ``outlier_rows`` the places of the first `LISTED`
        of them, from 0, as text: parameters of the protocol hold no lists. Nothing when the rows
        could not be scored, which is logged the first time.
        """
        try:
            flags = self._detector.flags(feed)
        except Exception as error:
            self._failed(error)
            return _NOTHING
        count = int(np.count_nonzero(flags))
        if not count:
            return _NONE
        self._metrics.outliers(count)
        places = np.flatnonzero(flags)[:LISTED]
        return {OUTLIERS: count, OUTLIER_ROWS: ",".join(map(str, places.tolist()))}

    def _failed(self, error: Exception) -> None:
        self._metrics.outliers_failed()
        if not self._told:
            self._told = True
            get_logger("predictor").error(
                "rows could not be scored as outliers; said once, counted each time",
                model=self._contract.name,
                version=self._contract.version,
                exc_info=error,
            )


def outlier_flags(
    package: Package, metrics: PredictorMetrics, mode: OutlierMode
) -> OutlierFlags | None:
    """Return what scores a package's rows, None when they are not scored here.

    Parameters
    ----------
    package : Package
        Says in its contract whether scoring costs less than the model does.
    metrics : PredictorMetrics
        Of the package.
    mode : {"auto", "off", "always"}
        "auto" scores what the package says is cheap, "always" whatever has a scorer.

    Raises
    ------
    IntegrityError
        The scorer's file changed since the package was verified.
    """
    contract = package.contract
    described = contract.outliers
    if mode == "off" or described is None or not (described.in_request or mode == "always"):
        return None
    try:
        detector = read_detector(package.content(described.file))
        # The contract's own form of a row: what does not fit it would fail in every request.
        detector.flags(examples(contract, 2))
    except (InvalidInputError, NotFoundError, ValueError, TypeError) as error:
        get_logger("predictor").error(
            "served without its outlier scorer",
            model=contract.name,
            version=contract.version,
            error=str(error),
        )
        return None
    return OutlierFlags(detector, contract, metrics)
