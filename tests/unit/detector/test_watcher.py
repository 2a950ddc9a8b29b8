import json
import math
from dataclasses import replace

import numpy as np
import pytest

ROWS = 50


def value(registry, name, **labels):
    return registry.get_sample_value(name, labels)


PRICE = {"model": "m", "version": "v1", "feature": "price"}


def test_a_clean_window_is_ok_and_shown(traffic, registry, clock, feed):
    feed(traffic(ROWS))
    assert value(registry, "davy_window_rows", model="m", version="v1") == ROWS
    end = value(registry, "davy_window_end_timestamp_seconds", model="m", version="v1")
    assert end == clock.now().timestamp()
    judged = value(registry, "davy_window_judged_timestamp_seconds", model="m", version="v1")
    assert judged == clock.now().timestamp()
    assert value(registry, "davy_drift_active", **PRICE, detector="ks") == 0
    assert 0 < value(registry, "davy_drift_effect", **PRICE, detector="ks") < 0.25
    assert value(registry, "davy_drift_p_value", **PRICE, detector="ks") > 0.01
    for kind in ("request", "response"):
        labels = {"model": "m", "version": "v1", "type": kind}
        assert value(registry, "davy_detector_events_total", **labels) == ROWS


def test_a_drift_is_active_after_the_second_window_and_over_after_two_quiet_ones(
    traffic, registry, feed
):
    seen = []
    for seed, shift in enumerate((0, 3, 3, 3, 0, 0)):
        feed(traffic(ROWS, seed=seed, shift=shift))
        seen.append(value(registry, "davy_drift_active", **PRICE, detector="ks"))
    assert seen == [0, 0, 1, 1, 1, 0]


def test_a_column_that_turns_null_is_drift_of_its_missing_share(traffic, registry, feed):
    for seed in (1, 2):
        feed(traffic(ROWS, seed=seed, null=True))
    assert value(registry, "davy_drift_active", **PRICE, detector="missing") == 1
    assert value(registry, "davy_drift_active", **PRICE, detector="ks") == 0
    effect = value(registry, "davy_drift_effect", **PRICE, detector="ks")
    assert effect != effect  # noqa: PLR0124 (NaN)


SHARE = "davy_window_outlier_share"


class StandInOutliers:
    """Calls every row an outlier whose price is above 10; fails where there is none."""

    def flags(self, rows):
        if np.isnan(rows["price"]).all():
            raise ValueError("no price")
        return rows["price"] > 10


@pytest.fixture
def scoring(packages, monkeypatch):
    load = packages.load
    stand_in = StandInOutliers()
    monkeypatch.setattr(packages, "load", lambda name: replace(load(name), outliers=stand_in))


@pytest.mark.usefixtures("scoring")
def test_the_share_of_outliers_is_that_of_the_last_window(traffic, registry, feed):
    def share():
        return value(registry, SHARE, model="m", version="v1")

    samples = traffic(ROWS)
    for place in (0, 20, 40):
        samples[place] = replace(samples[place], values={"price": 50.0, "department": 1})
    feed(samples)
    assert share() == 3 / ROWS
    feed(traffic(ROWS, seed=1))
    assert share() == 0
    feed(traffic(ROWS, seed=2, null=True))
    assert math.isnan(share())
    # The verdict on drift is there all the same.
    assert value(registry, "davy_drift_effect", **PRICE, detector="missing") == 1


@pytest.mark.usefixtures("scoring")
def test_a_few_rows_have_no_share_of_outliers(traffic, registry, settings, clock, feed, tick):
    feed(traffic(3))
    clock.sleep(settings.window_seconds + 1)
    tick()
    assert value(registry, "davy_window_rows", model="m", version="v1") == 3
    assert math.isnan(value(registry, SHARE, model="m", version="v1"))


def test_without_a_scorer_there_is_no_share_of_outliers(traffic, registry, feed):
    feed(traffic(ROWS))
    assert value(registry, SHARE, model="m", version="v1") is None


ESTIMATE = "davy_performance_estimate"


def estimated(registry, metric):
    return value(registry, ESTIMATE, model="m", version="v1", metric=metric, segment="all")


@pytest.fixture
def calibrated(packages, monkeypatch):
    load = packages.load
    monkeypatch.setattr(packages, "load", lambda name: replace(load(name), probability=True))


