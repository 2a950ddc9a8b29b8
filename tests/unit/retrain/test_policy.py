"""What a policy file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from davy.core.errors import InvalidInputError, NotFoundError
from davy.retrain.policy import read_policy

ROOT = Path(__file__).parents[3]
FIELDS: dict[str, Any] = {
    "model": "m",
    "objective": {"metric": "f1", "at_least": 0.5},
    "run": {"train": ["t", "{reason}"], "canary": ["c", "{package}"]},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(FIELDS | changes))
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "monitoring/retrain").glob("*[!t].yaml")), ids=str)
def test_the_policies_that_ship_can_be_read(path: Path) -> None:
    policy = read_policy(path)
    assert policy.run.spec is None or "$version" in policy.run.spec.read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"metric": "f1"}}, "needs at_least or at_most"),
        ({"objective": {"metric": "f1", "at_least": 0, "at_most": 1}}, "one of them"),
        ({"objective": {"metric": 'f1"} or', "at_least": 0}}, "objective.metric"),
        ({"cooldown": "7d"}, "cooldown"),
        ({"guards": {"cooldown": "7 days"}}, "guards.cooldown"),
        ({"run": {"train": ["t"], "canary": ["c"]}}, "would not be the new one"),
        ({"run": {"train": ["t"], "canary": ["c", "{spec}"]}}, "none is named"),
        ({"run": {"train": ["t", "{package}"], "canary": ["{package}"]}}, "may hold {model}"),
        ({"run": {"train": ["t", "{"], "canary": ["{package}"]}}, "in braces"),
        ({"run": {"train": [], "canary": ["{package}"]}}, "run.train"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_policy(write(tmp_path, **changes))
    assert said in str(caught.value)
    assert "policy.yaml" in str(caught.value)


def test_a_rollout_that_is_not_there_is_missed_at_once(tmp_path: Path) -> None:
    run = {"train": ["t"], "canary": ["c", "{spec}"], "spec": "none.yaml"}
    with pytest.raises(NotFoundError, match=r"run\.spec"):
        read_policy(write(tmp_path, run=run))
