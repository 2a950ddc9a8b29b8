"""The committed CustomResourceDefinition is that of the code, and says no less than the models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from davy.rollout.crd import DURATION, NAME, SPEC_ADDITIONS, definition, document, main, structural
from davy.rollout.spec import RolloutSpec, parse_duration

PATH = Path(__file__).parents[2] / "k8s/crds" / f"{NAME}.yaml"


def schema() -> dict[str, Any]:
    found: dict[str, Any] = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, item in node.get("properties", {}).items():
        yield from nodes(item, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


ALL = [
    item for part in ("spec", "status") for item in nodes(schema()["properties"][part], part)
]  # fmt: skip


def test_it_is_as_committed(tmp_path: Path) -> None:
    main(tmp_path)
    written = (tmp_path / PATH.name).read_text(encoding="utf-8")
    assert written == PATH.read_text(encoding="utf-8") == document(), (
        "run: python -m davy.rollout.crd k8s/crds"
    )
    assert yaml.safe_load(written) == definition()
    assert "&id" not in written


def test_it_holds_only_what_a_structural_schema_may() -> None:
    allowed = {
        "type", "format", "description", "default", "enum", "minimum", "maximum", "minLength",
        "maxLength", "minItems", "maxItems", "pattern", "required", "exclusiveMinimum",
        "exclusiveMaximum", "properties", "items", "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys", "x-kubernetes-validations",
    }  # fmt: skip
    for path, node in ALL:
        assert node.keys() <= allowed, path
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            assert node.get(bound, True) is True, path


def test_every_field_is_described() -> None:
    assert [path for path, node in ALL if not path.endswith("[]") and "description" not in node
            ] == []  # fmt: skip


def test_every_addition_has_its_place() -> None:
    assert SPEC_ADDITIONS.keys() - {path for path, _ in ALL} == set()


def test_a_default_is_what_the_models_say() -> None:
    wanted = RolloutSpec.model_validate(
        {"candidate": {"version": "v2"}, "steps": [{"weight": 5}]}
    ).document()
    spec = schema()["properties"]["spec"]["properties"]
    for name in ("interval", "deadline"):
        said = spec["analysis"]["properties"][name]["default"]
        assert parse_duration(said) == parse_duration(wanted["analysis"][name])
    for name in ("traffic", "onInconclusive", "paused"):
        assert spec[name]["default"] == wanted[name]
    analysis = spec["analysis"]
    assert analysis["default"] == {
        name: item["default"] for name, item in analysis["properties"].items() if "default" in item
    }
    assert "default" not in spec["inferenceServiceRef"]
    # A laptop's address is no default of a cluster.
    assert "prometheus" not in analysis["default"]


def test_a_status_has_no_defaults() -> None:
    assert [path for path, node in ALL if path.startswith("status") and "default" in node] == []


@pytest.mark.parametrize(
    "text",
    ["30s", "24h", "1h30m", "0.5s", "1h5m0.25s", "-5s", "1.5h", "5", "5ms", "", "s", "h", "1d"],
)
def test_a_duration_is_refused_where_the_spec_refuses_it(text: str) -> None:
    taken = len(text) >= 2 and re.match(DURATION, text) is not None
    try:
        parse_duration(text)
    except ValueError:
        assert not taken
    else:
        assert taken


def test_a_choice_of_types_is_not_written_wrongly() -> None:
    class Loose(BaseModel):
        either: int | str = Field(description="Cannot be said.")

    with pytest.raises(NotImplementedError, match=r"spec\.either: a choice of 2 types"):
        structural(Loose.model_json_schema(), path="spec")
