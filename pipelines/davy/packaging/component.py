"""The image of one of Davy's own programs: operator, detector, predictor, pipeline.

Belongs here: what goes into it, and ``python -m davy.packaging.component``. Not here: the build's
steps (``services/images/Containerfile``) and command (`davy.packaging.builder`), a predictor with a
package of its own (`davy.packaging.image`).

It holds the whole of our code, as a wheel installs it, and the locked set of the one program.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

from davy.core.errors import (
    DavyError,
    InvalidInputError,
    MissingDependencyError,
    PermanentError,
)
from davy.packaging.bento import DISTRIBUTION, locked
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
from davy.packaging.recipe import Recipe, checkout, checkout_files, names, read_recipe

# What hatch dates the files of a wheel where SOURCE_DATE_EPOCH does not say.
CREATED = datetime(2020, 2, 2, tzinfo=UTC)


def default_name(name: str, variant: str) -> str:
    """Return the image's name: ``davy-NAME:RELEASE``, with the variant behind the release."""
    tag = "-".join(part for part in (installed_version(DISTRIBUTION), variant) if part)
    return f"davy-{name}:{tag}"


def created() -> datetime:
    """Return the time that an image's files bear: ``SOURCE_DATE_EPOCH``, else hatch's.

    Raises
    ------
    InvalidInputError
        That variable is no number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return CREATED
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidInputError(
            f"'{text}' is no number of seconds since 1970", where="SOURCE_DATE_EPOCH"
        ) from None


def plan(name: str, image: str, recipe: Recipe, wheel: Path) -> Plan:
    """Return what to build around a wheel of our code."""
    title, _, version = image.rpartition(":")
    return Plan(
        name=image,
        created=created(),
        labels={
            "org.opencontainers.image.title": title.rpartition("/")[2] or f"davy-{name}",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.description": recipe.description,
            "org.opencontainers.image.licenses": recipe.licenses,
            "dev.davylamp.code": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        },
        recipe=recipe,
    )


def build_wheel(folder: Path) -> Path:
    """Build the wheel of the checkout that this code is run from, into `folder`.

    Raises
    ------
    MissingDependencyError
        hatchling is not installed.
    PermanentError
        It does not build.
    """
    if find_spec("hatchling") is None:
        raise MissingDependencyError(
            "hatchling is not installed", where="wheel", fix=f"Install {DISTRIBUTION}[dev]"
        )
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)],
        cwd=checkout(),
        check=False,
        capture_output=True,
        text=True,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise PermanentError(
            f"hatchling ended with {done.returncode} and made {len(wheels)} wheels: "
            f"{done.stderr.strip()[-500:]}",
            where=str(checkout() / "pyproject.toml"),
        )
    return wheels[0]


def build_component(
    name: str,
    *,
    variant: str = "",
    image: str = "",
    builder: str | None = None,
    base: str = BASE,
    secrets: Secrets = NO_SECRETS,
    output: str = "",
) -> Image:
    """Build the image of a program.

    Parameters
    ----------
    name, variant : str
        Of the recipes' folders, and of the variants in its recipe.
    image : str
        The image's name; `default_name` where left out.
    builder, base, secrets, output
        As in `davy.packaging.image.build_image`.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such program or variant, or a file is missing or not as it should be.
    MissingDependencyError
        No builder, or no hatchling, is installed.
    TemporaryError
        The build failed: what it wrote is on the terminal.
    """
    archive = archive_file(output) if output else None
    files = checkout_files()
    recipe = read_recipe(files, name, variant)
    requirements = checkout() / "requirements" / f"{recipe.requirements}.txt"
    locked(requirements)
    secrets.check()
    program = find_builder(builder)
    with tempfile.TemporaryDirectory(prefix="davy-image-") as work:
        context = Path(work) / "context"
        lay_out(context, files, name, recipe)
        wheel = build_wheel(context / "wheels")
        shutil.copy(requirements, context / "requirements.txt")
        what = plan(name, image or default_name(name, variant), recipe, wheel)
        built = build(program, what, context, base=base, secrets=secrets)
    if archive is not None:
        save(program, built, archive)
    return built


def main() -> None:
    """Build one; print its name and its id."""
    parser = argparse.ArgumentParser(
        prog="python -m davy.packaging.component", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("program", choices=names(checkout_files()))
    parser.add_argument("--variant", default="", help="as in its image.toml")
    parser.add_argument("--name", default="", help="the image's; default: davy-PROGRAM:RELEASE")
    parser.add_argument(
        "--builder", help="docker, podman or buildah; default: the first that works"
    )
    parser.add_argument("--base", default=BASE, help="image of Debian 12 to build in")
    parser.add_argument("--ca", type=Path, help="certificates that the way to the registry needs")
    parser.add_argument("--uv-config", type=Path, help="uv.toml that names an index of your own")
    parser.add_argument("--pip-config", type=Path, help="pip.conf that does: pip fetches uv")
    parser.add_argument("--output", default="", help="oci-archive:FILE to write it to as well")
    given = parser.parse_args()
    try:
        built = build_component(
            given.program,
            variant=given.variant,
            image=given.name,
            builder=given.builder,
            base=given.base,
            secrets=Secrets(given.ca, given.uv_config, given.pip_config),
            output=given.output,
        )
    except DavyError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{built.name}\n{built.identifier}\n")


if __name__ == "__main__":
    main()
