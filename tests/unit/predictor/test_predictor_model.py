import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.core.errors import IntegrityError, NotFoundError, PermanentError
from davy.packaging.package import Package
from davy.packaging.sign import generate_keys
from davy.predictor.assembly import assemble
from davy.predictor.model import Model, load_model
from davy.predictor.payload import NoSink
from davy.predictor.settings import PredictorSettings
from davy.predictor.verify import check


def load(path: Path, public_key: Path | None = None) -> Model:
    return load_model(path, public_key=public_key)


def test_scores_are_those_of_the_formula(model: Model, tiny: ModuleType) -> None:
    feed = {
        "kind": np.array([0, 5]),
        "amount": np.array([10, 90], np.float32),
        "visits": np.array([np.nan, 1], np.float32),
        "channel": np.array([1, 3]),
    }
    [score] = model.run(feed, ("score",))
    assert (score.name, score.datatype, score.shape) == ("score", "FP32", (2,))
    np.testing.assert_allclose(score.data, tiny.expected_scores(feed), rtol=1e-6)


def test_read_only_arrays_are_executed(model: Model) -> None:
    feed: dict[str, Any] = {
        "kind": np.zeros(3, np.int64),
        "amount": np.zeros(3, np.float32),
        "visits": np.zeros(3, np.float32),
        "channel": np.ones(3, np.int64),
    }
    for array in feed.values():
        array.flags.writeable = False
    assert model.run(feed, ("score",))[0].shape == (3,)


def test_what_the_runtime_refuses_is_a_permanent_error(model: Model) -> None:
    feed = {
        "kind": np.array([6]),
        "amount": np.zeros(1, np.float32),
        "visits": np.zeros(1, np.float32),
        "channel": np.ones(1, np.int64),
    }
    with pytest.raises(PermanentError, match="could not execute") as caught:
        model.run(feed, ("score",))
    assert "Gather" in str(caught.value.__cause__)


def test_a_changed_file_is_not_served(tmp_path: Path, tiny: ModuleType) -> None:
    package = tiny.write_tiny_package(tmp_path)
    path = package.path / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        load(package.path)
    with pytest.raises(IntegrityError):
        check(PredictorSettings(model_dir=package.path))


def test_a_signature_is_asked_for_only_with_a_key(
    tmp_path: Path, tiny: ModuleType, package: Package
) -> None:
    private, public = generate_keys(tmp_path / "keys")
    signed = tiny.write_tiny_package(tmp_path, private_key=private)
    assert load(signed.path, public).contract.version == package.contract.version
    with pytest.raises(IntegrityError):
        load(package.path, public)


def test_a_contract_that_is_not_the_models_is_not_served(tmp_path: Path, tiny: ModuleType) -> None:
    inputs = tiny.contract()["inputs"]
    fewer = tiny.write_tiny_package(tmp_path / "a", inputs=inputs[:-1])
    with pytest.raises(IntegrityError, match="input 'channel': not in the contract"):
        load(fewer.path)
    renamed = [*inputs[:-1], {**inputs[-1], "name": "kanal"}]
    with pytest.raises(IntegrityError, match="input 'kanal'"):
        load(tiny.write_tiny_package(tmp_path / "b", inputs=renamed).path)
    retyped = [{"name": "score", "datatype": "FP64"}]
    with pytest.raises(IntegrityError, match="output 'score'"):
        load(tiny.write_tiny_package(tmp_path / "c", outputs=retyped).path)


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such package"):
        load(tmp_path / "nothing")


def test_a_file_that_is_no_model(tmp_path: Path, tiny: ModuleType) -> None:
    from davy.packaging.package import write_package

    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"this is text")
    good = tiny.write_tiny_package(tmp_path)
    files = {"model.onnx": bad, "reference.parquet": good.path / "reference.parquet"}
    package = write_package(tmp_path / "other", tiny.contract(), files, private_key=None)
    with pytest.raises(PermanentError, match="cannot open it"):
        load(package.path)


def test_assembly_without_a_receiver_has_no_log(
    package: Package, registry: CollectorRegistry
) -> None:
    settings = PredictorSettings(model_dir=package.path)
    assembly = assemble(settings, registry=registry, clock=SystemClock())
    assert isinstance(assembly.repository.models.find("tiny").sink, NoSink)
    asyncio.run(assembly.start())
    asyncio.run(assembly.close())
