"""Settings of the detector: ``DAVY_DETECTOR_*`` or the table ``[detector]``.

Belongs here: every knob, with its unit and its reason. Not here: what belongs to a package
(window size, floors, nulls: they come calibrated in its contract).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from davy.core.logging import LogFormat
from davy.core.settings import DavySettings


class DetectorSettings(DavySettings):
    """How the detector listens, what it watches and how much it may hold."""

    section: ClassVar[str] = "detector"
    model_config = SettingsConfigDict(env_prefix="DAVY_DETECTOR_")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8090, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    store: Path = Field(description="Folder of model packages, STORE/NAME/VERSION.")
    public_key: Path | None = Field(
        None, description="PEM key of the packages' signer; without one signatures are not checked."
    )
    engine: Literal["alibi", "native"] = Field(
        "alibi",
        description="What measures the distances: alibi-detect (Business Source License), or "
        "native (scipy). Verdicts are the same.",
    )
    consecutive_windows: int = Field(
        2, ge=1, description="Windows in a row that must drift before a feature is active."
    )
    false_discovery_rate: float = Field(
        0.05, gt=0, lt=1, description="Benjamini-Hochberg's bound over the tests of one window."
    )
    minimum_window_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="A window with fewer rows than this share of the package's is insufficient.",
    )
    window_seconds: float = Field(
        3600.0,
        gt=0,
        description="A window ends at this age even if it is not full, so that silence shows.",
    )
    join_seconds: float = Field(
        30.0, gt=0, description="How long a request's row waits for its response's score."
    )
    pending_events: int = Field(
        20000, ge=1, description="Requests, and responses, held while they wait to meet."
    )
    pending_bytes: int = Field(
        128 * 1024 * 1024, ge=1, description="Bytes of the bodies held while they wait to meet."
    )
    lateness_seconds: float = Field(
        2.0,
        ge=0,
        description="How long rows are held, so that they enter windows in the order of their "
        "events' times.",
    )
    remembered_exchanges: int = Field(
        1_000_000,
        ge=1000,
        description="Exchanges whose ids are remembered, so that none counts twice.",
    )
    queue_events: int = Field(
        5000, ge=1, description="Events held between the web server and the windows; then 429."
    )
    queue_bytes: int = Field(
        128 * 1024 * 1024, ge=1, description="Bytes held there, as they were posted; then 429."
    )
    state: Path | None = Field(
        None,
        description="Folder of the journal and the counts, for this detector alone: what it has "
        "acknowledged survives a crash. Without one it ends with the process.",
    )
    segment_bytes: int = Field(
        64 * 1024 * 1024, ge=4096, description="Size at which the journal begins a new file."
    )
    journal_bytes: int = Field(
        1024 * 1024 * 1024, ge=4096, description="Size of the journal from which on it is 429."
    )
    archive: str = Field(
        "",
        description="Folder, or URI as pyarrow reads it (file://, s3://), of Parquet files of "
        "every exchange, by hour, model and version; none where empty.",
    )
    archive_rows: int = Field(
        20_000, ge=1, description="Rows after which they are written; many small files read slowly."
    )
    archive_bytes: int = Field(
        32 * 1024 * 1024, ge=1, description="Bytes of rows after which they are written."
    )
    archive_seconds: float = Field(
        60.0, gt=0, description="Age at which rows are written, however few."
    )
    archive_hours: float | None = Field(
        None, gt=0, description="Hours that Parquet files are kept; for ever where absent."
    )
    archive_merge_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="Size of the Parquet files that small ones become two hours later.",
    )
    label_horizon_seconds: float = Field(
        604800.0, gt=0, description="How long an answer waits for its label, and the other way."
    )
    label_table: Path | None = Field(
        None,
        description="CSV or Parquet file with the columns request_id, label and, where it has "
        "them, time, model; read again when it has changed.",
    )
    label_table_seconds: float = Field(
        300.0, gt=0, description="How often the table of labels is looked at."
    )
    answers_kept: int = Field(
        1_000_000,
        ge=1,
        description="Answers, and labels, that wait at once; the oldest gives way. At most 100,000 "
        "without DAVY_DETECTOR_STATE.",
    )
    outcome_limits: dict[str, float] = Field(
        {},
        description='By model, as JSON: {"churn": 0.3}. Classification: the score from which on a '
        "class is predicted, 0.5 where absent. Regression: the largest error that is right; where "
        "absent, no outcomes are counted.",
    )
    performance_labels: int = Field(
        2000, ge=10, description="Last labels over which realised performance is measured."
    )
    body_bytes: int = Field(
        32 * 1024 * 1024, ge=1, description="Largest accepted body, in bytes; a larger one is 413."
    )
    versions: int = Field(
        16, ge=1, description="Model versions watched at once; the longest unheard-of gives way."
    )
    forget_seconds: float = Field(
        21600.0, gt=0, description="A version unheard of for so long loses its state and series."
    )
    retry_seconds: float = Field(
        30.0, gt=0, description="How long a version whose package could not be read is left alone."
    )
    history_windows: int = Field(
        20, ge=1, description="Past windows per version that GET /windows shows."
    )
    replay_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the logged requests that are executed again with the package's model "
        "and compared with what was served (davy_parity_checks_total); 0 executes none.",
    )
    replay_queue: int = Field(
        64, ge=1, description="Requests that may wait to be executed again; more are dropped."
    )
    replay_queue_bytes: int = Field(
        64 * 1024 * 1024, ge=1, description="Bytes of their bodies, and of those of their answers."
    )
    shadow_targets: Path | None = Field(
        None,
        description="File of the candidates that get copies of served requests before they serve "
        "anybody, as `davy rollout run --shadow-file` writes it; read again every second.",
    )
    shadow_per_second: float = Field(
        10.0, gt=0, le=1000, description="Most requests that are sent to candidates in a second."
    )
    shadow_timeout_seconds: float = Field(
        5.0, gt=0, description="After so long a candidate has failed a request."
    )
    log_level: str = Field("INFO", description="Lowest level that is logged.")
    log_style: LogFormat = Field("json", description="json: one object a line; console: text.")
