"""A Bento around one model package: what ``bentoml serve`` and ``bentoml containerize`` take.

Belongs here: what goes into a Bento, and building one. Not here: the service itself, images.

A Bento is whole in itself: the package, the code that serves it, and the locked names and
versions of the libraries below that. Training, monitoring and the command line stay out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import yaml

from davy.core.errors import ConflictError, InvalidInputError, MissingDependencyError, NotFoundError
from davy.packaging.package import Package, read_package

PYTHON = "3.11"
# What serving imports of this distribution.
PARTS = ("core", "protocol", "outlier", "packaging", "predictor")
DISTRIBUTION = "davylamp"
CODE = "davy_bento"
PACKAGE = "package"
REQUIREMENTS = "requirements.txt"

_LOCKED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+( ?; ?[^@:]+)?")
_SERVICE = f'''"""The package of this Bento, unless another one is named or KServe brings one."""

import os
from pathlib import Path

# With STORAGE_URI, KServe puts a package at the predictor's default, /mnt/models.
if not os.environ.get("STORAGE_URI"):
    os.environ.setdefault("DAVY_PREDICTOR_MODEL_DIR", str(Path(__file__).parent / "{PACKAGE}"))

from davy.predictor.service import Predictor  # noqa: E402

__all__ = ["Predictor"]
'''


@dataclass(frozen=True, slots=True)
class Bento:
    """A Bento as the local store holds it."""

    tag: str
    path: Path


def checkout_requirements() -> Path:
    """Return the locked serving set of the checkout that this code is run from."""
    return Path(__file__).parents[3] / "requirements" / "serve.txt"


def locked(path: Path) -> list[str]:
    """Return the lines of a locked set, ``name==version`` each.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        A line is an option, an address, a path, or not locked to one version.
    """
    if not path.is_file():
        raise NotFoundError(
            "no such file", where=str(path), fix="Name the locked serving set: --requirements"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        if _LOCKED.fullmatch(line) is None:
            raise InvalidInputError(
                f"'{line}' is not of the form NAME==VERSION",
                where=str(path),
                fix="A Bento is built elsewhere too: no options, addresses or paths",
            )
    return lines


def build_bento(
    folder: Path,
    *,
    tag: str = "",
    requirements: Path | None = None,
    public_key: Path | None = None,
) -> Bento:
    """Build a Bento of a package into the local Bento store (``BENTOML_HOME``).

    Parameters
    ----------
    folder : Path
        The package's folder; verified before it is copied, and again as a copy.
    tag : str
        ``NAME:VERSION`` or ``NAME``; the package's own name and version where left out.
    requirements : Path, optional
        Locked set to install; that of the checkout where left out.
    public_key : Path, optional
        Checks the package's signature.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError
        The package or the locked set cannot be used, or the tag is none.
    MissingDependencyError
        BentoML is not installed.
    ConflictError
        The locked BentoML is another than the one that builds, or the tag is taken.
    """
    package = read_package(folder, public_key=public_key)
    lines = locked(requirements or checkout_requirements())
    _same_bentoml(lines)
    name, _, version = tag.partition(":")
    with tempfile.TemporaryDirectory(prefix="davy-bento-") as work:
        context = Path(work)
        _fill(context, package, lines, public_key)
        return _build(context, name or package.contract.name, version or package.contract.version)


def find_bento(tag: str) -> Path:
    """Return the folder of a Bento: that of a tag in the local store, or one that is named.

    Raises
    ------
    InvalidInputError
        The tag is empty.
    NotFoundError
        There is none.
    MissingDependencyError
        BentoML is not installed.
    """
    if not tag.strip():
        # Path("") is the working directory.
        raise InvalidInputError(
            "the tag is empty", where="bento", fix="Name a Bento: NAME:VERSION, or its folder"
        )
    if Path(tag).is_dir():
        return Path(tag)
    try:
        import bentoml
        from bentoml.exceptions import BentoMLException
    except ImportError:
        raise _without_bentoml() from None
    try:
        return Path(bentoml.get(tag).path)
    except (BentoMLException, ValueError) as error:
        raise NotFoundError(
            str(error), where=f"bento {tag}", fix="Make it: davy package bento FOLDER"
        ) from None


def _without_bentoml() -> MissingDependencyError:
    return MissingDependencyError(
        "BentoML is not installed", where="bento", fix="Install davylamp[serve]"
    )


def _same_bentoml(lines: list[str]) -> None:
    try:
        here = installed_version("bentoml")
    except PackageNotFoundError:
        raise _without_bentoml() from None
    # BentoML adds its own version to what is installed, and two versions of one cannot be.
    if f"bentoml=={here}" not in lines:
        raise ConflictError(
            f"this environment has bentoml {here}, which is not in the locked set",
            where="bento",
            fix="Install the locked set, or lock again",
        )


def _fill(context: Path, package: Package, lines: list[str], public_key: Path | None) -> None:
    shutil.copytree(package.path, context / PACKAGE)
    read_package(context / PACKAGE, public_key=public_key)
    for part in PARTS:
        spec = importlib.util.find_spec(f"davy.{part}")
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError(
                f"davy.{part} is not installed", where="bento", fix=f"Install {DISTRIBUTION}[serve]"
            )
        shutil.copytree(
            spec.submodule_search_locations[0],
            context / "davy" / part,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    # The code asks for its own version, which a distribution's metadata holds.
    version = installed_version(DISTRIBUTION)
    metadata = context / f"{DISTRIBUTION}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n")
    (context / f"{CODE}.py").write_text(_SERVICE, encoding="utf-8")
    (context / REQUIREMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (context / "bentofile.yaml").write_text(yaml.safe_dump(_bentofile(package)), encoding="utf-8")


def _bentofile(package: Package) -> dict[str, Any]:
    contract = package.contract
    return {
        "service": f"{CODE}:Predictor",
        "description": f"{contract.name} {contract.version}: see the model card in the package.",
        "labels": {
            "davy-model": contract.name,
            "davy-version": contract.version,
            "davy-identity": package.identity,
        },
        "include": ["**"],
        "docker": {"distro": "debian", "python_version": PYTHON},
        # Locked already; BentoML's own locking would write this machine's addresses into it.
        "python": {"requirements_txt": REQUIREMENTS, "lock_packages": False},
    }


def _build(context: Path, name: str, version: str) -> Bento:
    import bentoml
    from bentoml.exceptions import BentoMLException, NotFound

    where = f"bento {name}:{version}"
    try:
        with contextlib.suppress(NotFound):
            bentoml.get(f"{name}:{version}")
            raise ConflictError(
                "is in the store already", where=where, fix="Delete it, or give another --tag"
            )
        built = bentoml.bentos.build_bentofile(
            str(context / "bentofile.yaml"), name=name, version=version, build_ctx=str(context)
        )
    except (BentoMLException, ValueError) as error:
        raise InvalidInputError(f"cannot be built: {error}", where=where) from None
    return Bento(str(built.tag), Path(built.path))
