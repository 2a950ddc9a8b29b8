"""The operator's process: health, election, and kopf while it leads.

Belongs here: assembling it, starting and ending it. Not here: what it does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import uuid

import kopf
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from prometheus_client import CollectorRegistry

from davy.core.clock import Clock, SystemClock
from davy.core.errors import ConfigurationError, UnavailableError
from davy.core.logging import get_logger
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kube_lease import KubeLease
from davy.rollout.adapters.kube_marks import KubeMarks
from davy.rollout.adapters.kube_pods import KubePods
from davy.rollout.adapters.kube_rollouts import KubeRollouts
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator import health
from davy.rollout.operator.election import Election
from davy.rollout.operator.handlers import handlers
from davy.rollout.operator.health import OperatorMetrics, Pulse
from davy.rollout.operator.places import ClusterPlaces
from davy.rollout.operator.reconcile import Reconciler
from davy.rollout.operator.settings import OperatorSettings


def serve(settings: OperatorSettings) -> None:
    """Run until a signal; only the process that holds the Lease acts.

    Raises
    ------
    ConfigurationError
        There is no way to the API server.
    UnavailableError
        The Lease was lost: start again, and wait for it.
    """
    clock, registry = SystemClock(), CollectorRegistry()
    election, reconciler = parts(api_client(), settings, clock, registry)
    metrics, pulse = OperatorMetrics(registry), Pulse(clock)
    metrics.leading.set_function(lambda: float(election.leading))
    registered = handlers(reconciler, metrics, resync_seconds=settings.resync_seconds)
    logging.getLogger("kopf").setLevel(logging.WARNING)

    stop, led, ended, lost = (threading.Event() for _ in range(4))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    server = health.serve(settings.host, settings.port, pulse=pulse, registry=registry)
    log = get_logger("operator").bind(identity=election.me)
    log.info("waits for the lease", port=server.server_address[1])

    def elect() -> None:
        election.lead(stop, led.set, lambda: _beat(pulse, election))
        if not stop.is_set():
            lost.set()
        ended.set()
        led.set()

    thread = threading.Thread(target=elect, name="election", daemon=True)
    thread.start()
    while not led.wait(0.2):
        pass
    if not ended.is_set():
        asyncio.run(_run(registered, settings, ended))
    stop.set()
    thread.join()
    server.shutdown()
    server.server_close()
    if lost.is_set():
        raise UnavailableError("the lease was lost", where=f"lease {settings.lease}")
    log.info("ended")


def parts(
    api: ApiClient, settings: OperatorSettings, clock: Clock, registry: CollectorRegistry
) -> tuple[Election, Reconciler]:
    """Return the election, and the reconciler that writes only while it is won."""
    # The Lease alone is written by who does not lead.
    lease = KubeLease(
        KubernetesWrites(api), namespace=settings.namespace, name=settings.lease, clock=clock
    )
    election = Election(lease, identity(), clock)
    objects = KubernetesWrites(api, may_write=lambda: election.leading)
    return election, Reconciler(
        KubeRollouts(objects, clock),
        ConfigMapRecords(objects, may_write=lambda: election.leading),
        ClusterPlaces(objects, settings, clock),
        KubePods(objects),
        KubeMarks(objects),
        clock,
        RolloutMetrics(registry),
    )


async def _run(
    registered: kopf.OperatorRegistry, settings: OperatorSettings, ended: threading.Event
) -> None:
    namespaces = [item.strip() for item in settings.watch_namespaces.split(",") if item.strip()]
    try:
        await kopf.operator(
            registry=registered,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=ended,
        )
    finally:
        # kopf waits for the flag in a thread, without which the loop does not close.
        ended.set()


def _beat(pulse: Pulse, election: Election) -> None:
    pulse.beat()
    pulse.ready = pulse.ready or election.reached


def identity() -> str:
    """Return a name of this process that no other has, not even after a restart."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def api_client() -> ApiClient:
    """Return a client from the service account, or else from the kubeconfig.

    Raises
    ------
    ConfigurationError
        There is neither.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        try:
            load_kube_config(
                config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
            )
        except (ConfigException, OSError) as error:
            raise ConfigurationError(
                f"no way to the API server ({error})",
                where="KUBECONFIG",
                fix="Run it in a pod with a service account, or name a kubeconfig",
            ) from None
    return ApiClient(configuration)
