from pathlib import Path

import numpy as np
import pytest

from davy.core.errors import ConfigurationError
from davy.packaging.package import Package
from davy.predictor.model import Model, load_model
from davy.predictor.session import SessionSettings, open_session


def open_it(package: Package, **settings: object) -> object:
    chosen = SessionSettings(**settings)  # type: ignore[arg-type]
    return open_session(package.content("model.onnx"), chosen, where="model.onnx")


def test_settings_are_recorded(model: Model) -> None:
    assert model.opened.describe() == {
        "execution_providers": "CPUExecutionProvider",
        "threads": 1,
        "arena": True,
        "graph_optimisation": "all",
        "graph_cache": "off",
    }
    options = model.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.enable_cpu_mem_arena


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_levels_and_memory(package: Package, level: str) -> None:
    opened = open_it(package, optimisation=level, arena=False)
    options = opened.session.get_session_options()  # type: ignore[attr-defined]
    assert not options.enable_cpu_mem_arena
    assert opened.describe()["graph_optimisation"] == level  # type: ignore[attr-defined]


def test_an_optimised_graph_is_written_once_and_used_then(package: Package, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settings = SessionSettings(cache_dir=cache)
    first = load_model(package.path, public_key=None, settings=settings)
    assert first.opened.cached == "written"
    [file] = cache.iterdir()
    second = load_model(package.path, public_key=None, settings=settings)
    assert second.opened.cached == "used"
    feed = {
        "kind": np.array([1, 4]),
        "amount": np.array([3, 50], np.float32),
        "visits": np.ones(2, np.float32),
        "channel": np.ones(2, np.int64),
    }
    np.testing.assert_allclose(
        first.run(feed, ("score",))[0].data, second.run(feed, ("score",))[0].data, rtol=1e-6
    )
    # Another level is another graph.
    basic = SessionSettings(cache_dir=cache, optimisation="basic")
    assert load_model(package.path, public_key=None, settings=basic).opened.cached == "written"
    file.write_bytes(b"damaged")
    third = load_model(package.path, public_key=None, settings=settings)
    assert third.opened.cached == "written"
    assert {path.suffix for path in cache.iterdir()} == {".onnx"}


def test_a_cache_that_others_may_write_is_refused(package: Package, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"):
        open_it(package, cache_dir=shared)


def test_a_cache_that_is_a_file_is_refused(package: Package, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        open_it(package, cache_dir=tmp_path / "file")


def test_a_provider_that_is_not_there_is_an_error(package: Package) -> None:
    providers = ("ImaginaryExecutionProvider", "CPUExecutionProvider")
    with pytest.raises(ConfigurationError, match=r"this runtime has .*CPUExecutionProvider"):
        open_it(package, providers=providers)
