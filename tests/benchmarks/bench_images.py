"""What each image weighs, holds and takes to start: the table of ``services/images/README.md``.

``python -m tests.benchmarks.bench_images NAME...``, where NAME is of `IMAGES`, starts what
``services/images/build.sh`` built of them by Buildah as a cluster would
(`tests.benchmarks.container`). What does not do what the page says ends it with an error: a user, a
place that can be written to, a process that is not reaped, a wrong answer, an end that is none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.container import require, unpacked, weight
from tests.benchmarks.images.pod import Pod, check
from tests.benchmarks.images.row import Row, materials, table
from tests.benchmarks.images.servers import detector, operator, pipeline, predictor
from tests.benchmarks.page import ROOT, Block

from davy.packaging.component import default_name
from davy.packaging.recipe import checkout_files, read_recipe

BLOCK = Block(ROOT / "services/images/README.md", "images")


# By the image's folder, and its variant behind a hyphen.
IMAGES = {
    "operator": operator,
    "detector": detector,
    "detector-native": detector,
    "predictor": predictor,
    "pipeline": pipeline,
}


def measure(name: str, scratch: Path) -> Row:
    """Start an image in every way that is told of it."""
    folder, _, variant = name.partition("-")
    recipe = read_recipe(checkout_files(), folder, variant)
    image = default_name(folder, variant)
    with unpacked(image) as (root, about):
        python, debian = materials(root)
        row = Row(image, weight(root), recipe.budget_mb, python, debian)
        work = scratch / name
        work.mkdir()
        pod = Pod(root, about, work)
        check(pod)
        return IMAGES[name](pod, row)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=IMAGES, metavar="NAME")
    names = parser.parse_args().names
    BLOCK.check()
    require()
    with tempfile.TemporaryDirectory(prefix="davy-images-") as scratch:
        rows = {name: measure(name, Path(scratch)) for name in names}
    footnote = (
        f"MB (10^6 bytes) of all files unpacked. One start each on {os.cpu_count()} cores, at load "
        f"{os.getloadavg()[0]:.1f} when the last row was written; of the pipeline, the step "
        "`prepare-data` of 20 households to its end; the predictor drains for 6 s, and each "
        "request of 4 clients meanwhile is answered. Written by `make images`."
    )
    order = [default_name(*name.partition("-")[::2]) for name in IMAGES]
    text = table(BLOCK.page.read_text(encoding="utf-8"), rows, order, footnote)
    sys.stdout.write(f"{text}\n")
    BLOCK.write(text)


if __name__ == "__main__":
    main()
