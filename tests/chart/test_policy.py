"""What every pod and every right of the chart keeps to, whatever the values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.chart.rendering import VALUES, Object, pod_specs, rendered

pytestmark = [
    pytest.mark.usefixtures("clients"),
    pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem),
]


def containers(values: Path) -> list[tuple[str, Object, Object]]:
    return [
        (name, spec, container)
        for name, spec in pod_specs(rendered(values, hooks=True)).items()
        for container in spec["containers"]
    ]


def test_no_process_is_root_or_may_become_it(values: Path) -> None:
    for name, spec, container in containers(values):
        security = container["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # KServe's runtime has no pod security context: its containers carry it alone.
        if not name.startswith("ClusterServingRuntime"):
            assert spec["securityContext"]["runAsUser"] == 65532, name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_nothing_is_written_but_to_volumes(values: Path) -> None:
    for name, spec, container in containers(values):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        mounts = {item["name"] for item in container["volumeMounts"]}
        volumes = {item["name"] for item in spec.get("volumes") or ()}
        claimed = {"state"} if name.startswith("StatefulSet") else set()
        assert mounts <= volumes | claimed, name
        assert not any("hostPath" in item for item in spec.get("volumes") or ()), name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name


def test_images_have_a_version(values: Path) -> None:
    for name, _, container in containers(values):
        image = container["image"]
        tag = image.rpartition("@")[2] if "@" in image else image.rpartition(":")[2]
        assert tag, name
        assert tag != "latest", name
        assert "/" not in tag, f"{name}: no tag"


def test_requests_are_set_and_memory_is_bounded(values: Path) -> None:
    for name, _, container in containers(values):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


def test_servers_are_probed(values: Path) -> None:
    for name, _, container in containers(values):
        if container.get("ports"):
            assert {"livenessProbe", "readinessProbe"} <= set(container), name


def test_secrets_come_by_reference(values: Path) -> None:
    kinds = {item["kind"] for item in rendered(values, hooks=True)}
    assert "Secret" not in kinds
    for name, _, container in containers(values):
        for variable in container.get("env") or ():
            secret = any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "PRIVATE"))
            assert not (secret and "value" in variable), f"{name}: {variable['name']}"


def rules(values: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        (item["metadata"]["name"], rule)
        for item in rendered(values)
        if item["kind"] in {"ClusterRole", "Role"}
        for rule in item["rules"]
    ]


def test_no_role_reads_secrets_or_grants_everything(values: Path) -> None:
    for name, rule in rules(values):
        assert not {"secrets", "*"} & set(rule["resources"]), name
        assert "*" not in rule["verbs"] + rule["apiGroups"], name
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), name
        assert not {"roles", "rolebindings", "clusterroles"} & set(rule["resources"]), name


def test_tokens_are_mounted_only_where_the_api_server_is_asked(values: Path) -> None:
    for name, spec, _ in containers(values):
        if name.startswith("StatefulSet"):
            assert spec["automountServiceAccountToken"] is False
        if not name.startswith("ClusterServingRuntime"):
            assert spec["enableServiceLinks"] is False, name
