"""A stand-in for KServe's controller. NOT KServe: what it does is what KServe was seen to do.

Belongs here: the loop, what is kept for tests to look at. Not here: what each mode does
(`kserve_standard_standin`, `kserve_knative_standin`), the webhooks' rules (`kserve_rules`).

It stands in for Kubernetes' own controllers and for the gateway, too: an API server alone makes no
pod and routes nothing. So requests are not sent; what would have lost one is recorded.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubernetes.client import ApiClient
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_rules import MODE

from davy.core.errors import NotFoundError
from davy.rollout.adapters.kubernetes_objects import (
    KubernetesObjects,
    RefusedByServerError,
    Resource,
    StaleError,
)

SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices")
TICK_SECONDS = 0.05

Object = dict[str, Any]
# Namespace and name.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things take, in seconds: shorter than in a cluster, in the same order."""

    pod_ready: float = 0.3
    # After the Services have changed, until the controller writes the routes.
    route: float = 0.15
    # After a route was written, until the gateway serves by it and says so.
    gateway: float = 0.2
    # After a write, until the status is about it.
    status: float = 0.3


@dataclass(slots=True)
class Observed:
    """What happened to requests, by namespace.

    ``losses`` are moments at which a request would have been answered with an error; ``shares`` are
    the splits that came to serve, as percent by storage URI, in order; ``restarts`` are workloads
    whose pods were made anew.
    """

    losses: list[tuple[str, str]] = field(default_factory=list)
    shares: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    restarts: list[tuple[str, str]] = field(default_factory=list)

    def lose(self, namespace: str, why: str) -> None:
        self.losses.append((namespace, why))

    def share(self, namespace: str, split: Mapping[str, int]) -> None:
        served = {uri: percent for uri, percent in split.items() if percent}
        before = self.shares_in(namespace)
        if not before or before[-1] != served:
            self.shares.append((namespace, served))

    def losses_in(self, namespace: str) -> list[str]:
        return [why for where, why in self.losses if where == namespace]

    def shares_in(self, namespace: str) -> list[dict[str, int]]:
        return [split for where, split in self.shares if where == namespace]


class ModeStandin(Protocol):
    """What one mode does."""

    def reconcile(self, service: Object, now: float) -> None:
        """Go on with one InferenceService."""
        ...

    def gone(self, key: Key) -> None:
        """Remove what an InferenceService that is gone has left."""
        ...


ModeOf = Callable[[ApiClient], ModeStandin]


class KServeStandin:
    """Reconciles every InferenceService of an API server until it is stopped."""

    def __init__(self, server: ApiServer, delays: Delays, standard: ModeOf | None = None) -> None:
        from tests.cluster.bed.kserve_knative_standin import KnativeStandin
        from tests.cluster.bed.kserve_standard_standin import StandardStandin

        self.observed = Observed()
        self.errors: list[str] = []
        self._api = server.client()
        self._objects = KubernetesObjects(self._api)
        self._modes: dict[str, ModeStandin] = {
            "Standard": StandardStandin(self._objects, self.observed, delays),
            "Knative": KnativeStandin(self._objects, self.observed, delays),
        }
        if standard is not None:
            self._modes["Standard"] = standard(self._api)
        self._known: dict[Key, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._api.close()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self._tick()
            except (NotFoundError, RefusedByServerError, StaleError):
                continue  # somebody wrote or deleted in between: the next tick sees it
            except Exception:
                self.errors.append(traceback.format_exc())

    def _tick(self) -> None:
        found = self._objects.raw("/apis/serving.kserve.io/v1beta1/inferenceservices") or {}
        present = set()
        for service in found.get("items") or ():
            metadata = service["metadata"]
            key = metadata["namespace"], metadata["name"]
            mode = (metadata.get("annotations") or {}).get(MODE, "Knative")
            present.add(key)
            self._known[key] = mode
            self._modes[mode].reconcile(service, time.monotonic())
        for key in set(self._known) - present:
            self._modes[self._known.pop(key)].gone(key)


@contextmanager
def running_kserve_standin(
    server: ApiServer, delays: Delays | None = None, standard: ModeOf | None = None
) -> Iterator[KServeStandin]:
    """Run the stand-in while the block runs; its own errors fail the block.

    On a node, where pods run, ``standard`` makes what does Standard mode there.
    """
    standin = KServeStandin(server, delays or Delays(), standard)
    standin.start()
    try:
        yield standin
    finally:
        standin.stop()
    assert not standin.errors, standin.errors[0]
