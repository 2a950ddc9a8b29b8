"""Removes from installed wheels what an image never loads.

Belongs here: what every image goes without, and why. Not here: what one of them does (its
``image.toml``); which packages there are (``requirements/``).

``python3 prune.py PRUNE_JSON SITE_PACKAGES``; run in the image's build. A pattern that finds
nothing is an error: the wheel changed, and so must the pattern.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Pattern under site-packages -> why it is not needed.
UNNEEDED = {
    "pyarrow/libarrow_flight.so.*": "RPC: reference rows are read from a file",
    "pyarrow/_flight.*": "RPC",
    "pyarrow/include": "for compilers",
    "pyarrow/tests": "tests",
    "numpy/f2py": "for compilers",
    "numpy/distutils": "for compilers",
    "numpy/core/include": "for compilers",
    "securesystemslib/_vendor/ed25519/test_data": "tests",
    "**/tests": "tests",
    "**/*.a": "for compilers",
    "**/*.pxd": "for compilers",
    "**/*.pyi": "for type checkers",
    "**/*.pyx": "for compilers",
}
# One library under several names, as a copy each: a wheel holds no links.
COPIES = {"pyarrow/libarrow_python.so.2500": ("libarrow_python.so", "libarrow_python.so.2500.1.0")}
# Shipped with the symbols of their parts, which only a debugger reads. Not those of NumPy: the tool
# that moved its libraries into the wheel left files that `strip` breaks.
UNSTRIPPED = (
    "aiohttp/**/*.so",
    "cryptography/**/*.so",
    "pyarrow/*.so*",
    "rfc3161_client/*.so",
    "uvloop/*.so",
    "yaml/*.so",
)


def prune(site: Path, own: Mapping[str, str]) -> int:
    """Remove it, and what the image itself goes without; return how many bytes that freed."""
    before = size(site)
    # An image's own first: "**/tests" may be all that is left of them.
    for pattern in [*own, *UNNEEDED]:
        found = sorted(site.glob(pattern))
        if not found:
            sys.exit(f"prune: nothing matches {pattern}: the wheel changed")
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for name, copies in COPIES.items():
        kept = site / name
        for copy in copies:
            path = kept.with_name(copy)
            if path.read_bytes() != kept.read_bytes():
                sys.exit(f"prune: {path} is no copy of {name}: the wheel changed")
            path.unlink()
            path.symlink_to(kept.name)
    for pattern in UNSTRIPPED:
        for path in site.glob(pattern):
            if not path.is_symlink():
                subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)
    return before - size(site)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


if __name__ == "__main__":
    patterns = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(f"pruned {prune(Path(sys.argv[2]), patterns) / 1e6:.0f} MB\n")
