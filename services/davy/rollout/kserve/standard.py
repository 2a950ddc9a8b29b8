"""Standard mode: a canary in ``spec.canary[]``, weights in the HTTPRoutes of the Gateway API.

Belongs here: the next write, from what is observed. Not here: reading and writing.

KServe deletes the Service of an arm that leaves the spec before the gateway has dropped it from its
routes, and a gateway answers 500 for a backend that is gone. So no arm is ever taken out of the
spec while it has weight: the weight goes first, is read back from the routes, the gateway has
accepted them, a drain time passes, and only then is the spec changed. A baseline is an entry of its
own: it comes, gets its weight and goes in the same writes as the canary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from davy.rollout.kserve import seen as seen_of_any
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.entries import (
    Workloads,
    as_it_is,
    as_written,
    baseline_replicas,
    canary_replicas,
    second_pod_is_spare,
    spec_of,
)
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
    Settled,
    Split,
    Wait,
    Wanted,
)
from davy.rollout.series import shares_at

MODE = "Standard"
# After a write KServe follows within a second: one that has not by then, though the gateway accepts
# the routes that it wrote before, never will.
FOLLOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen(seen_of_any.Seen):
    """What was observed in Standard mode: the spec, the routes and the pods.

    Attributes
    ----------
    weights : mapping, optional
        Weight of each backend Service over all routes; None when there is no route, or when they
        do not say the same.
    routed : bool
        Whether there is any route.
    programmed : bool
        Whether the gateway has accepted the routes as they are now.
    available : mapping
        Pods of each workload that serve: available and behind its Service.
    drain_seconds : float
        For how long an arm must have had no weight before it goes.
    """

    weights: Mapping[str, int] | None = None
    routed: bool = True
    programmed: bool = False
    available: Mapping[str, int] | None = None
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
    now = as_it_is(seen.service, mark)
    if wanted == Settled(promoted=False):
        return _remove(seen, seen.service, now)
    edited = _edited(seen, seen.service, mark)
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


def not_ready(seen: Seen) -> tuple[bool, ...]:
    """Say whether the stable arm, the canary and the baseline have no pod that serves."""
    if seen.service is None:
        return True, True, True
    mark = seen.mark if seen.mark and seen.mark.rollout == seen.rollout else None
    if mark is None:
        name = isvc.predictor(seen.service).get("name")
        stable = isvc.workload(seen.service["metadata"]["name"], name)
        return seen.serving(stable) == 0, True, True
    found = Workloads.of(seen.service, mark)
    return tuple(
        seen.serving(workload) == 0 for workload in (found.stable, found.canary, found.baseline)
    )


def second_pod(seen: Seen) -> Move:
    """Return the move by which the canary has a second pod, if it can be had."""
    mark, service = seen.mark, seen.service
    if service is None or mark is None or mark.rollout != seen.rollout:
        return Wait("there is no canary of this rollout")
    now = as_it_is(service, mark)
    if now.stage != Stage.RUNNING or mark.uid != isvc.uid(service) or _edited(seen, service, mark):
        return Wait("the canary is not as the rollout made it")
    if now.replicas > 1:
        return Done("the canary has two pods or more")
    if not second_pod_is_spare(mark):
        return Wait("minReplicas of the stable predictor leaves no pod for it")
    return _write(seen, service, replace(now, replicas=2, least=2), "the canary gets a second pod")


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
    copy = isvc.baseline_predictor(stable, seen.baseline) if seen.baseline else None
    if isinstance(copy, Refuse):
        return copy
    owner, taken = service["metadata"]["name"], stable.get("name")
    name = isvc.canary_name(owner, seen.candidate.version, taken)
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
        baseline=isvc.canary_name(owner, seen.baseline, taken, name) if seen.baseline else "",
    )
    return _write(seen, service, mark, "the canary is made, without weight", make=True)


def _split(  # noqa: PLR0911
    seen: Seen, service: isvc.Object, now: Mark, percent: int
) -> Move:
    if now.stage == Stage.ROLLED_BACK and percent == 0 and not _end_noted(seen):
        # Announced, and never written.
        return _begin(seen, service)
    if now.ended:
        return Refuse(SERVICE_EDITED, f"this rollout has ended: {now.stage}", "Start a new rollout")
    replicas = canary_replicas(now.stable, percent, now.least)
    asked = replace(now, percent=percent, replicas=replicas)
    if replicas > now.replicas:
        grown = replace(now, replicas=replicas)
        return _write(seen, service, grown, f"the canary gets {replicas} pods before its weight")
    if percent > now.percent and (lacking := _lacking(seen, service, asked)):
        return Wait(lacking)
    if (percent, replicas) != (now.percent, now.replicas):
        return _write(seen, service, asked, f"the canary gets weight {percent}")
    found = _share(seen)
    if found == percent and seen.programmed:
        return Done(f"the routes give the canary {percent} %")
    if not seen.programmed:
        # Of a gateway that restarts, or is slow, nothing follows for KServe.
        return Wait("the gateway has not accepted the routes")
    if percent and _all_serve(seen, service, now) and seen.steady_seconds >= FOLLOW_SECONDS:
        return Refuse(
            WEIGHT_NOT_FOLLOWED,
            f"the routes give the canary {_shown(found)}, not {percent} %, though it is ready",
            "Weights in HTTPRoutes need KServe 0.21 with the Gateway API enabled",
        )
    return Wait(f"the routes give the canary {_shown(found)}, asked for was {percent} %")


def _lacking(seen: Seen, service: isvc.Object, asked: Mark) -> str:
    """Return which arm has not the pods for its weight yet; empty: none."""
    found = Workloads.of(service, asked)
    if (serving := seen.serving(found.canary)) < asked.replicas:
        return f"{serving} of {asked.replicas} pods of the canary serve"
    wanted = baseline_replicas(asked) if asked.shares.baseline else 0
    if (serving := seen.serving(found.baseline)) < wanted:
        return f"{serving} of {wanted} pods of the baseline serve"
    return ""


def _all_serve(seen: Seen, service: isvc.Object, now: Mark) -> bool:
    """Say whether each arm that is to have weight has a pod: KServe gives others none."""
    found = Workloads.of(service, now)
    wanted = (found.canary, found.baseline) if now.shares.baseline else (found.canary,)
    return all(seen.serving(workload) for workload in wanted)


def _promote(seen: Seen, service: isvc.Object, now: Mark) -> Move:
    found = Workloads.of(service, now)
    canary, stable = found.canary, found.stable
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
    made = Workloads.of(service, now).made
    if now.stage == Stage.PROMOTED:
        return Refuse(SERVICE_EDITED, "the candidate is the stable predictor already")
    if now.stage == Stage.ROLLED_BACK:
        if not _end_noted(seen):
            return _write(seen, service, now, "there is no canary")
        if not set(made).isdisjoint(seen.weights or {}):
            return Wait("the routes still name the canary")
        return Done("the canary is gone")
    if now.percent:
        asked = replace(now, percent=0, replicas=canary_replicas(now.stable, 0))
        return _write(seen, service, asked, "the canary gives its weight back")
    if seen.routed and (seen.weights is None or any(seen.weights.get(name) for name in made)):
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


def _edited(seen: Seen, service: isvc.Object, mark: Mark) -> Refuse | None:
    generation = isvc.generation(service)
    if generation == mark.generation - 1:
        return None
    # Somebody else's write may have taken the generation that ours was to make.
    promoted = mark.stage == Stage.PROMOTED
    expected = isvc.candidate_predictor(mark.stable, seen.candidate) if promoted else mark.stable
    if (
        generation == mark.generation
        and as_written(service, mark)
        and not isinstance(expected, Refuse)
        and isvc.same_model(isvc.predictor(service), expected)
    ):
        return None
    who = isvc.last_editor(service)
    return Refuse(
        SERVICE_EDITED,
        f"its spec was changed by {who or 'somebody else'} while the rollout was at work",
        "Nothing more is written. Delete the rollout to take its canary away, then start anew",
    )


def _write(
    seen: Seen, service: isvc.Object, mark: Mark, reason: str, *, make: bool = False
) -> Patch:
    """Return the patch that makes the spec what the mark says; the spec stays where it is so."""
    changed = isvc.merge_patch(dict(service["spec"]), spec_of(seen, service, mark, make=make))
    generation = isvc.generation(service) + (1 if changed else 0)
    body = {"spec": changed} if changed else {}
    return Patch(replace(mark, generation=generation), body, reason)


def _share(seen: Seen) -> int | None:
    mark = seen.mark
    if seen.service is None or seen.weights is None or mark is None:
        return None
    if mark.rollout != seen.rollout or mark.uid != isvc.uid(seen.service):
        return None
    found, total = Workloads.of(seen.service, mark), sum(seen.weights.values())
    canary = 100 * seen.weights.get(found.canary, 0)
    if not total or canary % total:
        return None
    percent = canary // total
    # What is split otherwise, the baseline's share too, is not that weight.
    wanted = shares_at(percent, baseline=bool(mark.baseline))
    names = (found.stable, found.canary, found.baseline)
    as_wanted = all(
        100 * seen.weights.get(name, 0) == share * total
        for name, share in zip(names, wanted, strict=True)
    )
    return percent if as_wanted else None


def _shown(percent: int | None) -> str:
    return "no share that they agree on" if percent is None else f"{percent} %"
