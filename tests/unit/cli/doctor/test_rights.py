"""The rights that are asked for are those that the manifests give."""

from __future__ import annotations

from pathlib import Path

import yaml

from davy.cli.doctor.rights import OPERATOR, PERSON, Place, Right

BASE = Path(__file__).parents[4] / "k8s/base"


def given(path: Path) -> set[Right]:
    found = set()
    for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        for rule in item.get("rules") or ():
            place = Place.OWN if item["kind"] == "Role" else Place.MODELS
            place = Place.CLUSTER if rule.get("resourceNames") else place
            found |= {
                Right(place, group, resource, verb, name)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
                for name in rule.get("resourceNames") or ("",)
            }
    return found


def test_the_operators_are_those_of_its_role() -> None:
    assert given(BASE / "operator/rbac.yaml") == OPERATOR


def test_a_persons_are_in_the_role_that_the_remedy_names() -> None:
    assert given(BASE / "rollouts/clusterrole.yaml") >= PERSON


def test_a_person_needs_nothing_outside_of_the_models_namespace() -> None:
    assert {right.place for right in PERSON} == {Place.MODELS}
