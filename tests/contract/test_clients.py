"""The clients that people have, against a running predictor: Triton's, KServe's, and curl.

Triton's and KServe's run in processes of their own: see ``tests/fixtures/real_clients``.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from davy.packaging.package import Package

pytestmark = pytest.mark.xdist_group("predictor-clients")

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "tests/fixtures/real_clients"
COLUMNS = {
    "kind": ("INT64", [0, 3, 5]),
    "amount": ("FP32", [1.0, 50.5, 99.0]),
    "visits": ("FP32", [1.0, 2.0, 3.0]),
    "channel": ("INT64", [1, 2, 3]),
}


@pytest.fixture(scope="module")
def package(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny.write_tiny_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def server(
    predictor: ModuleType, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    port = predictor.free_port()
    settings = {"grpc_host": "127.0.0.1", "grpc_port": str(port)}
    folder = tmp_path_factory.mktemp("server")
    with predictor.predictor_server(package.path, folder, settings) as running:
        yield running.url, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def scores(tiny: ModuleType) -> np.ndarray:
    dtypes = {"INT64": np.int64, "FP32": np.float32}
    return tiny.expected_scores(
        {name: np.array(values, dtypes[datatype]) for name, (datatype, values) in COLUMNS.items()}
    )


def ask(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, CLIENTS / script, *arguments, "tiny", json.dumps(COLUMNS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_triton(answer: dict[str, Any], package: Package) -> None:
    assert answer["live"] is answer["ready"] is answer["model_ready"] is True
    assert answer["server"] == "davy"
    assert answer["inputs"] == {name: datatype for name, (datatype, _) in COLUMNS.items()}
    assert answer["versions"] == [package.contract.version]
    assert answer["version"] == package.contract.version
    assert answer["id"] == "triton"


def test_triton_over_grpc(server: Any, package: Package, scores: np.ndarray) -> None:
    answer = ask("triton_grpc.py", server[1])
    check_triton(answer, package)
    np.testing.assert_allclose(answer["scores"], scores, rtol=1e-6)
    assert answer["refused"] == "StatusCode.INVALID_ARGUMENT input 'kind': is missing"


def test_triton_over_http(server: Any, package: Package, scores: np.ndarray) -> None:
    answer = ask("triton_http.py", server[0].removeprefix("http://"))
    check_triton(answer, package)
    assert len(answer["scores"]) == 4
    for found in answer["scores"].values():
        np.testing.assert_allclose(found, scores, rtol=1e-6)
    assert answer["refused"] == "400 input 'kind': is missing"


def test_kserve_over_both(server: Any, package: Package, scores: np.ndarray) -> None:
    answers = ask("kserve_both.py", *server)
    assert {name: len(answer["infer"]) for name, answer in answers.items()} == {
        "rest": 4,
        "grpc": 2,
    }
    for answer in answers.values():
        assert answer["live"] is answer["ready"] is answer["model_ready"] is True
        for told in answer["infer"].values():
            assert (told["id"], told["version"]) == ("kserve", package.contract.version)
            np.testing.assert_allclose(told["scores"], scores, rtol=1e-6)
    assert answers["rest"]["refused"].startswith("400 input 'kind': is missing")
    assert answers["grpc"]["refused"] == "StatusCode.INVALID_ARGUMENT input 'kind': is missing"


def test_the_readmes_curl_examples(server: Any, package: Package) -> None:
    text = (ROOT / "services/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n(URL=.*?)```", text, flags=re.DOTALL)
    script = re.sub(r"^URL=\S+", f"URL={server[0]}", block)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    decoder = json.JSONDecoder()
    rest, answers = done.stdout.strip(), []
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    ready, metadata, inferred, refused = answers
    assert ready == {"ready": True}
    assert metadata["versions"] == [package.contract.version]
    assert inferred["outputs"][0]["shape"] == [2]
    assert "row 1" in refused["error"]
    assert httpx.get(f"{server[0]}/v2/health/ready").status_code == 200
