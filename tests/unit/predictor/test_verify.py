"""What is verified before a process that serves is started."""

import sys
from pathlib import Path

import onnxruntime
import pytest

from davy.core.errors import ConfigurationError
from davy.packaging.package import Package
from davy.predictor.settings import PredictorSettings
from davy.predictor.verify import available_providers, check


def settings(package: Package, *providers: str) -> PredictorSettings:
    return PredictorSettings(model_dir=package.path, providers=providers)


def test_the_runtime_is_asked_for_its_providers(package: Package) -> None:
    assert available_providers() == onnxruntime.get_available_providers()
    with pytest.raises(ConfigurationError, match="'NoSuchProvider' is not available; this runtime"):
        check(settings(package, "CPUExecutionProvider", "NoSuchProvider"))


def test_without_another_provider_nothing_is_asked(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    [found] = check(settings(package, "CPUExecutionProvider"))
    assert found.identity == package.identity


def test_a_runtime_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "onnxruntime.py"
    broken.write_text("raise ImportError('libcuda.so.1 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"libcuda\.so\.1 is missing"):
        available_providers()
