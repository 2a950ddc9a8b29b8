import sqlite3
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from davy.core.errors import DavyError
from davy.detector.app import build_app
from davy.detector.assembly import assemble
from davy.detector.metrics import DetectorMetrics
from davy.protocol.events import (
    BATCH_CONTENT_TYPE,
    REQUEST,
    RESPONSE,
    PayloadEvent,
    encode_batch,
    encode_event,
)
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse, encode_request, encode_response

ROWS = 50


def exchange(number, shift=0.0, price=None):
    rng = np.random.default_rng(number)
    prices = rng.normal(shift, 1, 10) if price is None else np.full(10, price)
    asked = encode_request(
        InferRequest(
            (
                tensor("price", prices.astype(np.float32)),
                tensor("department", rng.integers(0, 3, 10)),
            )
        ),
        binary=True,
    )
    scores = (tensor("score", rng.random(10).astype(np.float32)),)
    answered = encode_response(InferResponse("m", "v1", scores), binary=["score"])
    return [
        PayloadEvent(
            id=f"r{number}",
            type=kind,
            source="/s",
            time=datetime(2017, 1, 1, tzinfo=UTC),
            service="m",
            namespace="",
            version="v1",
            sample_rate=1.0,
            body=encoded.body,
            header_length=encoded.header_length,
        )
        for kind, encoded in ((REQUEST, asked), (RESPONSE, answered))
    ]


@pytest.fixture
def client(parts, registry, settings, clock):
    with TestClient(build_app(parts, registry, settings, clock)) as client:
        yield client


def post_batch(client, events):
    headers = {"content-type": BATCH_CONTENT_TYPE}
    return client.post("/", content=encode_batch(events), headers=headers)


def wait(condition):
    deadline = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_batches_become_windows(client):
    for start in range(0, ROWS, 10):
        events = [event for n in range(start, start + 10) for event in exchange(n, shift=3)]
        assert post_batch(client, events).status_code == 202
    windows = wait(lambda: (client.get("/windows").json()["versions"] or [{}])[0].get("windows"))
    assert windows[0]["status"] == "drift"
    (found,) = client.get("/drift").json()["versions"]
    assert (found["version"], found["active"]) == ("v1", [])
    assert found["window"]["rows"] == ROWS
    drifted = {f["feature"] for f in found["features"] if f["status"] == "drift"}
    assert drifted == {s["feature"] for s in found["streaks"] if s["drifted"] == 1} == {"price"}
    families = {m.name: m for m in text_string_to_metric_families(client.get("/metrics").text)}
    assert families["davy_window_rows"].samples[0].value == ROWS
    assert families["davy_drift_active"].samples[0].labels["model"] == "m"


@pytest.mark.parametrize("other", [np.inf, 1.0, -np.inf, np.nan])
def test_an_upstream_that_divides_by_zero_is_shown(client, other):
    events = [e for n in range(ROWS) for e in exchange(n, price=other if n % 3 else np.inf)]
    assert post_batch(client, events).status_code == 202
    windows = wait(lambda: (client.get("/windows").json()["versions"] or [{}])[0].get("windows"))
    found = {(item["feature"], item["detector"]): item for item in windows[0]["features"]}
    values = found["price", "ks"]
    assert values["status"] in ("drift", "insufficient")
    assert values["comparisons"][2]["window"] == "inf"
    assert "inf" in values["examples"]
    if other == -np.inf:
        assert "-inf" in values["examples"]
    if np.isnan(other):
        assert None in values["examples"]


def test_a_version_without_a_window_has_no_drift_to_show(client):
    assert client.get("/drift").json() == {"versions": []}
    assert post_batch(client, exchange(1)).status_code == 202
    (found,) = wait(lambda: client.get("/drift").json()["versions"])
    assert (found["window"], found["features"], found["streaks"]) == (None, [], [])


def test_single_events_in_binary_mode_as_kserves_logger_sends_them(client):
    for event in exchange(1):
        headers, body = encode_event(event)
        assert client.post("/", content=body, headers=headers).status_code == 202
    wait(lambda: [v["rows"] for v in client.get("/windows").json()["versions"]] == [1])


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"{}", "specversion"),
        ({"content-type": BATCH_CONTENT_TYPE}, b"{", "batch: not JSON"),
        ({"content-type": BATCH_CONTENT_TYPE}, b"[{}]", r"batch[0].specversion"),
        (encode_event(exchange(1)[0])[0], b"{}", "event 'r1'"),
    ],
)
def test_a_malformed_event_is_a_400_that_names_what_is_wrong(client, headers, body, message):
    answer = client.post("/", content=body, headers=headers)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert client.get("/windows").json()["dropped"] == {"malformed": 1}


