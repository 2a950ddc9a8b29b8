"""Where the programs of the bed are looked for, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.bed import programs


def test_they_are_kept_by_version_below_the_cache_folder(tmp_path: Path) -> None:
    folder = programs.cache_folder({"XDG_CACHE_HOME": str(tmp_path)})
    assert folder.is_relative_to(tmp_path)
    assert programs.KUBERNETES in folder.name
    assert programs.ETCD in folder.name


@pytest.mark.parametrize("setting", ["", "require"])
def test_missing_ones_are_not_built_unasked(tmp_path: Path, setting: str) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path), programs.SETTING: setting}
    with pytest.raises(programs.ProgramsMissingError, match=r"tests\.cluster\.bed\.programs"):
        programs.find_programs(environ)
    assert list(tmp_path.iterdir()) == []


def test_those_that_are_there_are_used(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = programs.cache_folder(environ)
    folder.mkdir(parents=True)
    for name in ("etcd", "kube-apiserver"):
        with pytest.raises(programs.ProgramsMissingError):
            programs.find_programs(environ)
        (folder / name).touch(mode=0o755)
    assert programs.find_programs(environ).etcd == folder / "etcd"


def test_a_build_without_go_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda _: None)
    with pytest.raises(programs.ProgramsMissingError, match="install Go"):
        programs.build(tmp_path)
