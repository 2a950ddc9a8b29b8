"""Asks an API server and a Prometheus what the checks of a cluster need.

Belongs here: what is asked, and what an answer that may not be had becomes.
Not here: what follows (`davy.cli.doctor.cluster`, `davy.cli.doctor.scraping`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from davy.cli.doctor import cluster, scraping
from davy.cli.doctor.finding import Finding, fail, skip
from davy.cli.doctor.rights import RIGHTS, Place, Right, Role
from davy.core.clock import Clock
from davy.core.errors import ConfigurationError, DavyError, UnavailableError
from davy.rollout import crd
from davy.rollout.adapters.kserve_service import INFERENCE_SERVICES
from davy.rollout.adapters.kube_lease import LEASES
from davy.rollout.adapters.kubeconfig import client
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource
from davy.rollout.series import MODEL_INFO

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_GATEWAY = ("gateway.networking.k8s.io", "v1")
_DEPLOYMENTS = Resource("apps", "v1", "deployments")
_STATEFUL_SETS = Resource("apps", "v1", "statefulsets")
_CONFIG_MAPS = Resource("", "v1", "configmaps")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PROMETHEUS_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be looked at.

    Attributes
    ----------
    namespace : str
        Of the InferenceServices.
    own : str
        The operator's.
    kserve : str
        KServe's.
    prometheus : str
        Address, as seen from here.
    lease : str
        Name of the operator's Lease.
    """

    namespace: str
    own: str
    kserve: str
    prometheus: str
    lease: str
    role: Role


def reach(context: str | None, namespace: str | None) -> tuple[Any, str, Role]:
    """Return a client of the API server, the namespace, and who asks: in a pod the operator.

    Raises
    ------
    ConfigurationError
        There is neither a kubeconfig nor a service account.
    MissingDependencyError
        The Kubernetes client is not installed.
    """
    if context is None and "KUBECONFIG" not in os.environ and _POD_NAMESPACE.is_file():
        from kubernetes import config
        from kubernetes.client import ApiClient, Configuration

        configuration = Configuration()
        config.load_incluster_config(client_configuration=configuration)
        api = ApiClient(configuration)
        own = _POD_NAMESPACE.read_text(encoding="utf-8").strip()
        return api, namespace or own, Role.OPERATOR
    api, found = client(context, namespace)
    return api, found, Role.PERSON


def look(
    api: Any,
    question: Question,
    clock: Clock,
    transport: httpx.BaseTransport | None = None,
) -> list[Finding]:
    """Return the findings of a cluster; one that does not answer is a finding, too."""
    objects = KubernetesObjects(api)
    try:
        version, skew = _version(api, clock)
    except DavyError as error:
        return [fail("kubernetes", str(error), "Check the kubeconfig's server and credentials")]
    found = [
        cluster.kubernetes(version),
        skew,
        cluster.rollout_crd(
            objects.serves(crd.GROUP, crd.VERSION, crd.PLURAL),
            _may(lambda: objects.raw(f"{_CRDS}/{crd.NAME}")),
            crd.definition(),
        ),
    ]
    served = objects.serves(*INFERENCE_SERVICES)
    theirs = _may(lambda: objects.raw(f"{_CRDS}/inferenceservices.serving.kserve.io"))
    found.append(cluster.kserve(served, theirs))
    services = (
        _may(lambda: objects.select(INFERENCE_SERVICES, question.namespace)) if served else ()
    )
    found += [cluster.service_mode(item, theirs) for item in services or ()]
    if served:
        found += _gateway(objects, question, services or ())
    found += _workloads(objects, question, clock)
    found.append(cluster.permissions(question.role, _reviews(api, question), question.namespace))
    found += _prometheus(question, services, clock, transport)
    return found


def _may(ask: Callable[[], T | None]) -> T | None:
    """Return None for what may not be read."""
    try:
        return ask()
    except ConfigurationError:
        return None


def _version(api: Any, clock: Clock) -> tuple[str, Finding]:
    began, start = clock.monotonic(), clock.now()
    answer, _, headers = _ask(api, "GET", "/version")
    found = clock_finding(headers.get("Date"), start, clock.monotonic() - began, "the API server")
    return str(answer["gitVersion"]), found


