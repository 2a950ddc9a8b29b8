"""The predictor's image as the node takes it.

Belongs here: finding or building it, its archive. Not here: the recipe (`services/images`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.tiny_package import write_tiny_package

ROOT = Path(__file__).parents[3]
# An image of Buildah's store that is taken instead of building one of the code as it is.
SETTING = "DAVY_BED_PREDICTOR_IMAGE"


def predictor_archive(folder: Path) -> tuple[str, Path]:
    """Return the name of an image of a predictor, and its archive."""
    if shutil.which("buildah") is None:
        pytest.skip("the predictor's image needs Debian's buildah: `apt-get install buildah`")
    name = os.environ.get(SETTING) or _built(folder)
    archive = folder / "predictor.tar"
    push = ["buildah", "push", "--quiet", name, f"oci-archive:{archive}:{name}"]
    subprocess.run(push, check=True)
    return name, archive


def _built(folder: Path) -> str:
    package = write_tiny_package(folder / "of-image", weight=0.02)
    done = subprocess.run(
        ["make", "--silent", "image", f"PACKAGE={package.path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the predictor's image cannot be built:\n{done.stderr[-3000:]}")
    name, _identifier = done.stdout.split()[-2:]
    return name if "/" in name else f"localhost/{name}"
