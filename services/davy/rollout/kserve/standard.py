"""Standard mode: a canary in ``spec.canary[]``, weights in the HTTPRoutes of the Gateway API.

Belongs here: the next write, from what is observed. Not here: reading and writing.

KServe deletes the Service of an arm that leaves the spec before the gateway has dropped it from its
routes, and a gateway answers 500 for a backend that is gone. So no arm is ever taken out of the
spec while it has weight: the weight goes first, is read back from the routes, the gateway has
accepted them, a drain time passes, and only then is the spec changed.

The canary's replicas follow its weight as KServe would have them follow, but for two things. KServe
gives a canary of weight 0 no pod at all: one is needed to see that it is ready. And when a weight
rises, the pods come first: KServe takes them from the stable arm, whose share is still whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.moves import (
    SERVICE_BUSY,
    SERVICE_EDITED,
    UNSUPPORTED,
    WEIGHT_NOT_FOLLOWED,
    Done,
    Move,
    Patch,
    Refuse,
    RefusedError,
    Settled,
    Split,
    Wait,
    Wanted,
)
from davy.rollout.spec import Candidate

MODE = "Standard"
# After a write KServe follows within a second: one that has not by then, though the gateway accepts
# the routes that it wrote before, never will.
FOLLOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed in Standard mode.

    Attributes
    ----------
    rollout : str
        Identity of the rollout that asks.
    candidate : Candidate
        What is to take over.
    service : mapping, optional
        The InferenceService, None when there is none.
    mark : Mark, optional
        What was noted last, by whichever rollout.
    weights : mapping, optional
        Weight of each backend Service over all routes; None when there is no route, or when they
        do not say the same.
    routed : bool
        Whether there is any route.
    programmed : bool
        Whether the gateway has accepted the routes as they are now.
    available : mapping
        Pods of each workload that serve: available and behind its Service.
    steady_seconds : float
        For how long the spec, `weights`, `programmed` and `available` have been as they are, as far
        as this process saw: never longer than since the last write.
    drain_seconds : float
        For how long an arm must have had no weight before it goes.
    """

    rollout: str
    candidate: Candidate
    service: Mapping[str, Any] | None
    mark: Mark | None = None
    weights: Mapping[str, int] | None = None
    routed: bool = True
    programmed: bool = False
    available: Mapping[str, int] | None = None
    steady_seconds: float = 0.0
    drain_seconds: float = 10.0

    def serving(self, workload: str) -> int:
        """Return how many pods of a workload serve."""
        return (self.available or {}).get(workload, 0)


def next_step(seen: Seen, wanted: Wanted) -> Move:  # noqa: PLR0911 (one return a case)
    """Return the one next move towards what is wanted."""
    gone = isvc.gone(seen.service)
    if seen.service is None or gone is not None:
        # With the InferenceService its arms go, too: there is nothing left to take away.
        if wanted == Settled(promoted=False):
            return Done("the InferenceService is gone")
        return gone or Wait("the InferenceService was not read")
    mark = seen.mark
    if mark is None or mark.rollout != seen.rollout or mark.uid != isvc.uid(seen.service):
        return _not_ours(seen, seen.service, wanted)
    now = _as_it_is(seen.service, mark)
    if wanted == Settled(promoted=False):
        return _remove(seen, seen.service, now)
    edited = _edited(seen, seen.service, mark, now)
    if edited is not None:
        return edited
    if isinstance(wanted, Split):
        return _split(seen, seen.service, now, wanted.percent)
    return _promote(seen, seen.service, now)


def read_weight(seen: Seen) -> int | None:
    """Return the canary's share as the routes have it; None when they do not say, or no canary.

    Routes that the gateway has not accepted say what is wanted, not what is served.
    """
    return _share(seen) if seen.programmed else None


