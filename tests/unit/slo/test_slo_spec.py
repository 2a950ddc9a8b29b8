from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model
from davy.slo.spec import Slo, read_slo

SHIPPED = sorted((Path(__file__).parents[3] / "monitoring/slos").glob("*.yaml"))


def document(**changes: Any) -> dict[str, Any]:
    objective = {"name": "availability", "kind": "availability", "target": 0.99}
    fields = {"model": "m", "team": "t", "objectives": [{**objective, **changes.pop("one", {})}]}
    return {**fields, **changes}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_files_that_ship_are_read(path: Path):
    assert read_slo(path).objectives


def test_a_period_is_30_days_unless_it_is_said():
    assert parse_model(document(), Slo, where="x").period == timedelta(days=30)
    assert parse_model(document(period="4w"), Slo, where="x").period == timedelta(days=28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"one": {"target": 1}}, "less than 1"),
        ({"one": {"target": 99.9}}, "less than 1"),
        ({"one": {"kind": "uptime"}}, "availability"),
        ({"one": {"targets": 0.9}}, "did you mean 'target'"),
        ({"one": {"kind": "latency"}}, "seconds"),
        ({"one": {"name": 'a"} or up'}}, "pattern"),
        ({"model": 'm",x="'}, "pattern"),
        ({"period": "30"}, "not a duration such as 30d"),
        ({"period": "1d"}, "between 7d and 90d"),
        ({"selector": '{job="x"}'}, "without braces"),
        ({"objectives": []}, "at least 1"),
        ({"objectives": document()["objectives"] * 2}, "named twice: availability"),
        (
            {"one": {"kind": "freshness", "max_age": "2h", "minimum_requests": 5}},
            "minimum_requests",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(changes: dict[str, Any], message: str):
    with pytest.raises(InvalidInputError, match="x: ") as caught:
        parse_model(document(**changes), Slo, where="x")
    assert message in str(caught.value)
