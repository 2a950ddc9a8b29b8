"""What real clients are told of outliers, over both protocols, and what the metrics count."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from davy.packaging.package import Package

pytestmark = pytest.mark.xdist_group("predictor-outliers")

CLIENTS = Path(__file__).parents[1] / "fixtures/real_clients"
COLUMNS = {
    "kind": ("INT64", [0, 3, 5]),
    "amount": ("FP32", [50.0, 5000.0, 60.0]),
    "visits": ("FP32", [1.0, 2.0, 3.0]),
    "channel": ("INT64", [1, 2, 3]),
}
EXPECTED = {"outliers": 1, "outlier_rows": "1"}


@pytest.fixture(scope="module")
def package(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny.write_scoring_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def server(
    predictor: ModuleType, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    port = predictor.free_port()
    settings = {"grpc_host": "127.0.0.1", "grpc_port": str(port)}
    folder = tmp_path_factory.mktemp("server")
    with predictor.predictor_server(package.path, folder, settings) as running:
        yield running.url, f"127.0.0.1:{port}"


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


def test_triton_over_grpc(server: Any) -> None:
    assert ask("triton_grpc.py", server[1])["parameters"] == EXPECTED


def test_triton_over_http(server: Any) -> None:
    assert ask("triton_http.py", server[0].removeprefix("http://"))["parameters"] == EXPECTED


def test_kserve_over_both(server: Any) -> None:
    answers = ask("kserve_both.py", *server)
    for protocol in ("rest", "grpc"):
        for told in answers[protocol]["infer"].values():
            assert told["parameters"].items() >= EXPECTED.items()


def test_what_was_told_was_counted(server: Any, package: Package) -> None:
    url = f"{server[0]}/v2/models/tiny/infer"
    name = f'davy_outliers_total{{model="tiny",version="{package.contract.version}"}}'
    inputs = [
        {"name": name, "datatype": datatype, "shape": [3], "data": values}
        for name, (datatype, values) in COLUMNS.items()
    ]

    def counted() -> float:
        lines = httpx.get(f"{server[0]}/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = counted()
    answer = httpx.post(url, json={"inputs": inputs}).json()
    assert answer["parameters"] == EXPECTED
    assert counted() == before + 1
