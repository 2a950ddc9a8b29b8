"""What may go into a Bento's requirements, and what stops a build before it begins."""

from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.packaging.bento import build_bento, checkout_requirements, find_bento, locked


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "serve.txt"
    path.write_text(text)
    return path


def test_the_checkouts_set_is_locked_names_and_versions() -> None:
    assert any(line.startswith("bentoml==") for line in locked(checkout_requirements()))


def test_comments_and_markers_are_fine(tmp_path: Path) -> None:
    path = written(tmp_path, "# why\n\na-b.c==1.0.post1\nd==2!3+cpu ; python_version < '3.12'\n")
    assert locked(path) == ["a-b.c==1.0.post1", "d==2!3+cpu ; python_version < '3.12'"]


@pytest.mark.parametrize(
    "line",
    [
        "numpy>=1.26",
        "numpy",
        "--index-url https://index.invalid/simple",
        "-e .",
        "./wheels/numpy.whl",
        "numpy @ file:///numpy.whl",
        "numpy==1.26 ; url @ x",
        "-r other.txt",
    ],
)
def test_what_only_works_here_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidInputError, match="NAME==VERSION"):
        locked(written(tmp_path, f"a==1\n{line}\n"))


def test_a_missing_package_or_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--requirements"):
        locked(tmp_path / "none.txt")
    with pytest.raises(NotFoundError, match="no such package"):
        build_bento(tmp_path / "none")


@pytest.mark.parametrize("tag", ["", " "])
def test_no_tag_is_not_the_working_directory(tag: str) -> None:
    with pytest.raises(InvalidInputError, match="the tag is empty"):
        find_bento(tag)
