"""Settings of the operator: ``DAVY_OPERATOR_*`` or the table ``[operator]``.

Belongs here: every knob, with its unit and its reason. Not here: what belongs to a rollout (its
spec).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from davy.core.settings import DavySettings


class OperatorSettings(DavySettings):
    """Where the operator works, and where it finds what its rollouts do not name."""

    section: ClassVar[str] = "operator"
    model_config = SettingsConfigDict(env_prefix="DAVY_OPERATOR_")

    namespace: str = Field(
        "davy", description="Namespace of the Lease by which one of several operators acts."
    )
    lease: str = Field("davy-operator", description="Name of that Lease.")
    watch_namespaces: str = Field(
        "", description="Namespaces of the rollouts, with commas between; empty: all."
    )
    host: str = Field("127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    port: int = Field(8085, ge=0, le=65535, description="Their port; 0 takes a free one.")
    prometheus_url: str = Field(
        "http://prometheus-operated.monitoring:9090",
        description="Prometheus of a rollout that names none.",
    )
    prometheus_margin_seconds: float = Field(
        30.0, gt=0, description="Twice the scrape interval: a look reads so much further back."
    )
    store: Path | None = Field(
        None, description="Folder of model packages, STORE/NAME/VERSION, as it is mounted here."
    )
    public_key: Path | None = Field(
        None, description="PEM key of the packages' signer; without one that veto stays active."
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="An arm had no weight for so long before it is removed."
    )
    patience_seconds: float = Field(
        10.0, ge=0, description="A change of weight is waited for as long as this within one look."
    )
    resync_seconds: float = Field(
        60.0, gt=0, description="A rollout that has ended is read again after so long."
    )
