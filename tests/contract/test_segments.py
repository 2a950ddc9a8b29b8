"""Segments as a scrape sees them: whole bodies, bodies in parts, gRPC; answers and refusals."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from davy.protocol import open_inference_pb2 as messages
from davy.protocol.grpc_codec import encode_request
from davy.protocol.v2 import decode_request

pytestmark = pytest.mark.xdist_group("predictor-segments")

INFER = "/v2/models/tiny/infer"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SEGMENTS = {"country": ["de", "at"], "channel": ["2"]}


@pytest.fixture
def server(predictor: ModuleType, tiny: ModuleType, tmp_path: Path) -> Iterator[Any]:
    package = tiny.write_tiny_package(tmp_path / "package")
    port = predictor.free_port()
    settings = {
        "grpc_host": "127.0.0.1",
        "grpc_port": str(port),
        "segments": json.dumps(SEGMENTS),
    }
    with predictor.predictor_server(package.path, tmp_path / "server", settings) as running:
        yield running.url, f"127.0.0.1:{port}"


def body(country: str, channel: list[int], kind: Any = 1) -> bytes:
    columns = {
        "kind": ("INT64", [kind]),
        "amount": ("FP32", [50.0]),
        "visits": ("FP32", [1.0]),
        "channel": ("INT64", channel),
    }
    rows = len(channel)
    inputs = [
        {"name": name, "datatype": datatype, "shape": [rows], "data": (values * rows)[:rows]}
        for name, (datatype, values) in columns.items()
    ]
    return json.dumps({"parameters": {"country": country}, "inputs": inputs}).encode()


def counted(url: str, metric: str) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"{url}/metrics").text
    return {
        (sample.labels["country"], sample.labels["channel"], sample.labels.get("outcome", "")): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and sample.value
    }


def test_every_way_in_is_counted_where_it_belongs(server: Any) -> None:
    url, address = server

    def in_parts(content: bytes) -> Iterator[bytes]:
        yield content[:50]
        yield content[50:]

    with httpx.Client(base_url=url, headers={"content-type": "application/json"}) as client:
        for _ in range(3):
            assert client.post(INFER, content=body("de", [2])).status_code == 200
        parts = client.post(INFER, content=in_parts(body("at", [2])))
        assert parts.status_code == 200
        assert client.post(INFER, content=body("fr", [2, 1])).status_code == 200
        assert client.post(INFER, content=body("at", [1], kind=0.5)).status_code == 400
        nothing = json.loads(body("de", [1])) | {"outputs": [{"name": "nothing"}]}
        assert client.post(INFER, json=nothing).status_code == 400
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        call(encode_request(decode_request(body("de", [2])), "tiny", raw=True), timeout=10)
    assert counted(url, "davy_requests_total") == {
        ("de", "2", "ok"): 4,
        ("at", "2", "ok"): 1,
        ("other", "other", "ok"): 1,
        ("de", "other", "client_error"): 1,
        # What cannot be read says no country.
        ("other", "other", "client_error"): 1,
    }
    assert counted(url, "davy_request_seconds_count") == {
        ("de", "2", ""): 4,
        ("at", "2", ""): 1,
        ("other", "other", ""): 1,
    }
