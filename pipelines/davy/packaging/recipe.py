"""What an image is made of, as its ``image.toml`` says.

Belongs here: the file's fields, its variants, where the files are. Not here: building
(`davy.packaging.builder`), the steps of a build (``services/images/Containerfile``).
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import HandWritten, nearest, parse_model

FILE = "image.toml"


class Variant(HandWritten):
    """What another variant of an image has instead.

    Attributes
    ----------
    description, requirements, licenses, budget_mb, prune
        As in `Recipe`; what is left out stays.
    """

    description: str | None = None
    requirements: str | None = None
    licenses: str | None = None
    budget_mb: int | None = Field(None, gt=0)
    prune: dict[str, str] | None = None


class Recipe(HandWritten):
    """An ``image.toml``.

    Attributes
    ----------
    description : str
        A label of the image.
    requirements : str
        Locked set that is installed: ``requirements/NAME.txt``.
    licenses : str
        SPDX expression: of Davy, and of what else asks for more than its notice to be kept.
    port : int, optional
        Where it listens; None for a program that ends by itself.
    workdir : str
        Folder in which it starts.
    budget_mb : int
        The most that all files may weigh, but for a model package, in 10^6 bytes.
    programs : tuple of str
        Single programs of other packages of Debian: ``PACKAGE:PATH``.
    sources : tuple of str
        Names in the locked set that the registry has no wheel of.
    prune : dict
        Patterns below site-packages of what it never loads, and why.
    variants : dict
        Other images of the same folder, by name.
    """

    description: str
    requirements: str
    licenses: str = "Apache-2.0"
    port: int | None = Field(None, gt=0, le=65535)
    workdir: str = "/app"
    budget_mb: int = Field(gt=0)
    programs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    prune: dict[str, str] = Field(default_factory=dict)
    variants: dict[str, Variant] = Field(default_factory=dict)

    def of(self, variant: str, where: str) -> Recipe:
        """Return the recipe of a variant; that of the empty name is this one without variants.

        Raises
        ------
        NotFoundError
            There is no such variant.
        """
        changes = {}
        if variant:
            if variant not in self.variants:
                known = ", ".join(sorted(self.variants)) or "none"
                raise NotFoundError(f"no variant '{variant}' (known: {known})", where=where)
            changes = self.variants[variant].model_dump(exclude_none=True)
        return self.model_copy(update={"variants": {}, **changes})


def checkout() -> Path:
    """Return the root of the checkout that this code is run from."""
    return Path(__file__).parents[3]


def checkout_files() -> Path:
    """Return the folder of the images' recipes in that checkout."""
    return checkout() / "services" / "images"


def names(files: Path) -> list[str]:
    """Return the names of the images that have a recipe."""
    return sorted(path.parent.name for path in files.glob(f"*/{FILE}"))


def read_recipe(files: Path, name: str, variant: str = "") -> Recipe:
    """Read an image's recipe.

    Raises
    ------
    NotFoundError
        There is no such image, or no such variant.
    InvalidInputError
        The file is not as it should be.
    """
    path = files / name / FILE
    if not path.is_file():
        known = names(files)
        raise NotFoundError(
            f"no image '{name}'{nearest(name, known)}",
            where=str(files),
            fix=f"Known: {', '.join(known)}" if known else "Run it in a checkout",
        )
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"not valid TOML: {error}", where=str(path)) from None
    recipe = parse_model(document, Recipe, where=str(path))
    return recipe.of(variant, str(path))
