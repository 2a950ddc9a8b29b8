"""Whatever is posted is counted or refused with a reason, and what comes behind it is counted."""

import asyncio
import itertools

import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tests.unit.detector.conftest import START, StandInPackages

from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError
from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.metrics import EVENTS, DetectorMetrics
from davy.detector.records import Record, read_events, with_samples
from davy.detector.settings import DetectorSettings
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent, encode_batch
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse, encode_request, encode_response

NAMES = st.sampled_from(
    [
        "",
        "price",
        "department",
        "score",
        "output_score",
        "davy_row",
        "davy_time",
        "a b",
        "é",
        "x" * 300,
    ]
)
VALUES = st.sampled_from([0.0, 1.5, float("nan"), float("inf"), -1e308, 2.0**63])


@st.composite
def tensors(draw):
    """Return tensors of odd names, shapes and types."""
    rows = draw(st.integers(1, 3))
    found = []
    for name in draw(st.lists(NAMES, max_size=4)):
        shape = draw(
            st.sampled_from([(rows,), (rows, 1), (rows, 2), (1,), (rows + 1,), (rows, 2, 2)])
        )
        count = int(np.prod(shape))
        kind = draw(st.sampled_from(["f4", "f8", "i8", "u8", "?", "object"]))
        if kind == "object":
            data = np.array([b"\xff\x00"] * count, object).reshape(shape)
        else:
            with np.errstate(all="ignore"):
                data = np.full(shape, draw(VALUES)).astype(kind)
        found.append(tensor(name, data))
    if draw(st.booleans()):
        found.append(tensor("price", np.zeros(rows, np.float32)))
        found.append(tensor("department", np.zeros(rows, np.int64)))
    return tuple(found)


class Detector:
    """A whole detector, without the server."""

    def __init__(self, folder):
        self.folder = folder
        kept = DetectorSettings(
            store=folder, engine="native", state=folder / "state", archive=str(folder / "archive")
        )
        registry = CollectorRegistry()
        self.parts = assemble(
            kept, StandInPackages(), DetectorMetrics(registry), ManualClock(START)
        )
        self.place = itertools.count(0, 1000)
        self.number = itertools.count()

    def post(self, asked, answered):
        name = f"r{next(self.number)}"
        events = [
            PayloadEvent(name, kind, "/s", START, "m", "", "v1", 1.0, one.body, one.header_length)
            for kind, one in ((REQUEST, asked), (RESPONSE, answered))
        ]
        record = Record("batch", START, encode_batch(events))
        told = with_samples(read_events(record))
        place = next(self.place)
        asyncio.run(self.parts.consumer.apply([Entry(place, place + 1000, told)]))

    def counted(self):
        return self.parts.ledger.counters().get((EVENTS, ("m", "v1", "request")), 0)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    found = Detector(tmp_path_factory.mktemp("detector"))
    yield found
    found.parts.close()


@given(asked=tensors(), answered=tensors(), binary=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_tensors_whatever_stop_the_detector(detector, asked, answered, binary):
    outputs = [one.name for one in answered] if binary else ()
    try:
        bodies = (
            encode_request(InferRequest(asked), binary=binary),
            encode_response(InferResponse("m", "v1", answered), binary=outputs),
        )
    except (InvalidInputError, TypeError, ValueError):  # no V2 body says that
        return
    try:
        detector.post(*bodies)
    except InvalidInputError as refused:
        assert refused.what
    before = detector.counted()
    usual = (tensor("price", np.ones(2, np.float32)), tensor("department", np.ones(2, np.int64)))
    score = (tensor("score", np.ones(2, np.float32)),)
    detector.post(
        encode_request(InferRequest(usual), binary=True),
        encode_response(InferResponse("m", "v1", score), binary=["score"]),
    )
    assert detector.counted() == before + 1
    asyncio.run(detector.parts.archiver.flush())
    found = ds.dataset(detector.folder / "archive", partitioning="hive")
    last = f"r{next(detector.number) - 1}"
    assert found.count_rows(filter=ds.field("davy_request_id") == last) == 2
