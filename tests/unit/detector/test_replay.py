"""What a real predictor served, executed again: equal, corrupted, or not to be had."""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from tests.fixtures.logged_server import START, LoggedServer, logged
from tests.fixtures.tiny_package import contract, write_tiny_package

from davy.core.clock import ManualClock
from davy.core.errors import IntegrityError
from davy.detector.packages import FolderPackages
from davy.detector.pairing import Pair
from davy.detector.replay import Replayer, ReplayMetrics, Source, begin_replay
from davy.detector.settings import DetectorSettings
from davy.packaging.package import Package, write_package
from davy.predictor.pseudonymise import Pseudonymiser
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    InferRequest,
    decode_response,
    encode_request,
    encode_response,
)


def renamed(pair, name):
    return Pair(pair.version, replace(pair.request, id=name), replace(pair.response, id=name))


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return write_tiny_package(tmp_path)


@pytest.fixture
def server(package: Package) -> LoggedServer:
    return LoggedServer(package)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make(tmp_path, registry):
    """Return a function that makes a replayer; its thread is ended with the test."""
    made = []

    def replayer(models=None, clock=None, **settings):
        chosen = {"store": tmp_path / "store", "replay_share": 1.0, **settings}
        known = DetectorSettings(engine="native", **chosen)
        found = Replayer(
            models or FolderPackages(known),
            known,
            ReplayMetrics(registry),
            clock or ManualClock(START),
        )
        made.append(found)
        return found

    yield replayer
    for item in made:
        item.close(5)


def checks(registry, version, result, namespace="", service=""):
    labels = {"model": "tiny", "version": version, "result": result, "namespace": namespace}
    labels["serving_kserve_io_inferenceservice"] = service
    return registry.get_sample_value("davy_parity_checks_total", labels)


def skipped(registry):
    return {
        sample.labels["reason"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "davy_parity_skipped_total" and sample.value
    }


def check(replayer, pair):
    replayer.check(Source(pair.version), pair)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"visits": np.array([99, -3, np.nan], np.float32)},
        {"amount": np.array([1e-8], np.float32)},
        {"kind": np.arange(6)},
    ],
    ids=["plain", "clipped", "small", "many"],
)
def test_what_a_server_answered_is_what_its_package_says(make, server, registry, binary, columns):
    check(make(), server.serve(binary=binary, **columns))
    assert checks(registry, server.version, "same") == 1
    assert checks(registry, server.version, "different") == 0
    assert not skipped(registry)


def test_an_answer_from_other_weights_is_found(make, tmp_path, server, registry):
    other = LoggedServer(write_tiny_package(tmp_path / "other", weight=0.031))
    pair = other.serve()
    body = pair.response.body.replace(other.version.encode(), server.version.encode())
    check(
        make(),
        Pair(server.version, pair.request, replace(pair.response, body=body)),
    )
    assert checks(registry, server.version, "different") == 1
    assert checks(registry, server.version, "same") == 0


@pytest.mark.parametrize(("factor", "result"), [(1 + 2e-6, "same"), (1 + 1e-4, "different")])
def test_the_contracts_tolerance_decides(make, server, registry, factor, result):
    # The scores are below 1, where the tolerance of 1e-5 is absolute.
    check(make(), server.serve(factor=factor))
    assert checks(registry, server.version, result) == 1


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_another(make, server, registry, factor):
    check(make(), server.serve(factor=factor, binary=True))
    assert checks(registry, server.version, "different") == 1


def test_an_answer_with_other_outputs_or_rows_is_another(make, server, registry):
    replayer, pair = make(), server.serve()
    whole = decode_response(pair.response.body)
    score = whole.outputs[0]
    fewer = tensor("score", score.data[:1])
    for outputs in (
        (replace(score, name="other"),),
        (score, replace(score, name="more")),
        (fewer,),
    ):
        body = encode_response(replace(whole, outputs=outputs)).body
        check(replayer, Pair(pair.version, pair.request, replace(pair.response, body=body)))
    assert checks(registry, server.version, "different") == 3


def test_only_the_outputs_that_were_asked_for_are_compared(make, server, registry):
    check(make(), server.serve(outputs=["score"]))
    assert checks(registry, server.version, "same") == 1


