"""Whether a Prometheus has what the gate counts."""

from __future__ import annotations

from typing import Any

import pytest

from davy.cli.doctor import scraping
from davy.cli.doctor.finding import Level

URL = "http://prometheus:9090"


def service(name: str = "demo", version: str | None = "v1") -> dict[str, Any]:
    annotations = {} if version is None else {"davylamp.dev/version": version}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"predictor": {"annotations": annotations}},
    }


def answer(*series: dict[str, str]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [0, "1"]} for labels in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize("body", [None, [], "text", {}, {"status": "error"}, {"status": "success"}])
def test_an_answer_that_is_none_fails(body: Any) -> None:
    (found,) = scraping.arms(URL, body, [service()])
    assert found.level == Level.FAIL
    assert "port-forward" in found.remedy


def test_no_service_is_nothing_to_look_for() -> None:
    (found,) = scraping.arms(URL, answer(), [])
    assert (found.level, "no InferenceService" in found.says) == (Level.SKIP, True)


def test_services_that_may_not_be_listed_are_not_said_to_be_none() -> None:
    (found,) = scraping.arms(URL, answer(), None)
    assert (found.level, "may not be listed" in found.says) == (Level.SKIP, True)


@pytest.mark.parametrize(
    ("series", "level", "said"),
    [
        ([{"version": "v1", "namespace": "shop", "pod": "a"}], Level.OK, "from 1 pod"),
        ([{"version": "v2", "namespace": "shop", "pod": "a"}], Level.FAIL, "no target"),
        ([{"version": "v1", "namespace": "shop"}], Level.FAIL, "lack the label pod"),
        ([{"version": "v1", "namespace": "other", "pod": "a"}], Level.FAIL, "in other alone"),
    ],
)
def test_the_arms_are_scraped_with_their_labels(
    series: list[dict[str, str]], level: Level, said: str
) -> None:
    reached, arm = scraping.arms(URL, answer(*series), [service()])
    assert reached.level == Level.OK
    assert (arm.level, said in arm.says) == (level, True)


def test_a_service_without_a_version_is_not_looked_for() -> None:
    _, arm = scraping.arms(URL, answer(), [service(version=None)])
    assert arm.level == Level.SKIP
