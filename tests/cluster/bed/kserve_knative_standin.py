"""Knative mode of the stand-in: revisions, a status that lags, "latest" that means latest ready.

Belongs here: what KServe and Knative Serving were seen to do together.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.bed.kserve_rules import storage_uri
from tests.cluster.bed.kserve_standin import SERVICES, Delays, Key, Object, Observed

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects

PERCENT = "canaryTrafficPercent"
# A model whose address says so never becomes ready.
NEVER_READY = "never-ready"


@dataclass(slots=True)
class _Revision:
    name: str
    storage: str
    ready_at: float


@dataclass(slots=True)
class _KnativeService:
    uid: str
    template: str = ""
    revisions: list[_Revision] = field(default_factory=list)
    rolled_out: str = ""
    previous: str = ""
    # Statuses that are not published yet, each with the time at which it is.
    statuses: deque[tuple[float, Object]] = field(default_factory=deque)
    last: Object = field(default_factory=dict)

    def ready(self, now: float) -> str:
        names = [revision.name for revision in self.revisions if revision.ready_at <= now]
        return names[-1] if names else ""


class KnativeStandin:
    """Does what KServe does in Knative mode."""

    def __init__(self, objects: KubernetesObjects, observed: Observed, delays: Delays) -> None:
        self._objects = objects
        self._observed = observed
        self._delays = delays
        self._services: dict[Key, _KnativeService] = {}

    def gone(self, key: Key) -> None:
        self._services.pop(key, None)

    def reconcile(self, service: Object, now: float) -> None:
        metadata = service["metadata"]
        key = metadata["namespace"], metadata["name"]
        state = self._services.get(key)
        if state is None or state.uid != metadata["uid"]:
            state = self._services[key] = _KnativeService(metadata["uid"])
        predictor = service["spec"]["predictor"]
        self._template(state, service, now)
        traffic = self._traffic(state, predictor.get(PERCENT), now)
        self._roll_out(state, traffic, now)
        storage = {revision.name: revision.storage for revision in state.revisions}
        split: dict[str, int] = {}
        for target in traffic:
            if target["revisionName"]:
                uri = storage[target["revisionName"]]
                split[uri] = split.get(uri, 0) + target["percent"]
        if split:
            self._observed.share(key[0], split)
        self._publish(state, service, traffic, now)

    def _template(self, state: _KnativeService, service: Object, now: float) -> None:
        predictor = {
            name: value for name, value in service["spec"]["predictor"].items() if name != PERCENT
        }
        # KServe copies the object's annotations into the template: a new one is a new revision.
        annotations = {
            name: value
            for name, value in (service["metadata"].get("annotations") or {}).items()
            if name != "kubectl.kubernetes.io/last-applied-configuration"
        }
        template = json.dumps([predictor, annotations], sort_keys=True)
        if template == state.template:
            return
        state.template = template
        storage = storage_uri(predictor)
        delay = float("inf") if NEVER_READY in storage else self._delays.pod_ready
        name = f"{service['metadata']['name']}-predictor-{len(state.revisions) + 1:05d}"
        state.revisions.append(_Revision(name, storage, now + delay))

    @staticmethod
    def _traffic(state: _KnativeService, percent: int | None, now: float) -> list[Object]:
        latest = state.ready(now)
        if percent is None or not state.rolled_out:
            return [{"latestRevision": True, "revisionName": latest, "percent": 100}]
        targets = [{"latestRevision": True, "revisionName": latest, "percent": percent}]
        if percent < 100:
            rest: Object = {"latestRevision": False, "revisionName": state.rolled_out}
            targets.append({**rest, "percent": 100 - percent, "tag": "prev"})
        return targets

    @staticmethod
    def _roll_out(state: _KnativeService, traffic: list[Object], now: float) -> None:
        latest = traffic[0]
        if not latest["revisionName"]:
            return
        if state.rolled_out != latest["revisionName"]:
            if latest["percent"] == 100:
                state.previous, state.rolled_out = state.rolled_out, latest["revisionName"]
            return
        # Rolled back after it had everything: what was there before comes back, once.
        alone = {target["revisionName"] for target in traffic} == {latest["revisionName"]}
        newest = state.revisions[-1].name == state.ready(now)
        if latest["percent"] < 100 and alone and newest and state.previous:
            state.rolled_out = state.previous

    def _publish(
        self, state: _KnativeService, service: Object, traffic: list[Object], now: float
    ) -> None:
        ready = state.revisions[-1].ready_at <= now
        component: dict[str, Any] = {
            "latestCreatedRevision": state.revisions[-1].name,
            "latestReadyRevision": state.ready(now),
            "latestRolledoutRevision": state.rolled_out,
            "previousRolledoutRevision": state.previous,
            "traffic": [target for target in traffic if target["revisionName"]],
        }
        status = {
            "deploymentMode": "Knative",
            "components": {"predictor": component},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        }
        if status != state.last:
            state.last = copy.deepcopy(status)
            state.statuses.append((now + self._delays.status, state.last))
        due = None
        while state.statuses and state.statuses[0][0] <= now:
            due = state.statuses.popleft()[1]
        if due is not None:
            metadata = service["metadata"]
            place = f"{metadata['name']}/status"
            self._objects.merge_patch(SERVICES, metadata["namespace"], place, {"status": due})
