"""Household ids become pseudonyms before anything is written.

Belongs here: the keyed hash, and where the key comes from. Not here: which columns carry ids.

The key decides the pseudonyms: whoever holds it and the ids can link them, so it stays out of
every output folder. The same key gives the same pseudonyms, so that a step can be cached and two
runs can be joined.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from davy.core.errors import InvalidInputError

KEY_FILE = "pseudonym.key"
LENGTH = 16


def pseudonym(identity: str, key: bytes) -> str:
    """Return the first 16 hex digits of HMAC-SHA256.

    Examples
    --------
    >>> pseudonym("900", b"a key for the example")
    '5b374117810fb267'
    """
    return hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def find_key(setting: str | None, folder: Path) -> bytes:
    """Return the key: the setting, else the one in the folder's key file, made on first use.

    Parameters
    ----------
    setting : str, optional
        ``DAVY_PIPELINE_PSEUDONYM_KEY``.
    folder : Path
        Where ``pseudonym.key`` lies or is made, readable by its owner alone.

    Raises
    ------
    InvalidInputError
        The key file is there but holds no key.
    """
    if setting is not None:
        return setting.encode()
    path = folder / KEY_FILE
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make_key(path)
    key = path.read_text(encoding="utf-8").strip()
    if len(key) < LENGTH:
        raise InvalidInputError(
            "holds no key",
            where=str(path),
            fix="Delete it to have a new one made, or set DAVY_PIPELINE_PSEUDONYM_KEY",
        )
    return key.encode()


def _make_key(path: Path) -> None:
    """Make the key file whole; of two runs that start together, one's key serves both."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
    finally:
        new.unlink()
