"""The reference pages of settings and commands, made from the code.

Belongs here: rendering and writing ``services/SETTINGS.md`` and ``services/CLI.md``.
Not here: the settings and commands themselves. Run as ``python -m davy.cli.reference ROOT``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import typer.main
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from davy.cli import main as root
from davy.core.files import write_atomic
from davy.core.settings import CONFIG_VARIABLE, DavySettings

SETTINGS = (
    "davy.data.settings:PipelineSettings",
    "davy.predictor.settings:PredictorSettings",
    "davy.detector.settings:DetectorSettings",
    "davy.rollout.operator.settings:OperatorSettings",
    "davy.cli.demo.settings:DemoSettings",
)


def settings_classes() -> list[type[DavySettings]]:
    """Return every settings class."""
    classes = []
    for name in SETTINGS:
        module, _, attribute = name.partition(":")
        classes.append(getattr(importlib.import_module(module), attribute))
    return classes


def settings_page() -> str:
    """Return the page of all settings as Markdown."""
    parts = [
        "# Settings\n\nMade from the code by `make generate`.\n\n"
        "Each setting is an environment variable, or a key in the part's table of the TOML file "
        f"that `{CONFIG_VARIABLE}` names; the variable wins. An unknown name is an error.\n"
    ]
    for cls in settings_classes():
        prefix = str(cls.model_config.get("env_prefix", ""))
        parts.append(f"\n## `[{cls.section}]`\n\n{_first_line(cls.__doc__)}\n")
        parts.append("\n| variable | key | default | meaning |\n|---|---|---|---|\n")
        for name, field in cls.model_fields.items():
            parts.append(
                f"| `{(prefix + name).upper()}` | `{name}` | {_default(field)} "
                f"| {field.description or ''} |\n"
            )
    return "".join(parts)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "from the machine"
    if field.default is PydanticUndefined:
        return "required"
    if not field.default and not isinstance(field.default, int | float):
        return "none"
    return f"`{field.default}`"


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]


def commands() -> dict[str, Any]:
    """Return every command that does something, by its full name (``davy rollout run``)."""
    # Typer carries a click of its own, whose classes have no public name: hence the Any.
    return dict(_walk("davy", typer.main.get_command(root.build())))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children: Mapping[str, Any] = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child, inner in children.items():
        yield from _walk(f"{name} {child}", inner)


def commands_page() -> str:
    """Return the page of all commands as Markdown."""
    parts = ["# Commands\n\nMade from the code by `make generate`. `kubectl davy` is the same.\n"]
    for name, command in commands().items():
        parameters = [p for p in command.params if p.name != "help"]
        usage = " ".join(_label(p) for p in parameters if _is_argument(p))
        parts.append(f"\n## `{f'{name} {usage}'.strip()}`\n\n{(command.help or '').strip()}\n")
        rows = [_parameter_row(p) for p in parameters]
        if rows:
            parts.append("\n| parameter | default | meaning |\n|---|---|---|\n" + "".join(rows))
    return "".join(parts)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _label(parameter: Any) -> str:
    if _is_argument(parameter):
        return str(parameter.name).upper()
    return ", ".join((*parameter.opts, *parameter.secondary_opts))


def _parameter_row(parameter: Any) -> str:
    default = "required" if parameter.required else _plain(parameter.default)
    text = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| `{_label(parameter)}` | {default} | {text} |\n"


def _plain(default: object) -> str:
    if default is None or default is False or default == () or callable(default):
        return "none"
    return f"`{default}`"


PAGES = {"services/SETTINGS.md": settings_page, "services/CLI.md": commands_page}


def main() -> None:
    """Write the pages below the folder that the first argument names."""
    for name, page in PAGES.items():
        write_atomic(Path(sys.argv[1]) / name, page())


if __name__ == "__main__":
    main()