def not_ready(seen: Seen) -> tuple[bool, bool]:
    """Say whether the stable arm, and whether the canary, has no pod that serves."""
    if seen.service is None:
        return True, True
    mark = seen.mark if seen.mark and seen.mark.rollout == seen.rollout else None
    if mark is None:
        return seen.serving(_workload(seen.service, isvc.predictor(seen.service))) == 0, True
    return (
        seen.serving(_stable_workload(seen.service, mark)) == 0,
        seen.serving(_canary_workload(seen.service, mark)) == 0,
    )


def canary_replicas(stable: Mapping[str, Any], percent: int) -> int:
    """Return the canary's pods at a weight: its share of the stable arm's least, at least one."""
    least = int(stable.get("minReplicas", 1))
    return min(max(1, math.ceil(least * percent / 100)), max(least, 1))


def _not_ours(seen: Seen, service: isvc.Object, wanted: Wanted) -> Move:
    mark = seen.mark
    if isinstance(wanted, Settled) and not wanted.promoted:
        return Done("this rollout has made no canary")
    if mark is not None and mark.holds(service):
        return Refuse(
            SERVICE_BUSY,
            f"another rollout is at work on it, with {mark.version}",
            "Wait for it to end, or delete it",
        )
    if wanted != Split(0):
        return Refuse(
            SERVICE_EDITED,
            "there is no canary of this rollout: the InferenceService was made anew meanwhile",
            "Start a new rollout",
        )
    return _begin(seen, service)


def _begin(seen: Seen, service: isvc.Object) -> Move:  # noqa: PLR0911
    annotations = service["metadata"].get("annotations") or {}
    if annotations.get(isvc.MODE_ANNOTATION) != MODE:
        return Refuse(
            UNSUPPORTED,
            "KServe takes a canary in Standard mode only where the object itself says so",
            f"Annotate the InferenceService with {isvc.MODE_ANNOTATION}: {MODE}",
        )
    others = [item["predictor"].get("name") for item in service["spec"].get("canary") or ()]
    if others:
        return Refuse(
            SERVICE_BUSY,
            f"it has a canary already: {', '.join(map(str, others))}",
            "Promote or remove it first",
        )
    stable = isvc.predictor(service)
    if stable.get(isvc.CANARY_PERCENT) is not None:
        return Refuse(
            SERVICE_BUSY,
            f"its predictor has {isvc.CANARY_PERCENT}, which Standard mode ignores",
            "Remove the field",
        )
    if int(stable.get("minReplicas", 1)) < 1:
        return Refuse(
            UNSUPPORTED,
            "minReplicas is 0, and KServe allows a canary no more",
            "Set minReplicas to at least 1",
        )
    arm = isvc.candidate_predictor(stable, seen.candidate)
    if isinstance(arm, Refuse):
        return arm
    if isvc.storage_uri(arm) == isvc.storage_uri(stable) or not isvc.storage_uri(stable):
        return Refuse(
            UNSUPPORTED,
            "KServe takes no canary without a storage URI, and promotes none that has the stable's",
            "Give the stable predictor a storageUri (or STORAGE_URI), and set another as "
            "candidate.packageURI",
        )
    name = isvc.canary_name(service["metadata"]["name"], seen.candidate.version, stable.get("name"))
    mark = Mark(
        rollout=seen.rollout,
        uid=isvc.uid(service),
        version=seen.candidate.version,
        generation=0,
        stage=Stage.RUNNING,
        percent=0,
        stable=stable,
        name=name,
        replicas=canary_replicas(stable, 0),
    )
    return _write(seen, service, mark, "the canary is made, without weight")


