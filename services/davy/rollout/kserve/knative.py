"""Knative mode: the predictor itself is replaced, ``canaryTrafficPercent`` splits revisions.

Belongs here: the next write, from what is observed. Not here: reading and writing.

Knative Serving hands over without losing a request, but its words have to be read with care:

- after a write the status is the old one for a moment, and says that all is well; neither it nor
  ``observedGeneration`` tells. What depends on a fresh status waits until it has stood still.
- while a new revision is not ready, ``traffic`` names the stable revision twice: only revision
  names count.
- "latest" means latest ready. Taking the percentage away promotes whatever that is, so it is done
  only when latest created, latest ready and the revision that was judged are the same.
- going back takes two writes: the old predictor at 0 %, and once its new revision is ready, the
  percentage away. In one write the bad revision would have all the traffic meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from davy.rollout.kserve import seen as seen_of_any
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.moves import (
    SERVICE_BUSY,
    SERVICE_EDITED,
    UNSUPPORTED,
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

# The status was seen to be the old one for up to 0.8 s after a write.
LAG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Revisions:
    """``status.components.predictor``, as far as it matters.

    ``traffic`` is the share of each revision in percent, with repeated names added up.
    """

    created: str = ""
    ready: str = ""
    rolled_out: str = ""
    traffic: Mapping[str, int] | None = None

    @classmethod
    def of(cls, service: isvc.Object | None) -> Revisions:
        """Read an InferenceService's status."""
        status = (service or {}).get("status") or {}
        found = (status.get("components") or {}).get("predictor") or {}
        traffic: dict[str, int] = {}
        for target in found.get("traffic") or ():
            name = str(target.get("revisionName", ""))
            traffic[name] = traffic.get(name, 0) + int(target.get("percent") or 0)
        return cls(
            created=str(found.get("latestCreatedRevision", "")),
            ready=str(found.get("latestReadyRevision", "")),
            rolled_out=str(found.get("latestRolledoutRevision", "")),
            traffic=traffic or None,
        )

    def share(self, revision: str) -> int:
        """Return a revision's percent of the traffic."""
        return (self.traffic or {}).get(revision, 0) if revision else 0

    @property
    def whole(self) -> bool:
        """Whether one revision is created, ready, rolled out and has all the traffic."""
        one = self.created == self.ready == self.rolled_out
        return one and bool(self.created) and self.share(self.created) == 100


@dataclass(frozen=True, slots=True)
class Seen(seen_of_any.Seen):
    """What was observed in Knative mode: spec and status.

    Attributes
    ----------
    lag_seconds : float
        For how long they must have stood still for the status to be about the spec.
    """

    lag_seconds: float = LAG_SECONDS

    @property
    def revisions(self) -> Revisions:
        """The revisions by the service's status."""
        return Revisions.of(self.service)


def next_step(seen: Seen, wanted: Wanted) -> Move:  # noqa: PLR0911 (one return a case)
    """Return the one next move towards what is wanted."""
    gone = isvc.gone(seen.service)
    if seen.service is None or gone is not None:
        if wanted == Settled(promoted=False):
            return Done("the InferenceService is gone")
        return gone or Wait("the InferenceService was not read")
    mark = seen.mark
    if mark is None or mark.rollout != seen.rollout or mark.uid != isvc.uid(seen.service):
        return _not_ours(seen, seen.service, wanted)
    now = _as_it_is(seen.service, mark)
    edited = _edited(seen.service, mark)
    if edited is not None:
        given_back = wanted == Settled(promoted=False) and _give_back(seen, seen.service, mark)
        return given_back or edited
    if isinstance(wanted, Split):
        return _split(seen, seen.service, now, wanted.percent)
    if wanted.promoted:
        return _promote(seen, seen.service, now)
    return _restore(seen, seen.service, now)


def read_weight(seen: Seen) -> int | None:
    """Return the candidate's share by its revision's name; None when there is no candidate yet."""
    mark, revisions = seen.mark, seen.revisions
    if seen.service is None or mark is None or revisions.traffic is None:
        return None
    if mark.rollout != seen.rollout or mark.uid != isvc.uid(seen.service):
        return None
    if mark.stage == Stage.ROLLED_BACK:
        # Whatever revision it is, it is the stable predictor's.
        return 0 if revisions.share(mark.candidate_revision) == 0 else None
    canary = revisions.share(_candidate_revision(mark, revisions))
    stable = revisions.share(mark.stable_revision)
    return canary if canary + stable == 100 else None


