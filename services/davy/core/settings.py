"""Settings from the environment and a file, in that order of precedence.

Belongs here: the base of every settings class. Not here: the settings of a part; each part has
one class in its own ``settings.py``, and the reference page in ``services/SETTINGS.md`` is made
from those.

A setting ``port`` of the predictor is the variable ``DAVY_PREDICTOR_PORT``, or the key ``port``
in the table ``[predictor]`` of the TOML file that ``DAVY_CONFIG`` names. Variables that Kubernetes
makes from Services are no settings, whatever they are called (`davy.core.service_links`).
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from davy.core.errors import ConfigurationError
from davy.core.files import nearest
from davy.core.service_links import service_links, without

CONFIG_VARIABLE = "DAVY_CONFIG"


class DavySettings(BaseSettings):
    """Base of a part's settings; subclasses set `section` and ``env_prefix``."""

    section: ClassVar[str] = ""
    model_config = SettingsConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic's signature)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = without(env_settings.env_vars, service_links(os.environ))
        file = InitSettingsSource(settings_cls, init_kwargs=_file_section(cls.section))
        return init_settings, env_settings, file

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings.

        Raises
        ------
        ConfigurationError
            A value is missing or of the wrong type, a variable with this part's prefix or a key
            of the file is unknown; names it and its nearest match.
        """
        _reject_unknown_variables(cls)
        try:
            return cls(**overrides)
        except ValidationError as error:
            parts = []
            for item in error.errors(include_url=False):
                name = ".".join(str(p) for p in item["loc"])
                if item["type"] == "extra_forbidden":
                    hint = nearest(name, cls.model_fields)
                    parts.append(f"unknown key '{name}' in table [{cls.section}]{hint}")
                else:
                    variable = f"{cls.model_config.get('env_prefix', '')}{name}".upper()
                    parts.append(f"{variable}: {item['msg']}")
            raise ConfigurationError(
                "; ".join(parts), where="settings", fix="services/SETTINGS.md lists them all"
            ) from None


def _reject_unknown_variables(cls: type[DavySettings]) -> None:
    prefix = str(cls.model_config.get("env_prefix", "")).upper()
    if not prefix:
        return
    for variable in sorted(os.environ.keys() - service_links(os.environ)):
        name = variable[len(prefix) :].lower()
        if variable.startswith(prefix) and name not in cls.model_fields:
            raise ConfigurationError(
                f"unknown setting {variable}{nearest(name, cls.model_fields)}",
                where="environment",
                fix="services/SETTINGS.md lists them all",
            )


def _file_section(section: str) -> dict[str, Any]:
    name = os.environ.get(CONFIG_VARIABLE)
    if not name:
        return {}
    path = Path(name)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            "no such file", where=f"{CONFIG_VARIABLE}={name}", fix="Create it or unset the variable"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"not valid TOML: {error}", where=str(path)) from None
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"'{section}' must be a table", where=str(path))
    return table
