"""From what the steps found to a contract.

Belongs here: which finding becomes which field. Not here: reading the steps' files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from davy.data.task import Feature, Task
from davy.packaging.contract import (
    Calibration,
    Compression,
    Contract,
    GateDefault,
    Lineage,
    Metric,
    Outliers,
    Period,
    Privacy,
    Range,
    RolloutDefaults,
    TensorSpec,
    Training,
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the steps of a run measured.

    ``fingerprint`` is the sha256 of the data, ``pseudonymised`` names its columns that are;
    ``rows``, ``start`` and ``end`` are of the rows that the model was fitted to; ``metrics`` and
    ``baselines`` are of the model that ships, on what came in during ``measured``.
    """

    fingerprint: str
    pseudonymised: Sequence[str]
    rows: int
    start: datetime
    end: datetime
    seed: int
    libraries: Mapping[str, str]
    metrics: Sequence[Metric]
    baselines: Mapping[str, Metric]
    measured: Period
    compression: Compression
    calibration: Calibration
    outliers: Outliers | None = None


def assemble(
    task: Task,
    findings: Findings,
    *,
    created: datetime,
    code_version: str,
    parent: str | None = None,
    pipeline_run: str | None = None,
) -> Contract:
    """Return the contract, with its version left empty (`davy.packaging.package` makes it)."""
    return Contract(
        name=task.name,
        version="",
        task=task.name,
        kind=task.kind,
        quantization="int8" if "int8" in findings.compression.chosen else "fp32",
        created=created,
        inputs=[_input(feature) for feature in task.features],
        outputs=[TensorSpec(name="score", datatype="FP32", range=Range(low=0, high=1))],
        training=Training(
            data_fingerprint=findings.fingerprint,
            rows=findings.rows,
            start=findings.start,
            end=findings.end,
            code_version=code_version,
            seed=findings.seed,
            libraries=dict(findings.libraries),
        ),
        metrics=list(findings.metrics),
        baselines=dict(findings.baselines),
        compression=findings.compression,
        calibration=findings.calibration,
        rollout=RolloutDefaults(
            latency_objective_seconds=task.rollout.latency_objective_seconds,
            indicators=[
                GateDefault(name=item.name, ratio=item.ratio, allowance=item.allowance)
                for item in task.rollout.indicators
            ],
        ),
        privacy=Privacy(pseudonymised=list(findings.pseudonymised)),
        lineage=Lineage(parent=parent, pipeline_run=pipeline_run),
        segments=list(task.segments),
        measured=findings.measured,
        outliers=findings.outliers,
    )


def _input(feature: Feature) -> TensorSpec:
    allowed = feature.range
    return TensorSpec(
        name=feature.name,
        datatype="INT64" if feature.type == "category" else "FP32",
        unit=feature.unit,
        range=Range(low=allowed.low, high=allowed.high) if allowed else None,
        policy=feature.policy,
        missing=feature.missing,
    )
