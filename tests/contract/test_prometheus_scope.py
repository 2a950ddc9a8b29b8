"""On a cluster, in a real Prometheus: the counters of one InferenceService, and of no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.contract.test_prometheus_http import ARMS, StandInDetector, StandInPredictor, read
from tests.fixtures.programs import prometheus, running

from davy.core.clock import SystemClock
from davy.core.errors import UnavailableError
from davy.rollout.adapters.prometheus_http import SERVICE_LABEL, PrometheusHttp, Scope
from davy.rollout.counters import NO_METRICS, Cursor
from davy.rollout.kserve.pods import pod_patterns
from davy.rollout.series import UP
from davy.rollout.spec import Candidate
from davy.rollout.verdict import Counts
from davy.rollout.vetoes import drift_veto

SERVICE = {"metadata": {"name": "demo", "uid": "u1"}, "spec": {"predictor": {}}}
SCOPE = Scope("shop", "demo", pod_patterns(SERVICE, None, Candidate(version=ARMS.canary)))
STABLE_POD = "demo-predictor-6c9f8d7b54-x2k9q"
CANARY_POD = "demo-2017-12-01-b-b-predictor-6c9f8d7b54-abcde"
SECONDS = 15.0

Labels = dict[str, dict[str, str]]


@contextmanager
def scraped(
    work: Path, predictors: dict[str, StandInPredictor | StandInDetector], labels: Labels
) -> Iterator[PrometheusHttp]:
    """A Prometheus that has scraped all of them, and the adapter for one InferenceService."""
    targets = {job: [standin.address] for job, standin in predictors.items()}
    with ExitStack() as stack:
        for standin in predictors.values():
            stack.callback(standin.server.server_close)
            stack.callback(standin.server.shutdown)
        program = prometheus(work, targets, interval="200ms", labels=labels)
        stack.enter_context(running(program))
        every = PrometheusHttp(program.url, clock=SystemClock())
        stack.callback(every.close)
        eventually(lambda: targets_in(every) == len(predictors))
        adapter = PrometheusHttp(program.url, clock=SystemClock(), scope=SCOPE)
        stack.callback(adapter.close)
        yield adapter


def targets_in(adapter: PrometheusHttp) -> int:
    return sum(item.key.metric == UP for item in adapter.series(ARMS, None))


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.2)


def at(namespace: str, pod: str) -> dict[str, str]:
    return {"namespace": namespace, "pod": pod}


def test_the_same_version_elsewhere_counts_for_nothing(tmp_path: Path) -> None:
    stable, canary = StandInPredictor(ARMS.stable), StandInPredictor(ARMS.canary)
    elsewhere = {
        "staging": at("staging", CANARY_POD),
        "similar": at("shop", f"demo-staging-{CANARY_POD.removeprefix('demo-')}"),
        "none": {},
    }
    others = {job: StandInPredictor(ARMS.canary) for job in elsewhere}
    labels = {"stable": at("shop", STABLE_POD), "canary": at("shop", CANARY_POD), **elsewhere}
    with scraped(tmp_path, {"stable": stable, "canary": canary, **others}, labels) as adapter:
        base = read(adapter, Cursor())
        assert base.missing is None
        for predictor in others.values():
            predictor.serve("server_error", 0.2, 1000)
        stable.serve("ok", 0.01, 40)
        canary.serve("ok", 0.01, 7)
        wanted = Counts(40, 0, 7, 0)
        eventually(lambda: read(adapter, base.cursor).counts["errors"] == wanted)
        time.sleep(0.6)  # what the others have served is scraped by now, too
        assert read(adapter, base.cursor).counts["errors"] == wanted
        found = adapter.series(ARMS, None)
        assert {series.key.pod for series in found} == {STABLE_POD, CANARY_POD}


def test_a_version_that_serves_elsewhere_alone_has_no_metrics(tmp_path: Path) -> None:
    arms = {"stable": StandInPredictor(ARMS.stable), "staging": StandInPredictor(ARMS.canary)}
    labels = {"stable": at("shop", STABLE_POD), "staging": at("staging", CANARY_POD)}
    with scraped(tmp_path, dict(arms), labels) as adapter:
        missing = read(adapter, Cursor()).missing
        assert missing is not None
        assert (missing.reason, "canary" in missing.message) == (NO_METRICS, True)


@pytest.mark.parametrize("label", ["namespace", "pod"])
def test_a_target_without_a_label_is_told_which(tmp_path: Path, label: str) -> None:
    arms = {"stable": StandInPredictor(ARMS.stable), "canary": StandInPredictor(ARMS.canary)}
    labels = {"stable": at("shop", STABLE_POD), "canary": at("shop", CANARY_POD)}
    del labels["canary"][label]
    with (
        scraped(tmp_path, dict(arms), labels) as adapter,
        pytest.raises(UnavailableError, match=f"no label {label}: .*shop/demo"),
    ):
        adapter.series(ARMS, None)


@pytest.mark.parametrize(
    ("labels", "vetoed"),
    [
        ({"namespace": "shop", "pod": "detector-0"}, False),
        ({"namespace": "shop", SERVICE_LABEL: "demo"}, False),
        ({"namespace": "shop", SERVICE_LABEL: "demo-staging"}, True),
        ({"namespace": "staging", "pod": "detector-0"}, True),
        ({}, True),
    ],
)
def test_a_detector_counts_in_its_namespace_unless_it_names_another_service(
    tmp_path: Path, labels: dict[str, str], vetoed: bool
) -> None:
    places: Labels = {
        "stable": at("shop", STABLE_POD),
        "canary": at("shop", CANARY_POD),
        "detector": labels,
    }
    parts: dict[str, StandInPredictor | StandInDetector] = {
        "stable": StandInPredictor(ARMS.stable),
        "canary": StandInPredictor(ARMS.canary),
        "detector": StandInDetector(ARMS.canary),
    }
    with scraped(tmp_path, parts, places) as adapter:
        assert drift_veto(adapter.series(ARMS, None), ARMS).active == vetoed
