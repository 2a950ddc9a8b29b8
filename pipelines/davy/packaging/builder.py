"""Builds an image by whichever of Docker, Podman and Buildah is there, and writes it as a file.

Belongs here: the builders, their commands, what a context shares. Not here: what goes into an image
(`davy.packaging.image`, `davy.packaging.component`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from davy.core.errors import (
    InvalidInputError,
    MissingDependencyError,
    NotFoundError,
    TemporaryError,
)
from davy.packaging.recipe import Recipe

BASE = "debian:bookworm-slim"
# In the order of preference.
BUILDERS = ("docker", "podman", "buildah")
CONTAINERFILE = "Containerfile"
# What every build reads beside its own files.
SCRIPTS = (CONTAINERFILE, "prune.py", "sbom.py", "weigh.py")
ARCHIVE = "oci-archive:"


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

    def check(self) -> None:
        """Raise `NotFoundError` where one of them is not there."""
        for path in (self.ca, self.uv, self.pip):
            if path is not None and not path.is_file():
                raise NotFoundError("no such file", where=str(path))


NO_SECRETS = Secrets()


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the builder holds it."""

    name: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is built.

    Attributes
    ----------
    name : str
        The image's, with its tag.
    created : datetime
        The time that its files bear.
    labels : Mapping
        Its labels.
    recipe : Recipe
        What it is made of.
    """

    name: str
    created: datetime
    labels: Mapping[str, str]
    recipe: Recipe


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


def command(
    builder: str, plan: Plan, context: Path, *, base: str = BASE, secrets: Secrets = NO_SECRETS
) -> list[str]:
    """Return the command that builds; its image's id goes to ``context.iid`` beside the context."""
    epoch = int(plan.created.timestamp())
    # Docker takes the time from a build argument, the others by an option of their own.
    time = (
        ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"]
        if builder == "docker"
        else ["--timestamp", str(epoch), "--layers"]
    )
    recipe = plan.recipe
    name, _, version = plan.name.rpartition(":")
    arguments = {
        "DEBIAN": base,
        "PROGRAMS": " ".join(recipe.programs),
        "SOURCES": " ".join(recipe.sources),
        "BUDGET_MB": str(recipe.budget_mb),
        "NAME": name.rpartition("/")[2],
        "VERSION": version,
        "WORKDIR": recipe.workdir,
        "PORT": str(recipe.port) if recipe.port else "",
    }
    given = {"ca": secrets.ca, "uv": secrets.uv, "pip": secrets.pip}
    return [
        builder,
        "build",
        "--quiet",
        *("--file", str(context / CONTAINERFILE)),
        *("--target", "server" if recipe.port else "program"),
        *("--tag", plan.name),
        *("--iidfile", str(identifier_file(context))),
        *(part for k, v in arguments.items() if v for part in ("--build-arg", f"{k}={v}")),
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


def lay_out(context: Path, files: Path, name: str, recipe: Recipe) -> None:
    """Write what every context has: our scripts, what to prune, the program that starts it.

    Raises
    ------
    NotFoundError
        `files` is not the folder of a checkout.
    """
    if not (files / CONTAINERFILE).is_file():
        raise NotFoundError(
            "no such file", where=str(files / CONTAINERFILE), fix="Run it in a checkout"
        )
    (context / "app" / "bin").mkdir(parents=True)
    (context / "wheels").mkdir()
    for script in SCRIPTS:
        shutil.copy(files / script, context / script)
    shutil.copy(files / name / "serve", context / "app" / "bin" / "serve")
    (context / "prune.json").write_text(json.dumps(recipe.prune, indent=1), encoding="utf-8")


def build(
    builder: str, plan: Plan, context: Path, *, base: str = BASE, secrets: Secrets = NO_SECRETS
) -> Image:
    """Build what a context holds.

    Raises
    ------
    TemporaryError
        The build failed: what it wrote is on the terminal.
    """
    done = subprocess.run(
        command(builder, plan, context, base=base, secrets=secrets),
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        # What it needs of others is a registry of images, Debian's and Python's packages, disk.
        raise TemporaryError(
            f"{builder} ended with {done.returncode}: what it wrote is above",
            where=plan.name,
            fix="Check network and free disk, then try again; behind a proxy or with an index "
            "of your own: --ca, --pip-config, --uv-config",
        )
    return Image(plan.name, identifier_file(context).read_text(encoding="utf-8").strip())


def archive_file(output: str) -> Path:
    """Return the file that an ``--output`` names.

    Raises
    ------
    InvalidInputError
        It is not of the form ``oci-archive:FILE``, or its folder is not there.
    """
    path = Path(output.removeprefix(ARCHIVE))
    if not output.startswith(ARCHIVE) or path.name in ("", ".", ".."):
        raise InvalidInputError(f"'{output}' is not of the form {ARCHIVE}FILE", where="--output")
    if not path.parent.is_dir():
        raise InvalidInputError("no such folder", where=f"--output {path.parent}")
    return path


def qualified(name: str) -> str:
    """Return a name by which a node's runtime finds it: one without a registry is ``localhost``'s.

    Examples
    --------
    >>> qualified("davy-operator:0.1.0"), qualified("registry.example/davy-operator:0.1.0")
    ('localhost/davy-operator:0.1.0', 'registry.example/davy-operator:0.1.0')
    """
    first, slash, _ = name.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == "localhost")
    return name if has_registry else f"localhost/{name}"


def save_command(builder: str, image: Image, file: Path) -> list[list[str]]:
    """Return the commands that write an image as an archive that ``ctr images import`` reads."""
    name = qualified(image.name)
    if builder == "buildah":
        return [["buildah", "push", "--quiet", image.identifier, f"{ARCHIVE}{file}:{name}"]]
    # Docker's archives have been OCI's too since its version 25.
    form = ["--format", "oci-archive"] if builder == "podman" else []
    return [
        [builder, "tag", image.identifier, name],
        [builder, "save", *form, "--output", str(file), name],
    ]


def save(builder: str, image: Image, file: Path) -> None:
    """Write an image as an archive; one that is there is replaced.

    Raises
    ------
    TemporaryError
        The builder failed: what it wrote is on the terminal.
    """
    # Buildah would add to it.
    file.unlink(missing_ok=True)
    for arguments in save_command(builder, image, file):
        done = subprocess.run(arguments, check=False, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise TemporaryError(
                f"{builder} ended with {done.returncode}: what it wrote is above",
                where=str(file),
                fix="Check free disk, then try again",
            )
