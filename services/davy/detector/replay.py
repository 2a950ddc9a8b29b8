"""Logged requests executed again, beside the server: is what was served what the package says?

Belongs here: which requests, the models that are open, counting. Not here: executing one and
comparing (`davy.detector.parity`), the thread and its queue (`davy.detector.aside`).

A server may answer with other weights than the package that it names: a stale cache, a wrong
mount, a runtime that computes otherwise on that processor. Its own counters do not show that. The
gate's indicator ``parity`` reads what is counted here.

`Replayer.on_pair` returns at once: what the queue has no room for is dropped and counted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from davy.core.clock import Clock
from davy.core.errors import (
    DavyError,
    InvalidInputError,
    MissingDependencyError,
)
from davy.core.logging import get_logger
from davy.detector.aside import Aside
from davy.detector.failures import Failures
from davy.detector.pairing import Pair
from davy.detector.parity import (
    NotReplayedError,
    PackagedModel,
    Skip,
    check_runtime,
    difference,
    pseudonymised,
)
from davy.detector.settings import DetectorSettings
from davy.protocol.v2 import decode_request, decode_response

# Names of services come from the network: so many are told apart, each with two counters.
SERVICES = 256
# One difference in the log of each version in so many seconds: a broken one differs always.
LOG_SECONDS = 60.0


class Models(Protocol):
    """Where packaged models come from."""

    def open_model(self, version: str) -> PackagedModel:
        """Open the model of a version.

        Raises
        ------
        NotFoundError, IntegrityError, PermanentError
            There is no such package; it is not as it was written; it cannot be opened.
        """
        ...


class ReplayMetrics:
    """What the replay tells Prometheus.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.checks = Counter(
            "davy_parity_checks",
            "Served requests executed again with the package's model, by what came of it: same or "
            "different.",
            # The last two say whose requests they were; Prometheus drops them where empty.
            ("model", "version", "result", "namespace", "serving_kserve_io_inferenceservice"),
            registry=registry,
        )
        self.skipped = Counter(
            "davy_parity_skipped",
            "Sampled requests that were not executed again, by reason.",
            ("reason",),
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Who served: a version, as an InferenceService where the events name one."""

    version: str
    namespace: str = ""
    service: str = ""


def in_sample(request_id: str, share: float) -> bool:
    """Tell whether a request is executed again; the same for the same id.

    Examples
    --------
    >>> sum(in_sample(str(number), 0.1) for number in range(10_000))
    1047
    """
    # Personalised: the payload log samples by a hash of the id, too.
    digest = blake2b(request_id.encode(), digest_size=8, person=b"davy replay").digest()
    return int.from_bytes(digest, "big") < share * 2**64


class Replayer:
    """Executes a sample of the logged requests again, in a thread of its own.

    Parameters
    ----------
    models : Models
        Where the packages' models come from.
    settings : DetectorSettings
        The ``replay_*`` settings, and how many versions are held.
    metrics : ReplayMetrics
        Counts.
    clock : Clock
        Monotonic time.
    """

    def __init__(
        self, models: Models, settings: DetectorSettings, metrics: ReplayMetrics, clock: Clock
    ) -> None:
        self.metrics = metrics
        self._models = models
        self._settings = settings
        self._clock = clock
        self._log = get_logger("detector.replay")
        self._aside = Aside(
            "replay",
            self._work,
            items=settings.replay_queue,
            size=settings.replay_queue_bytes,
        )
        self._met: set[Source] = set()
        self._open: OrderedDict[str, PackagedModel] = OrderedDict()
        self._failures = Failures(clock, settings.retry_seconds)
        self._logged: dict[str, float] = {}

    def start(self) -> None:
        """Begin to execute."""
        self._aside.start()

    def close(self, seconds: float = 1.0) -> None:
        """End the thread after the request that it has in hand; what waits is let go."""
        self._aside.close(seconds)

    def on_pair(self, pair: Pair) -> None:
        """Take a request with its answer, where it is in the sample; returns at once.

        The first of each source is always taken, so that its counters are there from the start.
        """
        source = Source(pair.version, pair.request.namespace, pair.request.service)
        met = source in self._met
        if self._aside.closing or (
            met and not in_sample(pair.request.id, self._settings.replay_share)
        ):
            return
        if not met and len(self._met) >= SERVICES:
            self._skip("too_many_services")
            return
        if self._aside.offer((source, pair), _size(pair)):
            self._met.add(source)
        else:
            self._skip("queue_full")

    def check(self, source: Source, pair: Pair) -> None:
        """Execute one request again and count what came of it."""
        try:
            model = self._model(source.version)
            same, different = self._counters(model, source)
            what = self._difference(model, pair)
        except NotReplayedError as skipped:
            self._skip(skipped.reason)
        except InvalidInputError:
            self._skip("malformed")
        else:
            (different if what else same).inc()
            if what:
                self._tell(source, pair.request.id, what)

    def _work(self, item: tuple[Source, Pair]) -> None:
        source, pair = item
        try:
            self.check(source, pair)
        except Exception as error:  # whatever it is, the next one may be executed
            self._skip("not_executed")
            self._log.exception("replay_failed", request=pair.request.id, error=str(error))

    def _difference(self, model: PackagedModel, pair: Pair) -> str:
        asked = decode_request(pair.request.body, pair.request.header_length)
        served = decode_response(pair.response.body, pair.response.header_length)
        version = model.contract.version
        if served.model_version not in ("", version):
            what = f"the answer says version '{served.model_version}', the event '{version}'"
            raise NotReplayedError("other_version", what)
        if name := pseudonymised(served.outputs):
            raise NotReplayedError("pseudonymised", f"output '{name}' holds pseudonyms")
        return difference(served.outputs, model.answer(asked), model.contract.tolerance)

    def _model(self, version: str) -> PackagedModel:
        if version in self._open:
            self._open.move_to_end(version)
            return self._open[version]
        if not version:
            raise NotReplayedError("no_version", "the event names no version")
        failure = self._failures.lasting(version)
        if failure is not None:
            raise NotReplayedError(failure.reason, "its package could not be opened a moment ago")
        try:
            model = self._models.open_model(version)
        except Exception as error:
            raise self._failed(version, error) from error
        self._failures.discard(version)
        while len(self._open) >= self._settings.versions:
            self._open.popitem(last=False)
        self._open[version] = model
        return model

    def _failed(self, version: str, error: Exception) -> NotReplayedError:
        failure = self._failures.add(version, error)
        self._log.warning("version_not_replayed", version=version[:128], error=str(error))
        what = str(error) if isinstance(error, DavyError) else repr(error)
        return NotReplayedError(failure.reason, what)

    def _counters(self, model: PackagedModel, source: Source) -> tuple[Counter, Counter]:
        """Return both counters of a source; asking makes them, at 0."""
        same, different = (
            self.metrics.checks.labels(
                model.contract.name, source.version, result, source.namespace, source.service
            )
            for result in ("same", "different")
        )
        return same, different

    def _skip(self, reason: Skip) -> None:
        self.metrics.skipped.labels(reason).inc()

    def _tell(self, source: Source, request_id: str, what: str) -> None:
        now = self._clock.monotonic()
        if now - self._logged.get(source.version, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[source.version] = now
            self._log.warning(
                "served_otherwise", version=source.version, request=request_id, what=what
            )


def begin_replay(
    models: Models, settings: DetectorSettings, registry: CollectorRegistry, clock: Clock
) -> Replayer | None:
    """Start a replayer; None where requests are not to be, or cannot be, executed again.

    A detector without onnxruntime watches drift all the same, and the gate holds a rollout that is
    to be judged by parity, since nobody counts it.
    """
    if settings.replay_share == 0:
        return None
    try:
        check_runtime()
    except MissingDependencyError as error:
        get_logger("detector.replay").warning("nothing_is_replayed", error=str(error))
        return None
    replayer = Replayer(models, settings, ReplayMetrics(registry), clock)
    replayer.start()
    return replayer


def _size(pair: Pair) -> int:
    return len(pair.request.body) + len(pair.response.body)
