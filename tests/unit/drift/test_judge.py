import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.core.errors import ConfigurationError
from davy.drift.judge import (
    Null,
    Rules,
    Streak,
    benjamini_hochberg,
    judge,
    persist,
    rank_p_value,
    too_coarse,
)
from davy.drift.result import Distance

NULL = Null(np.linspace(0.001, 0.1, 999), floor=0.12)
RULES = Rules(window_rows=400)


def distance(effect, feature="price", values=400):
    return Distance(feature, "ks", effect, effect, values)


def verdict(*distances, nulls=None, rows=400):
    nulls = nulls or {(item.feature, "ks"): NULL for item in distances}
    return judge(distances, nulls, RULES, rows=rows)


def test_a_large_and_rare_effect_is_drift():
    result = verdict(distance(0.3))
    assert result.status == "drift"
    assert result.drifted[0].p_value == pytest.approx(1 / 1000)


def test_a_rare_effect_below_the_floor_is_not():
    result = verdict(distance(0.11))
    assert result.features[0].p_value == pytest.approx(1 / 1000)
    assert result.status == "ok"


def test_a_large_effect_that_past_weeks_had_too_is_not():
    wild = Null(np.linspace(0.05, 0.5, 999), floor=0.12)
    assert verdict(distance(0.3), nulls={("price", "ks"): wild}).status == "ok"


def test_a_small_window_says_insufficient_not_ok():
    result = verdict(distance(0.3), rows=359)
    assert result.status == "insufficient"
    assert "359 rows, and 360 are needed" in result.reason
    assert [item.status for item in result.features] == ["insufficient"]


def test_few_present_values_say_insufficient_for_that_feature_alone():
    result = verdict(distance(0.9, "gap", values=29), distance(0.01))
    assert [item.status for item in result.features] == ["insufficient", "ok"]
    assert "29 values" in result.features[0].reason
    assert math.isnan(result.features[0].p_value)
    assert result.status == "ok"


def test_no_null_says_insufficient():
    result = judge([distance(0.3)], {}, RULES, rows=400)
    assert result.status == "insufficient"
    assert "no past distances" in result.features[0].reason


def test_many_features_raise_the_bar():
    coarse = Null(np.linspace(0.001, 0.1, 99), floor=0.12)
    quiet = [distance(0.05, f"f{i}") for i in range(20)]
    alone = judge([distance(0.3)], {("price", "ks"): coarse}, RULES, rows=400)
    nulls = {("price", "ks"): coarse, **{(item.feature, "ks"): coarse for item in quiet}}
    among = judge([distance(0.3), *quiet], nulls, RULES, rows=400)
    assert (alone.status, among.status) == ("drift", "ok")
    assert ("price", "ks") in too_coarse(nulls, RULES)
    assert too_coarse({("price", "ks"): NULL}, RULES) == []


def test_the_drifted_come_largest_first():
    result = verdict(distance(0.2, "a"), distance(0.4, "b"))
    assert [item.feature for item in result.drifted] == ["b", "a"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_the_rank_p_value_is_never_zero_and_falls_with_the_effect(null, effect):
    null = np.sort(null)
    p_value = rank_p_value(effect, null)
    assert 1 / (null.size + 1) <= p_value <= 1
    assert rank_p_value(effect + 0.1, null) <= p_value


def test_an_exchangeable_window_is_rare_as_often_as_promised():
    rng = np.random.default_rng(1)
    p_values = [rank_p_value(rng.random(), np.sort(rng.random(19))) for _ in range(4000)]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.012)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_benjamini_hochberg_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = benjamini_hochberg(p_values)
    for p_value, bound in zip(p_values, adjusted, strict=True):
        assert p_value <= bound + 1e-12
        assert bound <= min(1, p_value * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= -1e-12)


def test_two_windows_in_a_row_make_it_active_and_two_quiet_ones_end_it():
    streaks, seen = {}, []
    for effect in (0.3, 0.01, 0.3, 0.3, 0.01, 0.3, 0.01, 0.01):
        streaks = persist(streaks, verdict(distance(effect)), RULES)
        seen.append(streaks["price", "ks"].active)
    assert seen == [False, False, False, True, True, True, True, False]


def test_an_insufficient_window_changes_no_streak():
    before = {("price", "ks"): Streak(drifted=1)}
    assert persist(before, verdict(distance(0.3), rows=10), RULES) == before


@pytest.mark.parametrize(
    "wrong",
    [{"window_rows": 0}, {"minimum_share": 0.0}, {"false_discovery_rate": 1.0}, {"consecutive": 0}],
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="drift rules"):
        Rules(**{"window_rows": 400, **wrong})
