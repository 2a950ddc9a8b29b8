"""The API server is real: it validates, refuses and keeps who wrote what."""

from __future__ import annotations

import pytest
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.programs import KUBERNETES

pytestmark = pytest.mark.cluster


def test_it_is_the_version_that_was_built(apiserver: ApiServer) -> None:
    with apiserver.client() as api:
        assert client.VersionApi(api).get_code().git_version == f"v{KUBERNETES}"


def test_a_stale_write_is_refused(apiserver: ApiServer) -> None:
    namespace = apiserver.new_namespace()
    with apiserver.client() as api:
        core = client.CoreV1Api(api)
        body = {"metadata": {"name": "x"}, "data": {"a": "1"}}
        made = core.create_namespaced_config_map(namespace, body)
        body["metadata"]["resourceVersion"] = made.metadata.resource_version
        core.replace_namespaced_config_map("x", namespace, body | {"data": {"a": "2"}})
        with pytest.raises(client.ApiException) as caught:
            core.replace_namespaced_config_map("x", namespace, body | {"data": {"a": "3"}})
    assert caught.value.status == 409


def test_a_user_without_a_role_may_do_nothing(apiserver: ApiServer) -> None:
    kubeconfig = apiserver.kubeconfig_for("somebody")
    with apiserver.client(kubeconfig) as api, pytest.raises(client.ApiException) as caught:
        client.CoreV1Api(api).list_namespace()
    assert caught.value.status == 403
