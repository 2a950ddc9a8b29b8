from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.core.errors import InvalidInputError
from davy.protocol.events import (
    BATCH_CONTENT_TYPE,
    REQUEST,
    RESPONSE,
    PayloadEvent,
    decode_batch,
    decode_event,
    encode_batch,
    encode_event,
)

EVENT = PayloadEvent(
    id="7f1",
    type=REQUEST,
    source="/davy/predictor/next-basket",
    time=datetime(2017, 12, 4, 8, 30, 0, 123456, tzinfo=UTC),
    service="next-basket",
    namespace="shop",
    version="2017.12.01-0a1b2c3d",
    sample_rate=0.25,
    body=b'{"inputs":[]}',
)

EVENTS = st.builds(
    PayloadEvent,
    id=st.text(min_size=1, max_size=20),
    type=st.sampled_from([REQUEST, RESPONSE]),
    source=st.text(min_size=1, max_size=20),
    time=st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-7)))),
    service=st.text(max_size=10),
    namespace=st.text(max_size=10),
    version=st.text(max_size=10),
    sample_rate=st.floats(0, 1, exclude_min=True),
    body=st.binary(max_size=50),
    header_length=st.none() | st.integers(0, 50),
)


@given(EVENTS)
def test_one_event_round_trips_through_headers(event: PayloadEvent) -> None:
    headers, body = encode_event(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert decode_event(headers, body) == event


@given(st.lists(EVENTS, max_size=4))
def test_many_events_round_trip_in_a_batch(events: list[PayloadEvent]) -> None:
    assert decode_batch(encode_batch(events)) == events


def test_headers_are_those_of_the_contract() -> None:
    headers, _ = encode_event(replace(EVENT, header_length=12))
    assert headers == {
        "content-type": "application/octet-stream",
        "ce-specversion": "1.0",
        "ce-id": "7f1",
        "ce-type": "org.kubeflow.serving.inference.request",
        "ce-source": "/davy/predictor/next-basket",
        "ce-time": "2017-12-04T08:30:00.123456+00:00",
        "ce-inferenceservicename": "next-basket",
        "ce-namespace": "shop",
        "ce-davyversion": "2017.12.01-0a1b2c3d",
        "ce-davysamplerate": "0.25",
        "ce-davyheaderlength": "12",
    }
    assert BATCH_CONTENT_TYPE == "application/cloudevents-batch+json"


def test_an_event_of_another_logger_needs_no_extension_of_ours() -> None:
    headers = {
        "CE-Specversion": "1.0",
        "CE-Id": "1",
        "CE-Type": RESPONSE,
        "CE-Source": "http://localhost:9081/",
        "CE-Time": "2017-12-04T08:30:00.123456789Z",
        "Inference-Header-Content-Length": "3",
    }
    event = decode_event(headers, b"{}")
    assert (event.version, event.sample_rate, event.service) == ("", 1.0, "")
    assert event.header_length == 3
    assert event.time == EVENT.time


def test_a_missing_time_is_that_of_receiving() -> None:
    headers, body = encode_event(EVENT)
    del headers["ce-time"]
    with pytest.raises(InvalidInputError, match="ce-time"):
        decode_event(headers, body)
    assert decode_event(headers, body, received=EVENT.time) == EVENT


def test_a_batch_may_hold_json_data() -> None:
    [item] = orjson.loads(encode_batch([EVENT]))
    del item["data_base64"]
    item["data"] = {"inputs": []}
    assert decode_batch(orjson.dumps([item])) == [EVENT]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce-specversion", "0.3"),
        ("ce-specversion", None),
        ("ce-id", None),
        ("ce-id", ""),
        ("ce-source", None),
        ("ce-type", "org.kubeflow.serving.inference.feedback"),
        ("ce-time", "2017-12-04T08:30:00"),
        ("ce-time", "yesterday"),
        ("ce-davysamplerate", "0"),
        ("ce-davysamplerate", "1.1"),
        ("ce-davysamplerate", "nan"),
        ("ce-davysamplerate", "all"),
        ("ce-davyheaderlength", "-1"),
        ("ce-davyheaderlength", "1_0"),
        ("ce-davyheaderlength", "1.0"),
    ],
)
def test_a_malformed_attribute_is_named(header: str, value: str | None) -> None:
    headers, body = encode_event(replace(EVENT, header_length=5))
    if value is None:
        del headers[header]
    else:
        headers[header] = value
    with pytest.raises(InvalidInputError, match=header):
        decode_event(headers, body)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"id": 3}, "batch[1].id"),
        ({"data_base64": "*"}, "batch[1].data_base64"),
        ({"data_base64": 1}, "batch[1].data_base64"),
        ({"time": None}, "batch[1].time"),
        ({"davysamplerate": None}, "batch[1].davysamplerate"),
        ({"davyheaderlength": True}, "batch[1].davyheaderlength"),
        ({"namespace": 1}, "batch[1].namespace"),
    ],
)
def test_a_batch_names_the_event_that_is_malformed(change: dict[str, Any], where: str) -> None:
    good, bad = orjson.loads(encode_batch([EVENT, EVENT]))
    with pytest.raises(InvalidInputError) as caught:
        decode_batch(orjson.dumps([good, {**bad, **change}]))
    assert str(caught.value).startswith(where)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[[]]", b"\xff"])
def test_what_is_no_batch_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidInputError, match="batch"):
        decode_batch(body)
