import itertools
from typing import Any

import pytest

from davy.slo.rules import ALERT, document, generate, prometheus_rule
from davy.slo.spec import Slo


def slo(*objectives: dict[str, Any], **fields: Any) -> Slo:
    return Slo.model_validate({"model": "m", "team": "t", "objectives": list(objectives), **fields})


AVAILABILITY = {"name": "up", "kind": "availability", "target": 0.999}
QUALITY = {"name": "good", "kind": "quality", "source": "realised", "metric": "ndcg@10"}


def rules(wanted: Slo) -> list[dict[str, Any]]:
    return list(itertools.chain(*(group["rules"] for group in generate(wanted)["groups"])))


def alerts(wanted: Slo) -> list[dict[str, Any]]:
    return [rule for rule in rules(wanted) if "alert" in rule]


def test_an_alert_reads_only_what_is_recorded():
    found = rules(slo(AVAILABILITY, {**AVAILABILITY, "name": "latency", "kind": "latency",
                                     "seconds": 0.1}))  # fmt: skip
    recorded = {(rule["record"], rule["labels"]["objective"]) for rule in found if "record" in rule}
    firing = [rule for rule in found if "alert" in rule]
    assert len(firing) == 8
    for rule in firing:
        for part in rule["expr"].split(" and "):
            assert (part.partition("{")[0], rule["labels"]["objective"]) in recorded


def test_every_rule_of_an_objective_is_told_from_the_others():
    found = rules(slo(AVAILABILITY, {**AVAILABILITY, "name": "again"}))
    keys = [(r.get("record", r.get("alert")), tuple(sorted(r["labels"].items()))) for r in found]
    assert len(set(keys)) == len(keys)


def test_a_burn_that_no_failure_can_reach_has_no_alert():
    found = [
        r["labels"]["window"] for r in rules(slo({**AVAILABILITY, "target": 0.9})) if "alert" in r
    ]
    assert found == ["6h", "1d", "3d"]


def test_the_selector_is_in_every_query_of_a_program():
    for rule in rules(slo(AVAILABILITY, selector='namespace="shop"')):
        assert rule["expr"].count("davy_requests_total{") == rule["expr"].count('namespace="shop"')


def test_the_number_of_requests_that_a_team_names_is_taken():
    found = [
        r["expr"] for r in rules(slo({**AVAILABILITY, "minimum_requests": 77})) if "alert" in r
    ]
    assert all(expression.endswith(">= 77") for expression in found)


def test_quality_is_of_the_whole_and_of_time():
    found = {r["record"]: r["expr"] for r in rules(slo({**QUALITY, "floor": 0.2, "target": 0.9}))
             if "record" in r}  # fmt: skip
    metric = 'davy_performance_realised{model="m",metric="ndcg@10",segment="all"}'
    now, gone = found["davy:slo_bad:bool"].split(" or ")
    assert now == f"(min({metric}) < bool 0.2)"
    assert gone == f"(min(last_over_time({metric}[3d])) * 0 + 1)"
    assert found["davy:slo_errors:ratio_rate1h"].startswith("avg_over_time(davy:slo_bad:bool{")


def test_the_file_says_what_it_comes_from():
    assert document(slo(AVAILABILITY), "slos/m.yaml").startswith(
        "# Written by `davy slo generate` from slos/m.yaml"
    )


def test_the_operators_resource_holds_the_same_groups():
    wanted = slo(AVAILABILITY)
    resource = prometheus_rule(wanted, name="n", labels={"a": "b"})
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == generate(wanted)
    assert resource["metadata"] == {"name": "n", "labels": {"a": "b"}}


@pytest.mark.parametrize("kind", ["availability", "latency"])
def test_who_is_woken_reads_what_is_bad_and_how_much_of_it_may_be(kind: str):
    extra = {"seconds": 0.25} if kind == "latency" else {}
    first = alerts(slo({**AVAILABILITY, "kind": kind, **extra}))[0]
    assert first["alert"] == ALERT
    assert "0.1% may be over 30d" in first["annotations"]["description"]
    assert ("0.25 s" in first["annotations"]["description"]) == (kind == "latency")


def test_two_files_of_one_model_are_told_apart_by_their_names():
    (one, *_), (two, *_) = (rules(slo(AVAILABILITY, name=name)) for name in ("staging", "shop"))
    assert (one["labels"]["slo"], two["labels"]["slo"]) == ("staging", "shop")
    assert 'model="m"' in one["expr"]