def test_pseudonyms_are_not_replayed(make, tmp_path, server, registry):
    pair = server.serve()
    tensors = (
        *(tensor(name, np.ones(1, np.float32)) for name in ("amount", "visits")),
        tensor("kind", np.array([b"a", b"bb"], dtype=object)),
    )
    hidden = Pseudonymiser(frozenset({"kind"}), b"key").request(
        encode_request(InferRequest(tensors))
    )
    check(make(), logged(server.version, hidden, _encoded(pair.response)))
    assert skipped(registry) == {"pseudonymised": 1}
    assert checks(registry, server.version, "same") == 0


def _encoded(event):
    whole = decode_response(event.body, event.header_length)
    return encode_response(whole)


def test_inputs_that_the_contract_has_not_are_skipped(make, server, registry):
    pair = server.serve()
    other = encode_request(InferRequest((tensor("kind", np.zeros(1, np.int64)),)))
    check(make(), logged(server.version, other, _encoded(pair.response)))
    assert skipped(registry) == {"other_inputs": 1}


def test_a_request_that_the_model_cannot_execute_is_skipped(make, server, registry):
    pair = server.serve()
    names = {"kind": np.int64, "amount": np.float32, "visits": np.float32, "channel": np.int64}
    columns = {name: np.full(1, 1, kind) for name, kind in names.items()}
    columns["kind"] = np.array([10**6])
    inputs = tuple(tensor(name, values) for name, values in columns.items())
    request = encode_request(InferRequest(inputs))
    check(make(), logged(server.version, request, _encoded(pair.response)))
    assert skipped(registry) == {"not_executed": 1}


def test_an_answer_of_another_version_is_not_held_against_this_one(make, server, registry):
    pair = server.serve()
    whole = replace(decode_response(pair.response.body), model_version="elsewhere")
    body = encode_response(whole).body
    check(make(), Pair(pair.version, pair.request, replace(pair.response, body=body)))
    assert skipped(registry) == {"other_version": 1}


def test_a_package_that_is_not_there_is_counted_and_tried_again_later(
    make, tmp_path, server, registry
):
    clock = ManualClock(START)
    replayer = make(clock=clock, store=tmp_path / "empty", retry_seconds=30)
    pair = server.serve()
    check(replayer, pair)
    (tmp_path / "empty").symlink_to(tmp_path / "store")
    check(replayer, pair)
    assert skipped(registry) == {"unknown_version": 2}
    clock.sleep(31)
    check(replayer, pair)
    assert checks(registry, server.version, "same") == 1


def test_a_package_that_was_tampered_with_is_not_executed(make, package, server, registry):
    pair = server.serve()
    model = package.path / "model.onnx"
    model.write_bytes(model.read_bytes() + b" ")
    check(make(), pair)
    assert skipped(registry) == {"package_untrusted": 1}


def test_an_event_without_a_version_is_skipped(make, server, registry):
    pair = server.serve()
    check(make(), Pair("", pair.request, pair.response))
    assert skipped(registry) == {"no_version": 1}


class HangingModels:
    """A store whose packages take until they are let go, and then are damaged."""

    def __init__(self):
        self.go, self.asked = threading.Event(), threading.Event()

    def open_model(self, version):
        self.asked.set()
        assert self.go.wait(20)
        raise IntegrityError("sha256 does not match", where=version)


def test_a_model_that_hangs_costs_drops_and_nothing_else(make, server, registry):
    models = HangingModels()
    replayer = make(models, replay_queue=3)
    replayer.start()
    pair = server.serve()
    replayer.on_pair(pair)
    assert models.asked.wait(20)
    began = time.monotonic()
    for number in range(10):
        replayer.on_pair(renamed(pair, str(number)))
    assert time.monotonic() - began < 1
    assert skipped(registry) == {"queue_full": 7}
    models.go.set()
    eventually(lambda: skipped(registry).get("package_untrusted") == 4)


def test_bodies_that_wait_are_bounded_in_bytes(make, server, registry):
    models = HangingModels()
    pair = server.serve()
    size = len(pair.request.body) + len(pair.response.body)
    replayer = make(models, replay_queue_bytes=2 * size)
    replayer.start()
    replayer.on_pair(pair)
    assert models.asked.wait(20)
    for number in range(5):
        replayer.on_pair(renamed(pair, str(number)))
    assert skipped(registry) == {"queue_full": 3}
    models.go.set()


