"""The committed pipeline is what the code compiles to; ``davy pipeline compile`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from davy.data.task import Task, load_task, parse_task
from davy.kubeflow.compile import compiled

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "pipelines/compiled/next_basket.yaml"


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(ROOT / "pipelines/tasks/next_basket.yaml")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))
    return loaded


def test_compiling_again_gives_the_committed_bytes(task: Task) -> None:
    assert compiled(task) == COMMITTED.read_text(encoding="utf-8"), (
        "run: davy pipeline compile pipelines/tasks/next_basket.yaml"
    )


def test_kfp_loads_it() -> None:
    from kfp.components import load_component_from_file

    assert load_component_from_file(str(COMMITTED)).name == "next-basket"


def test_the_default_task_is_the_task_file(task: Task, document: dict[str, Any]) -> None:
    parameters = document["root"]["inputDefinitions"]["parameters"]
    assert parse_task(parameters["task_text"]["defaultValue"]) == task
    required = [name for name, item in parameters.items() if not item.get("isOptional")]
    assert sorted(required) == ["store", "task_text"]


def test_the_steps_follow_one_another(document: dict[str, Any]) -> None:
    tasks = document["root"]["dag"]["tasks"]
    after = {name: sorted(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert after["prepare-data"] == []
    assert after["build-features"] == ["prepare-data"]
    assert after["train-model"] == ["build-features"]
    assert after["evaluate-model"] == ["build-features", "train-model"]
    assert after["compress-model"] == ["build-features", "evaluate-model", "train-model"]
    assert after["choose-candidate"] == ["compress-model"]
    assert after["export-onnx"] == ["build-features", "choose-candidate", "compress-model"]
    assert "export-onnx" in after["package-model"]
    # The package speaks of the file that ships, and not of the network that it was made from.
    assert "evaluate-model" not in after["package-model"]


def test_steps_that_meet_the_world_outside_are_not_cached(document: dict[str, Any]) -> None:
    tasks = document["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached == set(tasks) - {"prepare-data", "package-model"}


def test_no_step_installs_anything(document: dict[str, Any]) -> None:
    for executor in document["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])
