"""Which code makes a model: the number of the release and a digest of its files.

Belongs here: naming the code. Not here: what is done with the name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

# What runs in a step; a change elsewhere gives the same model.
PARTS = (
    "compression",
    "core",
    "data",
    "drift",
    "features",
    "kubeflow",
    "packaging",
    "training",
)


def code_version() -> str:
    """Return ``release+digest``, so that a changed working copy is told from its release."""
    return f"{importlib.metadata.version('davylamp')}+{code_digest()}"


def code_digest() -> str:
    """Return 12 hex digits of the sha256 over the Python files of `PARTS`."""
    import davy

    digest = hashlib.sha256()
    for part in PARTS:
        for portion in davy.__path__:
            for path in sorted((Path(portion) / part).rglob("*.py")):
                digest.update(f"{part}/{path.name}".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
