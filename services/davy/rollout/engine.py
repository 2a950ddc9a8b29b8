"""One look after another: observe, decide, write it down, act.

Belongs here: the order of side effects, resuming.
Not here: any decision (`davy.rollout.decide`), any outside thing (adapters), what is shown of it
(`davy.rollout.metrics`).

A look has one point at which it counts: the line in the journal. Before it nothing was changed;
after it the only act left is to ask the router for a weight, which may be asked again. A crash
before the line loses a look whose counts are read again from the same cursor; a crash after it is
made good by asking for the recorded weight when the engine starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from prometheus_client import CollectorRegistry

from davy.core.clock import Clock
from davy.core.errors import DavyError, TemporaryError
from davy.core.logging import get_logger
from davy.rollout.counters import METRICS_UNAVAILABLE, Missing, Reading, read_interval
from davy.rollout.decide import PAUSED, Decision, decide, pause_after, watched_until
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.mirroring import Mirroring
from davy.rollout.orders import ENDS, NoOrders, Order, Orders, paused_by, pending, settled_by
from davy.rollout.override import override
from davy.rollout.ports import GateFacts, Journal, Metrics, Mirror, NoMirror, Packages, Traffic
from davy.rollout.record import DAVY, Header, Record, look_line
from davy.rollout.replay import resume
from davy.rollout.series import Series
from davy.rollout.shadow import of_tolerance, only_shadow
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import FINAL, Observation, Phase, State
from davy.rollout.vetoes import Veto, drift_veto

# A weight change under way is looked at more often than the evidence.
SETTLING = frozenset({Phase.PROMOTING, Phase.ROLLING_BACK})
SETTLING_SECONDS = 0.5
# How long a stop may go unnoticed.
STOP_SECONDS = 0.2


class Engine:
    """Takes one candidate from weight 0 to 100, or back to 0.

    Parameters
    ----------
    spec : RolloutSpec
        Indicators left out of it are taken from the candidate's package.
    name : str
        Name of the rollout, as in its record and metrics.
    stable : str
        Version that serves now.
    traffic, metrics, journal, packages : ports
        See `davy.rollout.ports`. A journal that holds looks is continued.
    clock : Clock
        Where the time comes from.
    registry : CollectorRegistry, optional
        Where ``davy_rollout_*`` are registered.
    orders : Orders, optional
        What people ask of it while it runs; without, nobody can.
    shadow : Mirror, optional
        Has requests sent to a canary that serves nobody; without, somebody else does.
    metrics_of_rollout : RolloutMetrics, optional
        Given instead of `registry` when one process runs several rollouts after each other.

    Raises
    ------
    ConflictError
        The journal belongs to another rollout, candidate or spec.
    InvalidInputError
        No indicator is named anywhere, or the journal is damaged.
    NotFoundError
        There is no package of the candidate.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        *,
        name: str,
        stable: str,
        traffic: Traffic,
        metrics: Metrics,
        journal: Journal,
        packages: Packages,
        clock: Clock,
        registry: CollectorRegistry | None = None,
        metrics_of_rollout: RolloutMetrics | None = None,
        generation: int = 1,
        orders: Orders | None = None,
        shadow: Mirror | None = None,
    ) -> None:
        self.arms = spec.arms(stable)
        facts = packages.facts(self.arms.canary)
        self.spec = spec.with_indicators(list(facts.indicators))
        self.name = name
        self._traffic = traffic
        self._metrics = metrics
        self._journal = journal
        self._packages = packages
        self._orders = orders or NoOrders()
        self._clock = clock
        self._log = get_logger("rollout").bind(rollout=name, candidate=self.arms.canary)
        self._mirroring = Mirroring(shadow or NoMirror(), self.arms, self._log)
        self._own_metrics = metrics_of_rollout or RolloutMetrics(registry or CollectorRegistry())
        record = journal.read()
        self.header = self._header(record, facts, generation)
        self.state = resume(record) if record is not None else State()
        self._settled = settled_by(record) if record is not None else frozenset()
        # What the last look saw; None before the first.
        self.observed: Observation | None = None
        self._asserted = False
        self._honoured: float | None = None

    def look(self) -> Decision:
        """Look once: observe, decide, write down, act.

        Raises
        ------
        DavyError
            The journal cannot be written, or the router refuses what is asked for good.
        """
        self._mirroring.keep(wanted=self._shadowing)
        self._assert_weight()
        orders, unread = self._read_orders()
        by = paused_by(orders, self.header)
        # A pause that cannot be read may be there: what is not known never goes on.
        pause = f"paused by {by.by}: {by.because}" if by else unread
        observation = self._observe(paused=self.spec.paused or bool(pause))
        now = self._clock.now()
        asked = self.state.weight
        wanted = pending(orders, self.header, self._settled)
        decision, actor = self._decide(observation, now, wanted[-1] if wanted else None, pause)
        # Those before the last one were overtaken by it: they are done with, too.
        settled = tuple(item.id for item in wanted) if actor != DAVY else ()
        line = look_line(
            self.header, asked, observation, decision, now, actor=actor, orders=settled
        )
        self._journal.append(line)
        self.state, self.observed = decision.state, observation
        self._settled |= frozenset(settled)
        self._own_metrics.show(
            self.name,
            self.arms,
            observation.weight,
            decision,
            watched_until=watched_until(self.spec, self.state, now),
        )
        # Ended before the canary serves anybody: what it then counts is what it serves.
        self._mirroring.keep(wanted=self._shadowing)
        if decision.state.weight != asked:
            self._ask(decision.state.weight)
        return decision

    def run(
        self,
        *,
        on_look: Callable[[Decision], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Phase:
        """Look at every interval until the rollout has ended, or `stop` is set.

        A rollout that is held past its deadline has not ended: its canary has traffic, is watched,
        and rolled back when an indicator fails.

        Parameters
        ----------
        on_look : callable, optional
            Called with the decision after each look.
        stop : threading.Event, optional
            Ends the run before the next look; a later engine on the same journal goes on.

        Returns
        -------
        Phase
            ``Promoted``, ``RolledBack``, or where it was stopped.
        """
        stopping = stop or threading.Event()
        while not stopping.is_set() and self.state.phase not in FINAL:
            began = self._clock.monotonic()
            decision = self.look()
            if on_look is not None:
                on_look(decision)
            pause = self.pause()
            if self.state.phase in SETTLING:
                pause = min(pause, SETTLING_SECONDS)
            if self.state.phase not in FINAL:
                self._wait(stopping, began + pause)
        return self.state.phase

    def pause(self) -> float:
        """Return the seconds from the last look to the next, were no weight change under way."""
        return pause_after(self.spec, self.state, self._clock.now()).total_seconds()

    def _wait(self, stop: threading.Event, until: float) -> None:
        while not stop.is_set() and (left := until - self._clock.monotonic()) > 0:
            # What a person wants does not wait for the next look.
            if pending(self._read_orders()[0], self.header, self._settled):
                return
            self._clock.sleep(min(left, STOP_SECONDS))

    def _read_orders(self) -> tuple[Sequence[Order], str]:
        """Return the orders, and why there are none when they cannot be read."""
        try:
            return self._orders.read(), ""
        except DavyError as error:
            return (), str(error)

    def _decide(
        self, observation: Observation, now: datetime, wanted: Order | None, pause: str
    ) -> tuple[Decision, str]:
        """Return the decision and who took it."""
        if wanted is not None and self.state.phase not in FINAL:
            weight, why = ENDS[wanted.kind], wanted.because
            decided = override(self.spec, self.state, observation, now, weight=weight, why=why)
            return decided, wanted.by
        decided = decide(self.spec, self.state, observation, now)
        if pause and decided.reason == PAUSED:
            decided = replace(decided, message=pause)
        return decided, DAVY

    def _header(self, record: Record | None, facts: GateFacts, generation: int) -> Header:
        header = Header(
            time=self._clock.now(),
            rollout=self.name,
            generation=generation,
            settings_hash=self.spec.settings_hash(),
            spec=self.spec.document(),
            stable=self.arms.stable,
            canary=self.arms.canary,
            baseline=self.arms.baseline,
            latency_objective_seconds=facts.latency_objective_seconds,
        )
        if record is None:
            self._journal.begin(header)
            return header
        found = record.header
        found.check_same(header)
        return found

    def _assert_weight(self) -> None:
        """Ask again for the recorded weight after a start, or while it must take hold."""
        if self._asserted and self.state.phase not in SETTLING:
            return
        if self._read_weight() == self.state.weight:
            self._asserted = True
        else:
            self._ask(self.state.weight)

    def _ask(self, weight: int) -> None:
        self._honoured = None
        try:
            self._traffic.set_weight(self.arms, weight)
            self._asserted = True
            # Seen now, not at the next look: the interval that begins before that look counts.
            if self._traffic.read_weight(self.arms) == weight:
                self._honoured = self._clock.now().timestamp()
        except TemporaryError as error:
            self._asserted = False
            self._log.warning("weight not set", weight=weight, error=str(error))

    @property
    def _before_first_weight(self) -> bool:
        return self.spec.shadow is not None and self.state.step < 0

    @property
    def _shadowing(self) -> bool:
        return self.spec.shadow is not None and self.state.phase == Phase.PENDING

    def _read_weight(self) -> int | None:
        try:
            return self._traffic.read_weight(self.arms)
        except TemporaryError as error:
            self._log.warning("weight not read", error=str(error))
            return None

    def _observe(self, *, paused: bool) -> Observation:
        weight = self._read_weight()
        if weight != self.state.weight:
            self._honoured = None
        vetoes = self._packages.vetoes(self.arms.canary, self.spec.analysis.vetoes)
        try:
            not_ready = self._traffic.not_ready(self.arms)
        except TemporaryError as error:
            self._log.warning("readiness not known", error=str(error))
            not_ready = self.arms.versions
        reading, more = self._read_metrics()
        if self._before_first_weight:
            reading = only_shadow(reading)
        return Observation(
            weight=weight,
            counts=reading.counts,
            missing=reading.missing,
            start=reading.start,
            end=reading.end,
            not_ready=not_ready,
            vetoes=(*vetoes, *more),
            paused=paused,
            honoured=self._honoured,
            cursor=reading.cursor,
            pods=reading.pods,
            absent=reading.absent,
            first=reading.first,
        )

    def _read_metrics(self) -> tuple[Reading, tuple[Veto, ...]]:
        cursor = self.state.cursor
        try:
            series: Sequence[Series] = self._metrics.series(self.arms, cursor.newest)
        except TemporaryError as error:
            return Reading(cursor, missing=Missing(METRICS_UNAVAILABLE, str(error))), ()
        shadow = self.spec.shadow if self._before_first_weight else None
        if shadow is not None:
            series = of_tolerance(series, shadow.tolerance)
        reading = read_interval(
            cursor,
            series,
            arms=self.arms,
            indicators=(*self.spec.counted(), *(shadow.allowed() if shadow else ())),
            objective=self.header.latency_objective_seconds,
            now=self._clock.now().timestamp(),
            stale_after=self.spec.stale_after.total_seconds(),
        )
        wanted = "drift" in self.spec.analysis.vetoes
        return reading, (drift_veto(series, self.arms),) if wanted else ()
