"""A canary on a bad node is not a bad model: what a verdict says when one pod is left out.

Belongs here: evidence with each pod left out, what is asked of the pods.
Not here: the test itself (`davy.rollout.sequential`), carrying a request out (the operator).

For each pod of the canary the evidence of all others is kept beside that of all. A fail stands
only if it stands without each of them, so with one arbitrarily bad pod among sound ones a tolerable
canary is still rolled back with a chance of at most ``falseRollback``: what was counted without
that pod is evidence like any other. Where exactly one pod carries the fail, its replacement is
asked for, once. After that its counts are left out for good; a pass then spends what
`alpha_without` says, because the pod was chosen after looking.

A canary of one pod leaves nothing to compare. What a node can cause (slow answers, timeouts, shed
requests) asks for a second pod before it is believed, unless it is gross or the stable arm's pods
are on the same host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from davy.rollout.sequential import RateEvidence, RatioEvidence

# More pods than that are not left out one by one: each has little weight then.
MOST_PODS = 16
# A lower bound this many times beyond the tolerable ratio is no node's doing.
GROSS = 6.0
# Of falsePromotion, the part that is kept for passing without a pod that was left out.
RESERVED = 0.1


class PodCounts(NamedTuple):
    """Requests and events of one pod of the canary in one interval."""

    pod: str
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class PodAction:
    """What is asked of whoever runs the canary's pods: replace this one, or add a second."""

    kind: Literal["replace", "add"]
    pod: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The evidence of some of the counts."""

    ratio: RatioEvidence
    rate: RateEvidence

    @classmethod
    def empty(cls) -> Kept:
        """Return the evidence before the first interval."""
        return cls(RatioEvidence.empty(), RateEvidence())

    def with_interval(
        self, n_stable: int, k_stable: int, n_canary: int, k_canary: int, *, comparable: bool
    ) -> Kept:
        """Return the evidence with one interval more; where not `comparable`, of the rate alone."""
        rate = self.rate.with_interval(n=n_canary, k=k_canary)
        if not comparable:
            return Kept(self.ratio, rate)
        ratio = self.ratio.with_interval(
            n_stable=n_stable, k_stable=k_stable, n_canary=n_canary, k_canary=k_canary
        )
        return Kept(ratio, rate)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """For each pod that the canary had, in order of appearance, the evidence without it.

    ``without`` is empty while there is but one: without it there is nothing.
    """

    pods: tuple[str, ...] = ()
    without: Mapping[str, Kept] = field(default_factory=dict)

    def with_interval(
        self,
        before: Kept,
        counts: tuple[int, int, int, int],
        pods: Sequence[PodCounts],
        *,
        comparable: bool,
    ) -> LeftOut:
        """Return this with one interval more.

        Parameters
        ----------
        before : Kept
            The evidence of all pods before the interval.
        counts : tuple
            ``n_stable, k_stable, n_canary, k_canary`` of the interval.
        pods : sequence of PodCounts
            The canary's, by pod.
        comparable : bool
            Whether the ratio learns from it.
        """
        active = {item.pod: item for item in pods if item.n > 0}
        new = [pod for pod in active if pod not in self.pods]
        known = (*self.pods, *new)[:MOST_PODS]
        if len(known) < 2:
            return LeftOut(known)
        # What came before a pod did is the same without it.
        without = dict(self.without)
        for pod in known:
            if pod not in without:
                only = len(self.pods) == 1 and pod == self.pods[0]
                without[pod] = Kept.empty() if only else before
        n_stable, k_stable, n_canary, k_canary = counts
        for pod, kept in without.items():
            own = active.get(pod, PodCounts(pod, 0, 0))
            without[pod] = kept.with_interval(
                n_stable,
                k_stable,
                max(n_canary - own.n, 0),
                max(min(k_canary - own.k, n_canary - own.n), 0),
                comparable=comparable,
            )
        return LeftOut(known, without)

    def alpha_without(self, alpha: float, pod: str) -> float:
        """Return what a pass may spend that leaves this pod out.

        All pods together, known and to come, have ``RESERVED`` of `alpha`: 1/2 of it the first,
        1/6 the second, 1/12 the third.
        """
        place = self.pods.index(pod) if pod in self.pods else len(self.pods)
        return RESERVED * alpha / ((place + 1) * (place + 2))


def shares_host(canary: Iterable[str], stable: Iterable[str]) -> bool:
    """Return whether every pod of the canary runs where a pod of the stable arm does.

    Pods are named ``host:port`` where nothing better is known, as on a laptop.
    """
    hosts = {pod.rpartition(":")[0] for pod in stable if ":" in pod}
    own = [pod.rpartition(":")[0] for pod in canary if ":" in pod]
    return bool(own) and all(host in hosts for host in own)
