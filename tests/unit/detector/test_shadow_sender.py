"""Copies of served requests, sent to a real candidate's data plane over a stand-in network."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tests.fixtures.logged_server import LoggedServer, logged
from tests.fixtures.tiny_package import OBJECTIVE_SECONDS, write_tiny_package

from davy.core.clock import ManualClock
from davy.detector.packages import FolderPackages
from davy.detector.parity import difference, distance
from davy.detector.settings import DetectorSettings
from davy.detector.shadow import QUEUE, Shadow, ShadowMetrics, begin_shadow
from davy.protocol.shadow import SHADOW_ID, TOLERANCES, ShadowTarget, ShadowTargets, write_targets
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    HEADER_LENGTH,
    InferRequest,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

START = datetime(2026, 1, 5, tzinfo=UTC)
URL = "http://candidate:3000"


class Network:
    """Carries requests to a candidate's real data plane, or fails as it is told to."""

    def __init__(self, server: LoggedServer, clock: ManualClock) -> None:
        self.server, self.clock = server, clock
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.fails: Exception | None = None
        self.status, self.takes = 200, 0.0
        self.body: bytes | None = None
        self.hold: threading.Event | None = None
        self.reached = threading.Event()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.reached.set()
        if self.hold is not None:
            assert self.hold.wait(20)
        self.clock.sleep(self.takes)
        self.addresses.append(str(request.url))
        if self.fails is not None:
            raise self.fails
        if self.status != 200:
            return httpx.Response(self.status, json={"error": "no"})
        if self.body is not None:
            return httpx.Response(200, content=self.body)
        length = request.headers.get(HEADER_LENGTH)
        asked = decode_request(request.content, None if length is None else int(length))
        self.ids.append(asked.id)
        answer = self.server.plane.infer(asked)
        binary = [item.name for item in answer.outputs] if length else []
        encoded = encode_response(replace(answer, id=asked.id), binary=binary)
        headers = {HEADER_LENGTH: str(encoded.header_length)} if binary else {}
        return httpx.Response(200, content=encoded.body, headers=headers)


class Place:
    """A stable server, a candidate, and a sender between them."""

    def __init__(self, folder: Path, weight: float = 0.03, **settings) -> None:
        self.clock = ManualClock(START)
        self.stable = LoggedServer(write_tiny_package(folder))
        # Another contract makes another version of the same weights.
        changes = {"task": "again"} if weight == 0.03 else {}
        self.candidate = LoggedServer(write_tiny_package(folder, weight=weight, **changes))
        self.network = Network(self.candidate, self.clock)
        self.registry = CollectorRegistry()
        self.path = folder / "shadow.json"
        self.settings = DetectorSettings(
            store=folder / "store", engine="native", shadow_targets=self.path, **settings
        )
        self.target = ShadowTarget(
            stable=self.stable.version, candidate=self.candidate.version, url=URL
        )
        self.shadow = Shadow(
            FolderPackages(self.settings),
            self.settings,
            ShadowMetrics(self.registry),
            self.clock,
            httpx.Client(transport=httpx.MockTransport(self.network)),
        )

    def name(self, *targets: ShadowTarget) -> None:
        write_targets(self.path, ShadowTargets(targets=list(targets)))
        self.shadow.refresh()

    def send(self, **request) -> None:
        self.shadow.send(self.target, self.stable.serve(**request))

    def count(self, name: str, **labels: str) -> float | None:
        whole = {
            "model": "tiny",
            "version": self.candidate.version,
            "namespace": "",
            "serving_kserve_io_inferenceservice": "",
            **labels,
        }
        return self.registry.get_sample_value(f"davy_shadow_{name}_total", whole)

    def skipped(self) -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "davy_shadow_skipped_total" and sample.value
        }

    def waiting(self) -> int:
        return self.shadow._aside.waiting


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_a_candidate_of_the_same_weights_answers_the_same(place: Place, binary: bool) -> None:
    place.send(binary=binary)
    assert place.count("requests", outcome="answered") == 1
    assert place.count("requests", outcome="failed") == 0
    assert place.count("slow") == 0
    assert [place.count("different", above=f"{t:g}") for t in TOLERANCES] == [0] * len(TOLERANCES)
    (sent,) = place.network.ids
    assert sent.startswith(SHADOW_ID)
    assert place.network.addresses == [f"{URL}/v2/models/tiny/infer"]


