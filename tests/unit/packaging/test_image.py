"""What the image of a Bento is built from; nothing is built here."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.packaging.image import build_image, fill, plan

CREATED = datetime(2017, 12, 31, tzinfo=UTC)


def written_bento(folder: Path, creation: str) -> Path:
    (folder / "src" / "davy" / "__pycache__").mkdir(parents=True)
    (folder / "src" / "davy" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / "src" / "davy" / "x.py").write_text("x = 1\n")
    (folder / "env" / "python").mkdir(parents=True)
    (folder / "env" / "python" / "requirements.txt").write_text("bentoml==1.4.40\n")
    (folder / "bento.yaml").write_text(f"name: tiny\ncreation_time: '{creation}'\nversion: 1\n")
    return folder


def test_two_bentos_of_one_package_make_the_same_context(tmp_path: Path) -> None:
    contexts = []
    for number in (1, 2):
        bento = written_bento(tmp_path / f"bento{number}", f"2026-11-2{number}T02:10:20.8+00:00")
        context = tmp_path / f"context{number}"
        fill(context, bento, CREATED)
        contexts.append(
            {str(p.relative_to(context)): p.read_bytes() for p in context.rglob("*") if p.is_file()}
        )
    assert contexts[0] == contexts[1]
    assert set(contexts[0]) == {
        "requirements.txt",
        "app/bento/bento.yaml",
        "app/bento/env/python/requirements.txt",
        "app/bento/src/davy/x.py",
    }
    assert contexts[0]["requirements.txt"] == b"bentoml==1.4.40\n"
    assert b"'2017-12-31T00:00:00+00:00'" in contexts[0]["app/bento/bento.yaml"]


def test_what_is_no_bento_of_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a Bento of a package"):
        plan(written_bento(tmp_path, "now"))


def test_a_wrong_output_is_told_before_anything_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="oci-archive:FILE"):
        build_image(tmp_path / "no-bento", output="a.tar")
