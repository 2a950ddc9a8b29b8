"""Bad input against a running predictor: always 4xx with the place, while others are served."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from davy.packaging.package import Package, write_package
from davy.protocol.tensors import DTYPES, tensor
from davy.protocol.v2 import Encoded, InferRequest, encode_request

pytestmark = pytest.mark.xdist_group("bad input")

ROWS = 3
INFER = "/v2/models/wide/infer"
EXPLAIN = "/v2/models/wide/explain"
LENGTH = "Inference-Header-Content-Length"
MOST_BYTES = 200_000

INPUTS = [
    {"name": "amount", "datatype": "FP32", "range": {"low": 0, "high": 100}, "policy": "reject"},
    {"name": "vector", "datatype": "FP64", "shape": [-1, 2], "missing": "reject"},
    {"name": "count", "datatype": "INT16", "missing": "reject"},
    {"name": "flag", "datatype": "BOOL"},
    {"name": "word", "datatype": "BYTES", "policy": "flag"},
]


def columns(rows: int = ROWS) -> dict[str, np.ndarray]:
    words = np.empty(rows, dtype=object)
    words.fill("wört".encode())
    return {
        "amount": np.full(rows, 5, np.float32),
        "vector": np.ones((rows, 2)),
        "count": np.full(rows, -3, np.int16),
        "flag": np.full(rows, fill_value=True),
        "word": words,
    }


def write_wide_onnx(path: Path) -> Path:
    """Write a model with an input of every kind: numbers, several a row, truth, text."""
    kinds = {"amount": TensorProto.FLOAT, "vector": TensorProto.DOUBLE, "count": TensorProto.INT16}
    kinds |= {"flag": TensorProto.BOOL, "word": TensorProto.STRING}
    inputs = [
        helper.make_tensor_value_info(n, k, ["rows", 2] if n == "vector" else ["rows"])
        for n, k in kinds.items()
    ]
    to_float = {"to": TensorProto.FLOAT}
    nodes = [
        helper.make_node("ReduceSum", ["vector", "axis"], ["wide"], keepdims=0),
        helper.make_node("Cast", ["wide"], ["a"], **to_float),
        helper.make_node("Cast", ["count"], ["b"], **to_float),
        helper.make_node("Cast", ["flag"], ["c"], **to_float),
        helper.make_node(
            "LabelEncoder",
            ["word"],
            ["d"],
            domain="ai.onnx.ml",
            keys_strings=["x"],
            values_floats=[1.0],
            default_float=0.5,
        ),
        helper.make_node("Sum", ["amount", "a", "b", "c", "d"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph(nodes, "wide", inputs, [output], [axis])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def package(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("wide")
    reference = {name: list(data) for name, data in columns(20).items()}
    pq.write_table(pa.table(reference), folder / "reference.parquet")
    files = {
        "model.onnx": write_wide_onnx(folder / "model.onnx"),
        "reference.parquet": folder / "reference.parquet",
    }
    contract = tiny.contract(name="wide", inputs=INPUTS)
    return write_package(folder / "store", contract, files, private_key=None)


@pytest.fixture(scope="module")
def url(
    predictor: ModuleType, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    limits = {"max_body_bytes": str(MOST_BYTES), "explain_seconds": "0.05"}
    with predictor.predictor_server(
        package.path, tmp_path_factory.mktemp("server"), limits
    ) as running:
        yield running.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as connection:
        yield connection


@pytest.fixture(scope="module")
def bystander(url: str) -> Iterator[list[int]]:
    """Send good requests all the while, and say how they are answered."""
    stopped = threading.Event()
    statuses: list[int] = []

    def go() -> None:
        with httpx.Client(base_url=url, timeout=10) as connection:
            while not stopped.wait(0.005):
                statuses.append(connection.post(INFER, content=good()).status_code)

    thread = threading.Thread(target=go)
    thread.start()
    yield statuses
    stopped.set()
    thread.join(20)


@pytest.fixture(autouse=True)
def others_are_served(bystander: list[int]) -> Iterator[None]:
    """Whatever a test sends, good requests are answered before and after it."""
    yield
    before = len(bystander)
    deadline = time.monotonic() + 10
    while len(bystander) < before + 2:
        assert time.monotonic() < deadline, "a good request is not answered"
        time.sleep(0.002)
    assert set(bystander) == {200}


def request(**changes: np.ndarray) -> InferRequest:
    return InferRequest(tuple(tensor(n, d) for n, d in (columns() | changes).items()))


def good() -> bytes:
    return encode_request(request()).body


def binary() -> Encoded:
    return encode_request(request(), binary=True)


def document(**changes: Any) -> dict[str, Any]:
    """Return the good request as JSON; `changes` replace fields of its inputs by name."""
    body: dict[str, Any] = json.loads(good())
    for item in body["inputs"]:
        item.update(changes.get(item["name"], {}))
    return body


def post(client: httpx.Client, body: bytes, path: str = INFER, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers=sent)


def refused(answer: httpx.Response, status: int, place: str) -> None:
    assert answer.status_code == status, answer.text
    assert place in answer.json()["error"]


def with_size(name: str, size: Any) -> tuple[bytes, str]:
    """Return the binary request with a lie about one tensor's bytes."""
    body, length = binary()
    assert length is not None
    header = json.loads(body[:length])
    for item in header["inputs"]:
        if item["name"] == name:
            item["parameters"]["binary_data_size"] = size
    text = json.dumps(header).encode()
    return text + body[length:], str(len(text))


