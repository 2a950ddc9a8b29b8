"""What is sent to the API server for each write, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import ApiClient

from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource

MAPS = Resource("", "v1", "configmaps")
ROLLOUTS = Resource("davylamp.dev", "v1alpha1", "modelrollouts")
BODY = {"metadata": {"name": "a b"}}


class ApiClientThatKeeps(ApiClient):  # type: ignore[misc]
    """Stands for the official client: keeps what was sent, and answers with a version."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, str]]] = []

    def call_api(self, path: str, method: str, **request: Any) -> dict[str, Any]:
        self.sent.append((method, path, dict(request["query_params"])))
        return {"metadata": {"name": "a b", "resourceVersion": "7"}}


@pytest.mark.parametrize(
    ("write", "method", "path"),
    [
        (lambda o: o.create(MAPS, "shop", BODY), "POST", "/api/v1/namespaces/shop/configmaps"),
        (
            lambda o: o.replace(MAPS, "shop", BODY),
            "PUT",
            "/api/v1/namespaces/shop/configmaps/a%20b",
        ),
        (
            lambda o: o.apply_status(ROLLOUTS, "shop", "a", {}),
            "PATCH",
            "/apis/davylamp.dev/v1alpha1/namespaces/shop/modelrollouts/a/status",
        ),
    ],
)
def test_a_write_gives_back_what_was_written(write: Any, method: str, path: str) -> None:
    api = ApiClientThatKeeps()
    assert write(KubernetesWrites(api))["metadata"]["resourceVersion"] == "7"
    assert [sent[:2] for sent in api.sent] == [(method, path)]


def test_the_status_has_a_manager_of_its_own() -> None:
    api = ApiClientThatKeeps()
    objects = KubernetesWrites(api)
    objects.create(MAPS, "shop", BODY)
    objects.apply_status(ROLLOUTS, "shop", "a", {})
    managers = [query["fieldManager"] for *_, query in api.sent]
    assert managers == ["davy-rollout", "davy-operator"]
    assert api.sent[1][2]["force"] == "true"
