"""What a build removes from installed wheels."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def prune(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("prune")


def test_pruning_removes_what_it_names_and_fails_when_a_wheel_changed(
    prune: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "tests").mkdir(parents=True)
    (tmp_path / "lib" / "tests" / "a.py").write_bytes(b"x" * 1000)
    (tmp_path / "lib" / "core.py").write_bytes(b"x" * 10)
    for name in ("kept.so", "copy.so"):
        (tmp_path / "lib" / name).write_bytes(b"y" * 500)
    monkeypatch.setattr(prune, "UNNEEDED", {"**/tests": "tests"})
    monkeypatch.setattr(prune, "COPIES", {"lib/kept.so": ("copy.so",)})
    monkeypatch.setattr(prune, "UNSTRIPPED", ())
    # A link's own size is that of the name in it.
    assert prune.prune(tmp_path, {}) == 1000 + 500 - len("kept.so")
    assert (tmp_path / "lib" / "copy.so").read_bytes() == b"y" * 500
    assert (tmp_path / "lib" / "core.py").is_file()
    with pytest.raises(SystemExit, match=r"nothing matches \*\*/tests"):
        prune.prune(tmp_path, {})


def test_a_copy_that_is_none_stops_the_pruning(
    prune: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.so").write_bytes(b"1")
    (tmp_path / "copy.so").write_bytes(b"2")
    monkeypatch.setattr(prune, "UNNEEDED", {})
    monkeypatch.setattr(prune, "COPIES", {"kept.so": ("copy.so",)})
    with pytest.raises(SystemExit, match="is no copy"):
        prune.prune(tmp_path, {})


def test_what_an_image_itself_goes_without_is_removed_too(
    prune: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_maker").mkdir()
    (tmp_path / "model_maker" / "a.py").write_bytes(b"x" * 300)
    for name, value in (("UNNEEDED", {}), ("COPIES", {}), ("UNSTRIPPED", ())):
        monkeypatch.setattr(prune, name, value)
    assert prune.prune(tmp_path, {"model_maker": "making models"}) == 300
    assert not (tmp_path / "model_maker").exists()
    with pytest.raises(SystemExit, match="nothing matches model_maker"):
        prune.prune(tmp_path, {"model_maker": "making models"})
