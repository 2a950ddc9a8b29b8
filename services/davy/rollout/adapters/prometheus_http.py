"""Prometheus over HTTP: raw samples by a range selector, so that nothing is extrapolated.

Belongs here: the queries, reading their answers. Not here: counting (`davy.rollout.counters`).

``increase()`` would scale what it saw to the whole window and return fractions of requests; a
range selector returns the samples as they were scraped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import httpx

from davy.core.clock import Clock
from davy.core.errors import UnavailableError
from davy.rollout.counters import (
    DRIFT,
    MODEL_INFO,
    REQUESTS,
    SECONDS_BUCKET,
    SECONDS_COUNT,
    UP,
    Arms,
    Sample,
    Series,
    SeriesKey,
)

LONGEST_SECONDS = 3600
_DETAIL = {REQUESTS: "outcome", SECONDS_BUCKET: "le", DRIFT: "feature"}


class PrometheusHttp:
    """Metrics from a Prometheus server.

    Parameters
    ----------
    url : str
        Its base address.
    clock : Clock
        Where the time comes from.
    selector : str
        More label matchers of the predictors' counters, such as ``job="predictor"``.
    margin : float
        Seconds to read further back than asked: at least two scrape intervals, so that each series
        has the sample at which the last look ended.
    """

    def __init__(self, url: str, *, clock: Clock, selector: str = "", margin: float = 30.0) -> None:
        self._clock = clock
        self._selector = selector.strip().strip("{}").strip()
        self._margin = margin
        self._http = httpx.Client(base_url=url, timeout=10.0, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def series(self, arms: Arms, since: float | None) -> Sequence[Series]:
        """Return raw samples of both arms; see the port."""
        now = self._clock.now().timestamp()
        back = (0.0 if since is None else max(now - since, 0.0)) + self._margin
        window = min(math.ceil(back), LONGEST_SECONDS)
        names = "|".join((REQUESTS, SECONDS_COUNT, SECONDS_BUCKET, MODEL_INFO))
        versions = "|".join(_literal(version) for version in (arms.stable, arms.canary))
        matchers = [f'__name__=~"{names}"', f'version=~"{versions}"']
        matchers += [self._selector] if self._selector else []
        found = self._query(f"{{{','.join(matchers)}}}[{window}s]")
        # The detector is another job than the predictors that the selector means.
        drift = self._query(f'{DRIFT}{{version=~"{versions}"}}[{window}s]')
        up = self._query(f"{UP}[{window}s]")
        return [_series(item) for item in (*found, *drift, *up)]

    def _query(self, query: str) -> list[dict[str, Any]]:
        where = str(self._http.base_url)
        fix = "Start Prometheus, or correct analysis.prometheus.url"
        try:
            answer = self._http.post("/api/v1/query", data={"query": query})
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"Prometheus does not answer ({error})", where=where, fix=fix
            ) from None
        if document.get("status") != "success":
            reason = document.get("error", answer.reason_phrase)
            raise UnavailableError(
                f"Prometheus refuses the query: {reason}",
                where=where,
                fix="Correct analysis.prometheus.selector",
            )
        result: list[dict[str, Any]] = document["data"]["result"]
        return result


def _literal(version: str) -> str:
    # Escaped once for the regular expression and once for the string that holds it.
    return re.escape(version).replace("\\", "\\\\").replace('"', '\\"')


def _series(item: dict[str, Any]) -> Series:
    labels = item["metric"]
    metric = labels["__name__"]
    pod = labels.get("pod") or labels.get("instance", "")
    detail = labels.get(_DETAIL.get(metric, ""), "")
    version = "" if metric == UP else labels.get("version", "")
    samples = tuple(Sample(float(time), float(value)) for time, value in item["values"])
    return Series(SeriesKey(metric, version, pod, detail), samples)
