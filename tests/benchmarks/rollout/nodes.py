"""Canaries as good as the stable arm, on pods that are not: with each pod left out, and without.

Belongs here: streams with effects of pods on latency, the verdict on them. Not here: other streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tests.benchmarks.rollout.day import criteria
from tests.benchmarks.rollout.rivals import NEVER
from tests.benchmarks.rollout.streams import HEALTHY, LOOK, RATE, slower

from davy.rollout.batch import BoolArray, FailBatch, IntArray, RatioEvidenceBatch
from davy.rollout.pods import GROSS

LOOKS = 2160  # six hours
STABLE_PODS = 10
SLOW_NODE = 1.5


@dataclass(frozen=True, slots=True)
class Effect:
    """How much longer a pod takes: lognormal, or one pod in ten on a slow node; and the model."""

    name: str
    spread: float = 0.0
    slow_node: float = 0.0
    model: float = 1.0


EFFECTS = (
    Effect("pods alike"),
    Effect("pods differ by 5 %", spread=0.05),
    Effect("pods differ by 10 %", spread=0.10),
    Effect("pods differ by 20 %", spread=0.20),
    Effect("one pod in ten 50 % slower", slow_node=0.1),
    Effect("canary 20 % slower, pods alike", model=1.2),
    Effect("canary twice as slow, pods alike", model=2.0),
)


@dataclass(frozen=True, slots=True)
class Rollbacks:
    """First look that rolls back [R], believing each fail, and asking for every pod; canary's n."""

    believing: IntArray
    robust: IntArray
    requests_a_look: float


def run(effect: Effect, pods: int, weight: float, runs: int, rng: np.random.Generator) -> Rollbacks:
    """Watch six hours, a look every ten seconds; nothing is promoted meanwhile."""
    slow = criteria(HEALTHY)["slow"]
    everything = FailBatch(slow, runs)
    gross = RatioEvidenceBatch(GROSS * slow.ratio, 1.0, runs)
    without = [FailBatch(slow, runs) for _ in range(pods if pods > 1 else 0)]
    p_stable = _shares(effect, STABLE_PODS, runs, rng, model=1.0).mean(axis=0)
    p_canary = _shares(effect, pods, runs, rng, model=effect.model)
    believing, robust = np.full(runs, NEVER), np.full(runs, NEVER)
    for number in range(LOOKS):
        n = rng.poisson(RATE * LOOK, runs)
        n_c = rng.binomial(n, weight)
        n_s = n - n_c
        k_s = rng.binomial(n_s, p_stable)
        by_pod = _split(n_c, pods, rng)
        k_by_pod = rng.binomial(by_pod, p_canary)
        k_c = k_by_pod.sum(axis=0)
        fails = everything.add(n_s, k_s, n_c, k_c)
        believing = np.where(fails & (believing == NEVER), number, believing)
        stands = fails & _stands(without, (n_s, k_s, n_c, k_c), by_pod, k_by_pod)
        if pods == 1:
            gross.add(n_s, k_s, n_c, k_c)
            stands = fails & (gross.log_evidence >= -np.log(slow.alpha_fail))
        robust = np.where(stands & (robust == NEVER), number, robust)
    return Rollbacks(believing, robust, RATE * LOOK * weight)


def _stands(
    without: Sequence[FailBatch],
    counts: tuple[IntArray, IntArray, IntArray, IntArray],
    n: IntArray,
    k: IntArray,
) -> BoolArray:
    n_s, k_s, n_c, k_c = counts
    stands: BoolArray = np.ones(n_s.size, dtype=bool)
    for pod, batch in enumerate(without):
        stands &= batch.add(n_s, k_s, n_c - n[pod], k_c - k[pod])
    return stands


def _shares(
    effect: Effect, pods: int, runs: int, rng: np.random.Generator, *, model: float
) -> np.ndarray:
    """Return the share of slow answers of each pod, [P, R]."""
    longer = np.exp(effect.spread * rng.standard_normal((pods, runs)))
    longer = np.where(rng.random((pods, runs)) < effect.slow_node, SLOW_NODE * longer, longer)
    return np.vectorize(slower)(model * longer)


def _split(n: IntArray, pods: int, rng: np.random.Generator) -> IntArray:
    parts = []
    for left in range(pods, 0, -1):
        part = rng.binomial(n, 1 / left)
        parts.append(part)
        n = n - part
    return np.stack(parts)