@pytest.mark.usefixtures("calibrated")
def test_performance_is_estimated_from_the_scores_of_the_last_window(
    traffic, registry, settings, clock, feed, tick
):
    feed(traffic(ROWS))
    scores = np.array([s.values["score"] for s in traffic(ROWS) if s.kind == "response"])
    assert estimated(registry, "accuracy") == pytest.approx(np.maximum(scores, 1 - scores).mean())
    assert estimated(registry, "brier") == pytest.approx((scores * (1 - scores)).mean())
    assert 0.5 < estimated(registry, "roc_auc") < 1
    feed(traffic(3, seed=1))
    clock.sleep(settings.window_seconds + 1)
    tick()
    assert math.isnan(estimated(registry, "accuracy"))


def test_scores_that_are_no_probabilities_estimate_nothing(traffic, registry, feed):
    feed(traffic(ROWS))
    assert estimated(registry, "accuracy") is None


def test_the_report_shows_the_last_windows_as_json(watcher, traffic, packages, feed):
    feed(traffic(ROWS, shift=3) + traffic(3, seed=1))
    report = json.loads(json.dumps(watcher.report(), allow_nan=False))
    (version,) = report["versions"]
    assert (version["version"], version["rows"]) == ("v1", 3)
    (window,) = version["windows"]
    assert (window["status"], window["rows"], window["scored"]) == ("drift", ROWS, ROWS)
    (price,) = [f for f in window["features"] if f["status"] == "drift"]
    assert price["feature"] == "price"
    assert price["comparisons"][1]["what"] == "median"
    assert len(price["examples"]) == 5
    assert packages.loaded == ["v1"]


@pytest.mark.parametrize(
    ("version", "reason"),
    [("other", "unknown_version"), ("damaged", "package_untrusted"), ("", "no_version")],
)
def test_events_of_a_version_that_cannot_be_watched_are_counted_and_dropped(
    watcher, traffic, registry, version, reason, feed
):
    feed(traffic(2, version=version) + traffic(1))
    assert value(registry, "davy_detector_dropped_total", reason=reason) == 4
    assert [item["version"] for item in watcher.report()["versions"]] == ["v1"]


def test_a_version_that_could_not_be_read_is_tried_again_later(
    watcher, traffic, packages, clock, feed
):
    feed(traffic(3, version="late"))
    assert packages.loaded == ["late"]
    assert watcher.report()["not_watched"][0]["reason"] == "unknown_version"
    clock.sleep(31)
    feed(traffic(1, seed=1, version="late"))
    assert packages.loaded == ["late", "late"]


def test_an_unreadable_package_of_an_unforeseen_kind_stops_nothing(
    traffic, packages, registry, monkeypatch, feed
):
    def load(version):
        raise RuntimeError("a format of the future")

    monkeypatch.setattr(packages, "load", load)
    feed(traffic(1))
    assert value(registry, "davy_detector_dropped_total", reason="package_unreadable") == 2


def test_a_request_with_other_features_is_dropped_with_the_reason(traffic, registry, feed):
    samples = traffic(2)
    samples[0].values.pop("price")
    samples[3].values["score"] = float("nan")
    feed(samples)
    # The response has no row to be the score of.
    assert value(registry, "davy_detector_dropped_total", reason="other_features") == 2
    assert value(registry, "davy_detector_dropped_total", reason="no_score") == 1


def test_a_category_that_is_no_64_bit_integer_is_dropped(traffic, registry, feed):
    for number, department in enumerate((1.5, 2**63)):
        samples = traffic(1, seed=number)
        samples[0].values["department"] = department
        feed(samples)
    assert value(registry, "davy_detector_dropped_total", reason="other_features") == 4


def test_events_told_twice_count_once(watcher, traffic, registry, feed):
    feed(traffic(4) * 2)
    assert value(registry, "davy_detector_dropped_total", reason="duplicate") == 8
    assert watcher.report()["versions"][0]["rows"] == 4


