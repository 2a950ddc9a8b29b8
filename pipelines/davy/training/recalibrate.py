"""A package again, calibrated on other past rows: same model, another reference and other nulls.

Belongs here: what such a package takes over and what is measured anew. Not here: the measuring
(`davy.training.calibrate`), reading a table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model
from davy.data.task import Monitoring
from davy.packaging.contract import Calibration, Contract
from davy.packaging.manifest import CARD_PAGE, CARD_TEXT, CONTRACT, MANIFEST, SIGNATURE
from davy.packaging.package import MODEL, REFERENCE, Package, write_package
from davy.protocol.names import SCORE
from davy.protocol.tensors import DTYPES
from davy.training.calibrate import calibrate_blocks
from davy.training.scoring import OUTPUT, file_scores

# Packaging makes these itself; the reference is what changes.
_MADE_ANEW = frozenset({CONTRACT, CARD_TEXT, CARD_PAGE, MANIFEST, SIGNATURE, REFERENCE})

# A block of fewer rows than a window is drawn from with repetition, which makes its distances
# larger and alarms rarer. With much smaller ones nothing would alarm: they are a mistake.
SMALLEST_BLOCK = 0.5

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PastRows:
    """Past rows: features and, where it is known, the score; and each row's block of time.

    Numbers are float64 with NaN for missing, categories int64; ``where`` names them in an error.
    """

    columns: Columns
    block: npt.NDArray[np.int64]
    where: str


def recalibrate(
    package: Package,
    past: PastRows,
    *,
    store: Path,
    created: datetime,
    private_key: Path | None = None,
) -> Package:
    """Write a new version of a package whose reference and nulls are those of `past`.

    Model, metrics, outlier scorer and evidence stay; window size, floors and seed, too. The new
    contract names the old version as its parent. The old package is only read.

    Parameters
    ----------
    package : Package
        The package.
    past : PastRows
        The rows. Without a score the package's own model gives it.
    store : Path
        Where the new version is written.
    created : datetime
        When.
    private_key : Path, optional
        PEM key that signs the new version.

    Raises
    ------
    InvalidInputError
        There are fewer than two blocks, or most are much smaller than a window; a score is missing,
        or the model does not take the rows.
    """
    contract = package.contract
    _check_blocks(past, contract.calibration.window_rows)
    inputs = _inputs(contract, past)
    with tempfile.TemporaryDirectory() as folder:
        files = _copies(package, Path(folder))
        score = _score(contract, past, inputs, files[MODEL])
        measured = {**{name: past.columns[name] for name in inputs}, SCORE: score}
        files[REFERENCE] = Path(folder) / REFERENCE
        stored = {**inputs, SCORE: score.astype(np.float32)}
        pq.write_table(pa.table({"block": past.block, **stored}), files[REFERENCE])
        fields = {
            "created": created,
            "calibration": _calibration(contract, measured, past.block, str(package.path)),
            "lineage": contract.lineage.model_copy(update={"parent": contract.version}),
        }
        return write_package(
            store, contract.model_copy(update=fields), files, private_key=private_key
        )


def _calibration(
    contract: Contract, columns: Columns, block: npt.NDArray[np.int64], where: str
) -> Calibration:
    before = contract.calibration
    found = calibrate_blocks(
        columns,
        block,
        monitoring=parse_model({"window_rows": before.window_rows}, Monitoring, where=where),
        seed=contract.training.seed,
    )
    floors = {(null.feature, null.detector): null.floor for null in before.nulls}
    nulls = [
        null.model_copy(update={"floor": floors.get((null.feature, null.detector), null.floor)})
        for null in found.nulls
    ]
    return found.model_copy(update={"nulls": nulls})


def _check_blocks(past: PastRows, window_rows: int) -> None:
    counts = np.unique(past.block, return_counts=True)[1]
    if counts.size < 2:
        raise InvalidInputError(
            f"holds {counts.size} block(s) of time, and at least 2 are needed",
            where=past.where,
            fix="Give more past rows, or name a column of shorter blocks",
        )
    if np.median(counts) < SMALLEST_BLOCK * window_rows:
        raise InvalidInputError(
            f"most of its {counts.size} blocks have less than half of a window's "
            f"{window_rows} rows",
            where=past.where,
            fix="Name a column that is the same for all rows of a week or a month",
        )


def _inputs(contract: Contract, past: PastRows) -> dict[str, npt.NDArray[Any]]:
    """Return the features in the model's types."""
    for spec in contract.inputs:
        if spec.datatype == "BOOL" and np.isnan(past.columns[spec.name]).any():
            raise InvalidInputError(
                "has missing values, and BOOL knows none",
                where=f"{past.where}: column '{spec.name}'",
            )
    with np.errstate(over="ignore"):
        return {
            spec.name: past.columns[spec.name].astype(DTYPES[spec.datatype])
            for spec in contract.inputs
        }


def _score(
    contract: Contract, past: PastRows, inputs: Columns, model: Path
) -> npt.NDArray[np.float64]:
    if SCORE not in past.columns:
        if OUTPUT not in {spec.name for spec in contract.outputs}:
            raise InvalidInputError(
                f"{contract.name} has no output '{OUTPUT}' to compute it from",
                where=f"{past.where}: score",
                fix="Name the column that holds it with --score",
            )
        return file_scores(model, inputs).astype(np.float64)
    # Every row has one here: live traffic loses answers, the past that is the measure may not.
    score = past.columns[SCORE]
    lacking = int((~np.isfinite(score)).sum())
    if lacking:
        raise InvalidInputError(
            f"{lacking} of {score.size} rows have no score",
            where=past.where,
            fix="Leave the column out, so that the package's model computes it",
        )
    return score


def _copies(package: Package, folder: Path) -> dict[str, Path]:
    """Copy what the new version takes over, each file verified as it is read."""
    files = {}
    for name in package.files.keys() - _MADE_ANEW:
        target = folder / "kept" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(package.content(name))
        files[name] = target
    return files
