"""The conformance kit: whatever holds for one engine holds for the other."""

import sys

import numpy as np
import pytest

from davy.core.errors import InvalidInputError, MissingDependencyError
from davy.drift.judge import Null, Rules, persist
from davy.drift.null import null_distances
from davy.drift.tabular import tabular_detector
from davy.drift.tabular_alibi import AlibiTabular

ENGINES = ("alibi", "native")
NUMBERS = ("popularity_28d", "unit_price", "gap", "spend", "count", "trend", "score")
FLOORS = {"ks": 0.12, "chi2": 0.12, "missing": 0.05}
RULES = Rules(window_rows=400)


def draw(rng, rows=600, level=0.0):
    """Rows of one week; `level` moves them as a season does."""
    window = {name: rng.lognormal(level, 0.8, rows) for name in NUMBERS}
    window["count"] = rng.poisson(1.0, rows).astype(float)
    window["gap"][rng.random(rows) < 0.4] = np.nan
    window["department"] = rng.choice(8, rows, p=np.arange(1, 9) / 36)
    window["days"] = rng.geometric(0.15, rows).clip(0, 60)
    return window


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(41)
    blocks = {week: draw(rng, level=rng.normal(0, 0.03)) for week in range(8)}
    drawn = null_distances(blocks, window_rows=400, draws_per_block=100, rng=rng)
    nulls = {key: Null(values, FLOORS[key[1]]) for key, values in drawn.items()}
    reference = {name: np.concatenate([b[name] for b in blocks.values()]) for name in blocks[0]}
    return {engine: tabular_detector(engine, nulls, RULES).fit(reference) for engine in ENGINES}


def broken_join(window, rng):
    return {
        **window,
        "popularity_28d": np.full(400, np.nan),
        "unit_price": window["unit_price"] * 1.6,
    }


def lost_category(window, rng):
    department = window["department"]
    return {**window, "department": np.where(department == 7, 0, department)}


def unknown_category(window, rng):
    return {**window, "department": np.where(rng.random(400) < 0.3, 99, window["department"])}


def more_missing(window, rng):
    return {**window, "gap": np.where(rng.random(400) < 0.5, np.nan, window["gap"])}


def swapped_unit(window, rng):
    return {**window, "days": window["days"] // 7}


DRIFTS = {
    broken_join: {("popularity_28d", "missing"), ("unit_price", "ks")},
    lost_category: {("department", "chi2")},
    unknown_category: {("department", "chi2")},
    more_missing: {("gap", "missing")},
    swapped_unit: {("days", "chi2")},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.__name__)
def test_a_drift_is_found_in_the_first_window_and_nothing_else_is(fitted, engine, drift):
    rng = np.random.default_rng(5)
    result = fitted[engine].test(drift(draw(rng, rows=400), rng))
    assert {(item.feature, item.detector) for item in result.drifted} == DRIFTS[drift]
    for item in result.drifted:
        assert item.comparisons
        assert item.examples


@pytest.mark.parametrize("engine", ENGINES)
def test_windows_of_new_weeks_make_nothing_active(fitted, engine):
    rng = np.random.default_rng(6)
    streaks, flagged, windows = {}, 0, 200 if engine == "native" else 40
    for _ in range(windows):
        result = fitted[engine].test(draw(rng, rows=400, level=rng.normal(0, 0.03)))
        flagged += result.status == "drift"
        streaks = persist(streaks, result, RULES)
        assert not any(streak.active for streak in streaks.values())
    assert flagged <= 0.05 * windows


@pytest.mark.parametrize("drift", [None, *DRIFTS], ids=lambda d: d.__name__ if d else "none")
def test_both_engines_say_the_same(fitted, drift):
    rng = np.random.default_rng(7)
    window = draw(rng, rows=400)
    if drift:
        window = drift(window, rng)
    ours, theirs = (fitted[engine].test(window) for engine in ENGINES)
    assert ours.status == theirs.status
    for left, right in zip(ours.features, theirs.features, strict=True):
        assert (left.feature, left.detector, left.status) == (
            right.feature,
            right.detector,
            right.status,
        )
        assert left.p_value == pytest.approx(right.p_value, nan_ok=True)
        assert left.effect == pytest.approx(right.effect, abs=1e-6, nan_ok=True)
        assert left.statistic == pytest.approx(right.statistic, rel=1e-4, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_column_without_a_value_is_insufficient_for_ks_and_drift_for_missing(fitted, engine):
    window = draw(np.random.default_rng(8), rows=400)
    window["spend"] = np.full(400, np.nan)
    found = {
        i.detector: i.status for i in fitted[engine].test(window).features if i.feature == "spend"
    }
    assert found == {"ks": "insufficient", "missing": "drift"}


@pytest.mark.parametrize("engine", ENGINES)
def test_lost_scores_are_not_drift(fitted, engine):
    window = draw(np.random.default_rng(9), rows=400)
    window["score"][:200] = np.nan
    assert fitted[engine].test(window).status == "ok"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_short_window_is_insufficient(fitted, engine):
    window = {name: values[:100] for name, values in draw(np.random.default_rng(1)).items()}
    assert fitted[engine].test(window).status == "insufficient"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_window_without_a_feature_is_an_error_that_names_it(fitted, engine):
    window = draw(np.random.default_rng(1), rows=400)
    del window["trend"]
    with pytest.raises(InvalidInputError, match="feature 'trend'"):
        fitted[engine].test(window)


def test_without_alibi_detect_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "alibi_detect.cd", None)
    with pytest.raises(MissingDependencyError, match="DAVY_DETECTOR_ENGINE=native"):
        AlibiTabular().fit({"price": np.ones(3)})
