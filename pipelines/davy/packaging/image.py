"""The image of a Bento.

Belongs here: what goes into it. Not here: the build's steps (``services/images/Containerfile``) and
command (`davy.packaging.builder`), building the Bento (`davy.packaging.bento`).

``bentoml containerize`` makes an image of a Bento too, with compilers and git in it. This one runs
on a read-only root as nobody; two builds by Buildah of one Bento, from the same packages of
Debian, are the same bytes.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import yaml

from davy.core.errors import NotFoundError
from davy.packaging.bento import CODE, PACKAGE
from davy.packaging.builder import (
    BASE,
    NO_SECRETS,
    Image,
    Plan,
    Secrets,
    archive_file,
    build,
    find_builder,
    lay_out,
    save,
)
from davy.packaging.package import read_package
from davy.packaging.recipe import checkout_files, read_recipe

NAME = "predictor"

_CREATION = re.compile(r"^creation_time: .*$", re.MULTILINE)


def plan(bento: Path, name: str = "", files: Path | None = None) -> Plan:
    """Return what to build of a Bento's folder; its package is verified.

    Raises
    ------
    NotFoundError, InvalidInputError, IntegrityError
        It is no Bento of a package, or the package is not as it was written.
    """
    document = bento / "bento.yaml"
    code = bento / "src" / f"{CODE}.py"
    if not document.is_file() or not code.is_file():
        raise NotFoundError(
            "is not a Bento of a package", where=str(bento), fix="Make one: davy package bento"
        )
    package = read_package(bento / "src" / PACKAGE)
    contract = package.contract
    about = yaml.safe_load(document.read_text(encoding="utf-8"))
    recipe = read_recipe(files or checkout_files(), NAME)
    return Plan(
        name=name or f"{about['name']}:{about['version']}",
        created=contract.created,
        labels={
            "org.opencontainers.image.title": contract.name,
            "org.opencontainers.image.version": contract.version,
            "org.opencontainers.image.description": "A Davy predictor with its model package",
            "dev.davylamp.identity": package.identity,
            "dev.davylamp.bentoml": str(about["bentoml_version"]),
        },
        recipe=recipe,
    )


def fill(context: Path, bento: Path, created: datetime) -> None:
    """Add the Bento to a context, dated as its package is."""
    copy = context / "app" / "bento"
    shutil.copytree(bento, copy, ignore=shutil.ignore_patterns("__pycache__"))
    document = copy / "bento.yaml"
    text = document.read_text(encoding="utf-8")
    # When the Bento was built is all that differs between two of the same package.
    dated = _CREATION.sub(f"creation_time: '{created.isoformat()}'", text)
    document.write_text(dated, encoding="utf-8")
    shutil.copy(copy / "env" / "python" / "requirements.txt", context / "requirements.txt")


def build_image(
    bento: Path,
    *,
    name: str = "",
    builder: str | None = None,
    base: str = BASE,
    secrets: Secrets = NO_SECRETS,
    output: str = "",
    files: Path | None = None,
) -> Image:
    """Build the image of a Bento's folder.

    Parameters
    ----------
    bento : Path
        Folder of a Bento that `davy.packaging.bento` built.
    name : str
        The image's name; the Bento's tag where left out.
    builder : str, optional
        One of `davy.packaging.builder.BUILDERS`; the first that is installed where left out.
    base : str
        Image of Debian 12 to build in.
    secrets : Secrets
        Files for the build alone.
    output : str
        ``oci-archive:FILE`` to write it to as well.
    files : Path, optional
        Folder of the recipes; that of the checkout where left out.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError
        It is no Bento of a package, the package is not as it was written, or a file is missing.
    MissingDependencyError
        No builder is installed.
    TemporaryError
        The build failed: what it wrote is on the terminal.
    """
    archive = archive_file(output) if output else None
    program = find_builder(builder)
    folder = files or checkout_files()
    what = plan(bento, name, folder)
    secrets.check()
    with tempfile.TemporaryDirectory(prefix="davy-image-") as work:
        context = Path(work) / "context"
        lay_out(context, folder, NAME, what.recipe)
        fill(context, bento, what.created)
        built = build(program, what, context, base=base, secrets=secrets)
    if archive is not None:
        save(program, built, archive)
    return built
