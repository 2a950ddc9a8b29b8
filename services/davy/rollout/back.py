"""Carry a person's override out: write it down, ask the router, wait until it is so.

Belongs here: the order of side effects of an override. Not here: the decision
(`davy.rollout.override`), the checks of package and server that come first (the command line).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from davy.core.clock import Clock
from davy.core.errors import ConflictError, InvalidInputError, TemporaryError
from davy.rollout.counters import Missing
from davy.rollout.decide import Decision, decide
from davy.rollout.override import override
from davy.rollout.ports import Journal, Traffic
from davy.rollout.record import DAVY, Header, Record, look_line
from davy.rollout.replay import resume
from davy.rollout.series import Arms
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.vetoes import Veto

NOT_MEASURED = Missing("NotMeasured", "nothing was counted: a person decides")


@dataclass(frozen=True, slots=True)
class Override:
    """Who sends all traffic to which version, and why.

    ``vetoes`` are what is known against it; they are recorded and decide nothing. ``orders``
    are the ids of the orders that it settles: itself, and those that no look came to.
    """

    to: str
    by: str
    why: str
    vetoes: tuple[Veto, ...] = ()
    orders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an override without a person or a reason."""
        for name, value in (("by", self.by), ("why", self.why)):
            if not value.strip():
                raise InvalidInputError("is empty", where=name, fix="Say who decides, and why")
        if self.by.strip() == DAVY:
            raise InvalidInputError(f"'{DAVY}' is no person", where="by", fix="Name who decides")


def begin(journal: Journal, *, name: str, arms: Arms, clock: Clock, objective: float) -> Header:
    """Return the header of a journal for an override, and write one into an empty journal.

    Parameters
    ----------
    journal : Journal
        Empty, or that of a rollout of the same two versions, which is then continued.
    name : str
        Name of a new record.
    arms : Arms
        In a new record the canary is where traffic goes to, and the stable arm where it was.
    clock : Clock
        Where the time comes from.
    objective : float
        Latency objective of the package, in seconds; 0 when no package was read.
    """
    record = journal.read()
    if record is not None:
        return record.header
    spec = RolloutSpec.model_validate(
        {"candidate": {"version": arms.canary}, "steps": [{"weight": 100, "minRequests": 0}],
         "analysis": {"vetoes": []}}
    )  # fmt: skip
    header = Header(
        time=clock.now(),
        rollout=name,
        generation=1,
        settings_hash=spec.settings_hash(),
        spec=spec.document(),
        stable=arms.stable,
        canary=arms.canary,
        latency_objective_seconds=objective,
    )
    journal.begin(header)
    return header


def arms_for(record: Record | None, to: str, others: Sequence[str], *, where: str) -> Arms:
    """Return the arms of an override: the record's, or `to` as canary of the first other.

    Raises
    ------
    ConflictError
        The record is of two other versions.
    InvalidInputError
        No other version is known.
    """
    if record is not None:
        arms = record.header.arms()
        if to not in (arms.stable, arms.canary):
            raise ConflictError(
                f"the record is of {arms.stable} and {arms.canary}, not of {to}",
                where=where,
                fix="Use another folder",
            )
        return arms
    other = next((version for version in others if version != to), None)
    if other is None:
        raise InvalidInputError(
            f"no other version than {to} is known: from which is traffic taken?",
            where=where,
            fix="Name its server, too: --server OTHER=URL; it may be down",
        )
    return Arms(stable=other, canary=to)


def send_back(
    wanted: Override, *, journal: Journal, header: Header, traffic: Traffic, clock: Clock
) -> Decision:
    """Send all traffic to one version, and record who decided it and what the router then said.

    The record's line is written before the router is asked, as in a look. The decision that is
    returned has the action ``finish`` when the weight was read back, and ``hold`` when not; then
    the same override may be given again.

    Raises
    ------
    DavyError
        The journal cannot be written, or the router refuses what is asked for good.
    """
    # Nothing is compared any more: a baseline is left out of the router altogether.
    arms, record = replace(header.arms(), baseline=""), journal.read()
    state = State() if record is None else resume(record)
    spec = RolloutSpec.model_validate(header.spec)
    weight = 100 if wanted.to == arms.canary else 0
    now, seen = clock.now(), _seen(traffic, arms, state, wanted.vetoes)
    decision = override(spec, state, seen, now, weight=weight, why=wanted.why)
    line = look_line(
        header, state.weight, seen, decision, now, actor=wanted.by, orders=wanted.orders
    )
    journal.append(line)
    # A router that did not answer is told by the weight that is read back, or is not.
    with contextlib.suppress(TemporaryError):
        traffic.set_weight(arms, weight)
    now, seen = clock.now(), _seen(traffic, arms, decision.state, wanted.vetoes)
    end = decide(spec, decision.state, seen, now)
    journal.append(look_line(header, weight, seen, end, now))
    return end


def _seen(traffic: Traffic, arms: Arms, state: State, vetoes: tuple[Veto, ...]) -> Observation:
    try:
        weight, not_ready = traffic.read_weight(arms), traffic.not_ready(arms)
    except TemporaryError:
        weight, not_ready = None, ()
    return Observation(
        weight=weight,
        missing=NOT_MEASURED,
        not_ready=not_ready,
        vetoes=vetoes,
        cursor=state.cursor,
    )
