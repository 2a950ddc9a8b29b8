"""Pods of an InferenceService by their names: its own, and nobody else's."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from tests.fixtures.kserve_bed import ARMS, bed

from davy.core.errors import NotFoundError
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.pods import pod_patterns
from davy.rollout.kserve.service import canary_name
from davy.rollout.operator.places import ClusterPlaces
from davy.rollout.operator.ports import Resource
from davy.rollout.operator.settings import OperatorSettings
from davy.rollout.spec import Candidate

CANDIDATE = Candidate(version="v2", packageURI="pvc://models/v2")


def service(name: str = "demo", arm: str | None = None, revision: int = 1) -> dict[str, Any]:
    predictor = {"name": arm} if arm else {}
    created = child(f"{name}-predictor", f"-{revision:05d}")
    return {
        "metadata": {"name": name, "uid": "u1"},
        "spec": {"predictor": predictor},
        "status": {"components": {"predictor": {"latestCreatedRevision": created}}},
    }


def belongs(pod: str, found: dict[str, Any], mark: Mark | None = None) -> bool:
    pattern = "|".join(pod_patterns(found, mark, CANDIDATE))
    return re.fullmatch(f"(?:{pattern})", pod) is not None


def of_replica_set(deployment: str, digest: str = "6c9f8d7b54") -> str:
    """The name of a pod, as Kubernetes makes it of a Deployment's name."""
    return f"{deployment}-{digest}-"[:58] + "x2k9q"


def child(parent: str, suffix: str) -> str:
    """A name as Knative makes it, by its rule for long ones."""
    if len(parent) > 63 - len(suffix):
        parent = parent[: 63 - 32 - len(suffix)] + hashlib.md5(parent.encode()).hexdigest()  # noqa: S324
    return parent + suffix


def of_revision(name: str, number: int) -> str:
    revision = child(f"{name}-predictor", f"-{number:05d}")
    return of_replica_set(child(revision, "-deployment"))


@pytest.mark.parametrize("name", ["demo", *("d" * n for n in range(20, 46))])
def test_pods_of_the_stable_arm_and_of_the_candidate_belong_to_it(name: str) -> None:
    found = service(name)
    canary = canary_name(name, CANDIDATE.version, None)
    for workload in (f"{name}-predictor", f"{name}-{canary}-predictor"):
        assert len(workload) <= 63
        assert belongs(of_replica_set(workload), found), workload
    for number in (1, 99990):
        # Of what serves, and of what a rollout makes after it.
        for later in (0, 1, 2):
            assert belongs(of_revision(name, number + later), service(name, revision=number))


@pytest.mark.parametrize("length", range(34, 46))
def test_two_long_names_with_the_same_beginning_are_told_apart(length: int) -> None:
    one, other = "d" * length, "d" * (length - 1) + "e"
    for number in (1, 2, 40):
        found = service(one, revision=number)
        assert belongs(of_revision(one, number), found)
        assert not belongs(of_revision(other, number), found)


def test_revisions_of_long_names_are_those_of_the_status_and_the_mark() -> None:
    name = "d" * 40
    found = service(name, revision=90)
    parts = found["status"]["components"]["predictor"]
    parts["latestReadyRevision"] = child(f"{name}-predictor", "-00030")
    parts["traffic"] = [{"revisionName": child(f"{name}-predictor", "-00020"), "percent": 100}]
    stable = child(f"{name}-predictor", "-00010")
    mark = Mark("r1", "u1", "v2", 4, Stage.RUNNING, 5, {}, stable_revision=stable)
    for number in (10, 20, 30, 90, 91):
        assert belongs(of_revision(name, number), found, mark), number
    assert not belongs(of_revision(name, 15), found, mark)
    del found["status"]
    assert belongs(of_revision(name, 1), found), "nothing is known yet"


@pytest.mark.parametrize("digest", ["7f", "6c9f8d7b5", "6c9f8d7b54"])
def test_a_hash_of_any_length_is_one(digest: str) -> None:
    assert belongs(of_replica_set("demo-predictor", digest), service())


@pytest.mark.parametrize(
    "other", ["demo-staging", "demo-predictor", "demo2", "predictor", "xdemo", "demo-1", "dem"]
)
def test_pods_of_a_similar_name_belong_to_somebody_else(other: str) -> None:
    for pod in (
        of_replica_set(f"{other}-predictor"),
        of_replica_set(f"{other}-v2-predictor"),
        of_revision(other, 1),
    ):
        assert not belongs(pod, service()), pod
        assert belongs(pod, service(other)), pod


@pytest.mark.parametrize(
    "pod",
    ["demo", "demo-predictor", "demo-transformer-6c9f8d7b54-x2k9q", "demo-predictor-6c9f8d7b54"],
)
def test_what_is_no_predictors_pod_does_not_belong(pod: str) -> None:
    assert not belongs(pod, service())


def test_an_arm_that_has_left_the_spec_is_known_by_the_mark() -> None:
    promoted = service(arm="v2")
    gone = of_replica_set("demo-v1-predictor")
    mark = Mark("r1", "u1", "v2", 4, Stage.PROMOTED, 100, {"name": "v1"}, name="v2")
    assert belongs(gone, promoted, mark)
    assert not belongs(gone, promoted)
    other = Mark("r1", "u0", "v2", 4, Stage.PROMOTED, 100, {"name": "v1"}, name="v2")
    assert not belongs(gone, promoted, other), "the mark of one that was deleted"


def test_the_operator_asks_for_the_pods_of_the_rollouts_service_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what the API server says, in memory; Prometheus itself is asked in tests/contract."""
    objects, _, clock = bed("Standard", None)
    places = ClusterPlaces(objects, OperatorSettings(), clock)  # type: ignore[arg-type]
    spec = {
        "inferenceServiceRef": {"name": "demo"},
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}],
        "analysis": {"interval": "5s", "deadline": "10m"},
    }
    resource = Resource("models", "r1", "u1", 1, clock.now(), spec)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(parse_qs(request.content.decode())["query"][0])
        return httpx.Response(200, json={"status": "success", "data": {"result": []}})

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(
        "davy.rollout.operator.places.connection",
        lambda url: httpx.Client(base_url=url, transport=transport),
    )
    places.metrics(resource, resource.checked_spec()).series(ARMS, None)
    (own, others, up, *probes) = asked
    for query in (own, up):
        assert 'namespace="models",pod=~"demo' in query
    assert 'namespace="models"' in others
    assert all("davy_model_info" in query for query in probes)

    gone = {**spec, "inferenceServiceRef": {"name": "gone"}}
    elsewhere = Resource("models", "r2", "u2", 1, clock.now(), gone)
    with pytest.raises(NotFoundError, match="models/gone"):
        places.metrics(elsewhere, elsewhere.checked_spec())
