"""``manifest.json``: the hash and size of every file, and the identity that follows from them.

Belongs here: the schema, canonical JSON, hashing, the identity. Not here: reading a package.

A version's name is made from the identity, and the contract and the card print that name: a
circle. It is cut by hashing those files for the identity (and only for it) with the version's
text left out. The ``sha256`` in ``files`` is that of the file as it lies on the disk, so that
``sha256sum`` agrees with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from davy.core.files import MachineWritten

SCHEMA_VERSION = "1"

CONTRACT = "contract.json"
MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
CARD_TEXT = "card.md"
CARD_PAGE = "card.html"

# The files that print the version.
VERSIONED = frozenset({CONTRACT, CARD_TEXT, CARD_PAGE})


class FileEntry(MachineWritten):
    """One file: sha256 of its content in hexadecimal, size in bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(MachineWritten):
    """The whole of ``manifest.json``: every file but itself and the signature."""

    schema_version: str = SCHEMA_VERSION
    identity: str = Field(pattern=r"^[0-9a-f]{64}$")
    files: dict[str, FileEntry]


def canonical(document: Any) -> bytes:
    """Return the one JSON form of plain objects: sorted keys, no spaces, UTF-8, no NaN.

    Examples
    --------
    >>> canonical({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'
    """
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def entry(path: Path) -> FileEntry:
    """Return the hash and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(sha256=digest.hexdigest(), size=file.tell())


def without_version(content: bytes, version: str) -> FileEntry:
    """Return the hash and size of a file that prints `version`, as if it did not."""
    bare = content.replace(version.encode(), b"") if version else content
    return FileEntry(sha256=hashlib.sha256(bare).hexdigest(), size=len(bare))


def identity(document: Mapping[str, Any], bare: Mapping[str, FileEntry]) -> str:
    """Return the sha256 that names a package.

    Parameters
    ----------
    document : mapping
        The manifest as plain objects; its own ``identity`` is not part of what is hashed.
    bare : mapping of file name to FileEntry
        The files of `VERSIONED`, hashed by `without_version`.
    """
    files = {**document["files"], **{name: item.model_dump() for name, item in bare.items()}}
    rest = {key: value for key, value in document.items() if key != "identity"}
    return hashlib.sha256(canonical({**rest, "files": files})).hexdigest()
