"""Which settings a values file may give."""

from __future__ import annotations

import json

from pydantic import SecretStr

from davy.cli.chart_schema import OWNED, schema, settings
from davy.cli.reference import settings_classes

CLASSES = {cls.section: cls for cls in settings_classes()}


def test_what_the_chart_sets_itself_exists_and_is_not_offered() -> None:
    for part, owned in OWNED.items():
        fields = set(CLASSES[part].model_fields)
        assert owned <= fields, f"{part}: {owned - fields} are gone"
        assert set(settings()[part]) == fields - owned


def test_no_secret_may_be_written_into_a_values_file() -> None:
    for part in OWNED:
        for name, field in CLASSES[part].model_fields.items():
            if "SecretStr" in str(field.annotation) or field.annotation is SecretStr:
                assert name in OWNED[part]


def test_names_are_replaced_and_the_rest_stays() -> None:
    old = {
        "title": "kept",
        "$defs": {
            "name": {"type": "string"},
            **{f"{part}Settings": {"propertyNames": {"enum": ["gone"]}} for part in OWNED},
        },
    }
    new = json.loads(schema(json.dumps(old)))
    assert new["title"] == "kept"
    assert new["$defs"]["name"] == {"type": "string"}
    assert new["$defs"]["operatorSettings"]["propertyNames"]["enum"] == settings()["operator"]
    assert "drain_seconds" in settings()["operator"]