def test_of_a_batch_with_a_malformed_event_nothing_is_taken(client):
    events = exchange(1) + exchange(2)
    events[3] = PayloadEvent(
        **{**{k: getattr(events[3], k) for k in events[3].__slots__}, "body": b"x"}
    )
    assert post_batch(client, events).status_code == 400
    report = client.get("/windows").json()
    assert report["dropped"] == {"malformed": 4}
    assert report["versions"] == []


def test_a_structured_event_is_a_415_that_says_what_to_send(client):
    headers = {"content-type": "application/cloudevents+json"}
    answer = client.post("/", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert BATCH_CONTENT_TYPE in answer.json()["error"]


def test_a_body_too_large_is_a_413(parts, registry, settings, clock):
    small = settings.model_copy(update={"body_bytes": 100})
    with TestClient(build_app(parts, registry, small, clock)) as client:
        assert client.post("/", content=b"x" * 101).status_code == 413
        assert client.get("/windows").json()["dropped"] == {"too_large": 1}


def test_events_of_an_unknown_version_are_taken_and_dropped_with_the_reason(client):
    events = [
        PayloadEvent(**{**{k: getattr(e, k) for k in e.__slots__}, "version": "other"})
        for e in exchange(1)
    ]
    assert post_batch(client, events).status_code == 202
    wait(lambda: client.get("/windows").json()["dropped"] == {"unknown_version": 2})


def test_ready_once_the_engine_is_there(parts, registry, settings, clock):
    held = True

    def load_the_engine():
        while held:
            time.sleep(0.005)

    with TestClient(build_app(parts, registry, settings, clock, load_the_engine)) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        held = False
        wait(lambda: client.get("/health/ready").status_code == 200)


def test_never_ready_when_the_engine_cannot_be_loaded(parts, registry, settings, clock):
    def load_the_engine():
        raise DavyError("cannot be imported")

    with TestClient(build_app(parts, registry, settings, clock, load_the_engine)) as client:
        time.sleep(0.05)
        assert client.get("/health/ready").status_code == 503


def sample(client, name):
    """Return the values of a metric by its labels, as they are scraped."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [item for family in families for item in family.samples if item.name == name]
    return {tuple(sorted(item.labels.values())): item.value for item in found}


def test_labels_are_posted_and_joined(client):
    assert post_batch(client, exchange(1) + exchange(2)).status_code == 202
    body = b'{"request_id": "r1", "label": 1}\n{"request_id": "r2", "label": 0}\n'
    assert client.post("/labels", content=body).status_code == 202
    joined = "davy_labels_joined_total"
    assert wait(lambda: sample(client, joined) == {("m", "v1"): 2} and sample(client, joined))
    # A ranking of ten rows: the one label says whether what stood first was chosen.
    outcomes = sample(client, "davy_outcomes_total")
    assert sorted(outcomes.values()) == [1, 1]


def test_a_malformed_label_is_a_400_that_names_what_is_wrong(client):
    answer = client.post("/labels", content=b'[{"request_id": "r1"}]')
    assert answer.status_code == 400
    assert "labels[0].label" in answer.json()["error"]
    assert sample(client, "davy_labels_unused_total") == {("malformed",): 1}
    assert client.get("/windows").json()["dropped"] == {}


def test_without_room_everything_is_a_429_that_says_when_to_come_again(
    packages, registry, settings, clock
):
    few = settings.model_copy(update={"queue_events": 4})
    parts = assemble(few, packages, DetectorMetrics(registry), clock)

    def hold_the_consumer():
        time.sleep(0.5)

    with TestClient(build_app(parts, registry, few, clock, hold_the_consumer)) as client:
        first = exchange(1) + exchange(2)
        assert post_batch(client, first).status_code == 202
        answer = post_batch(client, exchange(3))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert client.get("/windows").json()["dropped"] == {"queue_full": 2}
        assert client.post("/labels", content=b'{"request_id": "a", "label": 1}').status_code == 429
        assert sample(client, "davy_labels_unused_total") == {("queue_full",): 1}
        # And then it is taken, once.
        wait(lambda: post_batch(client, exchange(3)).status_code == 202)
        wait(lambda: client.get("/windows").json()["versions"][0]["rows"] == 3)
    parts.close()


def test_a_detector_that_can_count_no_more_takes_nothing_and_is_not_alive(
    parts, registry, settings, clock
):
    def fail():
        raise sqlite3.OperationalError("disk I/O error")

    with TestClient(build_app(parts, registry, settings, clock)) as client:
        wait(lambda: client.get("/health/ready").status_code == 200)
        parts.ledger.before_commit(fail)
        assert post_batch(client, exchange(1)).status_code == 202
        wait(lambda: client.get("/health/live").status_code == 503)
        assert client.get("/health/ready").status_code == 503
        answer = post_batch(client, exchange(2))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/windows").json()["dropped"] == {"stopped": 2}