def not_ready(seen: Seen) -> tuple[bool, bool]:
    """Say whether the stable arm, and whether the candidate, has no revision that is ready."""
    mark, revisions = seen.mark, seen.revisions
    if seen.service is None:
        return True, True
    if mark is None or mark.rollout != seen.rollout:
        return not revisions.traffic, True
    canary = _candidate_revision(mark, revisions)
    # Knative routes to no revision that was never ready.
    stable = mark.stable_revision in (revisions.traffic or {})
    return (
        not stable and mark.stage == Stage.RUNNING and mark.percent < 100,
        not canary or canary != revisions.ready,
    )


def _not_ours(seen: Seen, service: isvc.Object, wanted: Wanted) -> Move:
    mark = seen.mark
    if wanted == Settled(promoted=False):
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


def _begin(seen: Seen, service: isvc.Object) -> Move:
    stable = isvc.predictor(service)
    if seen.baseline:
        return Refuse(
            UNSUPPORTED,
            "Knative mode splits the traffic between two revisions: there is no place for a third",
            "Leave analysis.baseline out, or use Standard mode",
        )
    if stable.get(isvc.CANARY_PERCENT) is not None:
        return Refuse(
            SERVICE_BUSY,
            f"its predictor has {isvc.CANARY_PERCENT} already: two models share the traffic",
            "Promote or roll that back first, and remove the field",
        )
    arm = isvc.candidate_predictor(stable, seen.candidate)
    if isinstance(arm, Refuse):
        return arm
    if isvc.same_model(arm, stable):
        return Refuse(
            UNSUPPORTED,
            "the candidate's image and package are the ones that are served already",
            "Set candidate.image or candidate.packageURI to something else",
        )
    if not seen.revisions.whole or seen.steady_seconds < seen.lag_seconds:
        return Wait("the last change of the InferenceService is not rolled out, or just was")
    mark = Mark(
        rollout=seen.rollout,
        uid=isvc.uid(service),
        version=seen.candidate.version,
        generation=0,
        stage=Stage.RUNNING,
        percent=0,
        stable=stable,
        stable_revision=seen.revisions.ready,
    )
    return _write(seen, service, mark, "the candidate's revision is made, without weight")


def _split(seen: Seen, service: isvc.Object, now: Mark, percent: int) -> Move:
    if now.stage != Stage.RUNNING:
        return Refuse(SERVICE_EDITED, f"this rollout has ended: {now.stage}", "Start a new rollout")
    if not _begun(service, now):
        return _write(seen, service, now, "the candidate's revision is made, without weight")
    revisions = seen.revisions
    canary = _candidate_revision(now, revisions)
    if percent > now.percent and not canary == revisions.ready == revisions.created:
        return Wait("the candidate's revision is not ready")
    if percent != now.percent:
        asked = replace(now, percent=percent, candidate_revision=canary)
        return _write(seen, service, asked, f"the candidate gets weight {percent}")
    found = read_weight(seen)
    if found == percent:
        return Done(f"the candidate's revision has {percent} %")
    return Wait(f"the candidate's revision has {found} %, asked for was {percent} %")


def _promote(seen: Seen, service: isvc.Object, now: Mark) -> Move:
    revisions = seen.revisions
    canary = _candidate_revision(now, revisions)
    if now.stage == Stage.PROMOTED:
        if revisions.whole and revisions.ready == canary:
            return Done("the candidate's revision is rolled out")
        return Wait("the candidate's revision is not rolled out yet")
    before = _split(seen, service, now, 100)
    if not isinstance(before, Done):
        return before
    if not canary == revisions.ready == revisions.created:
        return Wait("the latest ready revision is not the one that was judged")
    after = replace(now, stage=Stage.PROMOTED, candidate_revision=canary)
    return _write(seen, service, after, "the candidate becomes the only revision")


def _restore(seen: Seen, service: isvc.Object, now: Mark) -> Move:  # noqa: PLR0911
    revisions = seen.revisions
    canary = _candidate_revision(now, revisions)
    if now.stage == Stage.PROMOTED:
        return Refuse(SERVICE_EDITED, "the candidate is the only revision already")
    if now.stage == Stage.ROLLED_BACK:
        fresh = seen.steady_seconds >= seen.lag_seconds
        if revisions.whole and revisions.ready != now.candidate_revision and fresh:
            return Done("the stable predictor is rolled out")
        return Wait("the stable predictor is not rolled out yet")
    if now.stage == Stage.RUNNING:
        if not _begun(service, now):
            ended = replace(now, stage=Stage.ROLLED_BACK)
            return _write(seen, service, ended, "there is no candidate")
        if now.percent:
            asked = replace(now, percent=0, candidate_revision=canary)
            return _write(seen, service, asked, "the candidate gives its weight back")
        if revisions.share(canary):
            return Wait("the candidate's revision still has traffic")
        after = replace(now, stage=Stage.RESTORING, candidate_revision=canary)
        return _write(seen, service, after, "the stable predictor comes back, without weight")
    # Not the candidate's, and no stale word of it: the status has stood still.
    back = revisions.created == revisions.ready != now.candidate_revision
    if not back or seen.steady_seconds < seen.lag_seconds:
        return Wait("the stable predictor's new revision is not ready")
    after = replace(now, stage=Stage.ROLLED_BACK)
    return _write(seen, service, after, "the stable predictor becomes the only revision")


