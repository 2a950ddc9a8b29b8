"""Removes from installed wheels what a predictor never loads.

Belongs here: which files, and why. Not here: which packages (``requirements/serve.txt``).

``python3 prune.py SITE_PACKAGES``; run in the image's build. A pattern that finds nothing is an
error: the wheel changed, and so must the pattern.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# Pattern under site-packages -> why it is not needed.
UNNEEDED = {
    "onnxruntime/capi/libonnxruntime.so.*": "for programs in C: the Python module has its own",
    "onnxruntime/backend": "for ONNX's own tests",
    "onnxruntime/datasets": "example models",
    "onnxruntime/quantization": "making models",
    "onnxruntime/tools": "making models",
    "onnxruntime/transformers": "making models",
    "pyarrow/libarrow_flight.so.*": "RPC: reference rows are read from a file",
    "pyarrow/_flight.*": "RPC",
    "pyarrow/include": "for compilers",
    "pyarrow/tests": "tests",
    "numpy/f2py": "for compilers",
    "numpy/distutils": "for compilers",
    "numpy/core/include": "for compilers",
    "securesystemslib/_vendor/ed25519/test_data": "tests",
    "tornado/test": "tests",
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


def prune(site: Path) -> int:
    """Remove it and return how many bytes that freed."""
    before = size(site)
    for pattern in UNNEEDED:
        found = sorted(site.glob(pattern))
        if not found:
            sys.exit(f"prune: nothing matches {pattern}: the wheel changed")
        for path in found:
            if path.is_dir():
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
    sys.stdout.write(f"pruned {prune(Path(sys.argv[1])) / 1e6:.0f} MB\n")
