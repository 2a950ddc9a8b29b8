from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "synthetic_features", Path(__file__).parents[1] / "training" / "synthetic_features.py"
)
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A folder of synthetic feature files, the same for every test of a process."""
    return synthetic.write_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def make_task():
    """The synthetic task, with overrides."""
    return synthetic.synthetic_task


@pytest.fixture(scope="session")
def trained(features, make_task, tmp_path_factory):
    """A folder with the trained synthetic model."""
    from davy.training.train import train

    out = tmp_path_factory.mktemp("model")
    train(make_task(), features, out)
    return out


@pytest.fixture(scope="session")
def network(trained, make_task):
    """The trained synthetic network."""
    from davy.training.network import load_network

    return load_network(make_task(), trained / "model.pt")


@pytest.fixture(scope="session")
def compressed(features, trained, make_task, tmp_path_factory):
    """A folder with all measured candidates of the synthetic model."""
    from davy.compression.compress import compress

    out = tmp_path_factory.mktemp("candidates")
    compress(make_task(), features, trained, out)
    return out
