"""Whatever Prometheus answers: without the evidence nothing is promoted, and nothing breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.core.clock import ManualClock
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal, StatedPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.engine import Engine
from davy.rollout.ports import GateFacts
from davy.rollout.replay import replay
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase

START = datetime(2017, 1, 2, tzinfo=UTC)
INTERVAL, LOOKS = 10.0, 8
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
# 506 requests without an error show that a rate is below 1 %: what 8 answers with at most 3 samples
# of two counters up to 20 can claim is less, however often the counters begin anew.
MOST = 20.0

REQUESTS, SECONDS = "davy_requests_total", "davy_request_seconds_count"
ODD_NUMBERS = ["NaN", "+Inf", "-Inf", "-3", "1e300", "9007199254740993", "0.5", "x", "", None, 7]


def sample_values() -> st.SearchStrategy[Any]:
    honest = st.floats(0, MOST).map(str)
    return st.one_of(honest, honest, st.sampled_from(ODD_NUMBERS))


def series() -> st.SearchStrategy[dict[str, Any]]:
    labels = st.fixed_dictionaries(
        {},
        optional={
            "__name__": st.sampled_from(
                [REQUESTS, "davy_model_info", "up", "davy_predictions_total", "other"]
            ),
            "version": st.sampled_from(["v1", "v2", "v1+baseline", "v3", ""]),
            "outcome": st.sampled_from(["ok", "server_error", "odd"]),
            "instance": st.sampled_from(["a:1", "b:1"]),
            "pod": st.sampled_from(["p", ""]),
        },
    )
    ages = st.one_of(st.floats(0, 25), st.sampled_from([-1e6, 1e6, float("nan"), "soon"]))
    points = st.lists(st.tuples(ages, sample_values()), max_size=3)
    return st.fixed_dictionaries({"metric": labels}, optional={"values": points, "value": points})


def bodies() -> st.SearchStrategy[Any]:
    found = st.lists(series(), max_size=6)
    success = found.map(lambda rows: {"status": "success", "data": {"result": rows}})
    odd = st.sampled_from(
        [
            {"status": "success"},
            {"status": "success", "data": None},
            {"status": "success", "data": {"result": None}},
            {"status": "success", "data": {"result": {"a": 1}}},
            {"status": "success", "data": {"result": [7]}},
            {"status": "error", "error": "too many samples"},
            {},
            [],
            7,
            None,
            "success",
        ]
    )
    return st.one_of(success, success, success, odd)


answers = st.one_of(
    st.tuples(st.just(200), bodies()),
    st.tuples(st.just(200), bodies()),
    st.tuples(st.sampled_from([200, 503]), st.just("<html><body>Sign in</body></html>")),
    st.tuples(st.sampled_from([204, 422, 500, 503]), bodies()),
    st.just((0, None)),
)


class StandInPrometheus:
    """Answers each query with the next of what was drawn; status 0 is a broken connection."""

    def __init__(self, clock: ManualClock, drawn: list[tuple[int, Any]]) -> None:
        self.clock, self.drawn, self.asked = clock, drawn, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        status, body = self.drawn[self.asked % len(self.drawn)]
        self.asked += 1
        if status == 0:
            raise httpx.ConnectError("refused", request=request)
        if isinstance(body, str) and body.startswith("<"):
            return httpx.Response(status, html=body)
        return httpx.Response(status, content=json.dumps(self._dated(body)))

    def _dated(self, body: Any) -> Any:
        """Ages become times of the clock."""
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            return body
        now = self.clock.now().timestamp()
        rows = body["data"].get("result")
        if not isinstance(rows, list):
            return body
        dated = [
            {
                key: [[now - t if isinstance(t, float) else t, v] for t, v in value]
                if key in {"values", "value"}
                else value
                for key, value in row.items()
            }
            if isinstance(row, dict)
            else row
            for row in rows
        ]
        return {**body, "data": {"result": dated}}


def rollout(
    drawn: list[tuple[int, Any]], looks: int, *, baseline: bool = False
) -> tuple[Engine, MemoryJournal]:
    clock = ManualClock(START)
    transport = httpx.MockTransport(StandInPrometheus(clock, drawn))
    adapter = PrometheusHttp("http://127.0.0.1:9", clock=clock, transport=transport)
    journal = MemoryJournal()
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "v2"},
            "steps": [{"weight": 5, "minRequests": 0}, {"weight": 40, "minRequests": 0}],
            "analysis": {
                "interval": f"{INTERVAL:g}s",
                "deadline": "1h",
                "vetoes": [],
                "baseline": baseline,
            },
        }
    )
    engine = Engine(
        spec,
        name="r",
        stable="v1",
        traffic=DryRunTraffic(),
        metrics=adapter,
        journal=journal,
        packages=StatedPackages(FACTS),
        clock=clock,
    )
    for _ in range(looks):
        engine.look()
        clock.sleep(INTERVAL)
    adapter.close()
    return engine, journal


@settings(deadline=None, max_examples=100)
@given(st.lists(answers, min_size=1, max_size=3 * LOOKS), st.booleans())
def test_no_answer_whatsoever_promotes_without_the_evidence(
    drawn: list[tuple[int, Any]], baseline: bool
) -> None:
    engine, journal = rollout(drawn, LOOKS, baseline=baseline)
    assert engine.state.phase not in {Phase.PROMOTING, Phase.PROMOTED}
    assert engine.state.step <= 0, "it went on to the next weight"
    record = journal.read()
    assert record is not None
    assert replay(record).difference is None


@pytest.mark.parametrize("only", ["v1", "v2"])
def test_half_of_the_series_holds_for_ever(only: str) -> None:
    engine, _ = rollout(answers_with_evidence(versions=(only,)), 40)
    assert (engine.state.phase, engine.state.weight) == (Phase.PENDING, 0)


@pytest.mark.parametrize("versions", [("v1", "v2"), ("v1", "v1+baseline"), ("v2",)])
def test_beside_a_baseline_the_two_that_are_compared_must_be_there(
    versions: tuple[str, ...],
) -> None:
    engine, _ = rollout(answers_with_evidence(versions=versions), 40, baseline=True)
    assert (engine.state.phase, engine.state.weight) == (Phase.PENDING, 0)
    engine, _ = rollout(answers_with_evidence(("v1+baseline", "v2")), 40, baseline=True)
    assert engine.state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_the_same_answers_with_the_evidence_do_promote() -> None:
    engine, _ = rollout(answers_with_evidence(versions=("v1", "v2")), 40)
    assert engine.state.step == 1
    assert engine.state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def answers_with_evidence(versions: tuple[str, ...]) -> list[tuple[int, Any]]:
    """The three queries of each look: 1,000 requests of the canary and more of the stable arm."""
    drawn: list[tuple[int, Any]] = []
    for look in range(41):
        rows = [
            {
                "metric": {
                    "__name__": REQUESTS,
                    "version": version,
                    "outcome": "ok",
                    "instance": f"{version}:1",
                },
                "values": [(INTERVAL, f"{1000 * look}"), (0.0, f"{1000 * (look + 1)}")],
            }
            for version in versions
        ]
        nothing = (200, {"status": "success", "data": {"result": []}})
        drawn += [(200, {"status": "success", "data": {"result": rows}}), nothing, nothing]
    return drawn
