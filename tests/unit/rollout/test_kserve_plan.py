"""What is read from objects of KServe and the Gateway API, and what is refused at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.cluster.bed.crds import inference_service_crd
from tests.fixtures.kserve_objects import CANDIDATE, service, started

from davy.core.errors import InvalidInputError
from davy.rollout.kserve import knative, standard
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.mode import Mode, mode_of, takes_canary
from davy.rollout.kserve.moves import (
    SERVICE_BUSY,
    UNSUPPORTED,
    WEIGHT_NOT_FOLLOWED,
    Done,
    Patch,
    Refuse,
    Settled,
    Split,
    Wait,
)
from davy.rollout.kserve.routes import programmed, shared_weights
from davy.rollout.spec import Candidate


def with_containers(found: dict[str, Any], **container: Any) -> dict[str, Any]:
    found["spec"]["predictor"] = {"containers": [{"name": "kserve-container", **container}]}
    return found


def route(*rules: dict[str, int | None], generation: int = 1, seen: int = 1) -> dict[str, Any]:
    refs = [
        {
            "backendRefs": [
                {"name": name} if weight is None else {"name": name, "weight": weight}
                for name, weight in rule.items()
            ]
        }
        for rule in rules
    ]
    conditions = [
        {"type": kind, "status": "True", "observedGeneration": seen}
        for kind in ("Accepted", "ResolvedRefs")
    ]
    return {
        "metadata": {"generation": generation},
        "spec": {"rules": refs},
        "status": {"parents": [{"conditions": conditions}]},
    }


@pytest.mark.parametrize(
    ("rules", "weights"),
    [
        ([{"a": 90, "b": 10}], {"a": 90, "b": 10}),
        ([{"a": None}], {"a": 1}),
        ([{"a": 90, "b": 10}, {"a": 9, "b": 1}], {"a": 9, "b": 1}),
        ([{"a": 90, "b": 10}, {"a": 50, "b": 50}], None),
        ([{"transformer": 1}, {"a": 80, "b": 20}], {"a": 80, "b": 20}),
        ([{"transformer": 1}], None),
        ([], None),
    ],
)
def test_weights_are_those_that_all_rules_agree_on(
    rules: list[dict[str, int | None]], weights: dict[str, int] | None
) -> None:
    assert shared_weights([route(*rules)], {"a", "b"}) == weights
    assert shared_weights([route(rule) for rule in rules], {"a", "b"}) == weights


def test_a_route_counts_once_the_gateway_has_seen_it_as_it_is() -> None:
    assert programmed([route({"a": 1})])
    assert not programmed([route({"a": 1}, generation=2, seen=1)])
    assert not programmed([route({"a": 1}), {"metadata": {"generation": 1}}])
    assert not programmed([])


@pytest.mark.parametrize(
    ("version", "stable", "name"),
    [
        ("2026.08.01-abcd1234", None, "2026-08-01-abcd1234"),
        ("V2", None, "v2"),
        ("v2", "v2", "v2-4bb67be1"),
    ],
)
def test_a_canary_is_named_after_its_version(version: str, stable: str | None, name: str) -> None:
    found = isvc.canary_name("demo", version, stable)
    if stable is None:
        assert found == name
    assert found != stable


@pytest.mark.parametrize("version", ["x" * 200, "…", "-", "1.0"])
@pytest.mark.parametrize("owner", ["demo", "d" * 40])
def test_a_canary_name_makes_a_dns_label(version: str, owner: str) -> None:
    found = isvc.workload(owner, isvc.canary_name(owner, version, None))
    assert len(found) <= 63
    assert found.replace("-", "").isalnum()
    assert "--" not in found


def test_long_versions_do_not_share_a_name() -> None:
    one, other = (isvc.canary_name("demo", "x" * 60 + end, None) for end in "ab")
    assert one != other


def test_a_candidate_differs_in_the_model_alone() -> None:
    stable = service(minReplicas=3, timeout=9)["spec"]["predictor"]
    before = copy.deepcopy(stable)
    made = isvc.candidate_predictor(stable, CANDIDATE)
    assert stable == before
    assert isinstance(made, dict)
    expected = {**before, "annotations": {isvc.VERSION_ANNOTATION: "v2"}}
    expected["model"] = {**before["model"], "storageUri": "pvc://models/v2"}
    assert made == expected


def test_a_container_gets_the_image_and_the_address() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "STORAGE_URI", "value": "pvc://models/v1"}]
    stable = with_containers(service(), image="one", env=env)["spec"]["predictor"]
    made = isvc.candidate_predictor(
        stable, Candidate(version="v2", image="two", packageURI="pvc://models/v2")
    )
    assert isinstance(made, dict)
    assert isvc.image(made) == "two"
    assert isvc.storage_uri(made) == "pvc://models/v2"
    assert made["containers"][0]["env"][0] == env[0]


@pytest.mark.parametrize(
    ("found", "candidate", "reason"),
    [
        pytest.param(service("Knative"), CANDIDATE, UNSUPPORTED, id="not said to be Standard"),
        pytest.param(service(minReplicas=0), CANDIDATE, UNSUPPORTED, id="no replica"),
        pytest.param(service(canaryTrafficPercent=5), CANDIDATE, SERVICE_BUSY, id="Knative's"),
        pytest.param(service(), Candidate(version="v2"), UNSUPPORTED, id="nothing named"),
        pytest.param(
            service(), Candidate(version="v2", image="two"), UNSUPPORTED, id="the same storage URI"
        ),
        pytest.param(
            with_containers(service(), image="one"), CANDIDATE, UNSUPPORTED, id="no STORAGE_URI"
        ),
        pytest.param(
            {**service(), "spec": {"predictor": {"sklearn": {}}}},
            CANDIDATE,
            UNSUPPORTED,
            id="a form of its own",
        ),
    ],
)
def test_standard_mode_refuses_before_anything_is_written(
    found: dict[str, Any], candidate: Candidate, reason: str
) -> None:
    move = standard.next_step(standard.Seen("r1", candidate, found), Split(0))
    assert isinstance(move, Refuse)
    assert move.reason == reason


def test_standard_mode_refuses_a_service_with_a_canary_of_somebody_else() -> None:
    found = service()
    found["spec"]["canary"] = [{"trafficPercent": 5, "predictor": {"name": "theirs"}}]
    move = standard.next_step(standard.Seen("r1", CANDIDATE, found), Split(0))
    assert isinstance(move, Refuse)
    assert move.reason == SERVICE_BUSY
    assert "theirs" in move.message


@pytest.mark.parametrize(
    ("least", "percent", "pods"),
    [(1, 0, 1), (1, 100, 1), (4, 0, 1), (4, 10, 1), (4, 50, 2), (4, 51, 3), (4, 100, 4)],
)
def test_pods_of_a_canary_follow_its_weight(least: int, percent: int, pods: int) -> None:
    assert standard.canary_replicas({"minReplicas": least}, percent) == pods
    assert standard.canary_replicas({}, percent) == 1


def test_a_weight_that_the_routes_never_follow_is_an_error() -> None:
    found, mark = started(10)
    seen = standard.Seen(
        "r1",
        CANDIDATE,
        found,
        mark,
        weights={"demo-predictor": 1},
        programmed=True,
        available={"demo-predictor": 1, "demo-v2-predictor": 1},
    )
    assert isinstance(standard.next_step(seen, Split(10)), Wait)
    late = standard.Seen(
        "r1",
        CANDIDATE,
        found,
        mark,
        weights={"demo-predictor": 1},
        programmed=True,
        available={"demo-predictor": 1, "demo-v2-predictor": 1},
        steady_seconds=standard.FOLLOW_SECONDS,
    )
    move = standard.next_step(late, Split(10))
    assert isinstance(move, Refuse)
    assert move.reason == WEIGHT_NOT_FOLLOWED


@pytest.mark.parametrize("accepted", [True, False])
def test_a_weight_is_read_once_the_gateway_has_accepted_it(accepted: bool) -> None:
    found, mark = started(10)
    weights = {"demo-predictor": 90, "demo-v2-predictor": 10}
    seen = standard.Seen("r1", CANDIDATE, found, mark, weights=weights, programmed=accepted)
    assert standard.read_weight(seen) == (10 if accepted else None)


@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("steady", [0.0, 9.9, 10.0])
@pytest.mark.parametrize("left", [0, 1])
def test_no_arm_leaves_the_spec_before_it_has_drained(
    promoted: bool, accepted: bool, steady: float, left: int
) -> None:
    found, mark = started(100 if promoted else 0)
    stays, leaves = "demo-v2-predictor", "demo-predictor"
    if not promoted:
        stays, leaves = leaves, stays
    seen = standard.Seen(
        "r1",
        CANDIDATE,
        found,
        mark,
        weights={stays: 100 - left, leaves: left},
        programmed=accepted,
        available={stays: 1, leaves: 1},
        steady_seconds=steady,
        drain_seconds=10.0,
    )
    move = standard.next_step(seen, Settled(promoted=promoted))
    if accepted and steady >= 10.0 and not left:
        assert isinstance(move, Patch)
        assert move.body["spec"]["canary"] is None
    else:
        assert isinstance(move, Wait)


def test_knative_mode_waits_for_what_is_under_way() -> None:
    found = service("Knative")
    found["status"]["components"] = {
        "predictor": {
            "latestCreatedRevision": "r-2",
            "latestReadyRevision": "r-1",
            "latestRolledoutRevision": "r-1",
            "traffic": [{"revisionName": "r-1", "percent": 100}],
        }
    }
    seen = knative.Seen("r1", CANDIDATE, found, steady_seconds=100)
    assert isinstance(knative.next_step(seen, Split(0)), Wait)


def test_knative_shares_are_those_of_names_not_of_positions() -> None:
    """While the candidate is not ready, both entries name the stable revision."""
    found = service("Knative", canaryTrafficPercent=10)
    found["status"]["components"] = {
        "predictor": {
            "latestCreatedRevision": "r-2",
            "latestReadyRevision": "r-1",
            "traffic": [
                {"revisionName": "r-1", "percent": 10, "latestRevision": True},
                {"revisionName": "r-1", "percent": 90},
            ],
        }
    }
    mark = Mark("r1", "u1", "v2", 3, Stage.RUNNING, 10, {}, stable_revision="r-1")
    seen = knative.Seen("r1", CANDIDATE, found, mark)
    assert knative.read_weight(seen) == 0
    assert knative.not_ready(seen) == (False, True)


def test_knative_promotes_no_revision_that_was_not_judged() -> None:
    found = service("Knative", canaryTrafficPercent=100)
    found["spec"]["predictor"]["model"]["storageUri"] = "pvc://models/v2"
    found["status"]["components"] = {
        "predictor": {
            "latestCreatedRevision": "r-3",
            "latestReadyRevision": "r-2",
            "traffic": [{"revisionName": "r-2", "percent": 100, "latestRevision": True}],
        }
    }
    stable = service()["spec"]["predictor"]
    mark = Mark(
        "r1",
        "u1",
        "v2",
        3,
        Stage.RUNNING,
        100,
        stable,
        stable_revision="r-1",
        candidate_revision="r-2",
    )
    seen = knative.Seen("r1", CANDIDATE, found, mark, steady_seconds=100)
    assert isinstance(knative.next_step(seen, Settled(promoted=True)), Wait)


@pytest.mark.parametrize("plan", [standard, knative])
def test_what_is_gone_has_nothing_to_take_away(plan: Any) -> None:
    seen = plan.Seen("r1", CANDIDATE, None)
    assert isinstance(plan.next_step(seen, Settled(promoted=False)), Done)
    assert isinstance(plan.next_step(seen, Settled(promoted=True)), Refuse)
    assert plan.read_weight(seen) is None
    assert all(plan.not_ready(seen))


@pytest.mark.parametrize(
    ("declared", "wanted", "mode"),
    [
        ("Standard", "Auto", Mode.STANDARD),
        ("RawDeployment", "Auto", Mode.STANDARD),
        ("Serverless", "Knative", Mode.KNATIVE),
        ("Knative", "Standard", None),
        ("ModelMesh", "Auto", None),
    ],
)
def test_the_mode_is_what_the_status_says(declared: str, wanted: Any, mode: Mode | None) -> None:
    found = mode_of(service(declared), inference_service_crd(), wanted)
    if mode is None:
        assert isinstance(found, Refuse)
    else:
        assert found == mode


def test_a_service_that_kserve_has_not_seen_is_waited_for() -> None:
    found = service()
    del found["status"], found["metadata"]["annotations"]
    assert isinstance(mode_of(found, None, "Auto"), Wait)


def test_only_a_schema_without_canary_says_no() -> None:
    assert takes_canary(inference_service_crd())
    assert takes_canary(inference_service_crd(minimal=True))
    assert not takes_canary(inference_service_crd(canary=False))
    refused = mode_of(service(), inference_service_crd(canary=False), "Auto")
    assert isinstance(refused, Refuse)
    assert mode_of(service("Knative"), inference_service_crd(canary=False), "Auto") == Mode.KNATIVE


def test_a_mark_reads_back_as_it_was_written() -> None:
    mark = Mark("r1", "u1", "v2", 4, Stage.RESTORING, 0, {"model": {}}, "v2", 2, "a", "b")
    assert Mark.from_text(mark.to_text()) == mark
    newer = mark.to_text().replace("{", '{"later": 1, ', 1)
    assert Mark.from_text(newer) == mark


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": "Elsewhere"}', "null"])
def test_a_mark_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Mark.from_text(text, where="ConfigMap a/b")


def test_the_last_editor_is_never_davy_itself() -> None:
    found = service()
    spec = {"f:spec": {}}
    found["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "time": "2026-01-01T00:00:00Z", "fieldsV1": spec},
        {"manager": isvc.FIELD_MANAGER, "time": "2026-01-01T00:00:05Z", "fieldsV1": spec},
        {"manager": "kserve", "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:status": {}}},
    ]
    assert isvc.last_editor(found) == "kubectl-edit"
    assert isvc.last_editor(service()) == ""
