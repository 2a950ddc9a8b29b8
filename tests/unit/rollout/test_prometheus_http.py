"""What the Prometheus adapter makes of an answer; a real server is asked in ``tests/contract``."""

from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from tests.fixtures.scraped_exposition import StandInPrometheus

from davy.core.clock import ManualClock
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.counters import Cursor, read_interval
from davy.rollout.series import DRIFT, REQUESTS, SECONDS_BUCKET, Arms, Series
from davy.rollout.verdict import Counts

START = datetime(2026, 1, 5, tzinfo=UTC)
ARMS = Arms("v1", "v2")
CANARY = [("de", 2, 1), ("at", 3, 0), ("other", 5, 0)]
STABLE = [("de", 20, 0), ("at", 30, 2), ("other", 50, 0)]


def exposition(version: str, counted: Sequence[tuple[str, int, int]]) -> str:
    """Return answered and failed requests by country."""
    lines = []
    for country, ok, failed in counted:
        labels = f'model="m",version="{version}",country="{country}"'
        lines += [
            f'davy_requests_total{{{labels},outcome="ok"}} {ok}',
            f'davy_requests_total{{{labels},outcome="server_error"}} {failed}',
            f'davy_request_seconds_bucket{{{labels},le="0.1"}} {ok}',
            f"davy_request_seconds_count{{{labels}}} {ok + failed}",
        ]
    return "\n".join(
        [
            "# TYPE davy_requests_total counter",
            *(line for line in lines if "requests" in line),
            "# TYPE davy_request_seconds histogram",
            *(line for line in lines if "request_seconds" in line),
            "",
        ]
    )


class Scraped:
    """A stand-in Prometheus that has scraped both arms before and after some traffic."""

    def __init__(self, jobs: Sequence[str] = ("predictor",)) -> None:
        self.prometheus = StandInPrometheus()
        self.clock = ManualClock(START)
        self.jobs = jobs
        self.scrape([("de", 0, 0)], [("de", 0, 0)])
        self.clock.sleep(30)
        self.scrape(STABLE, CANARY)

    def scrape(
        self, stable: Sequence[tuple[str, int, int]], canary: Sequence[tuple[str, int, int]]
    ) -> None:
        now = self.clock.now().timestamp()
        for job in self.jobs:
            self.prometheus.scrape(now, "stable-1", exposition("v1", stable), job=job)
            self.prometheus.scrape(now, "canary-1", exposition("v2", canary), job=job)

    def series(self, *segments: str) -> Sequence[Series]:
        adapter = PrometheusHttp(
            "http://127.0.0.1:9",
            clock=self.clock,
            margin=60,
            segments=segments,
            transport=self.prometheus.transport(),
        )
        return adapter.series(ARMS, None)

    def counts(self, *indicators: str, segments: Sequence[str] = ()) -> dict[str, Counts]:
        """Return what is counted between the two scrapes."""
        seen = self.series(*segments)
        cursor = Cursor()
        counts: dict[str, Counts] = {}
        for end in (START.timestamp(), self.clock.now().timestamp()):
            reading = read_interval(
                cursor,
                [Series(s.key, tuple(x for x in s.samples if x.time <= end)) for s in seen],
                arms=ARMS,
                indicators=indicators,
                objective=0.1,
                now=end,
                stale_after=60,
            )
            assert reading.missing is None
            cursor, counts = reading.cursor, dict(reading.counts)
        return counts


def test_series_of_labels_that_nobody_asks_for_are_added() -> None:
    counts = Scraped().counts("errors", "slow")
    assert counts["errors"] == Counts(102, 2, 11, 1)
    assert counts["slow"] == Counts(102, 2, 11, 1)


def test_labels_that_are_asked_for_stay_apart() -> None:
    counts = Scraped().counts("errors", "errors[country=de]", segments=["country"])
    assert counts["errors"] == Counts(102, 2, 11, 1)
    assert counts["errors[country=de]"] == Counts(20, 0, 3, 1)


def test_a_target_that_two_jobs_scrape_is_counted_once() -> None:
    counts = Scraped(jobs=("predictor", "pods")).counts("errors")
    assert counts["errors"] == Counts(102, 2, 11, 1)


def test_each_bucket_of_a_histogram_is_added_by_itself() -> None:
    found = [s for s in Scraped().series() if s.key.metric == SECONDS_BUCKET]
    assert sorted((s.key.version, s.samples[-1].value) for s in found) == [("v1", 100), ("v2", 10)]


def test_what_a_restarted_process_counted_is_a_reset_of_the_sum() -> None:
    scraped = Scraped()
    scraped.clock.sleep(10)
    scraped.scrape([("de", 1, 0), ("fr", 2, 0)], [("de", 4, 0)])
    of = {
        s.key.version: s
        for s in scraped.series()
        if (s.key.metric, s.key.detail) == (REQUESTS, "ok")
    }
    assert [s.value for s in of["v1"].samples] == [0, 100, 3]
    assert [s.value for s in of["v2"].samples] == [0, 10, 4]


def test_gauges_are_not_added() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        labels = {"__name__": DRIFT, "version": "v2", "feature": "price", "instance": "d:1"}
        rows = [
            {"metric": {**labels, "detector": name}, "values": [[START.timestamp(), value]]}
            for name, value in (("ks", "1"), ("mmd", "1"))
        ]
        asks = DRIFT in request.content.decode()
        data = {"resultType": "matrix", "result": rows if asks else []}
        return httpx.Response(200, json={"status": "success", "data": data})

    adapter = PrometheusHttp(
        "http://127.0.0.1:9", clock=ManualClock(START), transport=httpx.MockTransport(answer)
    )
    assert [s.samples[0].value for s in adapter.series(ARMS, None)] == [1, 1]
