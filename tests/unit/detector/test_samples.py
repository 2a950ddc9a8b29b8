from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.detector.samples import pick_row, read_sample
from davy.predictor.payload import sampled
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    InferRequest,
    InferResponse,
    encode_request,
    encode_response,
)


def event(kind, encoded, *, event_id="r1", version="v1"):
    return PayloadEvent(
        id=event_id,
        type=kind,
        source="/s",
        time=datetime(2017, 1, 1, tzinfo=UTC),
        service="m",
        namespace="n",
        version=version,
        sample_rate=0.1,
        body=encoded.body,
        header_length=encoded.header_length,
    )


def request(binary, rows=100):
    return encode_request(
        InferRequest(
            inputs=(
                tensor("price", np.arange(rows, dtype=np.float32)),
                tensor("department", np.arange(rows, dtype=np.int64)),
                tensor("name", np.array([b"x"] * rows, dtype=object)),
                tensor("matrix", np.zeros((rows, 2), np.float32)),
            )
        ),
        binary=binary,
    )


@pytest.mark.parametrize("binary", [True, False])
def test_request_and_response_give_the_same_row(binary):
    asked = read_sample(event(REQUEST, request(binary)))
    scores = InferResponse("m", "v9", (tensor("score", np.arange(100, dtype=np.float32)),))
    answered = read_sample(event(RESPONSE, encode_response(scores, binary=["score"])))
    row = pick_row("r1", 100)
    assert asked.values == {"price": row, "department": row}
    assert isinstance(asked.values["department"], int)
    assert answered.values == {"score": row}
    assert (asked.kind, answered.kind) == ("request", "response")


def test_a_response_names_its_version_where_the_event_does_not():
    body = encode_response(InferResponse("m", "v9", (tensor("score", np.ones(1)),)))
    assert read_sample(event(RESPONSE, body, version="")).version == "v9"
    assert read_sample(event(RESPONSE, body, version="v1")).version == "v1"


def test_rows_are_picked_evenly_even_among_the_requests_that_a_source_samples():
    names = [f"request-{number}" for number in range(40_000)]
    counts = Counter(pick_row(name, 10) for name in names if sampled(name, 0.1))
    assert set(counts) == set(range(10))
    expected = sum(counts.values()) / 10
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 27.9  # 0.1 % of chi2(9)


def test_a_nan_stays_one():
    body = encode_request(InferRequest((tensor("price", np.array([np.nan], np.float32)),)))
    assert np.isnan(read_sample(event(REQUEST, body)).values["price"])


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (REQUEST, b"{", r"event 'r1', body.*not JSON"),
        (REQUEST, b'{"inputs": []}', r"event 'r1', inputs"),
        (RESPONSE, b'{"outputs": []}', r"event 'r1'.*no rows"),
        (RESPONSE, b'{"error": "x"}', r"event 'r1', outputs"),
    ],
)
def test_a_body_that_is_no_inference_is_refused_and_named(kind, body, message):
    class Encoded:
        header_length = None

    Encoded.body = body
    with pytest.raises(InvalidInputError, match=message):
        read_sample(event(kind, Encoded))
