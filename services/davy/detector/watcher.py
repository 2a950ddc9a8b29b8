"""The detector at work: exchanges in, one version after another windowed and tested.

Belongs here: the versions that are watched, when a window is tested, what is kept of the verdicts.
Not here: the queue and its order (`consumer.py`), HTTP (`app.py`), statistics (`davy.drift`).

One task takes exchanges in order, so that nothing is locked; reading a package and testing a
window run in a worker thread meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from davy.core.clock import Clock
from davy.core.logging import get_logger
from davy.detector.failures import Failures
from davy.detector.ledger import Ledger
from davy.detector.metrics import EVENTS, DetectorMetrics
from davy.detector.outcomes import PROBABLE
from davy.detector.packages import Packages, Subject
from davy.detector.pairing import Exchange
from davy.detector.report import drift, report
from davy.detector.samples import Number
from davy.detector.settings import DetectorSettings
from davy.detector.state import (
    Tested,
    Watched,
    pack,
    read_streaks,
    unpack,
    write_streaks,
)
from davy.detector.windows import Row, Window, Windower
from davy.drift.judge import TestKey, persist
from davy.drift.result import DriftResult
from davy.performance.cbpe import MEASURES, estimate
from davy.protocol.names import SCORE


class Watcher:
    """Watches every version that it hears of and whose package it can read.

    Parameters
    ----------
    packages : Packages
        Where references and calibrations come from.
    settings : DetectorSettings
        Sizes and times.
    metrics : DetectorMetrics
        Where verdicts and counts are shown.
    clock : Clock
        Wall and monotonic time.
    ledger : Ledger
        Keeps the rows of open windows and the streaks; every method here runs in one of its
        transactions.
    """

    def __init__(
        self,
        packages: Packages,
        settings: DetectorSettings,
        metrics: DetectorMetrics,
        clock: Clock,
        ledger: Ledger,
    ) -> None:
        self.metrics = metrics
        self._packages = packages
        self._settings = settings
        self._clock = clock
        self._log = get_logger("detector")
        self._ledger = ledger
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        self._failures = Failures(clock, settings.retry_seconds)

    async def take(self, exchange: Exchange) -> Subject | None:
        """Put an exchange's row into its version's windows, and return whose it is.

        One of no use is counted by its reason, never raised; so is one that was counted before a
        restart, and for that only its subject is found.
        """
        halves = 2 if exchange.response else 1
        watched = await self._of(exchange.version)
        if isinstance(watched, str):
            self._drop(exchange, watched, halves)
            return None
        now = self._clock.monotonic()
        watched.heard = now
        subject = watched.subject
        values = _features(exchange.request.sample.values, subject.categories)
        if values is None:
            self._drop(exchange, "other_features", halves)
            return None
        if exchange.settled:
            return subject
        names = (subject.model, subject.version)
        self._ledger.count(EVENTS, (*names, "request"))
        score = math.nan
        if exchange.response is not None:
            score = exchange.response.sample.values.get(subject.output, math.nan)
            if math.isfinite(score):
                self._ledger.count(EVENTS, (*names, "response"))
            else:
                score = math.nan
                self._drop(exchange, "no_score", 1)
        cells = pack(values, score, subject.categories)
        number = self._ledger.add_row(subject.version, exchange.time.isoformat(), cells)
        watched.windower.add(Row(exchange.time, values, score, number), now)
        await self._test(watched)
        return subject

    async def tick(self) -> None:
        """End what has grown old: waiting rows, windows, versions unheard of."""
        now = self._clock.monotonic()
        for watched in list(self._watched.values()):
            await self._test(watched)
            if now - watched.heard >= self._settings.forget_seconds:
                self._forget(watched.subject.version)

    def report(self, waiting: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Return what GET /windows shows; see `davy.detector.report`."""
        return report(
            self._watched.values(),
            self._failures.known,
            dict(self.metrics.dropped_by_reason()),
            waiting or {},
        )

    def drift(self) -> dict[str, Any]:
        """Return what GET /drift shows; see `davy.detector.report`."""
        return drift(self._watched.values())

    def _drop(self, exchange: Exchange, reason: str, events: int) -> None:
        if not exchange.settled:
            self.metrics.dropped.labels(reason).inc(events)

    async def _of(self, version: str) -> Watched | str:
        """Return a version's state, reading its package the first time; or why there is none."""
        if version in self._watched:
            self._watched.move_to_end(version)
            return self._watched[version]
        if not version:
            return "no_version"
        failure = self._failures.lasting(version)
        if failure is not None:
            return failure.reason
        try:
            subject = await asyncio.to_thread(self._packages.load, version)
        except Exception as error:  # whatever is wrong with it, the others go on
            return self._failed(version, error)
        self._failures.discard(version)
        while len(self._watched) >= self._settings.versions:
            self._forget(next(iter(self._watched)))
        watched = self._begin(subject)
        self._watched[version] = watched
        return watched

    def _begin(self, subject: Subject) -> Watched:
        settings = self._settings
        self._log.info(
            "version_watched",
            model=subject.model,
            version=subject.version,
            window_rows=subject.rules.window_rows,
            engine=settings.engine,
        )
        if subject.coarse:
            self._log.warning(
                "calibration_too_coarse",
                version=subject.version,
                tests=[f"{feature}/{detector}" for feature, detector in subject.coarse],
                fix="Calibrate with more draws per block: these cannot alarm alone",
            )
        windower = Windower(
            categories=subject.categories,
            window_rows=subject.rules.window_rows,
            window_seconds=settings.window_seconds,
            lateness_seconds=settings.lateness_seconds,
        )
        now = self._clock.monotonic()
        for number, time, cells in self._ledger.rows(subject.version):
            kept = unpack(cells, subject.categories)
            if kept is not None:  # else of a package that was replaced under its name
                values, score = kept
                windower.add(Row(datetime.fromisoformat(time), values, score, number), now)
        streaks = read_streaks(self._ledger.streaks(subject.version))
        history: deque[Tested] = deque(maxlen=settings.history_windows)
        return Watched(subject, windower, now, streaks, history)

    def _failed(self, version: str, error: Exception) -> str:
        reason = self._failures.add(version, error).reason
        self._log.warning(
            "version_not_watched", version=version[:128], reason=reason, error=str(error)
        )
        return reason

    def _forget(self, version: str) -> None:
        model = self._watched.pop(version).subject.model
        self.metrics.forget(model, version)
        self._ledger.drop_version(version)
        self._log.info("version_forgotten", model=model, version=version)

    async def _test(self, watched: Watched) -> None:
        while (window := watched.windower.pop(self._clock.monotonic())) is not None:
            subject = watched.subject
            began = self._clock.monotonic()
            self._ledger.drop_rows(window.numbers)
            try:
                result = await asyncio.to_thread(subject.detector.test, window.columns)
            except Exception as error:  # an engine's fault must not stop the other versions
                self.metrics.windows.labels(subject.model, subject.version, "error").inc()
                self._log.exception("window_failed", version=subject.version, error=str(error))
                continue
            seconds = self._clock.monotonic() - began
            self._keep(watched, window, result, seconds)
            await self._score(subject, window, result)
            self._estimate(subject, window, result)
        if late := watched.windower.take_late():
            self.metrics.late_rows.labels(watched.subject.model, watched.subject.version).inc(late)

    async def _score(self, subject: Subject, window: Window, result: DriftResult) -> None:
        """Show the share of outliers: each request gave one row, so it may be held to the rate."""
        if subject.outliers is None:
            return
        share = self.metrics.outlier_share.labels(subject.model, subject.version)
        share.set(math.nan)
        if result.status == "insufficient":
            return
        try:
            flags = await asyncio.to_thread(subject.outliers.flags, window.columns)
        except Exception as error:  # nor may a scorer's
            self._log.warning("outliers_failed", version=subject.version, error=str(error))
        else:
            share.set(float(flags.mean()))

    def _estimate(self, subject: Subject, window: Window, result: DriftResult) -> None:
        """Show what the scores say of themselves, where they are probabilities."""
        if not subject.probability:
            return
        limit = self._settings.outcome_limits.get(subject.model, PROBABLE)
        scores = window.columns[SCORE] if result.status != "insufficient" else ()
        found = estimate(scores, limit)
        for measure in MEASURES:
            value = found[measure].value if measure in found else math.nan
            self.metrics.estimate.labels(subject.model, subject.version, measure, "all").set(value)

    def _keep(self, watched: Watched, window: Window, result: DriftResult, seconds: float) -> None:
        subject, before = watched.subject, watched.active
        watched.streaks = persist(watched.streaks, result, subject.rules)
        self._ledger.save_streaks(subject.version, write_streaks(watched.streaks))
        watched.history.append(Tested(window, result, watched.active, seconds))
        self.metrics.window(
            subject.model, subject.version, result, watched.streaks, self._clock.now()
        )
        self.metrics.test_seconds.observe(seconds)
        names = {"model": subject.model, "version": subject.version}
        self._log.info(
            "window",
            **names,
            status=result.status,
            rows=result.rows,
            scored=window.scored,
            start=window.start.isoformat(),
            end=window.end.isoformat(),
            seconds=round(seconds, 4),
            drifted=[
                {"feature": i.feature, "detector": i.detector, "effect": round(i.effect, 4)}
                for i in result.drifted
            ],
            active=_labels(watched.active),
        )
        if watched.active != before:
            self._log.warning("drift_changed", **names, active=_labels(watched.active))


def _features(
    values: Mapping[str, Number], categories: Mapping[str, bool]
) -> Mapping[str, Number] | None:
    """Return the features of the contract in its types; None when one is not there."""
    found: dict[str, Number] = {}
    for name, category in categories.items():
        value = values.get(name)
        if value is None or (category and not _is_int64(value)):
            return None
        found[name] = int(value) if category else float(value)
    return found


def _is_int64(value: Number) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _labels(keys: Iterable[TestKey]) -> list[str]:
    return [f"{feature}/{detector}" for feature, detector in keys]
