"""A model package in a folder: written whole, read only when every byte is as it was written.

Belongs here: layout of the store, writing, reading, verifying. Not here: what a contract says.

A store is ``<store>/<name>/<version>/``; the version is the day of ``created`` and the first 8
hex digits of the identity (`davy.packaging.manifest`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from davy.core.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from davy.core.files import parse_model, to_json
from davy.packaging import manifest as manifests
from davy.packaging.card_render import render_page, render_text
from davy.packaging.contract import Contract
from davy.packaging.manifest import CARD_PAGE, CARD_TEXT, CONTRACT, MANIFEST, SIGNATURE, Manifest
from davy.packaging.sign import sign_folder, verify_folder

MODEL = "model.onnx"
REFERENCE = "reference.parquet"
REQUIRED = (MODEL, REFERENCE)

# What a package may hold. Formats that run code when they are read are not among them.
SUFFIXES = frozenset(
    {".onnx", ".json", ".parquet", ".md", ".html", ".yaml", ".csv", ".txt", ".png", ".svg"}
)
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_WRITTEN_HERE = frozenset({CONTRACT, CARD_TEXT, CARD_PAGE, MANIFEST, SIGNATURE})


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose files were all found to be as its manifest says.

    Attributes
    ----------
    path : Path
        Its folder.
    contract, manifest : Contract, Manifest
        Its two machine-written documents.
    identity : str
        sha256 that stands for all its content, in hexadecimal.
    files : mapping of str to Path
        Every file of the manifest by its name in the package.
    signed : bool
        Whether it carries a signature; `verified` whether that was checked against a key.
    """

    path: Path
    contract: Contract
    manifest: Manifest
    identity: str
    files: Mapping[str, Path]
    signed: bool
    verified: bool

    def content(self, name: str) -> bytes:
        """Return a file's bytes, hashed again as they are read.

        Raises
        ------
        NotFoundError
            The package holds no such file.
        IntegrityError
            The file changed since the package was verified.
        """
        if name not in self.files:
            raise NotFoundError(f"no file '{name}' in the package", where=str(self.path))
        path = self.files[name]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"cannot be read ({error.strerror})", where=str(path)) from None
        _compare(path, self.manifest.files[name].sha256, hashlib.sha256(data).hexdigest())
        return data


