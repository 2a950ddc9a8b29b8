from __future__ import annotations

import json
from pathlib import Path

import pytest

from davy.core import errors
from davy.core.errors import DavyError, InvalidInputError, NotFoundError, UnavailableError
from davy.kubeflow.failure import FILE_NAME, recall, record, recorded


@pytest.mark.parametrize("kind", [InvalidInputError, NotFoundError, UnavailableError, DavyError])
def test_an_error_comes_back_as_it_was(tmp_path: Path, kind: type[DavyError]) -> None:
    record(kind("what", where="where", fix="fix"), tmp_path)
    again = recall(tmp_path)
    assert type(again) is kind
    assert str(again) == "where: what. fix"
    assert again.exit_code == kind.exit_code


def test_a_step_leaves_its_error_beside_its_output(tmp_path: Path) -> None:
    @recorded
    def step(number: int, *, out: Path) -> int:
        if number < 0:
            raise InvalidInputError("below zero")
        return number

    assert step(2, out=tmp_path / "data") == 2
    assert recall(tmp_path) is None
    with pytest.raises(InvalidInputError, match="below zero"):
        step(-1, out=tmp_path / "data")
    assert isinstance(recall(tmp_path), InvalidInputError)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '"x"'])
def test_a_file_that_is_not_an_error_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert recall(tmp_path) is None


@pytest.mark.parametrize("name", ["annotations", "ClassVar", "nothing", "__builtins__"])
def test_only_errors_are_made_from_a_name(tmp_path: Path, name: str) -> None:
    assert name == "nothing" or hasattr(errors, name)
    (tmp_path / FILE_NAME).write_text(json.dumps({"error": name, "what": "w"}))
    again = recall(tmp_path)
    assert type(again) is DavyError
    assert again.what == "w"
