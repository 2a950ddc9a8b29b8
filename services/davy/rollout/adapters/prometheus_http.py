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
from davy.rollout.series import (
    DETAIL,
    OTHERS,
    PREDICTOR,
    UP,
    Arms,
    Sample,
    Series,
    SeriesKey,
    segment_text,
)

LONGEST_SECONDS = 3600
_FIX = "Start Prometheus, or correct analysis.prometheus.url"


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
    segments : sequence of str
        Labels by which indicators are split.
    transport : httpx.BaseTransport, optional
        What carries the requests; by default the network.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        selector: str = "",
        margin: float = 30.0,
        segments: Sequence[str] = (),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._segments = tuple(segments)
        self._clock = clock
        self._selector = selector.strip().strip("{}").strip()
        self._margin = margin
        self._http = httpx.Client(base_url=url, timeout=10.0, trust_env=False, transport=transport)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def series(self, arms: Arms, since: float | None) -> Sequence[Series]:
        """Return raw samples of both arms; see the port."""
        now = self._clock.now().timestamp()
        back = (0.0 if since is None else max(now - since, 0.0)) + self._margin
        window = min(math.ceil(back), LONGEST_SECONDS)
        names = "|".join(sorted(PREDICTOR))
        versions = "|".join(_literal(version) for version in (arms.stable, arms.canary))
        matchers = [f'__name__=~"{names}"', f'version=~"{versions}"']
        matchers += [self._selector] if self._selector else []
        found = self._query(f"{{{','.join(matchers)}}}[{window}s]")
        # The detector is another job than the predictors that the selector means.
        others = "|".join(sorted(OTHERS))
        theirs = self._query(f'{{__name__=~"{others}",version=~"{versions}"}}[{window}s]')
        up = self._query(f"{UP}[{window}s]")
        try:
            return [self._series(item) for item in (*found, *theirs, *up)]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnavailableError(
                f"Prometheus answers what no range of samples is ({error!r})",
                where=str(self._http.base_url),
                fix=_FIX,
            ) from None

    def _query(self, query: str) -> list[dict[str, Any]]:
        where = str(self._http.base_url)
        try:
            answer = self._http.post("/api/v1/query", data={"query": query})
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"Prometheus does not answer ({error})", where=where, fix=_FIX
            ) from None
        if not isinstance(document, dict):
            raise UnavailableError(
                "Prometheus answers in another language than its own", where=where, fix=_FIX
            )
        if document.get("status") != "success":
            reason = document.get("error", answer.reason_phrase)
            raise UnavailableError(
                f"Prometheus refuses the query: {reason}",
                where=where,
                fix="Correct analysis.prometheus.selector",
            )
        data = document.get("data")
        result = data.get("result") if isinstance(data, dict) else None
        if not isinstance(result, list):
            raise UnavailableError("Prometheus answers without a result", where=where, fix=_FIX)
        return result

    def _series(self, item: dict[str, Any]) -> Series:
        labels = item["metric"]
        metric = labels["__name__"]
        pod = labels.get("pod") or labels.get("instance", "")
        detail = "/".join(labels.get(label, "") for label in DETAIL.get(metric, ()))
        version = "" if metric == UP else labels.get("version", "")
        segment = segment_text({key: labels[key] for key in self._segments if key in labels})
        samples = tuple(Sample(float(time), float(value)) for time, value in item["values"])
        return Series(SeriesKey(metric, version, pod, detail, segment), samples)


def _literal(version: str) -> str:
    # Escaped once for the regular expression and once for the string that holds it.
    return re.escape(version).replace("\\", "\\\\").replace('"', '\\"')