def test_good_requests_are_answered(client: httpx.Client) -> None:
    assert post(client, good()).status_code == 200
    body, length = binary()
    assert post(client, body, **{LENGTH: str(length)}).status_code == 200
    assert post(client, good(), EXPLAIN).status_code == 200


MALFORMED = {
    "nothing": b"",
    "half": good()[: len(good()) // 2],
    "a letter": b"x",
    "trailing garbage": good() + b"garbage",
    "two documents": good() + good(),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "not UTF-8": b'{"inputs": "\xff"}',
    "UTF-16": good().decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + good(),
    "deep": b"[" * 100_000,
    "deep with NaN": b'{"a":' * 20_000 + b"NaN" + b"}" * 20_000,
    "long number": b'{"inputs": [' + b"9" * 100_000 + b"], NaN}",
    "NUL": b"\0" * 100,
}


@pytest.mark.parametrize("path", [INFER, EXPLAIN])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json(client: httpx.Client, name: str, path: str) -> None:
    refused(post(client, MALFORMED[name], path), 400, "body: ")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"inputs": None}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "inputs[0]"),
        ({"inputs": [{}]}, "inputs[0]"),
        ({"inputs": [{"name": "\ud800"}]}, "body: "),
        ({"id": 7}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"parameters": 1}, "parameters"),
        ({"outputs": {}}, "outputs"),
        ({"outputs": ["score"]}, "outputs[0]"),
        ({"outputs": [{"name": "nothing"}]}, "output 'nothing'"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "outputs"),
        ({"outputs": [{"name": "score", "parameters": {"binary_data": 1}}]}, "outputs[0] 'score'"),
    ],
)
def test_wrong_documents(client: httpx.Client, changes: dict[str, Any], place: str) -> None:
    refused(post(client, json.dumps(document() | changes).encode()), 400, place)


@pytest.mark.parametrize(
    ("name", "change", "place"),
    [
        ("amount", {"name": "amuont"}, "input 'amount': is missing"),
        ("vector", {"name": "amount"}, "inputs[1] 'amount': is given twice"),
        ("count", {"datatype": "INT99"}, "inputs[2] 'count' datatype"),
        ("count", {"datatype": "INT32"}, "input 'count': datatype must be INT16"),
        ("count", {"datatype": None}, "datatype"),
        ("count", {"data": [1, 2, 40_000]}, "inputs[2] 'count': has a value outside INT16"),
        ("count", {"data": [1, 2, 2.5]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2, None]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2, "3"]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2, True]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2, 10**30]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2, [3]]}, "inputs[2] 'count'"),
        ("count", {"data": [1, 2]}, "needs 3 elements but data has 2"),
        ("count", {"data": 1}, "inputs[2] 'count': has no 'data' list"),
        ("count", {"data": None}, "inputs[2] 'count': has no 'data' list"),
        ("count", {"shape": [-1]}, "inputs[2] 'count' shape"),
        ("count", {"shape": [3.0]}, "inputs[2] 'count' shape"),
        ("count", {"shape": "3"}, "inputs[2] 'count' shape"),
        ("count", {"shape": [1] * 17}, "inputs[2] 'count' shape"),
        ("count", {"shape": [3, 1]}, "input 'count': shape must be [-1]"),
        ("count", {"shape": []}, "inputs[2] 'count'"),
        ("count", {"shape": [2**31]}, "needs 2147483648 elements"),
        ("count", {"shape": [2**63]}, "inputs[2] 'count'"),
        ("count", {"shape": [2**40, 2**40]}, "inputs[2] 'count'"),
        ("count", {"shape": [0, 2**62, 2**62], "data": []}, "inputs[2] 'count' shape"),
        ("count", {"shape": [2], "data": [1, 2]}, "input 'count': has 2 rows but"),
        ("count", {"shape": [3], "parameters": [1]}, "inputs[2] 'count' parameters"),
        ("flag", {"data": [1, 0, 1]}, "inputs[3] 'flag'"),
        ("vector", {"data": [[1, 2], [3, 4], [5]]}, "inputs[1] 'vector'"),
        ("vector", {"data": [[1, 2], [3, 4], [5, None]]}, "input 'vector' row 2"),
        ("amount", {"data": [1, None, 1]}, "input 'amount' row 1"),
        ("amount", {"data": [1, 2, 101]}, "input 'amount' row 2"),
        ("amount", {"data": [1, 2, 1e39]}, "inputs[0] 'amount'"),
        ("word", {"data": ["a", "b", 1]}, "inputs[4] 'word'"),
        ("word", {"data": ["a", "b", "\udcff"]}, "body: "),
        ("word", {"name": "w" * 100_000}, "input 'word': is missing"),
    ],
)
def test_wrong_tensors(client: httpx.Client, name: str, change: dict[str, Any], place: str) -> None:
    body = json.dumps(document(**{name: change})).encode()
    refused(post(client, body), 400, place)
    refused(post(client, body, EXPLAIN), 400, place)


