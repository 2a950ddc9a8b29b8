"""From a model version to what is watched of it: its package's reference and calibration.

Belongs here: finding and reading the package, converting its contract. Not here: windows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.logging import get_logger
from davy.detector.outcomes import Kind
from davy.detector.parity import PackagedModel, open_packaged
from davy.detector.settings import DetectorSettings
from davy.drift.distance import FeatureWindow, Values
from davy.drift.interface import Detector
from davy.drift.judge import Null, Rules, TestKey, too_coarse
from davy.drift.tabular import tabular_detector
from davy.outlier.document import OutlierDetector, read_detector
from davy.packaging.contract import Calibration, Contract, score_output
from davy.packaging.package import REFERENCE, Package, read_package
from davy.protocol.names import SCORE

# The output of a classifier of several classes that names the likeliest.
PREDICTED = "predicted"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched of one model version.

    ``categories`` are the features and whether each is an integer, ``output`` the name of the
    score among the model's outputs, ``kind`` that of its task, ``coarse`` the tests that could not
    alarm alone because the package holds too few past distances, ``outliers`` the package's scorer
    of rows, if it has one, ``probability`` whether the score is that of a binary label.
    """

    model: str
    version: str
    categories: Mapping[str, bool]
    output: str
    detector: Detector
    rules: Rules
    coarse: tuple[TestKey, ...] = ()
    outliers: OutlierDetector | None = None
    kind: Kind = "ranking"
    probability: bool = False


class Packages(Protocol):
    """Where subjects come from."""

    def load(self, version: str) -> Subject:
        """Return the subject of a version.

        Raises
        ------
        NotFoundError, IntegrityError, InvalidInputError
            There is no such package; it is not as it was written; it holds nothing to watch.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderPackages:
    """Packages in a folder, ``STORE/NAME/VERSION``; each is verified when it is read."""

    settings: DetectorSettings

    def load(self, version: str) -> Subject:
        """Return the subject of a version; errors as in `Packages.load`."""
        return subject_of(self._read(version), self.settings)

    def open_model(self, version: str) -> PackagedModel:
        """Open the model of a version; see `davy.detector.replay.Models`."""
        return open_packaged(self._read(version))

    def contract(self, version: str) -> Contract:
        """Return a version's contract; see `davy.detector.shadow.Contracts`."""
        return self._read(version).contract

    def _read(self, version: str) -> Package:
        package = read_package(self._find(version), public_key=self.settings.public_key)
        if package.contract.version != version:
            raise NotFoundError(
                f"holds version '{package.contract.version}', not '{version}'",
                where=str(package.path),
                fix="Name the folder as its contract does",
            )
        return package

    def _find(self, version: str) -> Path:
        store = self.settings.store
        # The version comes from the network: it must not be able to name another place.
        found = sorted(store.glob(f"*/{version}")) if _VERSION.fullmatch(version) else []
        if not found:
            raise NotFoundError(
                f"no package of version '{version[:128]}'",
                where=str(store),
                fix="Put the package there, or point DAVY_DETECTOR_STORE to where it is",
            )
        return found[0]


def subject_of(package: Package, settings: DetectorSettings) -> Subject:
    """Return what is watched of a verified package.

    Parameters
    ----------
    package : Package
        The package.
    settings : DetectorSettings
        Engine and rules; its store is not looked at.

    Raises
    ------
    InvalidInputError
        It holds no past distances, or its reference does not fit its contract.
    """
    contract = package.contract
    rules = Rules(
        window_rows=contract.calibration.window_rows,
        minimum_share=settings.minimum_window_share,
        false_discovery_rate=settings.false_discovery_rate,
        consecutive=settings.consecutive_windows,
    )
    nulls = calibrated(contract.calibration)
    if not nulls:
        raise InvalidInputError(
            "its contract holds no past distances, so nothing can be watched",
            where=str(package.path),
            fix="Calibrate the reference and package again",
        )
    categories = {item.name: item.datatype.startswith(("INT", "UINT")) for item in contract.inputs}
    detector = tabular_detector(settings.engine, nulls, rules)
    return Subject(
        model=contract.name,
        version=contract.version,
        categories=categories,
        output=score_output(contract.outputs),
        detector=detector.fit(_reference(package, categories)),
        rules=rules,
        coarse=tuple(too_coarse(nulls, rules)),
        outliers=_outliers(package),
        kind=contract.kind,
        probability=_is_probability(contract),
    )


def calibrated(calibration: Calibration) -> dict[TestKey, Null]:
    """Return a contract's nulls as the judge takes them."""
    return {
        (null.feature, null.detector): Null(np.sort(np.array(null.distances, float)), null.floor)
        for null in calibration.nulls
    }


def _is_probability(contract: Contract) -> bool:
    """Tell whether the score is the chance that a binary label is positive."""
    outputs = {spec.name: spec for spec in contract.outputs}
    score = outputs.get(score_output(contract.outputs))
    return (
        contract.kind == "classification"
        and PREDICTED not in outputs
        and score is not None
        and score.datatype.startswith("FP")
        and score.shape == [-1]
    )


def _outliers(package: Package) -> OutlierDetector | None:
    described = package.contract.outliers
    if described is None:
        return None
    try:
        return read_detector(package.content(described.file))
    except (InvalidInputError, NotFoundError) as error:  # drift is watched all the same
        get_logger("detector").warning(
            "watched_without_outliers", version=package.contract.version, error=str(error)
        )
        return None


def _reference(package: Package, categories: Mapping[str, bool]) -> FeatureWindow:
    where = str(package.path / REFERENCE)
    try:
        table = pq.read_table(io.BytesIO(package.content(REFERENCE)))
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"cannot be read as Parquet: {reason}", where=where) from None
    wanted = {**categories, SCORE: False}
    lacking = sorted(set(wanted) - set(table.column_names))
    if lacking:
        raise InvalidInputError(f"lacks the columns {', '.join(lacking)}", where=where)
    columns: dict[str, Values] = {
        name: table[name].to_numpy().astype(np.int64 if category else np.float64)
        for name, category in wanted.items()
    }
    return columns
