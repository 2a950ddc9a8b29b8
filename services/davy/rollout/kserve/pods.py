"""Which pods are an InferenceService's predictors, by their names alone.

Belongs here: names of pods as KServe, Knative Serving and Kubernetes make them.
Not here: what is asked of Prometheus about them (an adapter).

Prometheus has the names of pods, not their labels. A prefix is not enough: ``demo-.*`` are the pods
of another InferenceService ``demo-staging``, too.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from davy.protocol.names import baseline_version
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.knative import Revisions
from davy.rollout.kserve.mark import Mark
from davy.rollout.spec import Candidate

# A pod's name is this much of its ReplicaSet's, and five characters by chance.
_STEM = 58
_CHANCE = "[a-z0-9]{5}"
# The hash of a pod template has at most so many characters.
_HASH = 10
# Knative's names: a parent that has no room for its suffix is cut, and its MD5 follows.
_LONGEST = 63
_MD5 = 32
_DEPLOYMENT = "-deployment"
_NUMBER = 5
# A rollout makes two revisions, the candidate's and the one that comes back; some for good measure.
_MADE = 5


def pod_patterns(service: isvc.Object, mark: Mark | None, candidate: Candidate) -> tuple[str, ...]:
    """Return regular expressions, to be matched whole, of the names of all predictor pods.

    Parameters
    ----------
    service : mapping
        The InferenceService.
    mark : Mark, optional
        What was noted last: names of arms that have left the spec.
    candidate : Candidate
        Whose arm may not have been made yet.
    """
    name = str(service["metadata"]["name"])
    stable: list[isvc.Object] = [isvc.predictor(service)]
    arms: set[Any] = set()
    if mark is not None and mark.uid == isvc.uid(service):
        stable.append(mark.stable)
        arms |= set(mark.names)
    for one in stable:
        own, version = one.get("name"), isvc.version_of(one)
        canary = isvc.canary_name(name, candidate.version, own)
        arms |= {own, canary}
        if version is not None:
            arms.add(isvc.canary_name(name, baseline_version(version), own, canary))
    workloads = sorted(isvc.workload(name, one) for one in arms)
    return (*(_of_deployment(workload) for workload in workloads), _of_revisions(service, mark))


def _of_deployment(name: str) -> str:
    if len(name) + 1 + _HASH + 1 <= _STEM:
        return f"{re.escape(name)}-[a-z0-9]+-{_CHANCE}"
    if len(name) >= _STEM:
        return re.escape(name[:_STEM]) + _CHANCE
    # The hash may be cut, and the hyphen after it with it.
    return f"{re.escape(name)}-[a-z0-9]{{0,{_HASH}}}-?{_CHANCE}"


def _of_revisions(service: isvc.Object, mark: Mark | None) -> str:
    """Return the pattern of Knative's pods: a Deployment for each numbered revision."""
    parent = isvc.workload(str(service["metadata"]["name"]), None)
    if len(parent) + 1 + _NUMBER + len(_DEPLOYMENT) <= _LONGEST:
        stem = f"{re.escape(parent)}-[0-9]{{{_NUMBER},}}"
        if len(parent) + 1 + _NUMBER + len(_DEPLOYMENT) + 1 + _HASH + 1 <= _STEM:
            return f"{stem}{_DEPLOYMENT}-[a-z0-9]+-{_CHANCE}"
        return f"{stem}-[a-z0-9-]*{_CHANCE}"
    # What is left of a long name is shared; its MD5 is not, but hangs on the revision's number.
    names = (_child(parent, f"-{number:0{_NUMBER}d}") for number in _numbers(service, mark))
    stems = sorted({_child(name, _DEPLOYMENT)[:_STEM] for name in names})
    return f"(?:{'|'.join(map(re.escape, stems))}){_CHANCE}"


def _numbers(service: isvc.Object, mark: Mark | None) -> list[int]:
    """Return the numbers of the revisions that serve, and of those that a rollout may make."""
    seen = Revisions.of(service)
    names = {seen.created, seen.ready, seen.rolled_out, *(seen.traffic or ())}
    if mark is not None and mark.uid == isvc.uid(service):
        names |= {mark.stable_revision, mark.candidate_revision}
    found = {int(name.rpartition("-")[2]) for name in names if name.rpartition("-")[2].isdigit()}
    newest = max(found, default=0)
    return sorted({*found, *range(newest + 1, newest + 1 + _MADE)})


def _child(parent: str, suffix: str) -> str:
    """Return a name as Knative Serving makes it (``kmeta.ChildName``)."""
    if len(parent) + len(suffix) > _LONGEST:
        digest = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
        parent = parent[: _LONGEST - _MD5 - len(suffix)] + digest
    return parent + suffix
