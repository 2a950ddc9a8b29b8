"""An image of one layer with some files in it, as an archive that containerd imports.

Belongs here: the archive's form. Not here: which images (`addons`, `node`).

No daemon and no registry: a program that needs nothing beside it needs no more than this.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_archive(
    path: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str], user: str = "65532"
) -> None:
    """Write an image of programs; the same input gives the same bytes.

    Parameters
    ----------
    path : Path
        The archive.
    name : str
        Name and tag of the image.
    files : mapping of str to Path
        What is at which absolute path in it.
    entrypoint : sequence of str
    user : str
        As whom it runs.
    """
    layer = _tar(
        {inside.lstrip("/"): source.read_bytes() for inside, source in files.items()}, 0o755
    )
    digest = hashlib.sha256(layer).hexdigest()
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "config": {"User": user, "Entrypoint": list(entrypoint), "WorkingDir": "/"},
        },
        sort_keys=True,
    ).encode()
    key = f"{hashlib.sha256(configuration).hexdigest()}.json"
    place = f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": key, "RepoTags": [name], "Layers": [place]}]).encode()
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(
        _tar({key: configuration, place: layer, "manifest.json": manifest}, 0o644)
    )
    unfinished.rename(path)


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), mode
            tar.addfile(entry, io.BytesIO(files[name]))
    return out.getvalue()