def test_the_thread_counts_what_was_put_in_and_ends(make, server, registry):
    replayer = make()
    replayer.start()
    for number in range(20):
        replayer.on_pair(renamed(server.serve(), str(number)))
    eventually(lambda: checks(registry, server.version, "same") == 20)
    replayer.close(5)
    assert not any(
        thread.name == "replay" and thread.is_alive() for thread in threading.enumerate()
    )
    replayer.on_pair(server.serve())
    assert checks(registry, server.version, "same") == 20


def test_a_share_is_taken_and_always_the_first_of_a_source(make, server, registry):
    replayer = make(replay_share=0.25, replay_queue=10_000)
    pair = server.serve()
    for number in range(2000):
        replayer.on_pair(renamed(pair, f"n{number}"))
    replayer.start()
    low, high = 2000 * 0.25 - 80, 2000 * 0.25 + 80
    eventually(lambda: checks(registry, server.version, "same") is not None)
    eventually(lambda: not replayer._aside.waiting)
    assert low < checks(registry, server.version, "same") < high


def test_counters_say_whose_requests_they_were(make, server, registry):
    pair = server.serve()
    request, response = (
        replace(event, namespace="shop", service="next-basket")
        for event in (pair.request, pair.response)
    )
    replayer = make(replay_share=0.0)
    replayer.start()
    replayer.on_pair(Pair(pair.version, request, response))
    mine = {"namespace": "shop", "service": "next-basket"}
    eventually(lambda: checks(registry, server.version, "same", **mine) == 1)
    assert checks(registry, server.version, "different", **mine) == 0


def test_services_beyond_the_bound_are_not_counted_apart(make, server, registry, monkeypatch):
    monkeypatch.setattr("davy.detector.replay.SERVICES", 2)
    replayer = make()
    pair = server.serve()
    for number in range(4):
        request = replace(pair.request, service=f"s{number}")
        replayer.on_pair(Pair(pair.version, request, pair.response))
    assert skipped(registry) == {"too_many_services": 2}


def test_open_models_are_bounded(make, tmp_path, registry):
    replayer = make(versions=1)
    pairs = [
        LoggedServer(write_tiny_package(tmp_path, weight=weight)).serve() for weight in (0.03, 0.05)
    ]
    for pair in (*pairs, *pairs):
        check(replayer, pair)
    for pair in pairs:
        assert checks(registry, pair.version, "same") == 2
    assert len(replayer._open) == 1


def test_texts_reach_the_model_as_texts_and_are_compared(make, tmp_path, registry):
    pair = serve_words(tmp_path, [b"a", "\u00fc".encode()])
    replayer = make()
    check(replayer, pair)
    assert checks(registry, pair.version, "same") == 1
    body = pair.response.body.replace(b'"a"', b'"b"')
    assert body != pair.response.body
    check(replayer, Pair(pair.version, pair.request, replace(pair.response, body=body)))
    assert checks(registry, pair.version, "different") == 1


def serve_words(folder, words):
    """Serve a model that answers the words it is given."""
    text = onnx.helper.make_tensor_value_info("word", onnx.TensorProto.STRING, ["rows"])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.STRING, ["rows"])
    node = onnx.helper.make_node("Identity", ["word"], ["same"])
    graph = onnx.helper.make_graph([node], "words", [text], [same])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "m.onnx")
    reference = folder / "reference.parquet"
    pq.write_table(pa.table({"word": ["a"]}), reference)
    fields = contract(
        inputs=[{"name": "word", "datatype": "BYTES"}],
        outputs=[{"name": "same", "datatype": "BYTES"}],
    )
    files = {"model.onnx": folder / "m.onnx", "reference.parquet": reference}
    package = write_package(folder / "store", fields, files, private_key=None)
    request = InferRequest((tensor("word", np.array(words, dtype=object)),), "r1")
    answer = LoggedServer(package).plane.infer(request)
    return logged(package.contract.version, encode_request(request), encode_response(answer))


def begun(tmp_path, share):
    settings = DetectorSettings(store=tmp_path, engine="native", replay_share=share)
    return begin_replay(FolderPackages(settings), settings, CollectorRegistry(), ManualClock(START))


def test_a_share_of_nothing_starts_nothing(tmp_path):
    assert begun(tmp_path, 0) is None
    replayer = begun(tmp_path, 0.1)
    assert replayer is not None
    replayer.close(5)


def test_without_the_runtime_the_detector_goes_on_without_a_replay(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert begun(tmp_path, 0.1) is None


def eventually(told, seconds=20):
    until = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.01)
