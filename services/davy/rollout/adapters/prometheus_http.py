"""Prometheus over HTTP: raw samples by a range selector, so that nothing is extrapolated.

Belongs here: the queries, reading their answers. Not here: counting (`davy.rollout.counters`).

``increase()`` would scale what it saw to the whole window and return fractions of requests; a
range selector returns the samples as they were scraped.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from davy.core.clock import Clock
from davy.core.errors import UnavailableError
from davy.protocol.prometheus import instant_query
from davy.rollout.series import (
    COUNTERS,
    DETAIL,
    MODEL_INFO,
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
# Of what is not a predictor's: set where two InferenceServices of a namespace serve one version.
SERVICE_LABEL = "serving_kserve_io_inferenceservice"
_FIX = "Start Prometheus, or correct analysis.prometheus.url"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose counters count, on a cluster: a version may serve elsewhere, too.

    Attributes
    ----------
    namespace, service : str
        Of the InferenceService.
    pods : tuple of str
        Regular expressions of the names of its pods.
    """

    namespace: str
    service: str
    pods: tuple[str, ...]

    def of_pods(self) -> list[str]:
        """Return the matchers of what its pods say, and of what is said of them."""
        return [f'namespace="{_quoted(self.namespace)}"', f'pod=~"{_quoted("|".join(self.pods))}"']

    def of_others(self) -> list[str]:
        """Return the matchers of a detector, a label joiner, a replay: pods of their own."""
        named = f'{SERVICE_LABEL}=~"|{_literal(self.service)}"'
        return [f'namespace="{_quoted(self.namespace)}"', named]


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
    scope : Scope, optional
        The InferenceService whose counters count; without one, those of every target.
    transport : httpx.BaseTransport, optional
        What carries the requests; by default the network.
    http : httpx.Client, optional
        A connection to `url` that is shared; whoever made it closes it.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        selector: str = "",
        margin: float = 30.0,
        segments: Sequence[str] = (),
        scope: Scope | None = None,
        transport: httpx.BaseTransport | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._segments = tuple(segments)
        self._clock = clock
        self._selector = selector.strip().strip("{}").strip()
        self._margin = margin
        self._scope = scope
        self._shared = http is not None
        self._http = connection(url, transport) if http is None else http

    def close(self) -> None:
        """Close the connection, unless it is shared."""
        if not self._shared:
            self._http.close()

    def series(self, arms: Arms, since: float | None) -> Sequence[Series]:
        """Return raw samples of both arms; see the port."""
        now = self._clock.now().timestamp()
        back = (0.0 if since is None else max(now - since, 0.0)) + self._margin
        window = min(math.ceil(back), LONGEST_SECONDS)
        versions = "|".join(_literal(version) for version in arms.versions)
        version = f'version=~"{versions}"'
        scope = self._scope
        of_pods = scope.of_pods() if scope else []
        more = [self._selector] if self._selector else []
        found = self._range([_named(PREDICTOR), version, *of_pods, *more], window)
        # The detector is another job than the predictors that the selector means.
        of_others = scope.of_others() if scope else []
        theirs = self._range([_named(OTHERS), version, *of_others], window)
        up = self._range([f'__name__="{UP}"', *of_pods], window)
        if scope is not None:
            self._check_labels(scope, arms, found)
        try:
            return _summed(self._series(item) for item in (*found, *theirs, *up))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnavailableError(
                f"Prometheus answers what no range of samples is ({error!r})",
                where=str(self._http.base_url),
                fix=_FIX,
            ) from None

    def _check_labels(self, scope: Scope, arms: Arms, found: list[dict[str, Any]]) -> None:
        """Refuse targets without the labels by which an InferenceService's pods are told.

        Raises
        ------
        UnavailableError
            An arm that says nothing is said to serve by a target that lacks a label.
        """
        here = {str(_labels(item).get("version")) for item in found}
        for version in arms.versions:
            if version in here:
                continue
            told = self._query(f'{MODEL_INFO}{{version="{_quoted(version)}"}}')
            lacking = [
                label
                for label in ("namespace", "pod")
                if any(not _labels(item).get(label) for item in told)
            ]
            if lacking:
                raise UnavailableError(
                    f"targets that serve {version} have no label {' and '.join(lacking)}: whether "
                    f"they are pods of InferenceService {scope.namespace}/{scope.service} cannot "
                    "be told",
                    where=str(self._http.base_url),
                    fix="Have Prometheus attach namespace and pod to the predictors, as a "
                    "PodMonitor does",
                )

    def _range(self, matchers: list[str], window: int) -> list[dict[str, Any]]:
        return self._query(f"{{{','.join(matchers)}}}[{window}s]")

    def _query(self, query: str) -> list[dict[str, Any]]:
        return instant_query(
            self._http,
            query,
            where=str(self._http.base_url),
            unreachable=_FIX,
            refused="Correct analysis.prometheus.selector",
        )

    def _series(self, item: dict[str, Any]) -> _Scraped:
        labels = item["metric"]
        metric = labels["__name__"]
        pod = labels.get("pod") or labels.get("instance", "")
        detail = "/".join(labels.get(label, "") for label in DETAIL.get(metric, ()))
        version = "" if metric == UP else labels.get("version", "")
        segment = segment_text({key: labels[key] for key in self._segments if key in labels})
        samples = tuple(Sample(float(time), float(value)) for time, value in item["values"])
        target = (labels.get("job", ""), labels.get("instance", ""))
        return _Scraped(target, Series(SeriesKey(metric, version, pod, detail, segment), samples))


class _Scraped(NamedTuple):
    """A series, and the job and instance that it was scraped from."""

    target: tuple[str, str]
    series: Series


def _summed(scraped: Iterable[_Scraped]) -> list[Series]:
    """Return one series for each key and target: counters by labels that nobody asks for are added.

    One scrape gives all series of a target the same time. What is scraped twice, by two jobs, is
    not added: it is the same counter.
    """
    groups: dict[tuple[tuple[str, str], SeriesKey], list[Series]] = defaultdict(list)
    for target, series in scraped:
        groups[target, series.key].append(series)
    found = []
    for (_, key), group in groups.items():
        if len(group) == 1 or key.metric not in COUNTERS:
            found += group
            continue
        # A counter that is not there yet has counted nothing.
        total = dict.fromkeys(sorted({s.time for series in group for s in series.samples}), 0.0)
        for series in group:
            for sample in series.samples:
                total[sample.time] += sample.value
        found.append(Series(key, tuple(Sample(*item) for item in total.items())))
    return found


def connection(url: str, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Return a connection to a Prometheus, for one or several `PrometheusHttp`."""
    return httpx.Client(base_url=url, timeout=10.0, trust_env=False, transport=transport)


def _named(metrics: frozenset[str]) -> str:
    return f'__name__=~"{"|".join(sorted(metrics))}"'


def _labels(item: Any) -> dict[str, Any]:
    found = item.get("metric") if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}


def _literal(text: str) -> str:
    """Return what matches the text alone, in a string of PromQL."""
    return _quoted(re.escape(text))


def _quoted(text: str) -> str:
    # Of a string in double quotes.
    return text.replace("\\", "\\\\").replace('"', '\\"')
