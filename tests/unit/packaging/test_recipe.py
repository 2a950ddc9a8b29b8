"""What is read from an ``image.toml``, and what those of the checkout say."""

from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.packaging.bento import locked
from davy.packaging.recipe import FILE, checkout, checkout_files, names, read_recipe

WRITTEN = """
description = "A server"
requirements = "serve"
port = 1234
budget_mb = 100
prune = {"a/b" = "tests"}

[variants.small]
requirements = "operator"
budget_mb = 50
prune = {}
"""


def written(folder: Path, text: str = WRITTEN) -> Path:
    (folder / "server").mkdir()
    (folder / "server" / FILE).write_text(text)
    return folder


def test_a_variant_differs_in_what_it_names(tmp_path: Path) -> None:
    files = written(tmp_path)
    whole, small = read_recipe(files, "server"), read_recipe(files, "server", "small")
    assert (whole.requirements, whole.budget_mb, whole.prune) == ("serve", 100, {"a/b": "tests"})
    assert (small.requirements, small.budget_mb, small.prune) == ("operator", 50, {})
    assert (small.description, small.port) == (whole.description, whole.port)
    # No variant of a variant.
    assert whole.variants == small.variants == {}


def test_an_unknown_image_or_variant_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    files = written(tmp_path)
    with pytest.raises(NotFoundError, match="did you mean 'server'"):
        read_recipe(files, "sever")
    with pytest.raises(NotFoundError, match="known: small"):
        read_recipe(files, "server", "large")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("description = ", "not valid TOML"),
        (WRITTEN.replace("budget_mb = 100", "budget = 100"), "did you mean 'budget_mb'"),
        (WRITTEN.replace("budget_mb = 100", "budget_mb = 0"), "budget_mb: .*greater than 0"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        read_recipe(written(tmp_path, text), "server")


def test_the_images_of_the_checkout() -> None:
    assert names(checkout_files()) == ["detector", "operator", "pipeline", "predictor"]


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("predictor", ""),
        ("operator", ""),
        ("detector", ""),
        ("detector", "native"),
        ("pipeline", ""),
    ],
)
def test_each_has_its_locked_set_and_its_program(name: str, variant: str) -> None:
    recipe = read_recipe(checkout_files(), name, variant)
    lines = locked(checkout() / "requirements" / f"{recipe.requirements}.txt")
    packages = {line.partition("==")[0] for line in lines}
    # What is under another licence or heavy is where it is said to be, and nowhere else.
    assert set(recipe.sources) <= packages
    assert ("alibi-detect" in packages) is ("BUSL-1.1" in recipe.licenses)
    assert ("torch" in packages) is (name == "pipeline")
    assert ("kfp" in packages) is (name == "pipeline")
    program = checkout_files() / name / "serve"
    assert program.stat().st_mode & 0o111 == 0o111
    assert (recipe.port is None) is (name == "pipeline")


def test_a_predictor_stays_below_its_bound() -> None:
    assert read_recipe(checkout_files(), "predictor").budget_mb <= 400
