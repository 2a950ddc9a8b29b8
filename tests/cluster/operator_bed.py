"""The operator on a real API server: counters that follow the weights, and writes that may be last.

Belongs here: what stands in for predictors and Prometheus, the operator's parts for tests.
Not here: what stands in for KServe (`tests.cluster.bed.kserve_standin`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from prometheus_client import CollectorRegistry
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.services import TestService

from davy.core.clock import SystemClock
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kserve_detect import kserve_router
from davy.rollout.adapters.kube_marks import KubeMarks
from davy.rollout.adapters.kube_pods import KubePods
from davy.rollout.adapters.kube_rollouts import ROLLOUTS, KubeRollouts, read_resource
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.memory import StatedPackages
from davy.rollout.crd import GROUP, NAME, PLURAL, VERSION
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator.ports import Delivery, Resource
from davy.rollout.operator.reconcile import Reconciler
from davy.rollout.ports import GateFacts
from davy.rollout.record import Record
from davy.rollout.series import (
    MODEL_INFO,
    REQUESTS,
    Arms,
    Sample,
    Series,
    SeriesKey,
    shares_at,
)
from davy.rollout.spec import Candidate, RolloutSpec
from davy.rollout.status import ModelRolloutStatus
from davy.rollout.vetoes import Veto

CRD = Path(__file__).parents[2] / "k8s/crds" / f"{NAME}.yaml"
SCRAPE_SECONDS = 0.1
RATE = 20_000.0


class StandInPrometheus:
    """Counters of both arms: they grow with the time and with the canary's weight.

    ``weight`` is asked at each scrape: what KServe's stand-in serves by.
    """

    def __init__(
        self, weight: Callable[[], int], *, errors: float = 0.0, canary: str = "v2"
    ) -> None:
        self._weight = weight
        self._version = canary
        self._errors = errors
        self._lock = threading.Lock()
        self._totals: dict[SeriesKey, float] = {}
        self._samples: dict[SeriesKey, list[Sample]] = {}
        self._until = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def series(self, arms: Arms, since: float | None) -> Sequence[Series]:
        oldest = (since if since is not None else time.time()) - 5.0
        with self._lock:
            return [
                Series(key, tuple(item for item in samples if item.time >= oldest))
                for key, samples in self._samples.items()
                if key.version in arms.versions
            ]

    def _run(self) -> None:
        while not self._stop.wait(SCRAPE_SECONDS):
            self._scrape(self._weight())

    def _scrape(self, weight: int) -> None:
        now = time.time()
        with self._lock:
            requests = RATE * (now - self._until)
            self._until = now
            canary = requests * weight / 100
            copy = requests * shares_at(weight, baseline=True).baseline / 100
            for version, outcome, count in (
                ("v1", "ok", requests - canary),
                ("v1+baseline", "ok", copy),
                (self._version, "ok", canary * (1 - self._errors)),
                (self._version, "server_error", canary * self._errors),
            ):
                key = SeriesKey(REQUESTS, version, f"{version}-0", outcome)
                self._totals[key] = self._totals.get(key, 0.0) + count
                self._samples.setdefault(key, []).append(Sample(now, float(int(self._totals[key]))))
            for version in ("v1", "v1+baseline", self._version):
                info = SeriesKey(MODEL_INFO, version, f"{version}-0")
                self._samples.setdefault(info, []).append(Sample(now, 1.0))

    @contextmanager
    def over_http(self) -> Iterator[str]:
        """Answer Prometheus' query API with all of it, whatever is asked."""
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                body = json.dumps(source._answer("davy_requests_total" in asked)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_request(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, predictor: bool) -> dict[str, Any]:
        result = []
        with self._lock:
            for key, samples in self._samples.items() if predictor else ():
                labels = {"__name__": key.metric, "version": key.version, "pod": key.pod}
                if key.detail:
                    labels["outcome"] = key.detail
                # The last half minute: a range selector never returns it all.
                values = [[item.time, str(item.value)] for item in samples[-300:]]
                result.append({"metric": labels, "values": values})
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}


class KilledHereError(BaseException):
    """Stands for the end of the process at this write; no handler may catch it."""


class WritesThatMayBeTheLast(KubernetesWrites):
    """The real client, which ends its operator after the n-th write of all kinds."""

    def __init__(self, api: client.ApiClient, kill_after: int = -1) -> None:
        super().__init__(api)
        self.kill_after = kill_after
        self.writes = 0
        self.log: list[str] = []

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        if method == "GET":
            return super()._call(method, path, **more)
        if self.writes == self.kill_after == 0:
            raise KilledHereError
        answer = super()._call(method, path, **more)
        self.writes += 1
        self.log.append(f"{method} {path.partition('/namespaces/')[2].partition('/')[2]}")
        if self.writes == self.kill_after:
            raise KilledHereError
        return answer


