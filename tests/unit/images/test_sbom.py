"""The bill of materials of an image: what is added to that of Python's packages."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

STATUS = """Package: {name}
Version: {version}
Architecture: amd64
Description: a short one
 and a longer one: with a colon
"""


def test_debians_packages_and_the_image_are_in_it(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    sbom = script("sbom")
    for name, version in (("zlib1g", "1:1.2.13.dfsg-1"), ("dash", "0.5.12-2")):
        (tmp_path / name).write_text(STATUS.format(name=name, version=version))
    python = {
        "bomFormat": "CycloneDX",
        "components": [{"type": "library", "name": "numpy", "version": "1.26.4"}],
        "dependencies": [{"ref": "numpy"}],
        "metadata": {"tools": {}},
    }
    made = sbom.complete(python, sbom.statuses(tmp_path), "davy-operator", "0.1.0")
    assert [item["name"] for item in made["components"]] == ["numpy", "dash", "zlib1g"]
    assert made["components"][2]["purl"] == (
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=debian-12"
    )
    assert made["metadata"]["component"]["name"] == "davy-operator"
    assert made["metadata"]["tools"] == {}
    # Each is named by a reference of its own, as the format asks.
    references = [item["ref"] for item in made["dependencies"]]
    assert references == ["numpy", "deb-dash", "deb-zlib1g"]
    # What was read is not changed.
    assert len(python["components"]) == 1
