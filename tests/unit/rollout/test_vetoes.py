"""What vetoes a candidate: drift of its own, compression evidence, what a package answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import NotFoundError
from davy.packaging.contract import Compression, CompressionCandidate, Interval
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.series import DRIFT, Arms, Sample, Series, SeriesKey
from davy.rollout.vetoes import compression_veto, drift_veto

ARMS = Arms("v1", "v2")


def drifting(version: str, feature: str, value: float) -> Series:
    return Series(SeriesKey(DRIFT, version, "d:1", feature), (Sample(1, 1), Sample(2, value)))


@pytest.mark.parametrize(
    ("series", "active", "words"),
    [
        ([], True, "no detector reports on v2"),
        ([drifting("v1", "price", 1)], True, "no detector reports on v2"),
        ([drifting("v2", "price", 0)], False, ""),
        ([drifting("v2", "price", 1)], True, "only the canary's inputs drift: price"),
        ([drifting("v2", "price", 1), drifting("v1", "price", 1)], False, ""),
        ([drifting("v2", "price", 1), drifting("v1", "price", 0)], True, "price"),
    ],
)
def test_drift_that_the_stable_arm_does_not_share(
    series: Sequence[Series], active: bool, words: str
) -> None:
    veto = drift_veto(series, ARMS)
    assert veto.active == active
    assert words in veto.message


def compression(
    *, chosen: str = "int8", eligible: bool = True, lower: float | None = -0.002
) -> Compression:
    interval = Interval(value=0.1, lower=0.1, upper=0.1, n=10)
    difference = None if lower is None else Interval(value=0, lower=lower, upper=0, n=10)
    candidate = CompressionCandidate(
        name="int8",
        bytes=10,
        batch=100,
        latency_seconds=interval,
        quality=interval,
        difference=difference,
        eligible=eligible,
        reason="loses too much in segment lapse=long",
    )
    return Compression(budget=0.01, prefer="size", candidates=[candidate], chosen=chosen, why="")


@pytest.mark.parametrize(
    ("found", "active", "words"),
    [
        (compression(), False, "within its budget"),
        (compression(lower=None), False, "within its budget"),
        (compression(lower=-0.02), True, "may lose 0.0200"),
        (compression(eligible=False), True, "segment lapse=long"),
        (compression(chosen="pruned"), True, "never measured"),
    ],
)
def test_compression_outside_its_budget(found: Compression, active: bool, words: str) -> None:
    veto = compression_veto(found)
    assert veto.active == active
    assert words in veto.message


def test_a_package_that_cannot_be_read_vetoes_and_has_no_facts(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2017, 1, 2, tzinfo=UTC))
    packages = FolderPackages({"v2": tmp_path / "none"}, clock)
    assert all(veto.active for veto in packages.vetoes("v2", ["signature", "compression"]))
    assert [veto.name for veto in packages.vetoes("v2", ["signature", "drift"])] == ["signature"]
    with pytest.raises(NotFoundError):
        packages.facts("v2")
    with pytest.raises(NotFoundError, match=r"no package of version 'v3' \(known: v2\)"):
        packages.facts("v3")
