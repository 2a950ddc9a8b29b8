"""Which pods are an InferenceService's predictors, by their names alone.

Belongs here: names of pods as KServe, Knative Serving and Kubernetes make them.
Not here: what is asked of Prometheus about them (an adapter).

Prometheus has the names of pods, not their labels. A prefix is not enough: ``demo-.*`` are the pods
of another InferenceService ``demo-staging``, too.
"""

from __future__ import annotations

import re
from typing import Any

from davy.protocol.names import baseline_version
from davy.rollout.kserve import service as isvc
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
    return (*(_of_deployment(workload) for workload in workloads), _of_revisions(name))


def _of_deployment(name: str) -> str:
    if len(name) + 1 + _HASH + 1 <= _STEM:
        return f"{re.escape(name)}-[a-z0-9]+-{_CHANCE}"
    if len(name) >= _STEM:
        return re.escape(name[:_STEM]) + _CHANCE
    # The hash may be cut, and the hyphen after it with it.
    return f"{re.escape(name)}-[a-z0-9]{{0,{_HASH}}}-?{_CHANCE}"


def _of_revisions(service: str) -> str:
    """Return the pattern of Knative's pods: a Deployment for each numbered revision."""
    parent = isvc.workload(service, None)
    if len(parent) + 1 + _NUMBER + len(_DEPLOYMENT) <= _LONGEST:
        stem = f"{re.escape(parent)}-[0-9]{{{_NUMBER},}}"
        if len(parent) + 1 + _NUMBER + len(_DEPLOYMENT) + 1 + _HASH + 1 <= _STEM:
            return f"{stem}{_DEPLOYMENT}-[a-z0-9]+-{_CHANCE}"
        return f"{stem}-[a-z0-9-]*{_CHANCE}"
    # What is left of a long name is told apart from another's by an MD5 that hangs on the number of
    # the revision: those of another InferenceService with the same long beginning match, too.
    head = re.escape(parent[: _LONGEST - _MD5 - len(_DEPLOYMENT)])
    shown = _DEPLOYMENT[: _STEM - (_LONGEST - len(_DEPLOYMENT))]
    return f"{head}[0-9a-f]{{{_MD5}}}{shown}{_CHANCE}"
