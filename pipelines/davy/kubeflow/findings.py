"""What the steps before packaging wrote, read back for the contract.

Belongs here: the few fields of their reports that the contract takes. Not here: the reports' own
schemas, which live with the steps and would bring torch and DuckDB along.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from davy.core.files import MachineWritten, read_model
from davy.packaging.assemble import Findings
from davy.packaging.contract import Calibration, Compression, Metric, Outliers, Period


class QualityFacts(MachineWritten):
    """Of ``quality.json``."""

    data_fingerprint: str
    pseudonymised: list[str]


class TrainingFacts(MachineWritten):
    """Of ``training.json``."""

    rows: int
    start: datetime
    end: datetime
    seed: int
    libraries: dict[str, str]


class EvaluationFacts(MachineWritten):
    """Of ``evaluation.json``, that of the model that ships."""

    metrics: list[Metric]
    baselines: dict[str, Metric]
    start: datetime
    end: datetime


def read_findings(
    *,
    quality: Path,
    training: Path,
    evaluation: Path,
    compression: Compression,
    calibration: Calibration,
    outliers: Outliers | None = None,
) -> Findings:
    """Return the findings of the three reports and of the steps that were just done.

    Raises
    ------
    NotFoundError, InvalidInputError
        A report is missing or lacks a field.
    """
    data = read_model(quality, QualityFacts)
    facts = read_model(training, TrainingFacts)
    judged = read_model(evaluation, EvaluationFacts)
    return Findings(
        fingerprint=data.data_fingerprint,
        pseudonymised=data.pseudonymised,
        rows=facts.rows,
        start=facts.start,
        end=facts.end,
        seed=facts.seed,
        libraries=facts.libraries,
        metrics=judged.metrics,
        baselines=judged.baselines,
        measured=Period(start=judged.start, end=judged.end),
        compression=compression,
        calibration=calibration,
        outliers=outliers,
    )