def _give_back(seen: Seen, service: isvc.Object, mark: Mark) -> Patch | None:
    """Return the write that takes the candidate's traffic, and no more, out of an edited service.

    None when there is nothing to take, or when whoever edited it has decided about the traffic, by
    another model or another percentage. None at 100 % either: the candidate's revision is the one
    rolled out then, and what an edit leaves at 0 % goes to that one, not to the stable arm. The
    mark stays as it is: neither does the edit become ours, nor does a crash between the two writes
    leave a mark that says 0.
    """
    found = isvc.predictor(service)
    percent, announced = found.get(isvc.CANARY_PERCENT), {mark.percent}
    if isvc.generation(service) == mark.generation:
        # The edit came in the place of our write: what is there may be the percentage before.
        announced.add(mark.previous)
    made = isvc.candidate_predictor(mark.stable, seen.candidate)
    ours = (
        mark.stage == Stage.RUNNING
        and not isinstance(made, Refuse)
        and isvc.same_model(found, made)
        and percent in announced
        and seen.revisions.rolled_out == mark.stable_revision
    )
    if not ours or not percent:
        return None
    body = {"spec": {"predictor": {isvc.CANARY_PERCENT: 0}}}
    return Patch(mark, body, "the candidate gives its weight back; the edit stays")


def _candidate_revision(mark: Mark, revisions: Revisions) -> str:
    """Return the candidate's revision; empty until Knative has made it."""
    if mark.candidate_revision:
        return mark.candidate_revision
    return "" if revisions.created == mark.stable_revision else revisions.created


def _begun(service: isvc.Object, now: Mark) -> bool:
    return not isvc.same_model(isvc.predictor(service), now.stable)


def _as_it_is(service: isvc.Object, mark: Mark) -> Mark:
    """Return the mark with what the spec really says: an announced write may not have been made."""
    found = isvc.predictor(service)
    percent = found.get(isvc.CANARY_PERCENT)
    if isvc.generation(service) == mark.generation - 1:
        restored = isvc.same_model(found, mark.stable)
        if mark.stage == Stage.RUNNING or not restored:
            return replace(mark, stage=Stage.RUNNING, percent=int(percent or 0))
        return replace(mark, stage=Stage.RESTORING, percent=0)
    return mark


def _edited(service: isvc.Object, mark: Mark) -> Refuse | None:
    generation, found = isvc.generation(service), isvc.predictor(service)
    if generation == mark.generation - 1:
        return None
    split = None if mark.ended else mark.percent
    stable = mark.stage in {Stage.RESTORING, Stage.ROLLED_BACK}
    as_written = (
        generation == mark.generation
        and found.get(isvc.CANARY_PERCENT) == split
        and isvc.same_model(found, mark.stable) == stable
    )
    if as_written:
        return None
    who = isvc.last_editor(service)
    return Refuse(
        SERVICE_EDITED,
        f"its spec was changed by {who or 'somebody else'} while the rollout was at work",
        "Set the predictor and canaryTrafficPercent by hand, then start anew. Nothing more is "
        "written, but that a rollout that is taken back gives up its own traffic",
    )


def _write(seen: Seen, service: isvc.Object, mark: Mark, reason: str) -> Patch:
    before = isvc.predictor(service)
    changed = isvc.merge_patch(before, _predictor(seen, before, mark))
    generation = isvc.generation(service) + (1 if changed else 0)
    body = {"spec": {"predictor": changed}} if changed else {}
    previous = int(before.get(isvc.CANARY_PERCENT) or 0)
    return Patch(replace(mark, generation=generation, previous=previous), body, reason)


def _predictor(seen: Seen, before: Mapping[str, Any], mark: Mark) -> dict[str, Any]:
    if mark.stage in {Stage.RESTORING, Stage.ROLLED_BACK}:
        arm = dict(mark.stable)
    elif isvc.same_model(before, mark.stable):
        made = isvc.candidate_predictor(mark.stable, seen.candidate)
        if isinstance(made, Refuse):  # `_begin` has asked before
            raise RefusedError(made)
        arm = made
    else:
        # What is there keeps what KServe's defaults have added to it.
        arm = dict(before)
    arm.pop(isvc.CANARY_PERCENT, None)
    return arm if mark.ended else {**arm, isvc.CANARY_PERCENT: mark.percent}