def test_numbers_that_are_none(client: httpx.Client) -> None:
    for literal in ("NaN", "Infinity", "-Infinity"):
        body = json.dumps(document(amount={"data": [1, 2, "here"]})).replace('"here"', literal)
        refused(post(client, body.encode()), 400, "input 'amount' row 2")
    nan = encode_request(request(amount=np.array([1, np.nan, 2], np.float32)), binary=True)
    answer = post(client, nan.body, **{LENGTH: str(nan.header_length)})
    refused(answer, 400, "input 'amount' row 1")


def test_no_rows_at_all(client: httpx.Client) -> None:
    empty = {name: {"shape": [0], "data": []} for name in columns()}
    empty["vector"]["shape"] = [0, 2]
    refused(post(client, json.dumps(document(**empty)).encode()), 400, "has no rows")


@pytest.mark.parametrize("length", ["0", "-1", "+5", "1e3", "", "0x10", "9" * 30, "200001", "ü"])
def test_header_lengths_that_are_none(client: httpx.Client, length: str) -> None:
    headers = {LENGTH: length.encode()}
    answer = client.post(INFER, content=binary().body, headers=headers)
    refused(answer, 400, "inference-header-content-length")


@pytest.mark.parametrize("off", [-100, -1, 1, 10, 60])
def test_header_lengths_that_cut_elsewhere(client: httpx.Client, off: int) -> None:
    body, length = binary()
    assert length is not None
    refused(post(client, body, **{LENGTH: str(length + off)}), 400, "body: ")


@pytest.mark.parametrize(
    ("name", "size", "place"),
    [
        ("amount", 11, "inputs[0] 'amount'"),
        ("amount", 13, "inputs[0] 'amount'"),
        # The next tensor's bytes, too: they overlap.
        ("amount", 12 + 48, "inputs[0] 'amount'"),
        ("amount", 0, "inputs[0] 'amount'"),
        ("amount", -4, "inputs[0] 'amount'"),
        ("amount", 2**31, "inputs[0] 'amount'"),
        ("amount", 2**70, "inputs[0] 'amount'"),
        ("amount", True, "inputs[0] 'amount'"),
        ("amount", 12.0, "inputs[0] 'amount'"),
        ("amount", "12", "inputs[0] 'amount'"),
        ("amount", None, "inputs[0] 'amount'"),
        ("word", 26, "inputs[4] 'word'"),
        ("word", 28, "inputs[4] 'word'"),
        ("word", 3, "inputs[4] 'word'"),
    ],
)
def test_binary_sizes_that_lie(client: httpx.Client, name: str, size: Any, place: str) -> None:
    body, length = with_size(name, size)
    refused(post(client, body, **{LENGTH: length}), 400, place)


@pytest.mark.parametrize("rows", [2**31, 2**62, 2**63, 2**70])
def test_binary_rows_that_nobody_sent(client: httpx.Client, rows: int) -> None:
    body, length = binary()
    assert length is not None
    header = json.loads(body[:length])
    for item in header["inputs"]:
        item["shape"][0] = rows
    # Alone, and with sizes that say the same: nothing of that size is ever reserved.
    for size in (None, rows * 4):
        if size is not None:
            header["inputs"][0]["parameters"]["binary_data_size"] = size
        text = json.dumps(header).encode()
        answer = post(client, text + body[length:], **{LENGTH: str(len(text))})
        refused(answer, 400, "inputs[0] 'amount'")