@dataclass
class PlacesOfTests:
    """KServe's real adapters with short waits; packages and counters are stated."""

    objects: KubernetesWrites
    prometheus: StandInPrometheus

    def delivery(
        self, resource: Resource, identity: str, candidate: Candidate, traffic: str
    ) -> Delivery:
        return kserve_router(
            self.objects,
            namespace=resource.namespace,
            service=resource.service,
            rollout=identity,
            candidate=candidate,
            clock=SystemClock(),
            patience=10.0,
            drain=0.6,
            lag=0.8,
        )

    def metrics(self, resource: Resource, spec: RolloutSpec) -> StandInPrometheus:
        return self.prometheus

    def packages(self, candidate: Candidate) -> StatedPackages:
        facts = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
        return StatedPackages(facts, (Veto("signature", active=False, message="verified"),))


def rollout_document(service: str, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "inferenceServiceRef": {"name": service},
        "candidate": {"version": "v2", "packageURI": "pvc://models/v2"},
        "steps": [{"weight": 10, "minRequests": 10}, {"weight": 50, "minRequests": 10}],
        "analysis": {"interval": "0.5s", "deadline": "10m", "vetoes": ["signature"]},
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ModelRollout",
        "metadata": {"name": "take-over"},
        "spec": {**spec, **changes},
    }


@dataclass
class RolloutBed:
    """One ModelRollout of one InferenceService, and operators for it."""

    server: ApiServer
    service: TestService
    prometheus: StandInPrometheus
    api: client.ApiClient
    seen: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.service.namespace

    def create(self, name: str = "take-over", **changes: Any) -> str:
        document = rollout_document(self.service.name, **changes)
        document["metadata"]["name"] = name
        made = client.CustomObjectsApi(self.api).create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, document
        )
        return str(made["metadata"]["uid"])

    def patch(self, body: Mapping[str, Any], name: str = "take-over") -> None:
        client.CustomObjectsApi(self.api).patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name, body
        )

    def delete(self, name: str = "take-over") -> None:
        client.CustomObjectsApi(self.api).delete_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name
        )

    def resource(self, name: str = "take-over") -> Resource | None:
        found = KubernetesWrites(self.api).get(ROLLOUTS, self.namespace, name)
        return None if found is None else read_resource(found)

    def status(self, name: str = "take-over") -> ModelRolloutStatus:
        found = self.resource(name)
        assert found is not None
        return found.status

    def record(self, attempt: int = 1, name: str = "take-over") -> Record:
        found = self.resource(name)
        assert found is not None
        records = ConfigMapRecords(KubernetesWrites(self.api), may_write=lambda: False)
        record = records.journal(found, attempt).read()
        assert record is not None
        return record

    def events(self) -> list[str]:
        found = client.CoreV1Api(self.api).list_namespaced_event(self.namespace).items
        return [item.reason for item in sorted(found, key=lambda item: item.metadata.name)]

    def operator(self, kill_after: int = -1) -> tuple[Reconciler, WritesThatMayBeTheLast]:
        """Return a newly started operator and its client."""
        objects, clock = WritesThatMayBeTheLast(self.api, kill_after), SystemClock()
        return Reconciler(
            KubeRollouts(objects, clock),
            ConfigMapRecords(objects, may_write=lambda: True),
            PlacesOfTests(objects, self.prometheus),
            KubePods(objects),
            KubeMarks(objects),
            clock,
            RolloutMetrics(CollectorRegistry()),
        ), objects

    def drive(
        self,
        uid: str,
        *,
        name: str = "take-over",
        kill_after: int = -1,
        until: Callable[[ModelRolloutStatus], bool] = lambda _: False,
        seconds: float = 90.0,
    ) -> tuple[int, list[str]]:
        """Tick to the end; one that is killed is started anew. Returns kills and what was written.

        A deleted one is withdrawn, as kopf's handler does.
        """
        operator, objects = self.operator(kill_after)
        kills, end, log = 0, time.monotonic() + seconds, objects.log
        while time.monotonic() < end:
            found = self.resource(name)
            if found is None or until(found.status):
                return kills, log
            step = operator.withdraw if found.deleting else operator.tick
            try:
                pause = step(self.namespace, name, uid)
            except KilledHereError:
                kills += 1
                operator, objects = self.operator()
                continue
            if pause is None:
                return kills, log
            time.sleep(min(pause, 0.5))
        raise AssertionError(f"not ended within {seconds:g} s: {self.status(name)}")


def weight_served(shares: Callable[[str], Sequence[Mapping[str, int]]], namespace: str) -> int:
    """Return the canary's share that is served by now."""
    found = shares(namespace)
    return int(found[-1].get("pvc://models/v2", 0)) if found else 0


def install(server: ApiServer) -> None:
    server.install_crd(yaml.safe_load(CRD.read_text(encoding="utf-8")))
