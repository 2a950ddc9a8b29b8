"""The verdict of one indicator: fail, pass or inconclusive, with the bounds behind it.

Belongs here: margins, allowances, how the error rates are shared out.
Not here: what a verdict leads to (`davy.rollout.decide`).

How the promised error rates are shared out:

- *Rolling back* needs one failing indicator, so ``falseRollback`` is split over the indicators by
  their ``share``. A tolerable indicator is tolerable by its ratio or by its rate; a fail needs both
  bounds above, so it is wrong only if a bound that holds with 1 - alpha is: no further split.
- *Promoting* needs every indicator to pass, so an intolerable canary gets through only if the very
  indicator that is intolerable passes: no split over indicators. Each has two ways to pass, by
  ratio or by rate, and gets half of ``falsePromotion`` for each, less a tenth that is kept for
  passing without a pod (`davy.rollout.pods`).
- An indicator of several *parts* (``shift``: each bucket, more or fewer) fails if one part does and
  passes if all do, so its parts share ``falseRollback`` and each has all of ``falsePromotion``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from davy.rollout.pods import GROSS, RESERVED, Kept, LeftOut, PodAction, PodCounts
from davy.rollout.sequential import REACH, Bounds, RateEvidence, RatioEvidence, check_counts

Outcome = Literal["fail", "pass", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is tolerable for one indicator, and the chance of error that it may use.

    ``ratio`` is the tolerable ratio of rates (1 + margin), ``allowance`` the canary's own rate that
    is tolerable however it compares (0: none). ``in_parts`` says that its evidence is that of its
    parts, named ``name[part]``; ``node_like`` that a node alone can cause its events.
    """

    name: str
    ratio: float
    allowance: float
    alpha_fail: float
    alpha_pass: float
    in_parts: bool = False
    node_like: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and events of both arms in one interval.

    ``node_stable`` and ``node_canary`` are those among the events that a node alone can cause,
    where that is known.
    """

    n_stable: int
    k_stable: int
    n_canary: int
    k_canary: int
    node_stable: int = 0
    node_canary: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a rollout has seen of one indicator.

    ``model_only`` is the evidence without the events that a node can cause, None while there was
    none; ``left_out`` the evidence without each pod.
    """

    ratio: RatioEvidence
    rate: RateEvidence
    totals: Counts = Counts(0, 0, 0, 0)
    model_only: Kept | None = None
    left_out: LeftOut = field(default_factory=LeftOut)

    @classmethod
    def empty(cls) -> Evidence:
        """Return the evidence before the first interval."""
        return cls(RatioEvidence.empty(), RateEvidence())

    @property
    def all(self) -> Kept:
        """Return the evidence of all counts."""
        return Kept(self.ratio, self.rate)

    def with_interval(
        self, counts: Counts, *, comparable: bool = True, pods: Sequence[PodCounts] = ()
    ) -> Evidence:
        """Return the evidence with one interval more.

        Parameters
        ----------
        counts : Counts
            What both arms did in it.
        comparable : bool
            False when the weights changed within the interval: then the arms did not share its
            traffic evenly, and only the canary's own rate is learnt from it.
        pods : sequence of PodCounts
            The canary's counts by pod, where they are known.

        Raises
        ------
        InvalidInputError
            An arm has more events than requests, or a count is negative.
        """
        check_counts(counts.n_stable, counts.k_stable, arm="stable")
        row = (counts.n_stable, counts.k_stable, counts.n_canary, counts.k_canary)
        kept = self.all.with_interval(*row, comparable=comparable)
        model_only = self.model_only
        if model_only is not None or counts.node_stable or counts.node_canary:
            model_only = (model_only or self.all).with_interval(
                counts.n_stable,
                counts.k_stable - counts.node_stable,
                counts.n_canary,
                counts.k_canary - counts.node_canary,
                comparable=comparable,
            )
        left_out = self.left_out
        if pods or left_out.pods:
            left_out = left_out.with_interval(self.all, row, pods, comparable=comparable)
        totals = self.totals
        if comparable:
            totals = Counts(
                totals.n_stable + counts.n_stable,
                totals.k_stable + counts.k_stable,
                totals.n_canary + counts.n_canary,
                totals.k_canary + counts.k_canary,
            )
        return Evidence(kept.ratio, kept.rate, totals, model_only, left_out)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says of one indicator, with its bounds and in words.

    ``pod_action`` is set where a fail may be one pod's: then it is inconclusive.
    """

    indicator: str
    outcome: Outcome
    ratio: Bounds
    rate: Bounds
    reason: str
    pod_action: PodAction | None = None


def judge(
    criterion: Criterion,
    evidence: Evidence,
    *,
    near: Verdict | None = None,
    left_out: str | None = None,
    same_host: bool = False,
) -> Verdict:
    """Return the verdict of one indicator.

    Fail: the lower bound of the ratio is above what is tolerable, and so is that of the canary's
    rate, and no single pod explains it. Pass: an upper bound is at or below it. Inconclusive
    otherwise.

    Parameters
    ----------
    criterion : Criterion
        What is tolerable.
    evidence : Evidence
        What was seen.
    near : Verdict, optional
        The last look's: saves time, decides nothing.
    left_out : str, optional
        A pod whose counts are left out, because it carried a fail alone and was replaced.
    same_host : bool
        Whether both arms run on one host, so that a slow one slows both.
    """
    kept, alpha_pass = evidence.all, criterion.alpha_pass * (1 - RESERVED)
    if left_out is not None and evidence.left_out.pods:
        kept = evidence.left_out.without.get(left_out, kept)
        alpha_pass = evidence.left_out.alpha_without(criterion.alpha_pass, left_out)
    verdict = _judge(criterion, kept, alpha_pass, _seen(evidence, kept), near)
    if verdict.outcome != "fail" or left_out is not None:
        return verdict
    action, why = _explained_by_a_pod(criterion, evidence, same_host=same_host)
    if not why:
        return verdict
    reason = f"{why}; {verdict.reason}"
    return replace(verdict, outcome="inconclusive", reason=reason, pod_action=action)


def judge_parts(
    criterion: Criterion, parts: Mapping[str, Evidence], *, near: Verdict | None = None
) -> Verdict:
    """Return the verdict of an indicator of several parts: the worst of theirs, with its bounds."""
    if not parts:
        return judge(criterion, Evidence.empty())
    share = replace(criterion, alpha_fail=criterion.alpha_fail / len(parts))
    verdicts = [
        judge(replace(share, name=name), evidence, near=near) for name, evidence in parts.items()
    ]
    order = {"fail": 0, "inconclusive": 1, "pass": 2}

    def badness(verdict: Verdict) -> tuple[int, float]:
        against = parts[verdict.indicator].ratio.log_evidence_above(criterion.ratio)
        return order[verdict.outcome], -against

    worst_one = min(verdicts, key=badness)
    reason = f"{worst_one.indicator}: {worst_one.reason}"
    return replace(worst_one, indicator=criterion.name, reason=reason)


def _judge(
    criterion: Criterion, kept: Kept, alpha_pass: float, seen: str, near: Verdict | None
) -> Verdict:
    """Return the verdict on some of the counts: decided at the limits, told by the bounds.

    A search for a bound ends a little before it, and where depends on where it began; the evidence
    against the limit itself does not. So an engine that goes on, one that starts anew and a replay
    decide the same.
    """
    alpha_upper = alpha_pass / 2
    alphas = {"alpha_lower": criterion.alpha_fail, "alpha_upper": alpha_upper}
    by_ratio = kept.ratio.weigh(criterion.ratio, **alphas, near=near.ratio if near else None)
    by_rate = kept.rate.weigh(
        criterion.allowance or None, **alphas, near=near.rate if near else None
    )
    ratio, rate = by_ratio.bounds, by_rate.bounds
    enough_to_pass = -math.log(alpha_upper)
    outcome: Outcome
    if _intolerable(criterion, by_ratio.above, by_rate.above):
        outcome = "fail"
        reason = (
            f"at least {ratio.lower:.3g} times the stable rate (tolerable {criterion.ratio:g}) and "
            f"at least {rate.lower:.3%} of requests (allowed {criterion.allowance:.3%}); {seen}"
        )
    elif by_ratio.below >= enough_to_pass:
        outcome = "pass"
        reason = (
            f"at most {ratio.upper:.3g} times the stable rate (tolerable {criterion.ratio:g}); "
            f"{seen}"
        )
    elif criterion.allowance and by_rate.below >= enough_to_pass:
        outcome = "pass"
        reason = f"at most {rate.upper:.3%} of requests (allowed {criterion.allowance:.3%}); {seen}"
    else:
        outcome = "inconclusive"
        reason = (
            f"ratio between {ratio.lower:.3g} and {ratio.upper:.3g} "
            f"(tolerable {criterion.ratio:g}), rate between {rate.lower:.3%} and "
            f"{rate.upper:.3%} (allowed {criterion.allowance:.3%}); {seen}"
        )
    return Verdict(criterion.name, outcome, ratio, rate, reason)


def _explained_by_a_pod(
    criterion: Criterion, evidence: Evidence, *, same_host: bool
) -> tuple[PodAction | None, str]:
    """Return what to ask of the pods, and why a fail is not believed yet; empty when it is."""
    pods = evidence.left_out.pods
    if len(pods) > 1:
        carrying = [pod for pod in pods if not fails(criterion, evidence.left_out.without[pod])]
        if not carrying:
            return None, ""
        if len(carrying) == 1:
            return PodAction("replace", carrying[0]), f"it hangs on the pod {carrying[0]} alone"
        return None, f"not shown yet without each of the pods {', '.join(carrying)}"
    if not pods or same_host or _gross(criterion, evidence.ratio):
        return None, ""
    if criterion.node_like or (
        evidence.model_only is not None and not fails(criterion, evidence.model_only)
    ):
        return PodAction("add", pods[0]), f"a node can cause it, and {pods[0]} is the only pod"
    return None, ""


def _gross(criterion: Criterion, ratio: RatioEvidence) -> bool:
    limit = GROSS * criterion.ratio
    if math.log(limit) >= REACH:
        return False
    return ratio.log_evidence_above(limit) >= -math.log(criterion.alpha_fail)


def fails(criterion: Criterion, kept: Kept) -> bool:
    """Return whether the evidence against the limits fails it; pods are not asked.

    With no allowance there is no rate to be above, nor to be at most: the ratio alone decides.
    """
    allowance = criterion.allowance
    return _intolerable(
        criterion,
        kept.ratio.log_evidence_above(criterion.ratio),
        kept.rate.log_evidence_above(allowance) if allowance else 0.0,
    )


def _intolerable(criterion: Criterion, above_ratio: float, above_allowance: float) -> bool:
    enough = -math.log(criterion.alpha_fail)
    return above_ratio >= enough and (not criterion.allowance or above_allowance >= enough)


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """Return the outcome of all: any fail fails, all must pass to pass; none at all is nothing."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes == {"pass"} else "inconclusive"


def _seen(evidence: Evidence, kept: Kept) -> str:
    totals, rate = evidence.totals, kept.rate
    return (
        f"seen: canary {rate.events} in {rate.requests}, "
        f"stable {totals.k_stable} in {totals.n_stable}"
    )