def _split(  # noqa: PLR0911
    seen: Seen, service: isvc.Object, now: Mark, percent: int
) -> Move:
    if now.stage == Stage.ROLLED_BACK and percent == 0 and not _end_noted(seen):
        # Announced, and never written.
        return _begin(seen, service)
    if now.ended:
        return Refuse(SERVICE_EDITED, f"this rollout has ended: {now.stage}", "Start a new rollout")
    replicas = canary_replicas(now.stable, percent)
    canary = _canary_workload(service, now)
    if replicas > now.replicas:
        grown = replace(now, replicas=replicas)
        return _write(seen, service, grown, f"the canary gets {replicas} pods before its weight")
    if percent > now.percent and seen.serving(canary) < replicas:
        return Wait(f"{seen.serving(canary)} of {replicas} pods of the canary serve")
    if (percent, replicas) != (now.percent, now.replicas):
        asked = replace(now, percent=percent, replicas=replicas)
        return _write(seen, service, asked, f"the canary gets weight {percent}")
    found = _share(seen)
    if found == percent and seen.programmed:
        return Done(f"the routes give the canary {percent} %")
    if not seen.programmed:
        # Of a gateway that restarts, or is slow, nothing follows for KServe.
        return Wait("the gateway has not accepted the routes")
    if percent and seen.serving(canary) and seen.steady_seconds >= FOLLOW_SECONDS:
        return Refuse(
            WEIGHT_NOT_FOLLOWED,
            f"the routes give the canary {_shown(found)}, not {percent} %, though it is ready",
            "Weights in HTTPRoutes need KServe 0.21 with the Gateway API enabled",
        )
    return Wait(f"the routes give the canary {_shown(found)}, asked for was {percent} %")


def _promote(seen: Seen, service: isvc.Object, now: Mark) -> Move:
    canary, stable = _canary_workload(service, now), _stable_workload(service, now)
    if now.stage == Stage.PROMOTED:
        if set(seen.weights or {}) == {canary} and seen.programmed and seen.serving(canary):
            return Done("the candidate is the stable predictor")
        return Wait("the routes do not name the promoted predictor alone yet")
    before = _split(seen, service, now, 100)
    if not isinstance(before, Done):
        return before
    if (seen.weights or {}).get(stable, 0) or not seen.serving(canary):
        return Wait("the stable arm still has weight, or no pod of the canary serves")
    if seen.steady_seconds < seen.drain_seconds:
        return Wait("the stable arm drains")
    after = replace(now, stage=Stage.PROMOTED)
    return _write(seen, service, after, "the candidate becomes the stable predictor")


def _remove(seen: Seen, service: isvc.Object, now: Mark) -> Move:  # noqa: PLR0911
    canary = _canary_workload(service, now)
    if now.stage == Stage.PROMOTED:
        return Refuse(SERVICE_EDITED, "the candidate is the stable predictor already")
    if now.stage == Stage.ROLLED_BACK:
        if not _end_noted(seen):
            return _write(seen, service, now, "there is no canary")
        if canary in (seen.weights or {}):
            return Wait("the routes still name the canary")
        return Done("the canary is gone")
    if now.percent:
        asked = replace(now, percent=0, replicas=canary_replicas(now.stable, 0))
        return _write(seen, service, asked, "the canary gives its weight back")
    if seen.routed and (seen.weights is None or seen.weights.get(canary, 0)):
        return Wait("the routes do not say that the canary has no weight")
    if seen.routed and not seen.programmed:
        return Wait("the gateway has not accepted the routes")
    if seen.steady_seconds < seen.drain_seconds:
        return Wait("the canary drains")
    after = replace(now, stage=Stage.ROLLED_BACK)
    return _write(seen, service, after, "the canary is removed")


def _end_noted(seen: Seen) -> bool:
    """Say whether the end of this rollout was noted."""
    return seen.mark is not None and seen.mark.ended


def _as_it_is(service: isvc.Object, mark: Mark) -> Mark:
    """Return the mark with what the spec really says: an announced write may not have been made."""
    canary = _canary(service, mark.name)
    if canary is not None:
        replicas = int(canary["predictor"].get("minReplicas", 1))
        percent = int(canary.get("trafficPercent", 0))
        return replace(mark, stage=Stage.RUNNING, percent=percent, replicas=replicas)
    if isvc.predictor(service).get("name") == mark.name:
        return replace(mark, stage=Stage.PROMOTED, percent=100)
    return replace(mark, stage=Stage.ROLLED_BACK, percent=0)


