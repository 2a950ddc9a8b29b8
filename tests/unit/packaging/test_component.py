"""What the image of a program is built from; the wheel is built, no image is."""

import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.packaging.component import (
    build_component,
    build_wheel,
    created,
    default_name,
    plan,
)
from davy.packaging.recipe import checkout_files, read_recipe


def test_an_image_is_named_after_program_release_and_variant() -> None:
    name, _, tag = default_name("detector", "native").partition(":")
    assert name == "davy-detector"
    assert tag.endswith("-native")
    assert default_name("detector", "") == f"{name}:{tag.removesuffix('-native')}"


def test_files_bear_one_time_wherever_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert created() == datetime(2020, 2, 2, tzinfo=UTC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert created() == datetime(1970, 1, 2, tzinfo=UTC)
    for text in ("yesterday", "1e99", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        with pytest.raises(InvalidInputError, match="SOURCE_DATE_EPOCH"):
            created()


def test_labels_tell_what_it_is_and_which_code_it_has(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"code")
    recipe = read_recipe(checkout_files(), "detector")
    made = plan("detector", "registry.example:5000/davy-detector:1.2", recipe, wheel)
    assert made.labels["org.opencontainers.image.title"] == "davy-detector"
    assert made.labels["org.opencontainers.image.version"] == "1.2"
    assert made.labels["org.opencontainers.image.licenses"] == "Apache-2.0 AND BUSL-1.1"
    code = made.labels["dev.davylamp.code"]
    wheel.write_bytes(b"other code")
    assert plan("detector", "a:1", recipe, wheel).labels["dev.davylamp.code"] != code


def test_a_wheel_of_the_checkout_has_every_part_and_the_command(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        script = next(name for name in names if name.endswith("entry_points.txt"))
        assert "davy = davy.cli.main:main" in archive.read(script).decode()
    for part in ("core", "detector", "rollout", "kubeflow", "drift", "cli"):
        assert f"davy/{part}/__init__.py" in names
    # The one namespace of all parts has no file of its own.
    assert "davy/__init__.py" not in names


def test_what_is_wrong_is_told_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no variant 'large'"):
        build_component("detector", variant="large")
    with pytest.raises(NotFoundError, match="no image 'console'"):
        build_component("console")
    with pytest.raises(InvalidInputError, match="oci-archive:FILE"):
        build_component("detector", output=f"{tmp_path}/a.tar")


def test_the_command_says_what_is_wrong_and_ends_with_its_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "davy.packaging.component", "operator", "--variant", "x"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == NotFoundError.exit_code
    assert "no variant 'x' (known: none)" in done.stderr
