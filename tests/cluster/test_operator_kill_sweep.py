"""The operator ends after each of its writes to a real API server; a new one comes to the same end.

The end is an exception at the client's write, which nothing catches: it stands for kill -9, which
`test_operator_process` sends to a real process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import service_in_new_namespace
from tests.cluster.operator_bed import RolloutBed, StandInPrometheus, install, weight_served
from tests.fixtures.kill_sweeps import CRASH_POINTS

from davy.rollout.replay import replay
from davy.rollout.status import ModelRolloutStatus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

AT_ONCE = 8
Scenario = Callable[[RolloutBed, int], tuple[int, list[str]]]


def to_the_end(bed: RolloutBed, kill_after: int) -> tuple[int, list[str]]:
    return bed.drive(bed.create(), kill_after=kill_after, seconds=240)


def has_weight(status: ModelRolloutStatus) -> bool:
    return status.weights is not None and status.weights.canary > 0


def deleted_midway(bed: RolloutBed, kill_after: int) -> tuple[int, list[str]]:
    """Only the withdrawal is killed: what comes before is as in the other."""
    uid = bed.create()
    bed.patch({"metadata": {"finalizers": ["davylamp.dev/traffic"]}})
    bed.drive(uid, until=has_weight, seconds=240)
    bed.delete()
    found = bed.drive(uid, kill_after=kill_after, seconds=240)
    bed.patch({"metadata": {"finalizers": []}})
    return found


def one_run(
    apiserver: ApiServer,
    kserve: KServeStandin,
    mode: str,
    scenario: Scenario,
    errors: float,
    kill_after: int,
) -> tuple[int, list[str], tuple[Any, ...]]:
    """Return kills, what the first operator wrote, and what must be the same each time."""
    with service_in_new_namespace(apiserver) as service, apiserver.client() as api:
        service.create(mode)
        prometheus = StandInPrometheus(
            lambda: weight_served(kserve.observed.shares_in, service.namespace), errors=errors
        )
        try:
            bed = RolloutBed(apiserver, service, prometheus, api)
            kills, log = scenario(bed, kill_after)
        finally:
            prometheus.close()
        end: tuple[Any, ...] = (
            service.read()["spec"]["predictor"]["model"]["storageUri"],
            "canary" in service.read()["spec"],
            kserve.observed.losses_in(service.namespace),
            sorted(bed.events()),
        )
        if bed.resource() is None:
            return kills, log, end
        record = bed.record()
        assert replay(record).difference is None
        assert [line.look for line in record.looks] == list(range(1, len(record.looks) + 1))
        spans = [
            (line.intervals.start, line.intervals.end)
            for line in record.looks
            if line.intervals.start is not None and line.intervals.end is not None
        ]
        for (_, before), (start, _) in itertools.pairwise(spans):
            assert start >= before, "requests were counted twice"
        actions = [line.decision.action for line in record.looks if line.decision.action != "hold"]
        shares = kserve.observed.shares_in(service.namespace)
        return kills, log, (*end, bed.status().phase, actions, shares)


def kind_of(entry: str) -> str:
    """Return a write without the names in it: what is written, how, and whether its status."""
    method, _, path = entry.partition(" ")
    plural, _, name = path.partition("/")
    kind = "record" if "-record-" in name else ""
    return f"{method} {plural} {'status' if name.endswith('/status') else kind}".strip()


@pytest.mark.parametrize(
    ("mode", "scenario", "errors"),
    [
        ("Standard", to_the_end, 0.0),
        ("Knative", to_the_end, 0.0),
        ("Standard", to_the_end, 0.2),
        ("Standard", deleted_midway, 0.0),
    ],
    ids=["Standard-promoted", "Knative-promoted", "Standard-rolled-back", "Standard-deleted"],
)
def test_killed_after_any_write_it_comes_to_the_same_end(
    mode: str,
    scenario: Scenario,
    errors: float,
    apiserver: ApiServer,
    kserve: KServeStandin,
    record_property: Callable[[str, object], None],
) -> None:
    install(apiserver)

    def run(kill_after: int) -> tuple[int, list[str], tuple[Any, ...]]:
        return one_run(apiserver, kserve, mode, scenario, errors, kill_after)

    _, log, wanted = run(-1)
    assert wanted[2] == []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(run, range(1, len(log) + 1)))
    killed = sum(kills for kills, _, _ in found)
    for number, (kills, wrote, end) in enumerate(found, 1):
        last = wrote[-1] if wrote else "nothing"
        assert end == wanted, f"killed after write {number} ({last})"
        # How often it looks depends on the machine, so the last writes may not come.
        assert kills == 1 or len(wrote) < number
    # Whatever the number of looks was: after each kind of write there is one that was killed.
    kinds = {kind_of(wrote[-1]) for kills, wrote, _ in found if kills}
    assert kinds == {kind_of(entry) for entry in log}
    record_property(CRASH_POINTS, killed)
