"""A real API server takes the definition of ModelRollout, and refuses what the spec refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer

from davy.rollout.crd import GROUP, NAME, PLURAL, VERSION
from davy.rollout.spec import RolloutSpec, Shadow

pytestmark = pytest.mark.cluster

CRD = Path(__file__).parents[2] / "k8s/crds" / f"{NAME}.yaml"
GOOD: dict[str, Any] = {
    "apiVersion": f"{GROUP}/{VERSION}",
    "kind": "ModelRollout",
    "metadata": {"name": "next-basket"},
    "spec": {
        "inferenceServiceRef": {"name": "next-basket"},
        "candidate": {"version": "2017.05.01-abcdef12", "packageURI": "s3://models/next-basket"},
        "steps": [{"weight": 1, "minDuration": "5m"}, {"weight": 10}, {"weight": 50}],
        "analysis": {"indicators": [{"name": "errors", "allowance": 0.001}]},
    },
}


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    apiserver.install_crd(yaml.safe_load(CRD.read_text(encoding="utf-8")))
    return apiserver.new_namespace()


def create(apiserver: ApiServer, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
    with apiserver.client() as api:
        made: dict[str, Any] = client.CustomObjectsApi(api).create_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, document, field_validation="Strict"
        )
    return made


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    change(document["spec"])
    return document


def test_defaults_are_filled_in_and_are_those_of_the_model(
    apiserver: ApiServer, namespace: str
) -> None:
    made = RolloutSpec.model_validate(create(apiserver, namespace, GOOD)["spec"])
    assert made == RolloutSpec.model_validate(GOOD["spec"])
    bare = changed(lambda spec: spec.pop("analysis"))
    bare["metadata"]["name"] = "bare"
    found = create(apiserver, namespace, bare)["spec"]
    assert found["analysis"]["interval"] == "30s"
    assert "prometheus" not in found["analysis"]


def test_copies_before_the_first_weight_have_the_defaults_of_the_model(
    apiserver: ApiServer, namespace: str
) -> None:
    made = create(apiserver, namespace, changed(lambda spec: spec.update(shadow={})))["spec"]
    assert (made["shadow"]["requests"], made["shadow"]["tolerance"]) == (500, 0.1)
    assert RolloutSpec.model_validate(made).shadow == Shadow()


def test_a_hundred_steps_are_within_the_cost_of_the_rules(
    apiserver: ApiServer, namespace: str
) -> None:
    steps = [{"weight": weight} for weight in range(1, 101)]
    made = create(apiserver, namespace, changed(lambda spec: spec.update(steps=steps)))
    assert len(made["spec"]["steps"]) == 100


BAD = {
    "weights that fall": (
        lambda s: s.update(steps=[{"weight": 10}, {"weight": 5}]), "steps must ascend"),
    "a weight twice": (
        lambda s: s.update(steps=[{"weight": 5}, {"weight": 5}]), "steps must ascend"),
    "weight 0": (lambda s: s.update(steps=[{"weight": 0}]), "greater than or equal to 1"),
    "weight 101": (lambda s: s.update(steps=[{"weight": 101}]), "less than or equal to 100"),
    "a baseline beside half of the traffic": (
        lambda s: s.update(steps=[{"weight": 50}], analysis={"baseline": True}), "at most 49"),
    "copies for a canary of Knative mode": (
        lambda s: s.update(shadow={}, traffic="Knative"), "cannot be reached before it has"),
    "a tolerance that nobody counts": (
        lambda s: s.update(shadow={"tolerance": 0.3}), "Unsupported value"),
    "nothing that may differ": (
        lambda s: s.update(shadow={"differences": 0}), "greater than 0"),
    "no step": (lambda s: s.update(steps=[]), "at least 1"),
    "a margin below 1": (
        lambda s: s["analysis"]["indicators"][0].update(ratio=0.9), "greater than or equal to 1"),
    "an allowance of 1": (
        lambda s: s["analysis"]["indicators"][0].update(allowance=1), "less than 1"),
    "an unknown indicator": (
        lambda s: s["analysis"]["indicators"][0].update(name="mood"), "Unsupported value"),
    "an indicator twice": (
        lambda s: s["analysis"].update(indicators=[{"name": "errors"}] * 2), "Duplicate value"),
    "shift in segments": (
        lambda s: s["analysis"].update(
            indicators=[{"name": "shift", "segments": {"label": "country", "values": ["DE"]}}]),
        "it takes no segments"),
    "a segment twice": (
        lambda s: s["analysis"]["indicators"][0].update(
            segments={"label": "country", "values": ["DE", "DE"]}), "Duplicate value"),
    "a label that Prometheus cannot have": (
        lambda s: s["analysis"]["indicators"][0].update(
            segments={"label": "the country", "values": ["DE"]}), "should match"),
    "a veto twice": (lambda s: s["analysis"].update(vetoes=["drift"] * 2), "Duplicate value"),
    "an unknown veto": (lambda s: s["analysis"].update(vetoes=["mood"]), "Unsupported value"),
    "a deadline below the interval": (
        lambda s: s["analysis"].update(interval="10m", deadline="5m"), "shorter than one interval"),
    "an interval of 0": (lambda s: s["analysis"].update(interval="0s"), "longer than 0s"),
    "a negative duration": (lambda s: s["steps"][0].update(minDuration="-5m"), "minDuration"),
    "a number for a duration": (lambda s: s["steps"][0].update(minDuration=5), "minDuration"),
    "no candidate": (lambda s: s.pop("candidate"), "candidate"),
    "a candidate without image and package": (
        lambda s: s["candidate"].pop("packageURI"), "name the image of the candidate"),
    "no InferenceService": (lambda s: s.pop("inferenceServiceRef"), "inferenceServiceRef"),
    "a certain false rollback": (
        lambda s: s["analysis"].update(falseRollback=0.5), "less than 0.5"),
    "a misspelt field": (lambda s: s.update(pause=True), "unknown field"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_the_spec_refuses_is_refused(apiserver: ApiServer, namespace: str, name: str) -> None:
    change, words = BAD[name]
    with pytest.raises(client.ApiException) as caught:
        create(apiserver, namespace, changed(change))
    assert caught.value.status in {400, 422}
    assert words in str(caught.value.body)


def test_the_inference_service_cannot_be_changed(apiserver: ApiServer, namespace: str) -> None:
    create(apiserver, namespace, GOOD)
    with apiserver.client() as api, pytest.raises(client.ApiException) as caught:
        client.CustomObjectsApi(api).patch_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, "next-basket",
            {"spec": {"inferenceServiceRef": {"name": "another"}}},
        )  # fmt: skip
    assert "cannot be changed" in str(caught.value.body)


def test_it_answers_to_its_short_name_and_shows_its_columns(
    apiserver: ApiServer, namespace: str
) -> None:
    create(apiserver, namespace, GOOD)
    with apiserver.client() as api:
        table = api.call_api(
            f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}", "GET",
            header_params={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
            auth_settings=["BearerToken"], response_type="object",
        )[0]  # fmt: skip
        names = client.ApiextensionsV1Api(api).read_custom_resource_definition(NAME).spec.names
    shown = [column["name"] for column in table["columnDefinitions"] if not column["priority"]]
    assert shown == ["Name", "Phase", "Service", "Candidate", "Weight", "Reason", "Age"]
    assert names.short_names == ["mr"]