def _ask(api: Any, method: str, path: str, body: Any = None) -> Any:
    """Return the answer, its status and its headers: what has no namespace, or needs a header."""
    try:
        return api.call_api(
            path,
            method,
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _request_timeout=10.0,
        )
    except Exception as error:  # the client's and urllib3's
        raise UnavailableError(
            f"the API server does not answer ({_line(error)})", where=str(api.configuration.host)
        ) from None


def clock_finding(date: str | None, start: datetime, took: float, other: str) -> Finding:
    """Judge this clock by the Date of an answer.

    Parameters
    ----------
    date : str, optional
        As the header has it; whole seconds.
    start : datetime
        When the question was sent, by this clock.
    took : float
        Seconds until the answer.
    other : str
        Whose answer it was.
    """
    try:
        theirs = parsedate_to_datetime(date or "").astimezone(UTC)
    except ValueError:
        return skip(f"clock beside {other}", "its answer has no Date")
    # Theirs is the second's beginning: on average half of one later.
    apart = (start - theirs).total_seconds() + took / 2 - 0.5
    return cluster.skew(apart, took / 2 + 0.5, other)


def _gateway(
    objects: KubernetesObjects, question: Question, services: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    config = _may(lambda: objects.get(_CONFIG_MAPS, question.kserve, "inferenceservice-config"))
    _, default, _ = cluster.kserve_configuration(config, False)
    needed = cluster.needs_gateway(services, default)
    finding, _, named = cluster.kserve_configuration(config, needed)
    served = objects.serves(*_GATEWAY, "httproutes")
    path = f"/apis/{_GATEWAY[0]}/{_GATEWAY[1]}/gateways"
    answer = _may(lambda: objects.raw(path)) if served else None
    gateways = None if answer is None else tuple(answer.get("items") or ())
    return [finding, cluster.gateway(served, needed, gateways, named)]


def _workloads(objects: KubernetesObjects, question: Question, clock: Clock) -> list[Finding]:
    def labelled(kind: Resource, component: str) -> tuple[dict[str, Any], ...] | None:
        selector = f"app.kubernetes.io/part-of=davy,app.kubernetes.io/component={component}"
        return _may(lambda: objects.select(kind, question.own, selector))

    lease = _may(lambda: objects.get(LEASES, question.own, question.lease))
    spec: Mapping[str, Any] = (lease or {}).get("spec") or {}
    age = None
    if spec.get("renewTime"):
        renewed = datetime.fromisoformat(str(spec["renewTime"]).replace("Z", "+00:00"))
        age = (clock.now() - renewed).total_seconds()
    operators = labelled(_DEPLOYMENTS, "operator")
    found = [cluster.operator(operators, str(spec.get("holderIdentity") or ""), age)]
    if operators:
        found.append(cluster.operator_keys(operators))
    found.append(cluster.licence(labelled(_STATEFUL_SETS, "detector") or ()))
    return found


def _reviews(api: Any, question: Question) -> dict[Right, bool | None]:
    return {right: _allowed(api, question, right) for right in RIGHTS[question.role]}


def _allowed(api: Any, question: Question, right: Right) -> bool | None:
    namespaces = {Place.MODELS: question.namespace, Place.OWN: question.own, Place.CLUSTER: ""}
    resource, _, sub = right.resource.partition("/")
    attributes = {
        "group": right.group,
        "resource": resource,
        "subresource": sub,
        "verb": right.verb,
        "namespace": namespaces[right.place],
        "name": right.name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer, _, _ = _ask(api, "POST", _REVIEWS, body)
    except UnavailableError:
        return None
    return bool(answer["status"]["allowed"])


def _prometheus(
    question: Question,
    services: Sequence[Mapping[str, Any]] | None,
    clock: Clock,
    transport: httpx.BaseTransport | None,
) -> list[Finding]:
    url = question.prometheus
    began, start = clock.monotonic(), clock.now()
    try:
        with httpx.Client(
            base_url=url, timeout=PROMETHEUS_SECONDS, trust_env=False, transport=transport
        ) as http:
            answer = http.get("/api/v1/query", params={"query": MODEL_INFO})
            answer.raise_for_status()
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return [scraping.unreachable(url, _line(error))]
    found = list(scraping.arms(url, body, services))
    took = clock.monotonic() - began
    found.append(clock_finding(answer.headers.get("Date"), start, took, "Prometheus"))
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
