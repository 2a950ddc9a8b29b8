"""The plan before the start: what it says of deadlines, allowances and traffic."""

from __future__ import annotations

from typing import Any

import pytest

from davy.core.errors import InvalidInputError, UnavailableError
from davy.rollout.picture import plan_picture
from davy.rollout.plan import Traffic, duration, plan, traffic_of, words
from davy.rollout.series import REQUESTS, SECONDS_BUCKET, SECONDS_COUNT, Sample, Series, SeriesKey
from davy.rollout.spec import RolloutSpec


def spec(*indicators: dict[str, Any], weight: int = 5, **analysis: Any) -> RolloutSpec:
    chosen = indicators or ({"name": "errors", "ratio": 1.5, "allowance": 0.001},)
    document = {
        "candidate": {"version": "v2"},
        "steps": [{"weight": weight}, {"weight": 50}],
        "analysis": {"interval": "30s", "deadline": "4h", "indicators": list(chosen)} | analysis,
    }
    return RolloutSpec.model_validate(document)


def test_a_deadline_that_cannot_suffice_is_said_plainly_with_what_helps() -> None:
    made = plan(spec(), Traffic(3.0, {}, "as said"), runs=40)
    assert not made.enough
    assert made.healthy.promoted == 0.0
    text = "\n".join(words(made))
    first = made.indicators[0].first
    assert first.outcome == "pass"
    assert first.requests is not None
    assert 4_500 < first.requests < 5_600  # "about 5,000 canary requests for 0.1 %"
    assert first.seconds == pytest.approx(first.requests / 0.15)
    assert "THE DEADLINE OF 4 h IS TOO SHORT: only 0% of healthy" in text
    assert "a deadline of about" in text
    assert "an allowance of" in text


@pytest.mark.parametrize(
    ("changes", "traffic"), [({"deadline": "72h"}, 3.0), ({}, 60.0), ({"weight": 45}, 6.0)]
)
def test_what_it_names_as_a_help_helps(changes: dict[str, Any], traffic: float) -> None:
    made = plan(spec(**changes), Traffic(traffic, {}, "as said"), runs=40)
    assert made.enough
    assert "suffices" in "\n".join(words(made))


def test_without_events_and_allowance_nothing_is_ever_decided_and_it_says_so() -> None:
    made = plan(spec({"name": "errors", "ratio": 1.5}), Traffic(50.0, {}, "as said"), runs=40)
    text = "\n".join(words(made))
    assert "none, however long" in text
    assert "Give errors an allowance" in text


def test_chances_rise_with_the_defect_and_are_small_where_it_is_tolerable() -> None:
    made = plan(spec(), Traffic(100.0, {"errors": 0.0005}, "as said"), runs=60)
    chances = made.indicators[0].chances
    rates = [chance.rate for chance in chances]
    assert rates == sorted(rates)
    assert rates[0] == 0.0005  # no canary is planned for that is better than the stable arm
    for chance in chances:
        power = chance.power
        assert power.rolled_back <= 0.15 if chance.tolerable else power.promoted <= 0.15
        assert power.rolled_back + power.promoted + power.undecided == pytest.approx(1.0)
    assert chances[-1].power.rolled_back == 1.0
    by_size = [item.power.requests for item in chances if item.power.rolled_back == 1.0]
    assert by_size[-1] == min(value for value in by_size if value is not None)


def test_indicators_that_no_plan_is_made_for_are_named() -> None:
    made = plan(
        spec({"name": "errors", "allowance": 0.01}, {"name": "shift"}),
        Traffic(100.0, {}, "as said"),
        runs=20,
    )
    assert "Not in this plan, and must pass as well: shift" in "\n".join(words(made))
    with pytest.raises(InvalidInputError, match="no indicator that a plan"):
        plan(spec({"name": "shift"}), Traffic(100.0, {}, "as said"), runs=20)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_traffic_that_nothing_can_be_planned_on_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInputError, match="no requests to plan on"):
        Traffic(rate, {}, "--rate")
    with pytest.raises(InvalidInputError, match="no share"):
        Traffic(1.0, {"errors": 1.0}, "--events")


def test_the_picture_holds_each_indicator_and_its_limit() -> None:
    text = plan_picture(plan(spec(), Traffic(50.0, {}, "as said"), runs=20))
    assert text.startswith("<svg")
    assert "errors: what becomes of a canary" in text
    assert "largest that is tolerable, 0.1 %" in text


def counters(rate: float, errors: float, slow: float) -> list[Series]:
    """A minute of a version's counters, scraped every ten seconds up to second 1,000,060."""
    totals = {
        (REQUESTS, "ok"): rate * (1 - errors),
        (REQUESTS, "server_error"): rate * errors,
        (SECONDS_COUNT, ""): rate,
        (SECONDS_BUCKET, "0.1"): rate * (1 - slow),
    }
    return [
        Series(
            SeriesKey(metric, "v1", "pod:1", detail),
            tuple(Sample(1e6 + 10 * i, 500.0 + 10 * i * value) for i in range(7)),
        )
        for (metric, detail), value in totals.items()
    ]


def test_the_present_traffic_is_measured_on_the_version_that_serves() -> None:
    wanted = spec({"name": "errors"}, {"name": "slow"})
    found = traffic_of(
        counters(100.0, 0.02, 0.1), "v1", spec=wanted, objective=0.1, now=1_000_061.0
    )
    assert found.rate == pytest.approx(100.0)
    assert found.stable == {"errors": pytest.approx(0.02), "slow": pytest.approx(0.1)}
    assert found.source == "v1, its last 60 s"


def test_traffic_that_cannot_be_measured_says_why() -> None:
    wanted = spec({"name": "errors"})

    def measured(series: list[Series], version: str = "v1", now: float = 1_000_061.0) -> Traffic:
        return traffic_of(series, version, spec=wanted, objective=0.1, now=now)

    with pytest.raises(UnavailableError, match="no series of it"):
        measured([])
    with pytest.raises(UnavailableError, match="no series of it"):
        measured(counters(100.0, 0.0, 0.0), "v9")
    with pytest.raises(UnavailableError, match="s old"):
        measured(counters(100.0, 0.0, 0.0), now=1_009_000.0)
    one = [Series(item.key, item.samples[-1:]) for item in counters(100.0, 0.0, 0.0)]
    with pytest.raises(UnavailableError, match="fewer than two samples"):
        measured(one)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.0, "4 s"), (150.0, "150 s"), (720.0, "12 min"), (32400.0, "9 h"), (259200.0, "3 days")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
