"""The entries of ``spec.canary[]`` that a rollout makes: the canary, and a baseline beside it.

Belongs here: what they are to say by the mark, and what of it they say.
Not here: when something is written (`davy.rollout.kserve.standard`).

The canary's replicas follow its weight as KServe would have them follow, but for two things. KServe
gives a canary of weight 0 no pod at all: one is needed to see that it is ready. And when a weight
rises, the pods come first: KServe takes them from the stable arm, whose share is still whole. The
baseline has as many as a canary of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.moves import RefusedError
from davy.rollout.kserve.seen import Seen
from davy.rollout.series import MOST_COMPARED

# What the stable arm may lose of its pods for a second pod of the canary.
SPARE = 0.1


@dataclass(frozen=True, slots=True)
class Workloads:
    """What the arms' Deployments and Services are called; ``baseline`` is empty without one."""

    stable: str
    canary: str
    baseline: str = ""

    @classmethod
    def of(cls, service: isvc.Object, mark: Mark) -> Workloads:
        """Return them by what was noted."""
        owner = service["metadata"]["name"]
        return cls(
            isvc.workload(owner, mark.stable.get("name")),
            isvc.workload(owner, mark.name),
            isvc.workload(owner, mark.baseline) if mark.baseline else "",
        )

    @property
    def made(self) -> tuple[str, ...]:
        """Those that the rollout has made."""
        return tuple(filter(None, (self.canary, self.baseline)))


def canary_replicas(stable: Mapping[str, Any], percent: int, least: int = 1) -> int:
    """Return the canary's pods at a weight: its share of the stable arm's, at least so many."""
    pods = int(stable.get("minReplicas", 1))
    return min(max(least, math.ceil(pods * percent / 100)), max(pods, 1))


def second_pod_is_spare(mark: Mark) -> bool:
    """Say whether each arm that was made may have a second pod.

    KServe allows a canary no more pods than ``minReplicas`` of the stable predictor, and takes them
    from that arm, down to one: it has nearly all the traffic, and may lose a tenth of its pods.
    """
    pods, arms = int(mark.stable.get("minReplicas", 1)), len(mark.names)
    before, after = max(pods - arms, 1), max(pods - 2 * arms, 1)
    return pods > 1 and before - after <= SPARE * before


def baseline_replicas(mark: Mark) -> int:
    """Return the baseline's pods: the canary's, but for those with which it goes to all traffic."""
    return min(mark.replicas, canary_replicas(mark.stable, MOST_COMPARED, mark.least))


def as_it_is(service: isvc.Object, mark: Mark) -> Mark:
    """Return the mark with what the spec really says: an announced write may not have been made."""
    found = [entry for name in mark.names if (entry := _entry(service, name)) is not None]
    if found:
        replicas = int(found[0]["predictor"].get("minReplicas", 1))
        # Of whichever has weight: as long as one has, none may go.
        percent = max(int(entry.get("trafficPercent", 0)) for entry in found)
        return replace(mark, stage=Stage.RUNNING, percent=percent, replicas=replicas)
    if isvc.predictor(service).get("name") == mark.name:
        return replace(mark, stage=Stage.PROMOTED, percent=100)
    return replace(mark, stage=Stage.ROLLED_BACK, percent=0)


def as_written(service: isvc.Object, mark: Mark) -> bool:
    """Say whether the entries are what the mark announces."""
    found = {name: _entry(service, name) for name in mark.names}
    if mark.stage != Stage.RUNNING:
        return not any(found.values()) and as_it_is(service, mark).stage == mark.stage
    return all(
        entry is not None
        and int(entry.get("trafficPercent", 0)) == percent
        and int(entry["predictor"].get("minReplicas", 1)) == replicas
        for entry, (percent, replicas) in zip(found.values(), _wanted(mark).values(), strict=True)
    )


def spec_of(seen: Seen, service: isvc.Object, mark: Mark, *, make: bool) -> dict[str, Any]:
    """Return the spec that the mark announces.

    Parameters
    ----------
    seen : Seen
        The candidate, and what a baseline's counters are to say.
    service : mapping
        The InferenceService.
    mark : Mark
        What it is to be.
    make : bool
        Whether entries that are not there are made: not where somebody else took one away.
    """
    spec = dict(service["spec"])
    entries = [
        item for item in spec.get("canary") or () if item["predictor"].get("name") not in mark.names
    ]
    for name, (percent, replicas) in _wanted(mark).items():
        entry = _entry(service, name)
        if mark.stage == Stage.RUNNING and (entry is not None or make):
            # What is there keeps what KServe's defaults have added to it.
            arm = dict(entry["predictor"]) if entry is not None else _made(seen, mark, name)
            arm["minReplicas"] = replicas
            entries.append({"predictor": arm, "trafficPercent": percent})
    canary = _entry(service, mark.name)
    if mark.stage == Stage.PROMOTED and canary is not None:
        arm = {key: value for key, value in canary["predictor"].items() if key not in isvc.SCALING}
        kept = {key: value for key, value in mark.stable.items() if key in isvc.SCALING}
        spec["predictor"] = {**arm, **kept}
    spec.pop("canary", None)
    return {**spec, "canary": entries} if entries else spec


def _wanted(mark: Mark) -> dict[str, tuple[int, int]]:
    """Return weight and pods of each entry."""
    wanted = {mark.name: (mark.shares.canary, mark.replicas)}
    if mark.baseline:
        wanted[mark.baseline] = (mark.shares.baseline, baseline_replicas(mark))
    return wanted


def _made(seen: Seen, mark: Mark, name: str) -> dict[str, Any]:
    made = (
        isvc.candidate_predictor(mark.stable, seen.candidate)
        if name == mark.name
        else isvc.baseline_predictor(mark.stable, seen.baseline)
    )
    if not isinstance(made, dict):  # who begins has asked before
        raise RefusedError(made)
    for field in isvc.SCALING:
        made.pop(field, None)
    return {**made, "name": name}


def _entry(service: isvc.Object, name: str) -> Mapping[str, Any] | None:
    for item in service["spec"].get("canary") or ():
        if item["predictor"].get("name") == name:
            return dict(item)
    return None
