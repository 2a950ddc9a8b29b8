"""The ports of a rollout on a cluster: KServe, Prometheus, the package store.

Belongs here: which adapter serves which part of a spec. Not here: the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast
from urllib.parse import unquote, urlsplit

import httpx

from davy.core.clock import Clock
from davy.core.errors import NotFoundError
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.adapters.kserve_detect import kserve_router
from davy.rollout.adapters.kserve_marks import ConfigMapMarks
from davy.rollout.adapters.kserve_service import INFERENCE_SERVICES
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.prometheus_http import PrometheusHttp, Scope, connection
from davy.rollout.kserve.pods import pod_patterns
from davy.rollout.operator.ports import Delivery, Resource
from davy.rollout.operator.settings import OperatorSettings
from davy.rollout.ports import GateFacts, Metrics
from davy.rollout.spec import Candidate, RolloutSpec
from davy.rollout.vetoes import Veto


class ClusterPlaces:
    """Ports on a cluster.

    Parameters
    ----------
    objects : KubernetesWrites
        The API server.
    settings : OperatorSettings
        Where Prometheus and the packages are.
    clock : Clock
        Where the time comes from.
    """

    def __init__(self, objects: KubernetesWrites, settings: OperatorSettings, clock: Clock) -> None:
        self._objects = objects
        self._settings = settings
        self._clock = clock
        # One connection for each address, however many rollouts read from it.
        self._connections: dict[str, httpx.Client] = {}

    def delivery(
        self, resource: Resource, identity: str, candidate: Candidate, traffic: str
    ) -> Delivery:
        """Return KServe's router of the mode that is found."""
        return kserve_router(
            self._objects,
            namespace=resource.namespace,
            service=resource.service,
            rollout=identity,
            candidate=candidate,
            clock=self._clock,
            wanted=cast(Literal["Auto", "Knative", "Standard"], traffic),
            patience=self._settings.patience_seconds,
            drain=self._settings.drain_seconds,
        )

    def metrics(self, resource: Resource, spec: RolloutSpec) -> Metrics:
        """Return the Prometheus that the resource names, else the operator's.

        Counters of the InferenceService's own pods count alone: the same version may serve in
        another namespace, or under another name, at another share of other requests.

        Raises
        ------
        NotFoundError
            There is no such InferenceService.
        UnavailableError
            The API server does not answer.
        """
        source = spec.analysis.prometheus
        url = source.url if _names_prometheus(resource.spec) else self._settings.prometheus_url
        if url not in self._connections:
            self._connections[url] = connection(url)
        return PrometheusHttp(
            url,
            clock=self._clock,
            selector=source.selector,
            margin=self._settings.prometheus_margin_seconds,
            segments=spec.segment_labels(),
            scope=self._scope(resource.namespace, resource.service, spec.candidate),
            http=self._connections[url],
        )

    def _scope(self, namespace: str, service: str, candidate: Candidate) -> Scope:
        found = self._objects.get(INFERENCE_SERVICES, namespace, service)
        if found is None:
            raise NotFoundError(
                "there is no such InferenceService",
                where=f"InferenceService {namespace}/{service}",
            )
        mark = ConfigMapMarks(self._objects, namespace, service).read()
        return Scope(namespace, service, pod_patterns(found, mark, candidate))

    def packages(self, candidate: Candidate) -> FolderPackages | MissingPackage:
        """Return the candidate's package: a ``file://`` of its own, else in the store."""
        folder = package_folder(candidate, self._settings.store)
        if folder is None:
            return MissingPackage(self._settings.store)
        found = {candidate.version: folder}
        return FolderPackages(found, self._clock, self._settings.public_key)


class MissingPackage:
    """A candidate whose package is not found: nothing can be said of it."""

    def __init__(self, store: Path | None) -> None:
        self._store = store

    def facts(self, version: str) -> GateFacts:
        """Refuse.

        Raises
        ------
        NotFoundError
            Always.
        """
        raise NotFoundError(
            f"no package of version '{version}'",
            where=str(self._store) if self._store else "DAVY_OPERATOR_STORE is not set",
            fix="Mount the package store, STORE/NAME/VERSION, and set DAVY_OPERATOR_STORE",
        )

    def vetoes(self, version: str, names: Sequence[str]) -> tuple[Veto, ...]:  # noqa: ARG002
        """Return none: a veto that nobody answers for is active."""
        return ()


def package_folder(candidate: Candidate, store: Path | None) -> Path | None:
    """Return the folder of a candidate's package, None where there is none."""
    parts = urlsplit(candidate.package_uri or "")
    if parts.scheme == "file":
        own = Path(unquote(parts.path))
        return own if own.is_dir() else None
    if store is None or "/" in candidate.version or candidate.version.startswith("."):
        return None
    return next(
        (path for path in sorted(store.glob("*/*")) if path.name == candidate.version), None
    )


def _names_prometheus(spec: Mapping[str, object]) -> bool:
    analysis = spec.get("analysis")
    source = analysis.get("prometheus") if isinstance(analysis, Mapping) else None
    return isinstance(source, Mapping) and bool(source.get("url"))