def test_each_tolerance_counts_what_lies_beyond_it(tmp_path: Path) -> None:
    place = Place(tmp_path, weight=0.04)
    pair = place.stable.serve()
    place.shadow.send(place.target, pair)
    own = place.candidate.plane.infer(decode_request(pair.request.body)).outputs
    apart = distance(own, decode_response(pair.response.body).outputs)
    assert 0.01 < apart < 0.2
    for limit in TOLERANCES:
        assert place.count("different", above=f"{limit:g}") == (1 if apart > limit else 0)


@pytest.mark.parametrize(
    "fails", [httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.RemoteProtocolError("?")]
)
def test_no_answer_is_a_failure(place: Place, fails: Exception) -> None:
    place.network.fails = fails
    place.send()
    assert place.count("requests", outcome="failed") == 1
    assert place.count("requests", outcome="answered") == 0


@pytest.mark.parametrize("status", [400, 500, 504])
def test_a_refusal_of_what_was_answered_is_a_failure(place: Place, status: int) -> None:
    place.network.status = status
    place.send()
    assert place.count("requests", outcome="failed") == 1


def test_an_answer_that_cannot_be_read_is_a_failure(place: Place) -> None:
    place.network.body = b"<html>Sign in</html>"
    place.send()
    assert place.count("requests", outcome="failed") == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fails": httpx.ConnectError("refused")}, "not_reached"),
        ({"fails": httpx.ConnectTimeout("nobody")}, "not_reached"),
        ({"status": 404}, "not_reached"),
        ({"status": 503}, "not_taken"),
        ({"status": 429}, "not_taken"),
    ],
)
def test_what_says_nothing_of_the_model_is_counted_apart(
    place: Place, fault: dict, reason: str
) -> None:
    for name, value in fault.items():
        setattr(place.network, name, value)
    place.send()
    assert place.skipped() == {reason: 1}
    assert place.count("requests", outcome="failed") is None


def test_another_version_at_that_address_is_no_evidence(place: Place) -> None:
    place.network.server = place.stable
    place.send()
    assert place.skipped() == {"other_version": 1}
    assert place.count("requests", outcome="answered") is None


def test_an_answer_after_the_objective_is_late(place: Place) -> None:
    place.network.takes = OBJECTIVE_SECONDS * 1.01
    place.send()
    assert place.count("slow") == 1
    place.network.takes = OBJECTIVE_SECONDS * 0.99
    place.send()
    assert place.count("slow") == 1
    assert place.count("requests", outcome="answered") == 2


def test_pseudonyms_are_not_sent(place: Place) -> None:
    hidden = tensor("kind", np.array([b"0" * 64], dtype=object))
    pair = place.stable.serve()
    answer = encode_response(decode_response(pair.response.body))
    request = encode_request(InferRequest((hidden,)))
    place.shadow.send(place.target, logged(place.stable.version, request, answer))
    assert place.skipped() == {"pseudonymised": 1}
    assert not place.network.addresses


def test_without_its_package_nothing_is_sent(place: Place) -> None:
    target = place.target.model_copy(update={"candidate": "2017.01.01-00000000"})
    place.shadow.send(target, place.stable.serve())
    assert place.skipped() == {"package_unreadable": 1}
    assert not place.network.addresses


def test_only_requests_of_the_stable_version_are_copied(place: Place) -> None:
    place.name(place.target)
    pair = place.stable.serve()
    place.shadow.on_pair(replace(pair, version="another"))
    assert place.waiting() == 0
    place.shadow.on_pair(pair)
    assert place.waiting() == 1


