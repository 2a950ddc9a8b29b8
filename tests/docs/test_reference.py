from pathlib import Path

import pytest

from davy.cli import reference

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_page_is_what_the_code_says(name: str):
    written = (ROOT / name).read_text()
    assert written == reference.PAGES[name](), f"{name} is stale: run 'make generate'"


def test_every_setting_has_a_description():
    for cls in reference.settings_classes():
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name}"


def test_every_command_and_parameter_has_help():
    for name, command in reference.commands().items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name}"