def test_responses_that_miss_their_request_are_losses_with_a_reason(
    traffic, registry, clock, settings, feed, tick
):
    samples = traffic(3)
    asked, answered = samples[0::2], samples[1::2]
    feed(asked[:1])
    clock.sleep(settings.join_seconds)
    tick()
    feed(answered)
    clock.sleep(settings.join_seconds)
    tick()
    tick()
    assert value(registry, "davy_detector_dropped_total", reason="late") == 1
    assert value(registry, "davy_detector_dropped_total", reason="orphan") == 2
    assert value(registry, "davy_detector_dropped_total", reason="duplicate") is None


def test_only_so_many_versions_are_watched_and_the_gauges_of_the_others_go(
    watcher, traffic, registry, feed
):
    feed(traffic(ROWS, version="v1"))
    feed(traffic(1, version="v2") + traffic(1, version="v3"))
    assert [item["version"] for item in watcher.report()["versions"]] == ["v2", "v3"]
    assert value(registry, "davy_drift_active", **PRICE, detector="ks") is None


def test_a_version_unheard_of_is_forgotten(watcher, traffic, registry, clock, settings, feed, tick):
    feed(traffic(ROWS))
    gone = ("davy_window_rows", "davy_window_judged_timestamp_seconds")
    clock.sleep(settings.forget_seconds - 1)
    tick()
    assert value(registry, "davy_window_rows", model="m", version="v1") == ROWS
    clock.sleep(1)
    tick()
    for name in gone:
        assert value(registry, name, model="m", version="v1") is None
    assert watcher.report()["versions"] == []


def test_a_window_that_grows_old_ends_as_insufficient(
    traffic, registry, clock, settings, feed, tick
):
    feed(traffic(10))
    clock.sleep(settings.window_seconds)
    tick()
    labels = {"model": "m", "version": "v1", "status": "insufficient"}
    assert value(registry, "davy_detector_windows_total", **labels) == 1
    assert value(registry, "davy_window_rows", model="m", version="v1") == 10
    end = value(registry, "davy_window_end_timestamp_seconds", model="m", version="v1")
    assert end == clock.now().timestamp()
    assert value(registry, "davy_window_judged_timestamp_seconds", model="m", version="v1") is None


def test_an_engine_that_fails_costs_its_window_and_nothing_else(
    watcher, traffic, registry, packages, monkeypatch, feed
):
    class FailingDetector:
        def test(self, window):
            raise RuntimeError("inside the engine")

    feed(traffic(1))
    subject = watcher._watched["v1"].subject
    object.__setattr__(subject, "detector", FailingDetector())
    feed(traffic(ROWS, first=1))
    labels = {"model": "m", "version": "v1", "status": "error"}
    assert value(registry, "davy_detector_windows_total", **labels) == 1
    assert watcher.report()["versions"][0]["rows"] == 1


def test_every_pair_of_a_watched_version_is_heard_of_once_ahead_of_its_window(
    traffic, feed, tick, clock, settings, parts, registry, pairs
):
    samples = traffic(4)
    feed(samples[:6])  # three exchanges
    feed(samples[:2] + traffic(1, version="other", seed=1))
    feed(samples[6:7])  # a request whose response does not come
    clock.sleep(settings.join_seconds)
    tick()
    assert [(pair.version, pair.request.id, pair.response.id) for pair in pairs] == [
        ("v1", f"0-{number}", f"0-{number}") for number in range(3)
    ]
    assert parts.consumer.report()["versions"][0]["rows"] == 4


def test_one_who_hears_of_pairs_and_fails_costs_nothing(traffic, feed, parts, monkeypatch):
    def fail(pair):
        raise RuntimeError("not today")

    monkeypatch.setattr(parts.consumer, "_on_pair", fail)
    feed(traffic(2))
    assert parts.consumer.report()["versions"][0]["rows"] == 2


def test_an_exchange_that_nobody_foresaw_costs_itself_alone(traffic, feed, parts, registry, pairs):
    joiner = parts.consumer._joiner
    answered = joiner.answered

    def fail_once(subject, exchange, now):
        joiner.answered = answered
        raise ValueError("of the future")

    joiner.answered = fail_once
    feed(traffic(3))
    assert value(registry, "davy_detector_dropped_total", reason="failed") == 2
    assert len(pairs) == 2
    feed(traffic(3))
    assert value(registry, "davy_detector_dropped_total", reason="duplicate") == 6
