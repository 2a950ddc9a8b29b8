"""What kopf calls: a daemon for each ModelRollout, and its removal.

Belongs here: when a tick is due, kopf's settings. Not here: what a tick does
(`davy.rollout.operator.reconcile`).

kopf watches, lists again after a gap, and holds the finalizer. A watch only wakes: a tick reads the
resource itself, so an event that was missed delays nothing beyond the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from davy.core.clock import Clock
from davy.core.errors import DavyError, TemporaryError
from davy.core.logging import get_logger
from davy.rollout.adapters.annotation_orders import ORDERS
from davy.rollout.crd import GROUP, PLURAL, VERSION
from davy.rollout.operator.health import OperatorMetrics
from davy.rollout.operator.reconcile import Reconciler

# Never leaves traffic on a canary whose rollout was deleted.
FINALIZER = "davylamp.dev/traffic"
PREFIX = "operator.davylamp.dev"
# How long a change may go unnoticed by a rollout that waits for its next look.
WAKE_SECONDS = 0.25
# A rollout whose resource cannot even be read.
RETRY_SECONDS = 5.0
# A process that is told to stop lets each tick come to its end.
EXIT_SECONDS = 20.0
WORKERS = 16

Signature = tuple[int, str, bool]
Step = Callable[[str, str, str], float | None]


class Ticks:
    """Runs ticks in threads, and says what came of them.

    Parameters
    ----------
    metrics : OperatorMetrics
        Where they are counted.
    clock : Clock
        What times them.
    """

    def __init__(self, metrics: OperatorMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="tick")

    async def run(self, step: Step, namespace: str, name: str, uid: str) -> float | None:
        """Take a step; return the seconds until the next, None: nothing until it changes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._step, step, namespace, name, uid)

    def _step(self, step: Step, namespace: str, name: str, uid: str) -> float | None:
        began, outcome = self._clock.monotonic(), "done"
        try:
            return step(namespace, name, uid)
        except DavyError as error:
            outcome = "temporary" if isinstance(error, TemporaryError) else "refused"
            get_logger("operator").warning(
                "tick not finished", rollout=f"{namespace}/{name}", error=str(error)
            )
            return max(RETRY_SECONDS, getattr(error, "delay", 0.0))
        except Exception:
            outcome = "defect"
            get_logger("operator").exception("tick failed", rollout=f"{namespace}/{name}")
            return 6 * RETRY_SECONDS
        finally:
            self._metrics.ticks.labels(outcome).inc()
            self._metrics.seconds.observe(self._clock.monotonic() - began)


def handlers(
    reconciler: Reconciler, metrics: OperatorMetrics, *, resync_seconds: float
) -> kopf.OperatorRegistry:
    """Return kopf's handlers of one reconciler.

    Parameters
    ----------
    reconciler : Reconciler
        What they call.
    metrics : OperatorMetrics
        Where ticks are counted.
    resync_seconds : float
        A rollout with nothing to do is read again after so long.
    """
    registry = kopf.OperatorRegistry()
    ticks = Ticks(metrics, reconciler.clock)
    signatures: dict[str, Signature] = {}

    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.finalizer = FINALIZER
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
        # Our own Events say what happened; kopf's say that a handler ran.
        settings.posting.enabled = False
        # One resource, whose definition is there: no rights on definitions and namespaces needed.
        settings.scanning.disabled = True
        settings.watching.server_timeout = 240
        settings.background.instant_exit_timeout = EXIT_SECONDS

    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        inside = kopf.login_with_service_account(**arguments)
        return inside or kopf.login_with_kubeconfig(**arguments)

    async def wake(body: kopf.Body, uid: str, type: str | None, **_: Any) -> None:  # noqa: A002
        if type == "DELETED":
            signatures.pop(uid, None)
        else:
            signatures[uid] = signature(body)

    async def follow(
        namespace: str | None, name: str | None, uid: str, stopped: kopf.DaemonStopped, **_: Any
    ) -> None:
        while not stopped:
            before = signatures.get(uid)
            pause = await ticks.run(reconciler.tick, namespace or "", name or "", uid)
            left = resync_seconds if pause is None else pause
            while left > 0 and not stopped and signatures.get(uid, before) == before:
                await stopped.wait(min(left, WAKE_SECONDS))
                left -= WAKE_SECONDS

    async def remove(namespace: str | None, name: str | None, uid: str, **_: Any) -> None:
        pause = await ticks.run(reconciler.withdraw, namespace or "", name or "", uid)
        if pause is not None:
            raise kopf.TemporaryError("the canary has not gone yet", delay=pause)

    rollouts = (GROUP, VERSION, PLURAL)
    kopf.on.startup(registry=registry)(configure)
    kopf.on.login(registry=registry)(login)
    kopf.on.event(*rollouts, registry=registry)(wake)
    kopf.daemon(
        *rollouts,
        registry=registry,
        cancellation_backoff=EXIT_SECONDS,
        cancellation_timeout=EXIT_SECONDS,
    )(follow)
    kopf.on.delete(*rollouts, registry=registry)(remove)
    return registry


def signature(body: Mapping[str, Any]) -> Signature:
    """Return what a waiting rollout is woken by: another spec, an order, its deletion."""
    metadata = body.get("metadata") or {}
    orders = (metadata.get("annotations") or {}).get(ORDERS, "")
    return int(metadata.get("generation", 0)), orders, "deletionTimestamp" in metadata
