"""What a pipeline's run takes from the environment: ``DAVY_PIPELINE_*``.

Belongs here: the one settings class of the pipeline's steps. Not here: what a task says.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from davy.core.settings import DavySettings


class PipelineSettings(DavySettings):
    """Settings of the pipeline's steps."""

    section: ClassVar[str] = "pipeline"
    model_config = SettingsConfigDict(
        env_prefix="DAVY_PIPELINE_", extra="forbid", frozen=True, protected_namespaces=()
    )

    pseudonym_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description=(
            "Key of the household pseudonyms, 16 characters or more. Without it a key file is"
            " made once beside the output: the same folder then gives the same pseudonyms."
        ),
    )