def test_a_candidate_that_serves_gets_nothing_more(place: Place) -> None:
    place.name(place.target)
    copy = place.candidate.serve(f"{SHADOW_ID}1")
    place.shadow.on_pair(copy)
    place.shadow.on_pair(place.stable.serve())
    assert place.waiting() == 1, "its own copies do not end it"
    place.shadow.on_pair(place.candidate.serve("a person's"))
    place.clock.sleep(60)
    place.shadow.on_pair(place.stable.serve())
    assert place.waiting() == 1
    # Taken out of the file and named again it is a candidate anew.
    place.name()
    place.name(place.target)
    place.shadow.on_pair(place.stable.serve())
    assert place.waiting() == 2


def test_a_file_that_cannot_be_read_ends_the_sending(place: Place) -> None:
    place.name(place.target)
    place.path.write_text('{"targets": [{"stable": "a"}]}')
    place.shadow.refresh()
    place.shadow.on_pair(place.stable.serve())
    assert place.waiting() == 0
    place.path.unlink()
    place.shadow.refresh()
    place.name(place.target)
    place.shadow.on_pair(place.stable.serve())
    assert place.waiting() == 1


def test_so_many_a_second_and_no_more(tmp_path: Path) -> None:
    place = Place(tmp_path, shadow_per_second=4)
    place.name(place.target)
    pair = place.stable.serve()
    for _ in range(200):
        place.shadow.on_pair(pair)
        place.clock.sleep(0.01)
    assert place.waiting() == 8


def test_a_candidate_that_hangs_costs_drops_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path, shadow_per_second=1000)
    place.network.hold = threading.Event()
    place.name(place.target)
    place.shadow.start()
    pair = place.stable.serve()
    place.shadow.on_pair(pair)
    assert place.network.reached.wait(20)
    began = time.monotonic()
    for _ in range(QUEUE + 5):
        place.clock.sleep(0.01)
        place.shadow.on_pair(pair)
    assert time.monotonic() - began < 1
    assert place.skipped() == {"queue_full": 5}
    # What waited is not sent any more once people are served.
    place.shadow.on_pair(place.candidate.serve("a person's"))
    place.network.hold.set()
    until = time.monotonic() + 20
    while place.waiting():
        assert time.monotonic() < until
        time.sleep(0.01)
    place.shadow.close(5)
    assert len(place.network.addresses) == 1


def test_without_a_file_nothing_is_started(tmp_path: Path) -> None:
    settings = DetectorSettings(store=tmp_path, engine="native")
    packages = FolderPackages(settings)
    assert begin_shadow(packages, settings, CollectorRegistry(), ManualClock(START)) is None
    named = settings.model_copy(update={"shadow_targets": tmp_path / "x.json"})
    shadow = begin_shadow(packages, named, CollectorRegistry(), ManualClock(START))
    assert shadow is not None
    shadow.close(5)


def test_whose_requests_they_were_is_in_the_labels(place: Place) -> None:
    pair = place.stable.serve()
    request = replace(pair.request, namespace="shop", service="next-basket")
    place.shadow.send(place.target, replace(pair, request=request))
    mine = {"namespace": "shop", "serving_kserve_io_inferenceservice": "next-basket"}
    assert place.count("requests", outcome="answered", **mine) == 1


NUMBERS = st.lists(
    st.floats(-1e3, 1e3, width=32) | st.sampled_from([float("nan"), float("inf")]),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.sampled_from(TOLERANCES))
def test_a_distance_and_a_difference_say_the_same(one, other, tolerance) -> None:
    a, b = ([tensor("x", np.array(values, np.float32))] for values in (one, other))
    assert (distance(a, b) > tolerance) == bool(difference(a, b, tolerance))
    assert distance(a, a) == 0


def test_the_file_is_plain_json(place: Place) -> None:
    place.name(place.target)
    (found,) = json.loads(place.path.read_text())["targets"]
    assert found == {
        "stable": place.stable.version, "candidate": place.candidate.version, "url": URL
    }  # fmt: skip
