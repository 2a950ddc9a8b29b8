import asyncio
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.detector.conftest import START, told

from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.labels import Label
from davy.detector.metrics import DetectorMetrics
from davy.protocol.tensors import tensor

PLACE = 10_000


@pytest.fixture(autouse=True)
def classification(packages, monkeypatch):
    load = packages.load
    monkeypatch.setattr(packages, "load", lambda name: replace(load(name), kind="classification"))


@pytest.fixture
def label(parts):
    """Return a function that takes labels as posted."""
    place = iter(range(PLACE, 10 * PLACE))

    def run(request_id, *values, model=""):
        entry = Entry(n := next(place), n + 1, labels=[Label(request_id, values, START, model)])
        asyncio.run(parts.consumer.apply([entry]))

    return run


@pytest.fixture
def answers(traffic, feed):
    """Return a function that has requests answered with given scores."""

    def run(*scores, version="v1", seed=0):
        samples = traffic(len(scores), version=version, seed=seed)
        for number, score in enumerate(scores):
            row = np.array([score], np.float32)
            values = {"score": row[0].item()}
            at = 2 * number + 1
            samples[at] = replace(samples[at], values=values, tensors=(tensor("score", row),))
        feed(samples)

    return run


ARM = {"model": "m", "version": "v1"}
WHO = {"namespace": "", "serving_kserve_io_inferenceservice": "m"}


def outcomes(registry, version="v1"):
    labels = {"model": "m", "version": version, **WHO}
    return [
        registry.get_sample_value("davy_outcomes_total", {**labels, "outcome": outcome})
        for outcome in ("right", "wrong")
    ]


def joined(registry):
    return registry.get_sample_value("davy_labels_joined_total", ARM)


def expired(registry):
    return registry.get_sample_value("davy_labels_expired_total", ARM)


def unused(registry, reason):
    return registry.get_sample_value("davy_labels_unused_total", {"reason": reason})


def test_every_series_is_there_at_0_once_a_version_has_answered(registry, answers):
    answers(0.9)
    assert outcomes(registry) == [0, 0]
    assert [joined(registry), expired(registry)] == [0, 0]


def test_labels_say_right_and_wrong(registry, answers, label):
    answers(0.9, 0.8, 0.1)
    label("0-0", 1)
    label("0-1", 0)
    label("0-2", 0)
    assert outcomes(registry) == [2, 1]
    assert joined(registry) == 3


def test_a_label_may_come_before_its_answer(registry, answers, label):
    label("0-0", 0)
    label("0-0", 0)
    answers(0.9)
    assert outcomes(registry) == [0, 1]
    assert unused(registry, "duplicate") == 1


def test_the_first_label_of_an_answer_counts(registry, answers, label):
    answers(0.9)
    label("0-0", 1)
    label("0-0", 0)
    assert outcomes(registry) == [1, 0]
    assert unused(registry, "duplicate") == 1


def test_an_id_that_two_versions_have_answered_labels_both(registry, answers, label):
    answers(0.9, version="v1")
    answers(0.1, version="v2")
    label("0-0", 1)
    assert outcomes(registry, "v1") == [1, 0]
    assert outcomes(registry, "v2") == [0, 1]


def test_a_label_of_another_model_is_not_of_this_one(registry, answers, label):
    answers(0.9)
    label("0-0", 0, model="other")
    assert joined(registry) == 0
    label("0-0", 1, model="m")
    assert outcomes(registry) == [1, 0]


def test_a_label_of_other_rows_is_counted_by_its_reason_and_a_right_one_may_follow(
    registry, answers, label
):
    answers(0.9)
    label("0-0", 1, 0)
    assert unused(registry, "other_rows") == 1
    label("0-0", 1)
    assert outcomes(registry) == [1, 0]


def test_past_the_horizon_answers_expire_and_labels_are_unmatched(
    registry, answers, label, clock, settings, tick
):
    answers(0.9, 0.9)
    label("0-0", 1)
    label("nobody", 1)
    clock.sleep(settings.label_horizon_seconds - 1)
    tick()
    assert [expired(registry), unused(registry, "unmatched")] == [0, None]
    clock.sleep(1)
    tick()
    assert [expired(registry), unused(registry, "unmatched")] == [1, 1]
    label("0-1", 1)  # too late
    assert joined(registry) == 1


def test_only_so_many_answers_and_labels_wait_the_oldest_gives_way(
    packages, settings, clock, traffic
):
    registry = CollectorRegistry()
    few = settings.model_copy(update={"answers_kept": 3})
    parts = assemble(few, packages, DetectorMetrics(registry), clock)
    samples = traffic(5)

    async def run():

        events = [told(sample) for sample in samples]
        labels = [Label(f"nobody-{n}", (1.0,), START) for n in range(5)]
        await parts.consumer.apply([Entry(0, 100, events), Entry(100, 200, labels=labels)])
        await parts.consumer.tick()

    asyncio.run(run())
    assert [expired(registry), unused(registry, "unmatched")] == [2, 2]
    parts.close()


