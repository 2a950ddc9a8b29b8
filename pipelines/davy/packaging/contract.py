"""``contract.json``: what a model takes, gives, promises and was measured at.

Belongs here: the schema of the contract. Not here: reading and verifying a whole package.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from davy.core.files import MachineWritten
from davy.protocol.names import SCORE

SCHEMA_VERSION = "1"

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Policy = Literal["reject", "clip", "flag"]


class Range(MachineWritten):
    """Closed interval of allowed values, in the unit of the tensor; an absent end is open."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class TensorSpec(MachineWritten):
    """One named input or output tensor.

    ``shape`` follows the Open Inference Protocol: -1 is the dynamic batch dimension, first.
    ``policy`` says what the predictor does with a value out of range or category:
    answer 400 (reject), move it to the nearest allowed value (clip), or count it and go on (flag).
    ``missing`` says whether NaN is part of the feature's meaning (allow) or breaks the contract
    (reject: 400; flag: count it and go on).
    """

    name: str
    datatype: Datatype
    shape: list[int] = Field(default_factory=lambda: [-1])
    unit: str | None = None
    range: Range | None = None
    categories: list[str] | list[int] | None = None
    policy: Policy = "flag"
    missing: Literal["allow", "reject", "flag"] = "reject"


class Interval(MachineWritten):
    """A measured value with its confidence interval and the number of units behind it."""

    value: float
    lower: float
    upper: float
    n: int
    level: float = 0.95


class Metric(MachineWritten):
    """One quality measure, overall and per segment (``segment name=value`` to interval)."""

    name: str
    overall: Interval
    segments: dict[str, Interval] = Field(default_factory=dict)


class Training(MachineWritten):
    """From what, when and with what the model was made."""

    data_fingerprint: str
    rows: int
    start: datetime
    end: datetime
    code_version: str
    seed: int
    libraries: dict[str, str]


class Period(MachineWritten):
    """From the first to the last moment, both included."""

    start: datetime
    end: datetime


class CompressionCandidate(MachineWritten):
    """One candidate as measured: size in bytes, latency in seconds at ``batch`` rows.

    ``difference`` is quality minus that of the fp32 model (paired over entities);
    ``segments`` the same per segment, bounds adjusted by Holm. ``eligible`` is false with the
    ``reason`` in words.
    """

    name: str
    bytes: int
    batch: int
    latency_seconds: Interval
    quality: Interval
    difference: Interval | None = None
    segments: dict[str, Interval] = Field(default_factory=dict)
    eligible: bool
    reason: str
    details: dict[str, Any] = Field(default_factory=dict)


class Compression(MachineWritten):
    """Every candidate that was measured, the one that was chosen, and why."""

    budget: float
    prefer: Literal["size", "latency"]
    candidates: list[CompressionCandidate]
    chosen: str
    why: str


class FeatureNull(MachineWritten):
    """What past windows looked like for one feature under one detector.

    ``distances`` are the sorted distances between past windows and the rest of the reference,
    ``floor`` the smallest effect that matters.
    """

    feature: str
    detector: Literal["ks", "chi2", "missing"]
    distances: list[float]
    floor: float


class Calibration(MachineWritten):
    """What the detector and the gate compare against, measured on real past weeks."""

    window_rows: int
    blocks: int
    nulls: list[FeatureNull] = Field(default_factory=list)
    score_buckets: list[float] = Field(default_factory=list)
    score_shares: list[float] = Field(default_factory=list)


class Outliers(MachineWritten):
    """How single rows are judged, and what that costs.

    ``file`` of the package holds the scorer (`davy.outlier.document`). A row whose score is above
    ``threshold`` is an outlier: at most ``false_positive_rate`` of rows like the ``rows`` held-out
    ones that it was calibrated on. ``seconds`` is what scoring ``batch`` rows took,
    ``model_seconds`` what the model itself took for them in the same run. ``in_request`` says
    whether the predictor scores what it answers, and ``why`` so.
    """

    file: str
    method: str
    threshold: float
    false_positive_rate: float
    rows: int
    batch: int
    seconds: Interval
    model_seconds: Interval
    in_request: bool
    why: str


class GateDefault(MachineWritten):
    """Margin (rate ratio) and allowance (canary's own rate) of one indicator.

    A task names only an `IndicatorName`; another name, of a newer Davy, does not keep a package
    from being read and served: only the gate refuses it.
    """

    name: str
    ratio: float
    allowance: float


class RolloutDefaults(MachineWritten):
    """What the task asks of the gate for this model."""

    latency_objective_seconds: float
    indicators: list[GateDefault] = Field(default_factory=list)


class Privacy(MachineWritten):
    """What was pseudonymised, and the budget when trained with differential privacy."""

    pseudonymised: list[str] = Field(default_factory=list)
    epsilon: float | None = None
    delta: float | None = None


class Lineage(MachineWritten):
    """Where the package comes from: its parent version and the pipeline run."""

    parent: str | None = None
    pipeline_run: str | None = None


class Contract(MachineWritten):
    """The whole of ``contract.json``.

    ``version`` is ``YYYY.MM.DD-`` and 8 hex digits of the sha256 over everything else in the
    package: see `davy.packaging.package.write_package`. ``metrics`` are those of the packaged
    model itself, over what came in during ``measured``.

    ``tolerance`` is how far an output of a row may move when the row is executed with others:
    relative to its value, or absolute where that is below 1.

    A package without ``outliers`` does not score rows.
    """

    schema_version: str = SCHEMA_VERSION
    name: str
    version: str
    task: str
    kind: Literal["ranking", "classification", "regression"]
    quantization: str
    created: datetime
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    training: Training
    metrics: list[Metric]
    baselines: dict[str, Metric]
    compression: Compression
    calibration: Calibration
    rollout: RolloutDefaults
    privacy: Privacy
    lineage: Lineage
    segments: list[str] = Field(default_factory=list)
    measured: Period | None = None
    outliers: Outliers | None = None
    tolerance: float = Field(default=1e-5, ge=0)


def score_output(outputs: Sequence[TensorSpec]) -> str:
    """Return the name of the output whose values are counted, watched and compared.

    The one that is called so; else the first of floating point; else the first. Empty when there
    is none.
    """
    names = [spec.name for spec in outputs]
    if SCORE in names:
        return SCORE
    floats = [spec.name for spec in outputs if spec.datatype.startswith("FP")]
    return next(iter([*floats, *names]), "")
