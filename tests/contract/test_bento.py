"""A Bento of a package, built by the command and served by BentoML from its store alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
import yaml

from davy.packaging.image import plan
from davy.packaging.package import Package, read_package
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, decode_response, encode_request

pytestmark = pytest.mark.xdist_group("bento")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Built:
    package: Package
    work: Path
    path: Path


def davy(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("davy")), *arguments],
        env={**os.environ, "BENTOML_HOME": str(work / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    work = tmp_path_factory.mktemp("bento")
    package = tiny.write_tiny_package(work)
    done = davy(work, "package", "bento", str(package.path))
    assert done.returncode == 0, done.stderr
    tag, path = done.stdout.split()
    assert tag == f"tiny:{package.contract.version}"
    yield Built(package, work, Path(path))


def test_the_bento_serves_its_own_package(
    predictor: ModuleType, tiny: ModuleType, built: Built
) -> None:
    columns = {
        "kind": np.array([1, 2]),
        "amount": np.array([3, 4], np.float32),
        "visits": np.array([1, 1], np.float32),
        "channel": np.array([2, 2]),
    }
    request = InferRequest(tuple(tensor(name, data) for name, data in columns.items()))
    tag = f"tiny:{built.package.contract.version}"
    with predictor.predictor_server(None, built.work, service=tag) as server:
        answer = httpx.post(
            f"{server.url}/v2/models/tiny/infer", content=encode_request(request).body
        )
        about = httpx.get(f"{server.url}/v2").json()
    assert answer.status_code == 200
    assert answer.headers["davy-model-version"] == built.package.contract.version
    scores = decode_response(answer.content).outputs[0].data
    np.testing.assert_allclose(scores, tiny.expected_scores(columns), rtol=1e-6)
    assert about["name"] == "davy"


def test_its_code_is_enough_without_this_checkout(built: Built) -> None:
    program = (
        "import sys\n"
        f"sys.path = [sys.argv[1]] + [p for p in sys.path if not p.startswith({str(ROOT)!r}) "
        "or 'site-packages' in p]\n"
        "import davy_bento, davy.predictor.assembly, davy.predictor.handler\n"
        "from importlib.metadata import version\n"
        "import json, os\n"
        "ours = [m.__file__ for n, m in sys.modules.items() if n.startswith('davy') "
        "and getattr(m, '__file__', None)]\n"
        "print(json.dumps([ours, os.environ['DAVY_PREDICTOR_MODEL_DIR'], version('davylamp')]))\n"
    )
    source = built.path / "src"
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)],
        cwd=built.work,
        env={k: v for k, v in os.environ.items() if not k.startswith("DAVY_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files, model_dir, version = json.loads(done.stdout)
    assert len(files) > 20
    assert all(Path(name).is_relative_to(source) for name in files)
    assert read_package(Path(model_dir)).identity == built.package.identity
    assert version


def test_with_storage_from_kserve_it_takes_the_package_that_is_mounted(built: Built) -> None:
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import davy_bento\n"
        "from davy.predictor.settings import PredictorSettings\n"
        "print(PredictorSettings.load().model_dir)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DAVY_")}

    def model_dir(**variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, str(built.path / "src")],
            cwd=built.work,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert model_dir(STORAGE_URI="s3://models/tiny") == "/mnt/models"
    assert model_dir() == str(built.path / "src" / "package")
    # Whoever names a folder is obeyed.
    named = {"STORAGE_URI": "s3://models/tiny", "DAVY_PREDICTOR_MODEL_DIR": "/models"}
    assert model_dir(**named) == "/models"


def test_it_starts_beside_a_service_that_has_its_settings_prefix(
    predictor: ModuleType, built: Built
) -> None:
    # What the kubelet tells a pod of a Service named davy-predictor.
    links = {
        "service_host": "10.96.0.7",
        "service_port": "80",
        "service_port_http": "80",
        "port": "tcp://10.96.0.7:80",
        "port_80_tcp": "tcp://10.96.0.7:80",
        "port_80_tcp_proto": "tcp",
        "port_80_tcp_port": "80",
        "port_80_tcp_addr": "10.96.0.7",
    }
    tag = f"tiny:{built.package.contract.version}"
    with predictor.predictor_server(None, built.work, links, service=tag) as server:
        assert httpx.get(f"{server.url}/v2/models/tiny/ready").status_code == 200
    with (
        pytest.raises(RuntimeError, match="unknown setting DAVY_PREDICTOR_PROT"),
        predictor.predictor_server(None, built.work, {**links, "prot": "80"}, service=tag),
    ):
        pass


def test_an_image_is_planned_from_its_package(built: Built) -> None:
    found = plan(built.path)
    assert found.name == f"tiny:{built.package.contract.version}"
    assert found.created == built.package.contract.created
    assert found.labels["dev.davylamp.identity"] == built.package.identity


def test_it_installs_the_locked_serving_set_and_no_more(built: Built) -> None:
    found = (built.path / "env" / "python" / "requirements.txt").read_text().split("\n")
    locked = (ROOT / "requirements" / "serve.txt").read_text().split("\n")
    assert set(filter(None, found)) == set(filter(None, locked))
    assert not [name for name in ("torch", "alibi-detect", "kfp") if f"{name}==" in str(found)]


def test_nothing_in_it_names_this_machine(built: Built) -> None:
    document = yaml.safe_load((built.path / "bento.yaml").read_text())
    assert document["image"]["python_version"] == "3.11"
    assert document["labels"]["davy-identity"] == built.package.identity
    for path in built.path.rglob("*"):
        if not path.is_file() or path.is_relative_to(built.path / "src" / "davy"):
            continue
        text = path.read_bytes().decode("latin-1")
        assert str(ROOT) not in text, path
        assert str(built.work) not in text, path
    for name in ("requirements.txt", "requirements.in"):
        for path in built.path.rglob(name):
            assert not re.search(r"https?:|--|@|/", path.read_text()), path


def test_the_same_tag_twice_is_refused(built: Built) -> None:
    again = davy(built.work, "package", "bento", str(built.package.path))
    assert again.returncode == 73
    assert "is in the store already" in again.stderr