def test_binary_bytes_that_are_left_or_lacking(client: httpx.Client) -> None:
    body, length = binary()
    headers = {LENGTH: str(length)}
    refused(post(client, body + b"garbage", **headers), 400, "inputs")
    refused(post(client, body[:-1], **headers), 400, "inputs[4] 'word'")
    refused(post(client, body), 400, "body: ")


def test_binary_values_that_are_none(client: httpx.Client) -> None:
    body, length = binary()
    headers = {LENGTH: str(length)}
    flags = body.index(b"\x01\x01\x01", length)
    changed = body[:flags] + b"\x02" + body[flags + 1 :]
    refused(post(client, changed, **headers), 400, "inputs[3] 'flag'")
    words = body.index(b"\x05\0\0\0", length)
    changed = body[:words] + b"\xff\xff\xff\xff" + body[words + 4 :]
    refused(post(client, changed, **headers), 400, "inputs[4] 'word'")


@pytest.mark.parametrize("path", [INFER, EXPLAIN])
def test_text_that_is_not_utf_8(client: httpx.Client, path: str) -> None:
    word = np.array([b"a", b"\xff\xfe", b"c"], dtype=object)
    body, length = encode_request(request(word=word), binary=True)
    refused(post(client, body, path, **{LENGTH: str(length)}), 400, "input 'word' row 1")


@pytest.mark.parametrize(
    ("headers", "status", "place"),
    [
        ({"content-type": "text/csv"}, 415, "content-type"),
        ({"content-type": "multipart/form-data; boundary=x"}, 415, "content-type"),
        ({"content-type": "ü"}, 415, "content-type"),
        ({"content-encoding": "gzip"}, 415, "content-encoding"),
        ({"content-encoding": "br"}, 415, "content-encoding"),
        ({"content-encoding": "identity, gzip"}, 415, "content-encoding"),
        ({"davy-timeout-ms": "soon"}, 400, "davy-timeout-ms"),
        ({"davy-timeout-ms": "-1"}, 400, "davy-timeout-ms"),
        ({"davy-timeout-ms": "9" * 40}, 400, "davy-timeout-ms"),
    ],
)
def test_wrong_headers(
    client: httpx.Client, headers: dict[str, str], status: int, place: str
) -> None:
    raw = {name: value.encode() for name, value in headers.items()}
    refused(client.post(INFER, content=good(), headers=raw), status, place)


def test_a_gzip_bomb_is_not_opened(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < MOST_BYTES
    refused(post(client, bomb, content_encoding="gzip"), 415, "content-encoding")
    refused(post(client, bomb), 400, "body: ")


def test_too_large_is_said_before_it_is_read(client: httpx.Client) -> None:
    refused(post(client, b" " * (MOST_BYTES + 1)), 413, str(MOST_BYTES))

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * (MOST_BYTES // 4)

    refused(client.post(INFER, content=chunks()), 413, str(MOST_BYTES))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models/wide/versions/none/infer", 404),
        ("POST", "/v2/models/wide/versions/none/explain", 404),
        ("GET", "/v2/models/none/card", 404),
        ("POST", "/v2/models//infer", 404),
        ("POST", "/v2/models/%00/infer", 404),
        ("POST", "/v2/models/%ff%fe/infer", 404),
        ("POST", "/v2/models/..%2F..%2Fetc/infer", 404),
        ("GET", "/v2/" + "x" * 5000, 404),
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("PATCH", INFER, 405),
        ("POST", "/v2/health/ready", 405),
        ("POST", "/v2/models/wide/card", 405),
        ("POST", "/docs", 405),
    ],
)
def test_wrong_paths_and_methods(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, content=good() if method == "POST" else None)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_an_answer_is_no_larger_than_its_fault_needs(client: httpx.Client) -> None:
    name = "n" * 150_000
    body = json.dumps(document() | {"outputs": [{"name": name}]}).encode()
    answer = post(client, body)
    refused(answer, 400, "output 'nnn")
    assert len(answer.content) < 5000


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v2/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
    ],
)
def test_what_is_hardly_http_ends_with_its_connection(url: str, sent: bytes) -> None:
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 0), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert not answer or answer.startswith(b"HTTP/1.1 4")


def test_a_client_that_leaves_half_way_does_not_hold_up_the_end(
    predictor: ModuleType, package: Package, tmp_path: Path
) -> None:
    with predictor.predictor_server(package.path, tmp_path, {"drain_seconds": "0"}) as running:
        place = urlsplit(running.url)
        for body in (b"{", b""):
            with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
                head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
                connection.sendall(head.encode() + body)
        assert httpx.get(f"{running.url}/v2/health/live").status_code == 200
        running.terminate()
        running.process.wait(15)


