"""Davy's images as the node takes them.

Belongs here: which, whether the store has them, their archives. Not here: the recipes
(`services/images`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from davy.packaging.builder import qualified
from davy.packaging.component import build_wheel, default_name

ROOT = Path(__file__).parents[3]
# Image -> its variant. Drift is judged without alibi-detect: half a gigabyte less to unpack.
IMAGES = {"predictor": "", "operator": "", "detector": "native"}
# "any" takes images of Buildah's store whatever code they hold; while that is being changed.
SETTING = "DAVY_BED_IMAGES"
LABEL = "dev.davylamp.code"


def image_archives(folder: Path) -> dict[str, tuple[str, Path]]:
    """Return the names of the images, and an archive of each; built where the code has changed."""
    if shutil.which("buildah") is None:
        pytest.skip("the images need Debian's buildah: `apt-get install buildah debootstrap`")
    wheel = build_wheel(folder)
    code = subprocess.run(
        ["sha256sum", str(wheel)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    return {
        image: _archive(image, variant, code, folder / f"{image}.tar")
        for image, variant in IMAGES.items()
    }


def _archive(image: str, variant: str, code: str, archive: Path) -> tuple[str, Path]:
    name = qualified(default_name(image, variant))
    output = f"oci-archive:{archive}"
    if os.environ.get(SETTING) == "any" or _label(name) == code:
        push = ["buildah", "push", "--quiet", name, f"{output}:{name}"]
        subprocess.run(push, check=True)
        return name, archive
    command = [str(ROOT / "services/images/build.sh"), image, "--builder", "buildah"]
    command += ["--output", output, *(["--variant", variant] if variant else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"the image of the {image} cannot be built:\n{done.stderr[-3000:]}")
    return name, archive


def _label(name: str) -> str:
    form = f'{{{{index .OCIv1.Config.Labels "{LABEL}"}}}}'
    done = subprocess.run(
        ["buildah", "inspect", "--type", "image", "--format", form, name],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
