from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "training_conftest", Path(__file__).parents[1] / "training" / "conftest.py"
)
_training = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_training)

features = _training.features
make_task = _training.make_task
trained = _training.trained


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
