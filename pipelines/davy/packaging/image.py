"""The image of a Bento, by whichever of Docker, Podman and Buildah is there.

Belongs here: the build's context and command. Not here: what the image holds
(``services/images/predictor/Containerfile``), building the Bento (`davy.packaging.bento`).

``bentoml containerize`` makes an image of a Bento too, with compilers and git in it. This one runs
on a read-only root as nobody; two builds by Buildah of one Bento, from the same packages of
Debian, are the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from davy.core.errors import (
    InvalidInputError,
    MissingDependencyError,
    NotFoundError,
    TemporaryError,
)
from davy.packaging.bento import CODE, PACKAGE
from davy.packaging.package import read_package

BASE = "docker.io/library/debian:bookworm-slim"
# In the order of preference.
BUILDERS = ("docker", "podman", "buildah")
FILES = ("Containerfile", "prune.py", "serve")

_CREATION = re.compile(r"^creation_time: .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Files that the build reads and the image never holds.

    Attributes
    ----------
    ca : Path, optional
        Certificates (PEM) that a proxy in front of the package registry needs.
    uv : Path, optional
        A ``uv.toml`` that names an index of one's own.
    pip : Path, optional
        A ``pip.conf`` that does: pip fetches uv, which reads no file of uv's.
    """

    ca: Path | None = None
    uv: Path | None = None
    pip: Path | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the builder holds it."""

    name: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is built: the image's name, its labels, and the time that its files bear."""

    name: str
    created: datetime
    labels: Mapping[str, str]


def checkout_files() -> Path:
    """Return the folder of the Containerfile in the checkout that this code is run from."""
    return Path(__file__).parents[3] / "services" / "images" / "predictor"


def works(builder: str, timeout: float = 10.0) -> bool:
    """Whether a builder is installed, and reaches the daemon that it may need within `timeout`."""
    if shutil.which(builder) is None:
        return False
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(
            [builder, "version"], stdout=nothing, stderr=nothing, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def find_builder(wanted: str | None, works: Callable[[str], bool] = works) -> str:
    """Return the builder to use: the wanted one, else the first that works.

    Raises
    ------
    InvalidInputError
        The wanted one is none that we know.
    MissingDependencyError
        It, or any at all, does not work here.
    """
    if wanted is not None and wanted not in BUILDERS:
        raise InvalidInputError(f"'{wanted}' is no builder", where="--builder", fix=_any_of())
    for builder in (wanted,) if wanted else BUILDERS:
        if works(builder):
            return builder
    raise MissingDependencyError(
        f"{wanted or 'no builder of images'} is not installed, or its daemon does not answer",
        where="image",
        fix=_any_of(),
    )


def _any_of() -> str:
    return f"Install one of {', '.join(BUILDERS)}"


def plan(bento: Path, name: str = "") -> Plan:
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
    )


def command(
    builder: str, plan: Plan, context: Path, *, base: str = BASE, secrets: Secrets = Secrets()
) -> list[str]:
    """Return the command that builds; its image's id goes to ``context.iid`` beside the context."""
    epoch = int(plan.created.timestamp())
    # Docker takes the time from a build argument, the others by an option of their own.
    time = (
        ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"]
        if builder == "docker"
        else ["--timestamp", str(epoch), "--layers"]
    )
    given = {"ca": secrets.ca, "uv": secrets.uv, "pip": secrets.pip}
    return [
        builder,
        "build",
        "--quiet",
        *("--file", str(context / "Containerfile")),
        *("--tag", plan.name),
        *("--iidfile", str(identifier_file(context))),
        *("--build-arg", f"DEBIAN={base}"),
        *time,
        *(part for k, v in sorted(plan.labels.items()) for part in ("--label", f"{k}={v}")),
        *(
            part
            for name, path in given.items()
            if path is not None
            for part in ("--secret", f"id={name},src={path}")
        ),
        str(context),
    ]


def identifier_file(context: Path) -> Path:
    """Return where the builder writes the image's id."""
    return context.with_name(f"{context.name}.iid")


def fill(context: Path, bento: Path, files: Path, created: datetime) -> None:
    """Write the build's context: the Bento, dated as its package is, and our own files."""
    shutil.copytree(bento, context / "bento", ignore=shutil.ignore_patterns("__pycache__"))
    document = context / "bento" / "bento.yaml"
    text = document.read_text(encoding="utf-8")
    # When the Bento was built is all that differs between two of the same package.
    dated = _CREATION.sub(f"creation_time: '{created.isoformat()}'", text)
    document.write_text(dated, encoding="utf-8")
    for name in FILES:
        shutil.copy(files / name, context / name)


def build_image(
    bento: Path,
    *,
    name: str = "",
    builder: str | None = None,
    base: str = BASE,
    secrets: Secrets = Secrets(),
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
        One of `BUILDERS`; the first that is installed where left out.
    base : str
        Image of Debian 12 to build in.
    secrets : Secrets
        Files for the build alone.
    files : Path, optional
        Folder of the Containerfile; that of the checkout where left out.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError
        It is no Bento of a package, the package is not as it was written, or a file is missing.
    MissingDependencyError
        No builder is installed.
    TemporaryError
        The build failed: what it wrote is on the terminal.
    """
    program = find_builder(builder)
    what = plan(bento, name)
    for path in (secrets.ca, secrets.uv, secrets.pip):
        if path is not None and not path.is_file():
            raise NotFoundError("no such file", where=str(path))
    folder = files or checkout_files()
    if not (folder / FILES[0]).is_file():
        raise NotFoundError(
            "no such file", where=str(folder / FILES[0]), fix="Run it in a checkout"
        )
    with tempfile.TemporaryDirectory(prefix="davy-image-") as work:
        context = Path(work) / "context"
        fill(context, bento, folder, what.created)
        arguments = command(program, what, context, base=base, secrets=secrets)
        done = subprocess.run(
            arguments,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            # What it needs of others is a registry of images, Debian's and Python's packages, disk.
            raise TemporaryError(
                f"{program} ended with {done.returncode}: what it wrote is above",
                where=what.name,
                fix="Check network and free disk, then try again; behind a proxy or with an index "
                "of your own: --ca, --pip-config, --uv-config",
            )
        return Image(what.name, identifier_file(context).read_text(encoding="utf-8").strip())
