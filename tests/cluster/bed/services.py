"""InferenceServices for tests, and waiting for what becomes of them.

Belongs here: making, reading, editing as a person would. Not here: rollouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
INFERENCE_SERVICES = Resource(GROUP, VERSION, PLURAL)
TIMEOUT_SECONDS = 30.0


def eventually(what: str, check: Callable[[], Any], timeout: float = TIMEOUT_SECONDS) -> Any:
    """Return the first true answer; fail with what was waited for."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        answer = check()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout:g} s: {what}")


class TestService:
    """One InferenceService in a namespace of its own."""

    __test__ = False

    def __init__(self, api: client.ApiClient, namespace: str, name: str = "demo") -> None:
        self._api = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self.objects = KubernetesObjects(api)
        self._editor = KubernetesObjects(api, field_manager="kubectl-edit")
        self.namespace = namespace
        self.name = name

    def create(self, mode: str, *, replicas: int | None = None, **more: Any) -> None:
        """Make one that serves version v1, and wait until it does."""
        predictor: dict[str, Any] = {
            "annotations": {"davylamp.dev/version": "v1"},
            "model": {"modelFormat": {"name": "davy"}, "storageUri": "pvc://models/v1"},
            **({} if replicas is None else {"minReplicas": replicas}),
            **more,
        }
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceService",
            "metadata": {
                "name": self.name,
                "annotations": {"serving.kserve.io/deploymentMode": mode},
            },
            "spec": {"predictor": predictor},
        }
        self._api.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)
        eventually("the InferenceService is ready", self.is_ready)

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, self.name
        )
        return found

    def is_ready(self) -> bool:
        conditions = (self.read().get("status") or {}).get("conditions") or ()
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def edit(self, spec: dict[str, Any]) -> None:
        """Change its spec as a person with kubectl would."""
        body = {"spec": spec}
        self._editor.merge_patch(INFERENCE_SERVICES, self.namespace, self.name, body)

    def delete(self) -> None:
        self._api.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, self.name)

    def workloads(self) -> set[str]:
        """Names of the Services that KServe has made for its arms."""
        found = self._core.list_namespaced_service(self.namespace).items
        return {item.metadata.name for item in found}


@contextmanager
def service_in_new_namespace(server: ApiServer) -> Iterator[TestService]:
    """An InferenceService that is not made yet; deleted at the end."""
    with server.client() as api:
        service = TestService(api, server.new_namespace("isvc"))
        try:
            yield service
        finally:
            try:
                service.delete()
            except client.ApiException as error:
                if error.status != 404:
                    raise
