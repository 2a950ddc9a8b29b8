"""Settings of the demo.

Belongs here: what a person may want to change about one run. Not here: how the run goes.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from davy.core.settings import DavySettings


class DemoSettings(DavySettings):
    """How large, how fast and where the demo runs."""

    section: ClassVar[str] = "demo"
    model_config = SettingsConfigDict(
        env_prefix="DAVY_DEMO_", extra="forbid", frozen=True, protected_namespaces=()
    )

    state: Path = Field(
        Path("demo"),
        description="Folder that holds everything the demo writes; relative to the checkout.",
    )
    households: int = Field(
        0, ge=0, description="Households to sample from the data; 0 takes all of them."
    )
    rate: float = Field(200.0, gt=0, le=2000, description="Requests a second sent to the router.")
    port: int = Field(
        0,
        ge=0,
        le=65000,
        description="First of the ports on 127.0.0.1, used one after the other; 0 takes free ones.",
    )
    look_seconds: float = Field(2.0, gt=0, description="Seconds between two looks at a canary.")
    canary_deadline_seconds: float = Field(
        240.0,
        gt=0,
        description="Seconds after which a canary without a verdict counts as inconclusive.",
    )
    quiet_windows: int = Field(
        3, ge=1, description="Windows without an alarm that must pass before the drift is sent."
    )
    window_rows: int = Field(
        0, ge=0, description="Rows in one drift window; 0 takes the number that the task names."
    )
    drift_deadline_seconds: float = Field(
        120.0, gt=0, description="Seconds within which the drift must reach Alertmanager."
    )
    payload_sample_rate: float = Field(
        0.1, gt=0, le=1, description="Share of requests whose payload goes to the detector."
    )
