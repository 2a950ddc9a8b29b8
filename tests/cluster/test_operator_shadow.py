"""The step before the first weight on a real API server: the canary is there, and serves nobody."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kubernetes import client
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.operator_bed import RolloutBed
from tests.cluster.test_operator_rollout import MakeBed, make_bed, stable, why

from davy.rollout import conditions
from davy.rollout.decide import SHADOWING
from davy.rollout.replay import replay
from davy.rollout.series import SHADOW_DIFFERENT, SHADOW_REQUESTS, Sample, SeriesKey
from davy.rollout.status import ModelRolloutStatus

__all__ = ["make_bed"]
pytestmark = pytest.mark.cluster

SHADOW: dict[str, Any] = {"requests": 100, "errors": 0.1, "differences": 0.1}


def shadowing(status: ModelRolloutStatus) -> bool:
    found = status.condition(conditions.PROGRESSING)
    ready = status.weights is not None and status.looks > 2
    return ready and found is not None and found.reason == SHADOWING


def count(bed: RolloutBed, different: int) -> None:
    """Have a detector say that it sent 400 requests."""
    rows = {
        SeriesKey(SHADOW_REQUESTS, "v2", "detector-0", "answered"): 400,
        SeriesKey(SHADOW_REQUESTS, "v2", "detector-0", "failed"): 0,
        SeriesKey(SHADOW_DIFFERENT, "v2", "detector-0", "0.1"): different,
    }
    now = time.time()
    with bed.prometheus._lock:
        for key, value in rows.items():
            bed.prometheus._samples[key] = [Sample(now - 0.2, 0), Sample(now, value)]


@pytest.mark.parametrize(("different", "phase"), [(0, "Promoted"), (200, "RolledBack")])
def test_copies_decide_whether_the_canary_of_standard_mode_serves(
    make_bed: MakeBed,
    kserve: KServeStandin,
    different: int,
    phase: str,
) -> None:
    bed = make_bed("Standard")
    uid = bed.create(shadow=SHADOW)
    bed.drive(uid, until=shadowing)
    assert why(bed, conditions.PROGRESSING)[1] == SHADOWING
    (entry,) = bed.service.read()["spec"]["canary"]
    assert entry["trafficPercent"] == 0
    # It can be reached by a name of its own, without weight.
    name = f"{bed.service.name}-{entry['predictor']['name']}-predictor"
    deployment = client.AppsV1Api(bed.api).read_namespaced_deployment(name, bed.namespace)
    assert deployment.spec.replicas >= 1
    assert not any(
        share.get("pvc://models/v2") for share in kserve.observed.shares_in(bed.namespace)
    )
    count(bed, different)
    bed.drive(uid)
    assert bed.status().phase == phase
    assert replay(bed.record()).difference is None
    assert kserve.observed.losses_in(bed.namespace) == []
    served = [share.get("pvc://models/v2", 0) for share in kserve.observed.shares_in(bed.namespace)]
    if phase == "RolledBack":
        assert not any(served)
        assert stable(bed) == "pvc://models/v1"
        assert not bed.service.read()["spec"].get("canary")
    else:
        assert stable(bed) == "pvc://models/v2"