def mutated() -> st.SearchStrategy[tuple[bytes, dict[str, str]]]:
    """Return good requests in either form, broken at random bytes or in random fields."""
    whole, length = binary()
    assert length is not None
    forms = st.sampled_from([(good(), {}), (whole, {LENGTH: str(length)})])
    edits = st.lists(
        st.tuples(st.integers(0, len(whole)), st.integers(0, 4), st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    )

    def break_bytes(
        form: tuple[bytes, dict[str, str]], edits: list[tuple[int, int, bytes]], off: int
    ) -> tuple[bytes, dict[str, str]]:
        body, headers = form
        for at, gone, new in edits:
            body = body[:at] + new + body[at + gone :]
        if headers and off:
            headers = {LENGTH: str(max(0, length + off))}
        return body, headers

    return st.builds(break_bytes, forms, edits, st.integers(-3, 3))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "data", "binary_data_size"]), inner, max_size=3)
    ),
    max_leaves=8,
)
fields = st.sampled_from(["name", "datatype", "shape", "data", "parameters"])
likely = st.one_of(
    values,
    st.sampled_from([*columns(), *DTYPES]),
    st.lists(st.integers(0, 2**33), max_size=4),
    st.dictionaries(st.just("binary_data_size"), st.integers(-1, 2**33), max_size=1),
)

bounded = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def never_our_fault(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 400, 413, 415), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]


@bounded
@given(sent=mutated(), explain=st.booleans())
def test_random_bytes(
    client: httpx.Client, sent: tuple[bytes, dict[str, str]], explain: bool
) -> None:
    body, headers = sent
    never_our_fault(post(client, body, EXPLAIN if explain else INFER, **headers))


@bounded
@given(
    changes=st.lists(st.tuples(st.sampled_from(list(columns())), fields, likely), max_size=4),
    top=st.dictionaries(
        st.sampled_from(["id", "parameters", "outputs", "inputs"]), values, max_size=1
    ),
)
def test_random_fields(
    client: httpx.Client, changes: list[tuple[str, str, Any]], top: dict[str, Any]
) -> None:
    body = document()
    for name, field, value in changes:
        for item in body["inputs"]:
            if item.get("name") == name:
                item[field] = value
    never_our_fault(post(client, json.dumps(body | top).encode()))


def test_every_described_operation(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 13
    for operation in operations:
        send_all_sorts(operation)


def send_all_sorts(operation: Any) -> None:
    """Send requests that fit what is described and that do not; the answers must be described."""
    modes = list(schemathesis.GenerationMode)
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: schemathesis.Case) -> None:
        # What fits the schema may still break the contract of the model, or name a model that is
        # not there; a deadline of nothing is missed, as is said.
        excluded = [positive_data_acceptance]
        if case.headers and case.headers.get("davy-timeout-ms"):
            excluded.append(not_a_server_error)
        case.call_and_validate(excluded_checks=excluded)

    send()


def test_every_described_operation_of_the_repository(
    predictor: ModuleType, package: Package, tmp_path: Path
) -> None:
    limits = {"repository_api": "true", "max_body_bytes": str(MOST_BYTES)}
    with predictor.predictor_server(package.path, tmp_path, limits) as running:
        schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        described = {found.ok().path: found.ok() for found in schema.get_all_operations()}
        operations = {
            path.rpartition("/")[2]: operation
            for path, operation in described.items()
            if path.startswith("/v2/repository/")
        }
        assert set(operations) == {"index", "load", "unload"}
        for operation in operations.values():
            send_all_sorts(operation)

        def done(name: str, **request: Any) -> Any:
            case = operations[name].Case(**request)
            answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
            return answer.status_code, answer.json()

        wide = {"path_parameters": {"name": "wide"}}
        version = package.contract.version
        entry = {"name": "wide", "version": version, "state": "READY"}
        assert done("index") == (200, [entry | {"reason": ""}])
        assert done("load", **wide, body={}, media_type="application/json") == (200, entry)
        folder = {"path": str(package.path)}
        assert done("load", **wide, body=folder, media_type="application/json") == (200, entry)
        elsewhere = {"path": str(tmp_path)}
        assert done("load", **wide, body=elsewhere, media_type="application/json")[0] == 400
        assert done("unload", **wide) == (200, {"name": "wide", "state": "UNAVAILABLE"})
        assert done("index") == (200, [])
        assert done("unload", **wide)[0] == 404
