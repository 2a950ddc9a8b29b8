import os
from pathlib import Path

import pytest
from pydantic import Field

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import (
    HandWritten,
    MachineWritten,
    append_line,
    nearest,
    read_model,
    to_json,
    write_atomic,
)


class Inner(HandWritten):
    epochs: int = 1


class Outer(HandWritten):
    name: str
    model: Inner = Field(default_factory=Inner)


class Written(MachineWritten):
    name: str


def test_reads_yaml_and_json(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("name: x\nmodel: {epochs: 3}\n")
    (tmp_path / "a.json").write_text('{"name": "x", "model": {"epochs": 3}}')
    assert read_model(tmp_path / "a.yaml", Outer) == read_model(tmp_path / "a.json", Outer)


def test_misspelt_field_names_itself_and_its_nearest_match(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nmodel: {epoch: 3}\n")
    with pytest.raises(InvalidInputError) as caught:
        read_model(path, Outer)
    assert "unknown field 'model.epoch'; did you mean 'epochs'?" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_hint_is_given_only_where_there_is_one():
    assert nearest("epoch", ["seed", "epochs"]) == "; did you mean 'epochs'?"
    assert nearest("colour", ["seed", "epochs"]) == nearest("seed", ["seed"]) == ""


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe\x00", b"- 1\n", b"", b"[" * 5000])
def test_what_cannot_be_read_is_one_error(tmp_path: Path, content: bytes):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.yaml"):
        read_model(path, Outer)


def test_missing_file(tmp_path: Path):
    with pytest.raises(NotFoundError, match="no such file"):
        read_model(tmp_path / "none.yaml", Outer)


def test_a_folder_in_place_of_a_file(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_model(tmp_path, Outer)


def test_unknown_fields_of_a_newer_writer_are_kept(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text('{"name": "x", "later": {"a": 1}}')
    model = read_model(path, Written)
    path.write_text(to_json(model))
    assert read_model(path, Written).model_extra == {"later": {"a": 1}}


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_lines_are_appended_and_one_that_was_cut_off_is_ended(tmp_path: Path):
    path = tmp_path / "lines"
    append_line(path, b"one")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"one\ntw")
    append_line(path, b"three")
    assert path.read_bytes() == b"one\ntw\nthree\n"


def test_a_line_that_does_not_go_in_whole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "write", lambda file, data: len(data) - 1)
    with pytest.raises(OSError, match="No space"):
        append_line(tmp_path / "lines", b"one")