def write_package(
    store: Path,
    draft: Contract | Mapping[str, Any],
    files: Mapping[str, Path],
    *,
    private_key: Path | None,
) -> Package:
    """Write a package into a store; it is there whole, or not at all.

    Parameters
    ----------
    store : Path
        Folder of packages; made when absent.
    draft : Contract or mapping
        The contract; its ``version`` is not read, but made here.
    files : mapping of str to Path
        Name in the package (``evidence/plot.svg``) to the file that is copied there; must hold
        ``model.onnx`` and ``reference.parquet``.
    private_key : Path, optional
        PEM key that signs the package.

    Returns
    -------
    Package
        The package, read back from where it was written. Writing the same again returns the
        one that is there.

    Raises
    ------
    InvalidInputError
        The draft does not fit the contract's schema, or a file has no place in a package.
    NotFoundError
        A file or the key does not exist.
    """
    fields = draft.model_dump(mode="json") if isinstance(draft, Contract) else dict(draft)
    bare = _parse_draft(fields)
    _check_name(bare.name)
    _check_sources(files)
    parent = store / bare.name
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=parent, prefix=".writing-"))
    try:
        content = work / "content"
        for name, source in files.items():
            target = content / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        version = _seal(content, bare)
        # The signature prints the folder's name: give it the final one.
        final = content.rename(work / version)
        if private_key is not None:
            sign_folder(final, private_key)
        _settle(final)
        read_package(final)
        return _publish(final, parent / version, private_key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_package(path: Path, *, public_key: Path | None = None) -> Package:
    """Read a package and verify all of it.

    Parameters
    ----------
    path : Path
        The package's folder.
    public_key : Path, optional
        PEM key of the signer; without one the signature is not looked at.

    Raises
    ------
    NotFoundError
        There is no such folder, or it holds no manifest.
    IntegrityError
        A file is missing, changed, not in the manifest, or cannot be read; the identity does not
        follow from the files; or the signature does not hold. Names the file, what was expected
        and found.
    InvalidInputError
        All bytes are as written, but the contract does not fit this version's schema.
    """
    try:
        return _read(path, public_key)
    except OSError as error:
        raise IntegrityError(
            f"cannot be read ({error.strerror})",
            where=str(error.filename or path),
            fix="Let this user read the whole package",
        ) from None


def _read(path: Path, public_key: Path | None) -> Package:
    if not path.is_dir():
        raise NotFoundError(
            "no such package", where=str(path), fix="Name the folder STORE/NAME/VERSION"
        )
    document = _read_manifest(path / MANIFEST)
    try:
        manifest = parse_model(document, Manifest, where=str(path / MANIFEST))
    except InvalidInputError as error:
        raise IntegrityError(f"damaged: {error.what}", where=str(path / MANIFEST)) from None
    found = _walk(path)
    _check_names(path, manifest, found)
    for name in sorted(manifest.files):
        _compare(path / name, manifest.files[name].sha256, manifests.entry(found[name]).sha256)
    # Before anything else of it is parsed: what is not its maker's may be made to do harm.
    if public_key is not None:
        verify_folder(path, public_key)
    contract = _read_contract(path)
    bare = {
        name: manifests.without_version(found[name].read_bytes(), contract.version)
        for name in manifests.VERSIONED & manifest.files.keys()
    }
    _compare(path / MANIFEST, manifest.identity, manifests.identity(document, bare), "identity")
    expected = _version(contract, manifest.identity)
    if contract.version != expected:
        raise IntegrityError(
            f"names version '{contract.version}', but its content is '{expected}'",
            where=str(path / CONTRACT),
        )
    return Package(
        path=path,
        contract=contract,
        manifest=manifest,
        identity=manifest.identity,
        files={name: found[name] for name in manifest.files},
        signed=(path / SIGNATURE).is_file(),
        verified=public_key is not None,
    )


def _parse_draft(fields: Mapping[str, Any]) -> Contract:
    where = "contract draft"
    bare = parse_model({**fields, "version": ""}, Contract, where=where)
    # JSON has no NaN: a figure that was not measured must not become null on its way to a reader.
    return parse_model(json.loads(to_json(bare)), Contract, where=where)


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or PurePosixPath(name).name != name:
        raise InvalidInputError(f"name '{name}' cannot be a folder", where="contract draft")


def _check_sources(files: Mapping[str, Path]) -> None:
    for name in REQUIRED:
        if name not in files:
            raise InvalidInputError(f"'{name}' is missing from the files", where="package")
    for name, source in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != name or "\\" in name:
            raise InvalidInputError(f"'{name}' is not a plain relative path", where="package")
        if name in _WRITTEN_HERE:
            raise InvalidInputError(f"'{name}' is made by packaging itself", where=str(source))
        if not source.is_file():
            raise NotFoundError(f"no such file (for '{name}')", where=str(source))
        with source.open("rb") as file:
            start = file.read(2)
        if pure.suffix not in SUFFIXES or start in _PICKLE_STARTS:
            raise InvalidInputError(
                f"'{name}' has no place in a package: it may run code when it is read",
                where=str(source),
                fix=f"Allowed are {', '.join(sorted(SUFFIXES))}, and no pickle",
            )


def _version(contract: Contract, identity: str) -> str:
    return f"{contract.created:%Y.%m.%d}-{identity[:8]}"


def _seal(content: Path, bare: Contract) -> str:
    """Write contract, card and manifest into `content`; return the version."""

    def documents(contract: Contract) -> dict[str, bytes]:
        return {
            CONTRACT: to_json(contract).encode(),
            CARD_TEXT: render_text(contract).encode(),
            CARD_PAGE: render_page(contract).encode(),
        }

    copied = {name: manifests.entry(item).model_dump() for name, item in _walk(content).items()}
    without = {name: manifests.without_version(data, "") for name, data in documents(bare).items()}
    document: dict[str, Any] = {
        "schema_version": manifests.SCHEMA_VERSION,
        "files": {**copied, **{name: item.model_dump() for name, item in without.items()}},
    }
    identity = manifests.identity(document, without)
    version = _version(bare, identity)
    for name, data in documents(bare.model_copy(update={"version": version})).items():
        (content / name).write_bytes(data)
        document["files"][name] = manifests.entry(content / name).model_dump()
    document["identity"] = identity
    (content / MANIFEST).write_bytes(manifests.canonical(document))
    return version


def _settle(folder: Path) -> None:
    """Put every file on the disk before the folder gets the name that readers look for."""
    for item in [*folder.rglob("*"), folder]:
        handle = os.open(item, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _publish(final: Path, target: Path, private_key: Path | None) -> Package:
    try:
        final.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        there = read_package(target)
        if private_key is not None and not there.signed:
            raise ConflictError(
                "the same package is there without a signature",
                where=str(target),
                fix="Remove it and package again",
            ) from None
        return there
    return read_package(target)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError(
            "no manifest: this is not a model package",
            where=str(path),
            fix="Name the folder STORE/NAME/VERSION",
        )
    data = path.read_bytes()
    try:
        document = json.loads(data)
        same = isinstance(document, dict) and manifests.canonical(document) == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise IntegrityError("damaged: not canonical JSON", where=str(path))
    return dict(document)


def _walk(folder: Path) -> dict[str, Path]:
    found = {}
    for item in sorted(folder.rglob("*")):
        if item.is_symlink() or not (item.is_file() or item.is_dir()):
            raise IntegrityError("not a plain file", where=str(item))
        if item.is_file():
            found[item.relative_to(folder).as_posix()] = item
    return found


def _check_names(path: Path, manifest: Manifest, found: Mapping[str, Path]) -> None:
    for name in sorted({*REQUIRED, CONTRACT, *manifest.files}):
        if name not in found:
            expected = manifest.files.get(name)
            raise IntegrityError(
                f"missing (expected sha256 {expected.sha256})" if expected else "missing",
                where=str(path / name),
            )
        if name not in manifest.files:
            raise IntegrityError("not listed in the manifest", where=str(path / name))
    extra = sorted(found.keys() - manifest.files.keys() - {MANIFEST, SIGNATURE})
    if extra:
        raise IntegrityError("not listed in the manifest", where=str(path / extra[0]))


def _compare(path: Path, expected: str, found: str, what: str = "sha256") -> None:
    if expected != found:
        raise IntegrityError(
            f"{what} does not match: expected {expected}, found {found}",
            where=str(path),
            fix="Do not use this package; fetch or make it again",
        )


def _read_contract(path: Path) -> Contract:
    where = str(path / CONTRACT)
    try:
        document = json.loads((path / CONTRACT).read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"not JSON: {error}", where=where) from None
    return parse_model(document, Contract, where=where)
