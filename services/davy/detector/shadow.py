"""Logged requests sent to a candidate that serves nobody, and its answers compared.

Belongs here: which requests, sending, what an answer counts as.
Not here: judging the counts (`davy.rollout.shadow`), executing a model here
(`davy.detector.replay`), the thread and its queue (`davy.detector.aside`).

The requests are copies of answered ones: nobody waits for what comes back, and how long it takes
delays nobody. `Shadow.on_pair` returns at once; what the queue has no room for is dropped and
counted. One is sent at a time, and so many a second at most.

A copy has an id of its own that begins with ``shadow-``. So when another pair of the candidate is
told it serves people, and nothing more is sent to it: its counters are then those of a canary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, Protocol

import httpx
from prometheus_client import CollectorRegistry, Counter

from davy.core.clock import Clock
from davy.core.errors import DavyError, InvalidInputError
from davy.core.logging import get_logger
from davy.detector.aside import Aside
from davy.detector.pairing import Pair
from davy.detector.parity import distance, pseudonymised
from davy.detector.settings import DetectorSettings
from davy.packaging.contract import Contract
from davy.protocol.shadow import (
    SHADOW_ID,
    TOLERANCES,
    ShadowTarget,
    read_targets,
    tolerance_text,
)
from davy.protocol.tensors import Tensor
from davy.protocol.v2 import HEADER_LENGTH, decode_request, decode_response, encode_request

Skip = Literal[
    "queue_full",
    "malformed",
    "pseudonymised",
    "package_unreadable",
    "not_reached",
    "not_taken",
    "other_version",
]
"""Why a request was not sent, or says nothing of the candidate.

not_reached: there was no connection, or no such model at its end. not_taken: refused because it is
busy or not ready (429, 503). other_version: another version answered.
"""

QUEUE, QUEUE_BYTES = 16, 64 * 1024 * 1024
# How soon a change of the file is seen, and a package that could not be read is tried again.
REFRESH_SECONDS = 1.0


class Contracts(Protocol):
    """Where the candidates' contracts come from."""

    def contract(self, version: str) -> Contract:
        """Return a version's contract.

        Raises
        ------
        NotFoundError, IntegrityError
            There is no such package; it is not as it was written.
        """
        ...


