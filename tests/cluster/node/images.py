"""Davy's images as the node takes them.

Belongs here: which, whether the store has them, how they get there. Not here: the recipes
(`services/images`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cluster.bed.node.runtime import images, import_image
from tests.cluster.bed.node.settings import NodeSettings

from davy.packaging.builder import qualified
from davy.packaging.component import build_wheel, default_name

ROOT = Path(__file__).parents[3]
# Image -> its variant. Drift is judged without alibi-detect: half a gigabyte less to unpack.
IMAGES = {"predictor": "", "operator": "", "detector": "native"}
# "any" takes images of Buildah's store whatever code they hold; while that is being changed.
SETTING = "DAVY_BED_IMAGES"
LABEL_OF_CODE = '{{index .OCIv1.Config.Labels "dev.davylamp.code"}}'


def take_images(node: NodeSettings, folder: Path) -> dict[str, str]:
    """Have the node take the images, built where the code has changed; return their names."""
    if shutil.which("buildah") is None:
        pytest.skip("the images need Debian's buildah: `apt-get install buildah debootstrap`")
    code = hashlib.sha256(build_wheel(folder).read_bytes()).hexdigest()
    return {image: _take(node, image, variant, code, folder) for image, variant in IMAGES.items()}


def _take(node: NodeSettings, image: str, variant: str, code: str, folder: Path) -> str:
    name = qualified(default_name(image, variant))
    if os.environ.get(SETTING) != "any" and _inspect(name, LABEL_OF_CODE) != code:
        command = [str(ROOT / "services/images/build.sh"), image, "--builder", "buildah"]
        command += ["--variant", variant] if variant else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"the image of the {image} cannot be built:\n{done.stderr[-3000:]}")
    # containerd knows an image by its name and by the hash of its configuration.
    if not {name, f"sha256:{_inspect(name, '{{.FromImageID}}')}"} <= set(images(node)):
        archive = folder / f"{image}.tar"
        push = ["buildah", "push", "--quiet", name, f"oci-archive:{archive}:{name}"]
        subprocess.run(push, check=True)
        import_image(node, archive)
        archive.unlink()
    return name


def _inspect(name: str, form: str) -> str:
    """Return a field of an image in Buildah's store, empty where there is none."""
    command = ["buildah", "inspect", "--type", "image", "--format", form, name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
