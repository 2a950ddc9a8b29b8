"""Status, Events, record and Lease against a real API server: who may write what over what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.operator_bed import install, rollout_document
from typer.testing import CliRunner

from davy.cli import main
from davy.core.clock import ManualClock, SystemClock
from davy.core.errors import ConfigurationError, NotFoundError, TemporaryError
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kube_lease import KubeLease
from davy.rollout.adapters.kube_pods import SERVICE_LABEL, KubePods
from davy.rollout.adapters.kube_rollouts import KubeRollouts
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.crd import GROUP, PLURAL, VERSION
from davy.rollout.decide import decide
from davy.rollout.operator.election import DURATION_SECONDS, Election
from davy.rollout.operator.ports import Note, Resource
from davy.rollout.record import Header, look_line
from davy.rollout.record_file import parse_record
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.status import ModelRolloutStatus

pytestmark = pytest.mark.cluster

START = datetime(2017, 1, 2, tzinfo=UTC)
SPEC = RolloutSpec.model_validate(
    {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}],
        "analysis": {"indicators": [{"name": "errors"}], "vetoes": []},
    }
)


@pytest.fixture
def api(apiserver: ApiServer) -> Iterator[client.ApiClient]:
    install(apiserver)
    with apiserver.client() as made:
        yield made


@pytest.fixture
def rollouts(api: client.ApiClient) -> KubeRollouts:
    return KubeRollouts(KubernetesWrites(api), SystemClock())


@pytest.fixture
def resource(apiserver: ApiServer, api: client.ApiClient, rollouts: KubeRollouts) -> Resource:
    namespace = apiserver.new_namespace()
    client.CustomObjectsApi(api).create_namespaced_custom_object(
        GROUP, VERSION, namespace, PLURAL, rollout_document("demo")
    )
    found = rollouts.read(namespace, "take-over")
    assert found is not None
    return found


def test_a_status_is_applied_whole(rollouts: KubeRollouts, resource: Resource) -> None:
    full = ModelRolloutStatus.model_validate(
        {"phase": "Progressing", "weights": {"stable": 95, "canary": 5}, "looks": 3}
    )
    rollouts.write_status(resource, full)
    rollouts.write_status(resource, full.model_copy(update={"weights": None}))
    found = rollouts.read(resource.namespace, resource.name)
    assert found is not None
    assert found.status == full.model_copy(update={"weights": None})
    assert found.generation == resource.generation, "a status is no change of the spec"


def test_a_resource_made_anew_is_not_given_the_status_of_the_one_before(
    rollouts: KubeRollouts, resource: Resource
) -> None:
    rollouts.write_status(replace(resource, uid="another"), ModelRolloutStatus(phase="Failed"))
    found = rollouts.read(resource.namespace, resource.name)
    assert found is not None
    assert found.status == ModelRolloutStatus()


def test_the_status_of_one_that_is_gone_is_not_written(
    rollouts: KubeRollouts, resource: Resource
) -> None:
    rollouts.write_status(replace(resource, name="gone"), ModelRolloutStatus(phase="Failed"))
    assert rollouts.read(resource.namespace, "gone") is None


def test_a_status_over_a_version_that_is_gone_is_refused_and_written_over_the_next(
    api: client.ApiClient, rollouts: KubeRollouts, resource: Resource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    objects = KubernetesWrites(api)
    apply, tries = objects.apply_status, []

    def late(kind: Any, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        tries.append(body["metadata"]["resourceVersion"])
        if len(tries) == 1:
            objects.merge_patch(kind, namespace, name, {"metadata": {"annotations": {"a": "b"}}})
        return apply(kind, namespace, name, body)

    monkeypatch.setattr(objects, "apply_status", late)
    KubeRollouts(objects, SystemClock()).write_status(resource, ModelRolloutStatus(looks=3))
    found = rollouts.read(resource.namespace, resource.name)
    assert found is not None
    assert (found.status.looks, len(set(tries))) == (3, 2)


def test_a_note_is_an_event_once(
    api: client.ApiClient, rollouts: KubeRollouts, resource: Resource
) -> None:
    for message in ("first", "again"):
        rollouts.tell(resource, Note("1-5", "Warning", "RollingBack", message))
    rollouts.tell(resource, Note("1-end", "Normal", "Promoted", "x"))
    found = client.CoreV1Api(api).list_namespaced_event(resource.namespace).items
    assert sorted((item.type, item.reason, item.message) for item in found) == [
        ("Normal", "Promoted", "x"), ("Warning", "RollingBack", "first"),
    ]  # fmt: skip
    assert {item.involved_object.uid for item in found} == {resource.uid}


def test_a_namespace_that_is_being_deleted_is_not_held_up_by_an_event(
    api: client.ApiClient, rollouts: KubeRollouts, resource: Resource
) -> None:
    client.CoreV1Api(api).delete_namespace(resource.namespace)
    rollouts.tell(resource, Note("1-5", "Normal", "Withdrawn", "one arm is left"))
    assert client.CoreV1Api(api).list_namespaced_event(resource.namespace).items == []
    rollouts.write_status(resource, ModelRolloutStatus(settled_attempt=1))
    found = rollouts.read(resource.namespace, resource.name)
    assert found is not None
    assert found.status.settled_attempt == 1


def write_record(api: client.ApiClient, resource: Resource, *, attempt: int, looks: int) -> None:
    records = ConfigMapRecords(KubernetesWrites(api), may_write=lambda: True)
    journal = records.journal(resource, attempt)
    journal._chunk_bytes = 3000  # so that it has several
    header = Header(
        time=START, rollout="x", generation=1, settings_hash=SPEC.settings_hash(),
        spec=SPEC.document(), stable="v1", canary="v2", latency_objective_seconds=0.1,
    )  # fmt: skip
    journal.begin(header)
    state = State()
    for look in range(looks):
        now = START + timedelta(seconds=30 * look)
        seen = Observation(weight=0)
        decision = decide(SPEC, state, seen, now)
        journal.append(look_line(header, state.weight, seen, decision, now))
        state = decision.state


def test_a_record_is_kept_over_many_config_maps_that_belong_to_the_rollout(
    api: client.ApiClient, resource: Resource
) -> None:
    write_record(api, resource, attempt=1, looks=20)
    write_record(api, resource, attempt=2, looks=3)
    found = client.CoreV1Api(api).list_namespaced_config_map(resource.namespace).items
    own = [item for item in found if "-record-" in item.metadata.name]
    assert len(own) > 5
    assert {item.metadata.owner_references[0].uid for item in own} == {resource.uid}
    packed = [item for item in own if item.binary_data]
    assert len(packed) == len(own) - 2, "all but the last of each attempt"
    records = ConfigMapRecords(KubernetesWrites(api), may_write=lambda: False)
    assert records.attempt(resource) == 2
    record = records.journal(resource, 1).read()
    assert record is not None
    assert len(record.looks) == 20
    assert records.attempt(replace(resource, uid="another")) == 0


def test_of_two_that_go_on_with_a_record_one_is_refused(
    api: client.ApiClient, resource: Resource
) -> None:
    write_record(api, resource, attempt=1, looks=1)
    records = ConfigMapRecords(KubernetesWrites(api), may_write=lambda: True)
    one, other = records.journal(resource, 1), records.journal(resource, 1)
    record, _ = one.read(), other.read()
    assert record is not None
    line = record.looks[0].model_copy(update={"look": 2})
    one.append(line)
    with pytest.raises(TemporaryError):
        other.append(line)


def test_people_get_the_record_as_a_file(
    apiserver: ApiServer, api: client.ApiClient, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(api, resource, attempt=1, looks=20)
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(apiserver.kubeconfig)
    )
    call = ["operator", "record", "take-over", "-n", resource.namespace]
    result = CliRunner().invoke(main.build(), call)
    assert result.exit_code == 0, result.exception
    record = parse_record(result.stdout.encode(), where="stdout")
    assert record is not None
    assert len(record.looks) == 20
    for missing in ([*call, "--attempt", "7"], ["operator", "record", "no-such"]):
        assert isinstance(CliRunner().invoke(main.build(), missing).exception, NotFoundError)


def test_of_two_one_leads_and_the_lease_says_who(
    apiserver: ApiServer, api: client.ApiClient
) -> None:
    namespace, clock = apiserver.new_namespace(), ManualClock(START)
    elections = [
        Election(
            KubeLease(KubernetesWrites(api), namespace=namespace, name="davy", clock=clock),
            name, clock,
        )
        for name in ("one", "other")
    ]  # fmt: skip
    one, other = elections
    assert (one.step(), other.step()) == (True, False)
    for _ in range(3):
        clock.sleep(2)
        assert (one.step(), other.step()) == (True, False)
    clock.sleep(DURATION_SECONDS)
    assert other.step()
    assert not one.step()
    found = client.CoordinationV1Api(api).read_namespaced_lease("davy", namespace).spec
    assert (found.holder_identity, found.lease_transitions) == ("other", 2)
    other.release()
    assert one.step()


def test_of_many_that_start_at_once_one_leads(apiserver: ApiServer) -> None:
    namespace, led = apiserver.new_namespace(), []
    start = threading.Barrier(6)

    def run(name: str) -> None:
        with apiserver.client() as own:
            lease = KubeLease(
                KubernetesWrites(own), namespace=namespace, name="davy", clock=SystemClock()
            )
            election = Election(lease, name, SystemClock())
            start.wait()
            if election.step():
                led.append(name)

    threads = [threading.Thread(target=run, args=(f"operator-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(led) == 1


def test_only_a_pod_of_the_rollouts_own_service_is_deleted(
    api: client.ApiClient, resource: Resource
) -> None:
    core = client.CoreV1Api(api)
    for name, service in (("own", "demo"), ("foreign", "another")):
        core.create_namespaced_pod(
            resource.namespace,
            {
                "metadata": {"name": name, "labels": {SERVICE_LABEL: service}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        )
    pods = KubePods(KubernetesWrites(api))
    assert [pods.replace(resource, name) for name in ("own", "foreign", "gone", "10.0.0.1:80")] == [
        True, False, False, False,
    ]  # fmt: skip
    left = {item.metadata.name for item in core.list_namespaced_pod(resource.namespace).items
            if item.metadata.deletion_timestamp is None}  # fmt: skip
    assert left == {"foreign"}


def test_a_missing_right_is_told_and_may_be_given_later(
    apiserver: ApiServer, resource: Resource, tmp_path: Path
) -> None:
    with apiserver.client(apiserver.kubeconfig_for("nobody")) as own:
        nobody = KubeRollouts(KubernetesWrites(own), SystemClock())
        with pytest.raises(ConfigurationError, match="forbidden"):
            nobody.read(resource.namespace, resource.name)
