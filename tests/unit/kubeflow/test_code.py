from __future__ import annotations

import re
from pathlib import Path

import pytest

import davy
from davy.kubeflow.code import PARTS, code_digest, code_version


def test_the_version_names_release_and_code() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\+[0-9a-f]{12}", code_version())
    assert code_digest() == code_digest()


def test_every_part_exists() -> None:
    found = {path.name for portion in davy.__path__ for path in Path(portion).iterdir()}
    assert set(PARTS) <= found


def test_a_changed_file_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    source = tmp_path / "data" / "prepare.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(davy, "__path__", [str(tmp_path)])
    before = code_digest()
    source.write_text("a = 2\n")
    assert code_digest() != before
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "page.py").write_text("b = 1\n")
    assert code_digest() != before
    source.write_text("a = 1\n")
    assert code_digest() == before
