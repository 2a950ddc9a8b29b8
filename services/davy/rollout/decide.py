"""What to do after a look: a pure function of spec, state, observation and time.

Belongs here: the order of reasons, when a step is done, when the next look is due.
Not here: acting on it (the engine).

The order is that of `RULES`; the first that applies decides:

1. an ended rollout stays as it is;
2. a rollback under way ends once weight 0 was read back;
3. any failing indicator rolls back, whatever else is the case, paused or past the deadline too,
   unless a person has overridden it;
4. a promotion under way ends once weight 100 was read back;
5. past the deadline: ``onInconclusive``, Hold or Rollback; there is no third;
6. what forbids to go on: paused, weight not honoured, arm not ready, no counts, a veto, a pod that
   is to be replaced and still serves;
7. the first step, once nothing forbids it and the shadow step, if there is one, has passed;
8. an indicator without a verdict holds;
9. a step that is too young or has seen too little holds;
10. the next weight, or promotion after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from davy.rollout.indicators import split_name
from davy.rollout.pods import PodAction, shares_host
from davy.rollout.shadow import shadow_verdicts, waits_for
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import FINAL, Observation, Phase, State
from davy.rollout.verdict import Criterion, Evidence, Outcome, Verdict, judge, judge_parts, worst

Action = Literal["hold", "advance", "promote", "rollback", "finish"]

# Condition reasons beside those of `davy.rollout.counters`.
FINISHED = "Finished"
INDICATOR_FAILED = "IndicatorFailed"
WEIGHT_NOT_HONOURED = "WeightNotHonoured"
WEIGHT_UNKNOWN = "WeightUnknown"
DEADLINE_EXCEEDED = "DeadlineExceeded"
PAUSED = "Paused"
ARM_NOT_READY = "ArmNotReady"
VETO_ACTIVE = "VetoActive"
INCONCLUSIVE = "Inconclusive"
INDICATOR_ABSENT = "IndicatorAbsent"
POD_EFFECT = "PodEffect"
NOT_ENOUGH_REQUESTS = "NotEnoughRequests"
MINIMUM_DURATION = "MinimumDuration"
SHADOWING = "Shadowing"
STARTED = "Started"
ALL_PASSED = "AllPassed"
WEIGHT_HONOURED = "WeightHonoured"

# A canary that is held past the deadline is looked at less and less often, down to this.
RAREST = 10


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and the state that follows; ``state.weight`` is what to ask the router.

    ``pod_action`` is what to ask of whoever runs the canary's pods; asking again changes nothing.
    """

    action: Action
    reason: str
    message: str
    verdicts: tuple[Verdict, ...]
    state: State
    pod_action: PodAction | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What the rules look at; ``state`` has the observation in it already."""

    spec: RolloutSpec
    state: State
    observation: Observation
    now: datetime
    verdicts: tuple[Verdict, ...]

    def hold(self, reason: str, message: str, phase: Phase | None = None) -> Decision:
        """Return the decision to leave the weights as they are."""
        after = self.state if phase is None else self.state.with_phase(phase)
        return Decision("hold", reason, message, self.verdicts, after)

    def finish(self, phase: Phase, message: str) -> Decision:
        """Return the decision that ends the rollout."""
        after = self.state.with_phase(phase)
        return Decision("finish", WEIGHT_HONOURED, message, self.verdicts, after)

    def rollback(self, reason: str, message: str) -> Decision:
        """Return the decision to take all traffic from the canary."""
        after = self.state.with_weight(Phase.ROLLING_BACK, step=self.state.step, weight=0)
        return Decision("rollback", reason, message, self.verdicts, after)

    def advance(self, step: int, reason: str, message: str) -> Decision:
        """Return the decision to go to a step of the spec."""
        weight = self.spec.steps[step].weight
        after = self.state.with_weight(Phase.PROGRESSING, step=step, weight=weight)
        return Decision("advance", reason, f"{message}: weight {weight}", self.verdicts, after)

    def in_words(self, *outcomes: Outcome) -> str:
        """Return the reasons of the verdicts with one of these outcomes."""
        return "; ".join(
            f"{verdict.indicator}: {verdict.reason}"
            for verdict in self.verdicts
            if verdict.outcome in outcomes
        )


def decide(spec: RolloutSpec, state: State, observation: Observation, now: datetime) -> Decision:
    """Return what to do after one look.

    Parameters
    ----------
    spec : RolloutSpec
        With its indicators resolved (`RolloutSpec.with_indicators`).
    state : State
        Before the look.
    observation : Observation
        What the look saw.
    now : datetime
        Time of the look, aware.

    Raises
    ------
    InvalidInputError
        The observation holds counts that no interval can have.
    """
    seen = state.with_observation(observation, now)
    verdicts = verdicts_of(spec, seen)
    decision = next(_decisions(Look(spec, seen, observation, now, verdicts)))
    return _with_pod_action(replace(decision, state=replace(decision.state, verdicts=verdicts)))


def pause_after(spec: RolloutSpec, state: State, now: datetime) -> timedelta:
    """Return the time from a look to the next.

    That is the spec's interval; for a canary that is held past the deadline, as many times that as
    the rollout is old in deadlines, `RAREST` at most. Each look is a line in the record, and nobody
    says for how long a canary is held: so a day of it has a bound.
    """
    interval = spec.analysis.interval
    if state.phase != Phase.INCONCLUSIVE or state.started is None:
        return interval
    return interval * min(max((now - state.started) / spec.analysis.deadline, 1.0), RAREST)


def watched_until(spec: RolloutSpec, state: State, now: datetime) -> datetime | None:
    """Return by when another look with counts is due; None: there was none yet.

    Until then the gate vouches for the canary: a failing one is rolled back. After it alerts on
    canaries may not be left to the gate.
    """
    if state.read_at is None:
        return None
    return state.read_at + pause_after(spec, state, now) + spec.stale_after


def verdicts_of(spec: RolloutSpec, state: State) -> tuple[Verdict, ...]:
    """Return the verdict of each indicator on the evidence so far."""
    same_host = _same_host(spec, state)
    near = {verdict.indicator: verdict for verdict in state.verdicts}
    verdicts = tuple(
        judge_parts(criterion, _parts(criterion, state.evidence), near=near.get(criterion.name))
        if criterion.in_parts
        else judge(
            criterion,
            state.evidence.get(criterion.name) or Evidence.empty(),
            near=near.get(criterion.name),
            left_out=state.replaced,
            same_host=same_host,
        )
        for criterion in spec.criteria()
    )
    # Of the step before the first: once the canary serves, what it serves decides.
    shadow = spec.shadow_criteria() if state.step < 0 else ()
    return verdicts + shadow_verdicts(shadow, state.evidence, near)


def _parts(criterion: Criterion, evidence: Mapping[str, Evidence]) -> dict[str, Evidence]:
    return {name: item for name, item in evidence.items() if split_name(name)[0] == criterion.name}


def _same_host(spec: RolloutSpec, state: State) -> bool:
    canary = spec.candidate.version
    pods: tuple[set[str], set[str]] = (set(), set())
    for key in state.cursor.last:
        pods[key.version != canary].add(key.pod)
    return shares_host(*pods)


def _with_pod_action(decision: Decision) -> Decision:
    """Return the decision with what is asked of the pods; a replacement is asked for once."""
    state, active = decision.state, {Phase.PROGRESSING, Phase.INCONCLUSIVE}
    if decision.action != "hold" or state.phase not in active or state.overridden:
        return decision
    wanted = [verdict.pod_action for verdict in decision.verdicts if verdict.pod_action]
    for action in sorted(wanted, key=lambda item: item.kind, reverse=True):
        if action.kind == "replace":
            state = replace(state, replaced=action.pod)
        return replace(decision, pod_action=action, state=state)
    return decision


def _decisions(look: Look) -> Iterator[Decision]:
    for rule in RULES:
        decision = rule(look)
        if decision is not None:
            yield decision
    yield _go_on(look)


def _ended(look: Look) -> Decision | None:
    if look.state.phase not in FINAL:
        return None
    return look.hold(FINISHED, f"the rollout has ended: {look.state.phase}")


def _rolling_back(look: Look) -> Decision | None:
    if look.state.phase != Phase.ROLLING_BACK:
        return None
    return _unhonoured(look) or look.finish(Phase.ROLLED_BACK, "the canary has weight 0")


def _failed(look: Look) -> Decision | None:
    if worst(look.verdicts) != "fail" or look.state.overridden:
        return None
    return look.rollback(INDICATOR_FAILED, look.in_words("fail"))


def _promoting(look: Look) -> Decision | None:
    if look.state.phase != Phase.PROMOTING:
        return None
    return _unhonoured(look) or look.finish(Phase.PROMOTED, "the canary has weight 100")


def _deadline(look: Look) -> Decision | None:
    held = look.state.phase == Phase.INCONCLUSIVE
    started, limit = look.state.started, look.spec.analysis.deadline
    if not held and (started is None or look.now - started < limit):
        return None
    message = f"not decided within {_seconds(limit)}"
    if look.spec.on_inconclusive == "Rollback" and not held:
        return look.rollback(DEADLINE_EXCEEDED, f"{message}: rolled back, as onInconclusive says")
    message += f": held at weight {look.state.weight} and watched on, as onInconclusive says"
    return look.hold(DEADLINE_EXCEEDED, message, Phase.INCONCLUSIVE)


def _paused(look: Look) -> Decision | None:
    return look.hold(PAUSED, "the spec says paused") if look.observation.paused else None


def _unhonoured(look: Look) -> Decision | None:
    asked, found = look.state.weight, look.observation.weight
    if found == asked:
        return None
    if found is None:
        # A router that leaves an arm without a server out gives the others more: no share is right.
        message = f"the router says no weights, or none that fit the arms (asked: {asked})"
        return look.hold(WEIGHT_UNKNOWN, message)
    message = f"the canary has weight {found}, asked for was {asked}"
    return look.hold(WEIGHT_NOT_HONOURED, message)


def _not_ready(look: Look) -> Decision | None:
    arms = look.observation.not_ready
    return look.hold(ARM_NOT_READY, f"no ready server: {', '.join(arms)}") if arms else None


def _no_counts(look: Look) -> Decision | None:
    missing = look.observation.missing
    return None if missing is None else look.hold(missing.reason, missing.message)


def _vetoed(look: Look) -> Decision | None:
    answered = {veto.name for veto in look.observation.vetoes}
    reasons = [
        f"{name}: nothing answers for this veto"
        for name in look.spec.analysis.vetoes
        if name not in answered
    ]
    reasons += [f"{veto.name}: {veto.message}" for veto in look.observation.vetoes if veto.active]
    return look.hold(VETO_ACTIVE, "; ".join(reasons)) if reasons else None


def _absent(look: Look) -> Decision | None:
    absent = look.observation.absent
    words = "; ".join(f"{name}: {why}" for name, why in absent.items())
    return look.hold(INDICATOR_ABSENT, words) if absent else None


def _not_replaced(look: Look) -> Decision | None:
    pod, last = look.state.replaced, look.state.cursor.last
    newest = look.state.cursor.newest
    own = [sample.time for key, sample in last.items() if key.pod == pod]
    if pod is None or newest is None or not own:
        return None
    if newest - max(own) > look.spec.stale_after.total_seconds():
        return None
    return look.hold(POD_EFFECT, f"the pod {pod} is to be replaced, and still serves")


def _shadowed(look: Look) -> Decision | None:
    shadow, state = look.spec.shadow, look.state
    if shadow is None or state.phase != Phase.PENDING:
        return None
    absent = look.observation.absent
    why = waits_for(look.verdicts, state.evidence, absent, requests=shadow.requests)
    return look.hold(SHADOWING, why) if why else None


def _start(look: Look) -> Decision | None:
    if look.state.phase != Phase.PENDING:
        return None
    passed = "" if look.spec.shadow is None else ", and what it answered unserved was as it should"
    return look.advance(0, STARTED, f"both arms are ready{passed}")


def _undecided(look: Look) -> Decision | None:
    if worst(look.verdicts) == "pass":
        return None
    by_pod = any(verdict.pod_action for verdict in look.verdicts)
    return look.hold(POD_EFFECT if by_pod else INCONCLUSIVE, look.in_words("inconclusive"))


def _unfinished(look: Look) -> Decision | None:
    step, state = look.spec.steps[look.state.step], look.state
    if state.step_requests < step.min_requests:
        return look.hold(
            NOT_ENOUGH_REQUESTS,
            f"{state.step_requests} canary requests at this weight, wanted {step.min_requests}",
        )
    age = look.now - state.honoured_since if state.honoured_since else timedelta(0)
    # A look that finds the weight for the first time has seen nothing of it yet.
    if age < step.min_duration or age <= timedelta(0):
        return look.hold(
            MINIMUM_DURATION,
            f"{_seconds(age)} at this weight, wanted {_seconds(step.min_duration)}",
        )
    return None


def _go_on(look: Look) -> Decision:
    following = look.state.step + 1
    if following < len(look.spec.steps):
        return look.advance(following, ALL_PASSED, "all indicators pass")
    after = look.state.with_weight(Phase.PROMOTING, step=look.state.step, weight=100)
    message = f"all indicators pass at the last step: {look.in_words('pass')}"
    return Decision("promote", ALL_PASSED, message, look.verdicts, after)


def _seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g} s"


RULES: tuple[Callable[[Look], Decision | None], ...] = (
    _ended,
    _rolling_back,
    _failed,
    _promoting,
    _deadline,
    _paused,
    _unhonoured,
    _not_ready,
    _no_counts,
    _vetoed,
    _shadowed,
    _start,
    _absent,
    _not_replaced,
    _undecided,
    _unfinished,
)
