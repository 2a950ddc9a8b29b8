"""The names of settings in the schema of the chart's values, from the code.

Belongs here: which settings a values file may give, writing them into ``values.schema.json``.
Not here: the rest of that schema, which is written by hand. Run as
``python -m davy.cli.chart_schema helm/davy/values.schema.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from davy.cli.reference import settings_classes
from davy.core.files import write_atomic

# Those that values of the chart set, and those that only a Secret may.
OWNED = {
    "operator": {
        "host",
        "lease",
        "namespace",
        "port",
        "prometheus_url",
        "public_key",
        "store",
        "watch_namespaces",
    },
    "detector": {"engine", "host", "port", "public_key", "state", "store"},
    "predictor": {"model_dir", "models", "payload_url", "pseudonymise_key"},
}


def settings() -> dict[str, list[str]]:
    """Return the names of the settings that a values file may give, by part."""
    fields = {cls.section: set(cls.model_fields) for cls in settings_classes()}
    return {part: sorted(fields[part] - owned) for part, owned in OWNED.items()}


def schema(text: str) -> str:
    """Return the schema with the names of today's settings in it."""
    document = json.loads(text)
    for part, names in settings().items():
        document["$defs"][f"{part}Settings"]["propertyNames"] = {"enum": names}
    return json.dumps(document, indent=2) + "\n"


def main(path: Path) -> None:
    """Write the schema anew."""
    write_atomic(path, schema(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