def _edited(seen: Seen, service: isvc.Object, mark: Mark, now: Mark) -> Refuse | None:
    generation = isvc.generation(service)
    if generation == mark.generation - 1:
        return None
    # Somebody else's write may have taken the generation that ours was to make.
    promoted = mark.stage == Stage.PROMOTED
    expected = isvc.candidate_predictor(mark.stable, seen.candidate) if promoted else mark.stable
    as_written = (
        generation == mark.generation
        and (now.stage, now.percent) == (mark.stage, mark.percent)
        and (now.replicas == mark.replicas or mark.stage != Stage.RUNNING)
        and not isinstance(expected, Refuse)
        and isvc.same_model(isvc.predictor(service), expected)
    )
    if as_written:
        return None
    who = isvc.last_editor(service)
    return Refuse(
        SERVICE_EDITED,
        f"its spec was changed by {who or 'somebody else'} while the rollout was at work",
        "Nothing more is written. Delete the rollout to take its canary away, then start anew",
    )


def _write(seen: Seen, service: isvc.Object, mark: Mark, reason: str) -> Patch:
    """Return the patch that makes the spec what the mark says; the spec stays where it is so."""
    before = dict(service["spec"])
    after = _spec(seen, service, mark)
    changed = isvc.merge_patch(before, after)
    generation = isvc.generation(service) + (1 if changed else 0)
    body = {"spec": changed} if changed else {}
    return Patch(replace(mark, generation=generation), body, reason)


def _spec(seen: Seen, service: isvc.Object, mark: Mark) -> dict[str, Any]:
    spec = dict(service["spec"])
    others = [
        item for item in spec.get("canary") or () if item["predictor"].get("name") != mark.name
    ]
    canary = _canary(service, mark.name)
    if mark.stage == Stage.RUNNING:
        # What is there keeps what KServe's defaults have added to it.
        arm = dict(canary["predictor"]) if canary else _arm(seen, mark)
        arm["minReplicas"] = mark.replicas
        others.append({"predictor": arm, "trafficPercent": mark.percent})
    if mark.stage == Stage.PROMOTED and canary is not None:
        arm = {key: value for key, value in canary["predictor"].items() if key not in isvc.SCALING}
        kept = {key: value for key, value in mark.stable.items() if key in isvc.SCALING}
        spec["predictor"] = {**arm, **kept}
    spec.pop("canary", None)
    return {**spec, "canary": others} if others else spec


def _arm(seen: Seen, mark: Mark) -> dict[str, Any]:
    made = isvc.candidate_predictor(mark.stable, seen.candidate)
    if isinstance(made, Refuse):  # `_begin` has asked before
        raise RefusedError(made)
    for field in isvc.SCALING:
        made.pop(field, None)
    return {**made, "name": mark.name}


def _canary(service: isvc.Object, name: str) -> Mapping[str, Any] | None:
    for item in service["spec"].get("canary") or ():
        if item["predictor"].get("name") == name:
            return dict(item)
    return None


def _workload(service: isvc.Object, arm: Mapping[str, Any]) -> str:
    return isvc.workload(service["metadata"]["name"], arm.get("name"))


def _stable_workload(service: isvc.Object, mark: Mark) -> str:
    return _workload(service, mark.stable)


def _canary_workload(service: isvc.Object, mark: Mark) -> str:
    return isvc.workload(service["metadata"]["name"], mark.name)


def _share(seen: Seen) -> int | None:
    mark = seen.mark
    if seen.service is None or seen.weights is None or mark is None:
        return None
    if mark.rollout != seen.rollout or mark.uid != isvc.uid(seen.service):
        return None
    canary = seen.weights.get(_canary_workload(seen.service, mark), 0)
    stable = seen.weights.get(_stable_workload(seen.service, mark), 0)
    total = sum(seen.weights.values())
    if not total or canary + stable != total:
        return None
    share = 100 * canary / total
    return int(share) if share == int(share) else None


def _shown(percent: int | None) -> str:
    return "no share that they agree on" if percent is None else f"{percent} %"