class ShadowMetrics:
    """What is told Prometheus of it.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("model", "version", "namespace", "serving_kserve_io_inferenceservice")
        self.requests = Counter(
            "davy_shadow_requests",
            "Copies of served requests that a candidate answered or failed.",
            (*labels, "outcome"),
            registry=registry,
        )
        self.slow = Counter(
            "davy_shadow_slow",
            "Answers later than the latency objective of the candidate's package.",
            labels,
            registry=registry,
        )
        self.different = Counter(
            "davy_shadow_different",
            "Answers further from the served one than a tolerance.",
            (*labels, "above"),
            registry=registry,
        )
        self.skipped = Counter(
            "davy_shadow_skipped",
            "Requests that were not sent, or whose answer says nothing, by reason.",
            ("reason",),
            registry=registry,
        )


class _SkippedError(Exception):
    """Nothing is learnt from this request."""

    def __init__(self, reason: Skip, what: str = "") -> None:
        super().__init__(what)
        self.reason: Skip = reason


@dataclass(frozen=True, slots=True)
class _Answer:
    outputs: tuple[Tensor, ...] | None  # None: it failed
    seconds: float = 0.0


class Shadow:
    """Sends a sample of the requests that a version answered to its candidate.

    Parameters
    ----------
    contracts : Contracts
        Where the candidates' contracts come from.
    settings : DetectorSettings
        The ``shadow_*`` settings; ``shadow_targets`` must be set.
    metrics : ShadowMetrics
        Counts.
    clock : Clock
        Monotonic time.
    client : httpx.Client, optional
        What sends; made when absent.
    """

    def __init__(
        self,
        contracts: Contracts,
        settings: DetectorSettings,
        metrics: ShadowMetrics,
        clock: Clock,
        client: httpx.Client | None = None,
    ) -> None:
        self._contracts = contracts
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._client = client or httpx.Client(
            timeout=settings.shadow_timeout_seconds, trust_env=False
        )
        self._log = get_logger("detector.shadow")
        self._aside = Aside(
            "shadow",
            self._work,
            items=QUEUE,
            size=QUEUE_BYTES,
            between=self._look,
            wake=REFRESH_SECONDS / 4,
        )
        self._targets: tuple[ShadowTarget, ...] = ()
        self._served: set[str] = set()
        self._next = 0.0
        self._read_at = -REFRESH_SECONDS
        self._read: dict[str, Contract] = {}
        self._trouble = ""

    def start(self) -> None:
        """Begin to send."""
        self._aside.start()

    def close(self, seconds: float = 1.0) -> None:
        """End the thread after the request that it has in hand; what waits is let go."""
        self._aside.close(seconds)
        self._client.close()

    def refresh(self) -> None:
        """Read the file of candidates again; one that cannot be read means that nothing is sent."""
        path = self._settings.shadow_targets
        targets: tuple[ShadowTarget, ...] = ()
        trouble = ""
        if path is not None:
            try:
                targets = tuple(read_targets(path).targets)
            except DavyError as error:
                trouble = str(error)
        if trouble and trouble != self._trouble:
            self._log.warning("candidates_not_read", error=trouble)
        if targets != self._targets:
            self._log.info("candidates", versions=[target.candidate for target in targets])
        # A version that left the file and comes back is a candidate anew.
        self._served &= {target.candidate for target in targets}
        self._trouble, self._targets = trouble, targets

    def on_pair(self, pair: Pair) -> None:
        """Take a request with its answer, where it is to be sent; returns at once."""
        if self._aside.closing or pair.request.id.startswith(SHADOW_ID):
            return
        for target in self._targets:
            if pair.version == target.candidate:
                if target.candidate not in self._served:
                    self._log.info("candidate_serves", version=target.candidate)
                    self._served.add(target.candidate)
            elif pair.version == target.stable and target.candidate not in self._served:
                self._offer(target, pair)

    def send(self, target: ShadowTarget, pair: Pair) -> None:
        """Send one request and count what came of it."""
        try:
            contract = self._contract(target.candidate)
            served, answer = self._exchange(target, contract, pair)
        except _SkippedError as skipped:
            self._metrics.skipped.labels(skipped.reason).inc()
            return
        except InvalidInputError:
            self._metrics.skipped.labels("malformed").inc()
            return
        labels = (contract.name, contract.version, pair.request.namespace, pair.request.service)
        answered, failed = (
            self._metrics.requests.labels(*labels, outcome) for outcome in ("answered", "failed")
        )
        slow = self._metrics.slow.labels(*labels)
        above = {
            limit: self._metrics.different.labels(*labels, tolerance_text(limit))
            for limit in TOLERANCES
        }
        if answer.outputs is None:
            failed.inc()
            return
        # First how many there are: events never outnumber them.
        answered.inc()
        if answer.seconds > contract.rollout.latency_objective_seconds:
            slow.inc()
        apart = distance(answer.outputs, served)
        for limit, counter in above.items():
            if apart > limit:
                counter.inc()

    def _offer(self, target: ShadowTarget, pair: Pair) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        if self._aside.offer((target, pair), len(pair.request.body) + len(pair.response.body)):
            self._next = now + 1.0 / self._settings.shadow_per_second
        else:
            self._metrics.skipped.labels("queue_full").inc()

    def _look(self) -> None:
        if self._clock.monotonic() - self._read_at >= REFRESH_SECONDS:
            self._read_at = self._clock.monotonic()
            self.refresh()

    def _work(self, item: tuple[ShadowTarget, Pair]) -> None:
        target, pair = item
        # It may have begun to serve, or been taken out, while this waited.
        if target not in self._targets or target.candidate in self._served:
            return
        try:
            self.send(target, pair)
        except Exception as error:  # whatever it is, the next one may be sent
            self._metrics.skipped.labels("malformed").inc()
            self._log.exception("shadow_failed", request=pair.request.id, error=str(error))

    def _contract(self, version: str) -> Contract:
        if version not in self._read:
            try:
                contract = self._contracts.contract(version)
            except Exception as error:
                trouble = f"{version}: {error}"
                if trouble != self._trouble:
                    self._trouble = trouble
                    self._log.warning("candidate_not_read", version=version, error=str(error))
                raise _SkippedError("package_unreadable") from error
            self._read = {version: contract}  # the last one asked for; a rollout has one
        return self._read[version]

    def _exchange(
        self, target: ShadowTarget, contract: Contract, pair: Pair
    ) -> tuple[Sequence[Tensor], _Answer]:
        request = decode_request(pair.request.body, pair.request.header_length)
        served = decode_response(pair.response.body, pair.response.header_length).outputs
        if pseudonymised(request.inputs) or pseudonymised(served):
            raise _SkippedError("pseudonymised")
        binary = pair.request.header_length is not None
        encoded = encode_request(replace(request, id=_copy_id(pair.request.id)), binary=binary)
        headers = {"content-type": "application/json"}
        if encoded.header_length is not None:
            headers = {
                "content-type": "application/octet-stream",
                HEADER_LENGTH: str(encoded.header_length),
            }
        url = f"{target.url.rstrip('/')}/v2/models/{contract.name}/infer"
        began = self._clock.monotonic()
        try:
            response = self._client.post(url, content=encoded.body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _SkippedError("not_reached", str(error)) from error
        except httpx.HTTPError:
            return served, _Answer(None)
        seconds = self._clock.monotonic() - began
        if response.status_code in {429, 503}:
            raise _SkippedError("not_taken")
        if response.status_code == 404:
            raise _SkippedError("not_reached")
        if not response.is_success:
            return served, _Answer(None)
        return served, self._read_answer(response, contract.version, seconds)

    def _read_answer(self, response: httpx.Response, version: str, seconds: float) -> _Answer:
        length = response.headers.get(HEADER_LENGTH)
        try:
            answer = decode_response(response.content, None if length is None else int(length))
        except (InvalidInputError, ValueError):
            return _Answer(None)
        if answer.model_version != version:
            raise _SkippedError("other_version")
        return _Answer(answer.outputs, seconds)


def begin_shadow(
    contracts: Contracts, settings: DetectorSettings, registry: CollectorRegistry, clock: Clock
) -> Shadow | None:
    """Start to send; None where no file of candidates is named."""
    if settings.shadow_targets is None:
        return None
    shadow = Shadow(contracts, settings, ShadowMetrics(registry), clock)
    shadow.start()
    return shadow


def _copy_id(request_id: str) -> str:
    return SHADOW_ID + blake2b(request_id.encode(), digest_size=16).hexdigest()
