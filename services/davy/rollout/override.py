"""A person's override: all traffic to one arm now, whatever the evidence says.

Belongs here: the pure decision, the same when it is taken and when it is replayed.
Not here: carrying it out (`davy.rollout.back`), what the evidence leads to (`davy.rollout.decide`).

It asks for one of the two ends, weight 0 or 100: what is between is the affair of evidence. Rules
that hold (vetoes, missing counts, an arm that is down) have no say, and neither has an indicator
that fails afterwards. What is not given up is that the weight must be read back, and that a
promotion says which evidence it was taken without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from davy.core.errors import InvalidInputError
from davy.rollout.decide import Decision, verdicts_of
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Verdict

OVERRIDDEN = "Overridden"


def override(
    spec: RolloutSpec,
    state: State,
    observation: Observation,
    now: datetime,
    *,
    weight: int,
    why: str,
) -> Decision:
    """Return the decision to send all traffic to the canary (100) or to the stable arm (0).

    Parameters
    ----------
    spec, state, observation, now
        As in `davy.rollout.decide.decide`.
    weight : int
        0 or 100.
    why : str
        The person's reason.

    Raises
    ------
    InvalidInputError
        Another weight, or counts that no interval can have.
    """
    if weight not in (0, 100):
        raise InvalidInputError(f"an override asks for weight 0 or 100, not {weight}")
    seen = state.with_observation(observation, now)
    phase = Phase.PROMOTING if weight else Phase.ROLLING_BACK
    after = replace(seen.with_weight(phase, step=seen.step, weight=weight), overridden=True)
    verdicts = verdicts_of(spec, seen)
    if not weight:
        return Decision("rollback", OVERRIDDEN, why, verdicts, after)
    without = "; ".join(_lacking(spec, seen, observation, verdicts))
    message = f"{why} (without the evidence: {without})" if without else why
    return Decision("promote", OVERRIDDEN, message, verdicts, after)


def lacking(spec: RolloutSpec, state: State, observation: Observation) -> tuple[str, ...]:
    """Return what a promotion at this state would be taken without, in words; empty: nothing."""
    return tuple(_lacking(spec, state, observation, verdicts_of(spec, state)))


def _lacking(
    spec: RolloutSpec, state: State, observation: Observation, verdicts: tuple[Verdict, ...]
) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.outcome != "pass":
            yield f"{verdict.indicator} is {verdict.outcome}: {verdict.reason}"
    last = len(spec.steps) - 1
    # Where no indicator is judged, nobody ever meant to walk the steps.
    if verdicts and state.step < last:
        done = f"step {state.step + 1}" if state.step >= 0 else "no step"
        yield f"{done} of {last + 1} was reached"
    for veto in observation.vetoes:
        if veto.active:
            yield f"veto {veto.name}: {veto.message}"
