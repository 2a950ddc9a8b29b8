"""Completes an image's bill of materials: Debian's packages beside Python's, and the image itself.

Belongs here: what CycloneDX says of them. Not here: the list of Python's (``cyclonedx-py``).

``python sbom.py PYTHON_CDX_JSON STATUS_FOLDER NAME VERSION OUTPUT``; run in the image's build, with
the interpreter that has ``cyclonedx``: what breaks its schema ends the build.
"""

from __future__ import annotations

import json
import sys
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote


def complete(
    document: dict[str, Any], packages: list[dict[str, str]], name: str, version: str
) -> dict[str, Any]:
    """Return the document with Debian's packages and what it is the bill of."""
    debian = [
        {
            "type": "library",
            "bom-ref": f"deb-{package['Package']}",
            "name": package["Package"],
            "version": package["Version"],
            "purl": f"pkg:deb/debian/{package['Package']}@{quote(package['Version'], safe='')}"
            f"?arch={package['Architecture']}&distro=debian-12",
        }
        for package in sorted(packages, key=lambda item: item["Package"])
    ]
    about = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    return {
        **document,
        "metadata": {**document.get("metadata", {}), "component": about},
        "components": [*document.get("components", []), *debian],
        "dependencies": [
            *document.get("dependencies", []),
            *({"ref": item["bom-ref"]} for item in debian),
        ],
    }


def statuses(folder: Path) -> list[dict[str, str]]:
    """Return the fields of each package of which a status file tells."""
    parser = Parser()
    return [
        dict(parser.parsestr(path.read_text(encoding="utf-8")).items())
        for path in sorted(folder.iterdir())
    ]


def validate(text: str) -> None:
    """End the build where the text is no CycloneDX 1.6."""
    # Installed in the build alone.
    from cyclonedx.schema import SchemaVersion  # type: ignore[import-not-found]
    from cyclonedx.validation.json import JsonStrictValidator  # type: ignore[import-not-found]

    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.exit(f"sbom: {wrong}")


if __name__ == "__main__":
    source, folder, *about, target = sys.argv[1:]
    made = complete(
        json.loads(Path(source).read_text(encoding="utf-8")), statuses(Path(folder)), *about
    )
    written = json.dumps(made, indent=1, sort_keys=True) + "\n"
    validate(written)
    Path(target).write_text(written, encoding="utf-8")