def test_realised_performance_is_over_the_last_labels(registry, answers, label, tick):
    def realised(metric):
        labels = {**ARM, "metric": metric, "segment": "all"}
        return registry.get_sample_value("davy_performance_realised", labels)

    tick()
    assert realised("accuracy") is None
    answers(0.9, 0.8, 0.3, 0.1)
    for number, value in enumerate((1, 0, 1, 0)):
        label(f"0-{number}", value)
    tick()
    assert realised("accuracy") == 0.5
    assert realised("roc_auc") == 0.75
    assert realised("brier") == pytest.approx((0.01 + 0.64 + 0.49 + 0.01) / 4)


def test_all_of_it_goes_on_after_a_restart(packages, settings, clock, traffic, tmp_path):
    kept = settings.model_copy(update={"state": tmp_path / "state"})

    def begin():
        registry = CollectorRegistry()
        return registry, assemble(kept, packages, DetectorMetrics(registry), clock)

    async def live(parts, *entries):
        await parts.consumer.apply(entries)
        await parts.consumer.tick()

    registry, parts = begin()
    events = [told(sample) for sample in traffic(3)]
    first = Label("0-0", (1.0,), START)
    asyncio.run(live(parts, Entry(0, 100, events), Entry(100, 200, labels=[first])))
    before = outcomes(registry)
    assert sum(before) == 1
    parts.close()

    registry, parts = begin()
    assert outcomes(registry) == before
    second = Label("0-1", (1.0,), START)
    # The first body is read again from the journal: its label is counted already.
    asyncio.run(
        live(parts, Entry(100, 200, labels=[first]), Entry(200, 300, labels=[second, first]))
    )
    assert sum(outcomes(registry)) == 2
    assert unused(registry, "duplicate") == 1
    labels = {**ARM, "metric": "accuracy", "segment": "all"}
    assert registry.get_sample_value("davy_performance_realised", labels) is not None
    parts.close()


def test_of_a_regression_without_a_limit_nothing_is_right_or_wrong(
    packages, monkeypatch, registry, answers, label, tick
):
    load = packages.load
    monkeypatch.setattr(packages, "load", lambda name: replace(load(name), kind="regression"))
    answers(10)
    label("0-0", 12)
    tick()
    assert outcomes(registry) == [None, None]
    assert joined(registry) == 1
    labels = {**ARM, "metric": "mae", "segment": "all"}
    assert registry.get_sample_value("davy_performance_realised", labels) == 2


def test_services_beyond_the_bound_are_told_apart_no_more(parts, traffic, registry, monkeypatch):
    monkeypatch.setattr("davy.detector.joiner.SOURCES", 2)

    events = []
    for number in range(4):
        for sample in traffic(1, seed=number):
            event, same = told(sample)
            events.append((replace(event, service=f"s{number}"), same))
    asyncio.run(parts.consumer.apply([Entry(0, 100, events)]))
    services = {
        sample.labels["serving_kserve_io_inferenceservice"]
        for metric in registry.collect()
        if metric.name == "davy_outcomes"
        for sample in metric.samples
    }
    assert services == {"s0", "s1", ""}


def test_whoever_has_no_answer_left_makes_room_and_its_counters_end(
    parts, traffic, registry, monkeypatch, clock, settings, tick
):
    monkeypatch.setattr("davy.detector.joiner.SOURCES", 2)

    def answer(number, service, version):
        events = []
        for sample in traffic(1, seed=number, version=version):
            event, same = told(sample)
            events.append((replace(event, service=service), same))
        entry = Entry(1000 * number, 1000 * number + 100, events)
        asyncio.run(parts.consumer.apply([entry]))

    def shown(name):
        return {
            (sample.labels["version"], sample.labels.get("serving_kserve_io_inferenceservice"))
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == name
        }

    answer(1, "s1", "v1")
    answer(2, "s2", "v1")
    clock.sleep(settings.label_horizon_seconds)
    tick()
    answer(3, "s3", "v2")
    assert shown("davy_outcomes_total") == {("v2", "s3")}
    assert shown("davy_labels_joined_total") == {("v2", None)}
    assert {labels[0] for _, labels in parts.ledger.counters()} == {"m"}
    assert ("labels_joined", ("m", "v1")) not in parts.ledger.counters()


def test_an_id_is_not_kept_as_it_is(parts, answers, label):
    answers(0.9)
    label("a-person@example.org", 1)
    dump = "\n".join(parts.ledger.connection.iterdump())
    assert "0-0" not in dump
    assert "example" not in dump
