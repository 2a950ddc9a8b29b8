"""What KServe's stand-in on a node writes, without a node."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.cluster.bed.kserve_node_standin import deployment, host

SERVICE: dict[str, Any] = {
    "metadata": {"name": "tiny", "namespace": "shop", "uid": "1"},
    "spec": {
        "predictor": {
            "annotations": {"davylamp.dev/version": "v1"},
            "minReplicas": 2,
            "containers": [
                {
                    "image": "predictor:1",
                    "ports": [{"containerPort": 8080}],
                    "env": [{"name": "STORAGE_URI", "value": "pvc://models/tiny/v1"}],
                }
            ],
            "securityContext": {"runAsNonRoot": True},
        }
    },
}


def arm(name: str, uri: str, **more: Any) -> dict[str, Any]:
    predictor = copy.deepcopy(SERVICE["spec"]["predictor"])
    predictor["containers"][0]["env"][0]["value"] = uri
    return {**predictor, "name": name, **more}


def test_a_package_of_a_claim_is_mounted_where_the_predictor_looks() -> None:
    made = deployment(SERVICE, "tiny-predictor", SERVICE["spec"]["predictor"], 2)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["env"] == [{"name": "STORAGE_URI", "value": "/mnt/models"}]
    (mount,) = container["volumeMounts"]
    assert (mount["subPath"], mount["mountPath"], mount["readOnly"]) == (
        "tiny/v1",
        "/mnt/models",
        True,
    )
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "models"
    assert pod["securityContext"] == {"runAsNonRoot": True}
    assert made["spec"]["replicas"] == 2


def test_what_was_given_stays_as_it_is() -> None:
    before = copy.deepcopy(SERVICE)
    deployment(SERVICE, "tiny-predictor", SERVICE["spec"]["predictor"], 1)
    assert before == SERVICE


def test_a_promoted_canary_keeps_its_pods() -> None:
    canary = deployment(SERVICE, "tiny-v2-predictor", arm("v2", "pvc://m/v2", minReplicas=1), 1)
    stable = deployment(SERVICE, "tiny-v2-predictor", arm("v2", "pvc://m/v2", minReplicas=2), 2)
    assert canary["spec"]["template"] == stable["spec"]["template"]
    assert canary["spec"]["selector"] == stable["spec"]["selector"]


def test_another_package_is_another_pod() -> None:
    one, other = (
        deployment(SERVICE, "tiny-predictor", arm("v2", uri), 1)
        for uri in ("pvc://m/v2", "pvc://m/v3")
    )
    assert one["spec"]["template"] != other["spec"]["template"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"containers": []}, "one container"),
        ({"containers": [], "model": {"storageUri": "pvc://m/v2"}}, "one container"),
    ],
)
def test_what_it_does_not_know_it_does_not_make(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        deployment(SERVICE, "tiny-predictor", {**arm("v2", "pvc://m/v2"), **change}, 1)
    with pytest.raises(ValueError, match="claims"):
        deployment(SERVICE, "tiny-predictor", arm("v2", "s3://models/v2"), 1)


def test_a_host_is_of_its_namespace() -> None:
    assert host("shop", "tiny") != host("other", "tiny")
