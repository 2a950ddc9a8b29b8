"""The detector at work: samples in, one version after another windowed and tested.

Belongs here: the queue, the versions that are watched, when a window is tested, what is kept of
the verdicts. Not here: HTTP (`app.py`), statistics (`davy.drift`).

One task takes samples in order, so that nothing is locked; reading a package and testing a
window run in a worker thread meanwhile, and the queue holds what arrives.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from davy.core.clock import Clock
from davy.core.errors import IntegrityError, NotFoundError
from davy.core.logging import get_logger
from davy.detector.metrics import DetectorMetrics
from davy.detector.packages import Packages, Subject
from davy.detector.report import report
from davy.detector.samples import Number, Sample
from davy.detector.settings import DetectorSettings
from davy.detector.state import Failure, Tested, Watched
from davy.detector.windows import Row, Window, Windower
from davy.drift.judge import TestKey, persist
from davy.drift.result import DriftResult

# Unknown versions come from the network: remember only so many of them.
FAILURES = 256
TICK_SECONDS = 1.0


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
    """

    def __init__(
        self,
        packages: Packages,
        settings: DetectorSettings,
        metrics: DetectorMetrics,
        clock: Clock,
    ) -> None:
        self.metrics = metrics
        self._packages = packages
        self._settings = settings
        self._clock = clock
        self._log = get_logger("detector")
        self._queue: asyncio.Queue[Sample] = asyncio.Queue(settings.queue_events)
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        self._failures: OrderedDict[str, Failure] = OrderedDict()

    def accept(self, samples: Iterable[Sample]) -> int:
        """Queue samples without waiting; return how many there was no room for."""
        dropped = 0
        for sample in samples:
            try:
                self._queue.put_nowait(sample)
            except asyncio.QueueFull:
                dropped += 1
        if dropped:
            self.metrics.dropped.labels("queue_full").inc(dropped)
        return dropped

    async def run(self) -> None:
        """Take samples until cancelled; also ends windows that only grow old."""
        ticked = self._clock.monotonic()
        while True:
            try:
                sample = await asyncio.wait_for(self._queue.get(), TICK_SECONDS)
            except TimeoutError:
                sample = None
            if sample is not None:
                await self.take(sample)
            if self._clock.monotonic() - ticked >= TICK_SECONDS:
                ticked = self._clock.monotonic()
                await self.tick()

    async def take(self, sample: Sample) -> None:
        """Put one sample into its version's windows; one of no use is counted, never raised."""
        watched = await self._of(sample.version)
        if isinstance(watched, str):
            self.metrics.dropped.labels(watched).inc()
            return
        now = self._clock.monotonic()
        watched.heard = now
        reason = self._put(watched, sample, now)
        if reason:
            self.metrics.dropped.labels(reason).inc()
            return
        subject = watched.subject
        self.metrics.events.labels(subject.model, subject.version, sample.kind).inc()
        await self._test(watched)

    async def tick(self) -> None:
        """End what has grown old: waiting rows, windows, versions unheard of."""
        now = self._clock.monotonic()
        for watched in list(self._watched.values()):
            await self._test(watched)
            if now - watched.heard >= self._settings.forget_seconds:
                self._forget(watched.subject.version)

    def report(self) -> dict[str, Any]:
        """Return what GET /windows shows; see `davy.detector.report`."""
        return report(
            self._watched.values(), self._failures, dict(self.metrics.dropped_by_reason())
        )

    def _put(self, watched: Watched, sample: Sample, now: float) -> str | None:
        """Return the reason for which a sample is of no use, or None."""
        if sample.kind == "response":
            score = sample.values.get(watched.subject.output)
            if score is None or not math.isfinite(score):
                return "no_score"
            return watched.windower.response(sample.id, score, now)
        values = _features(sample.values, watched.subject.categories)
        if values is None:
            return "other_features"
        row = Row(sample.time, values)
        return watched.windower.request(sample.id, row, now)

    async def _of(self, version: str) -> Watched | str:
        """Return a version's state, reading its package the first time; or why there is none."""
        if version in self._watched:
            self._watched.move_to_end(version)
            return self._watched[version]
        if not version:
            return "no_version"
        failure = self._failures.get(version)
        if failure is not None and self._clock.monotonic() < failure.until:
            return failure.reason
        try:
            subject = await asyncio.to_thread(self._packages.load, version)
        except Exception as error:  # whatever is wrong with it, the others go on
            return self._failed(version, error)
        self._failures.pop(version, None)
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
            join_seconds=settings.join_seconds,
            pending=settings.pending_events,
        )
        history: deque[Tested] = deque(maxlen=settings.history_windows)
        return Watched(subject, windower, self._clock.monotonic(), history=history)

    def _failed(self, version: str, error: Exception) -> str:
        if isinstance(error, NotFoundError):
            reason = "unknown_version"
        elif isinstance(error, IntegrityError):
            reason = "package_untrusted"
        else:
            reason = "package_unreadable"
        until = self._clock.monotonic() + self._settings.retry_seconds
        self._failures.pop(version, None)
        self._failures[version] = Failure(reason, str(error), until)
        while len(self._failures) > FAILURES:
            self._failures.popitem(last=False)
        self._log.warning(
            "version_not_watched", version=version[:128], reason=reason, error=str(error)
        )
        return reason

    def _forget(self, version: str) -> None:
        model = self._watched.pop(version).subject.model
        self.metrics.forget(model, version)
        self._log.info("version_forgotten", model=model, version=version)

    async def _test(self, watched: Watched) -> None:
        while (window := watched.windower.pop(self._clock.monotonic())) is not None:
            subject = watched.subject
            began = self._clock.monotonic()
            try:
                result = await asyncio.to_thread(subject.detector.test, window.columns)
            except Exception as error:  # an engine's fault must not stop the other versions
                self.metrics.windows.labels(subject.model, subject.version, "error").inc()
                self._log.exception("window_failed", version=subject.version, error=str(error))
                continue
            seconds = self._clock.monotonic() - began
            self._keep(watched, window, result, seconds)
            await self._score(subject, window, result)
        if orphans := watched.windower.take_orphans():
            self.metrics.dropped.labels("orphan").inc(orphans)

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

    def _keep(self, watched: Watched, window: Window, result: DriftResult, seconds: float) -> None:
        subject, before = watched.subject, watched.active
        watched.streaks = persist(watched.streaks, result, subject.rules)
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
        if value is None or (category and not isinstance(value, int)):
            return None
        found[name] = int(value) if category else float(value)
    return found


def _labels(keys: Iterable[TestKey]) -> list[str]:
    return [f"{feature}/{detector}" for feature, detector in keys]
