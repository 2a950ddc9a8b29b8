"""``/healthz``, ``/readyz`` and ``/metrics`` of the operator.

Belongs here: what they answer, and the operator's own metrics. Not here: those of a rollout
(`davy.rollout.engine`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from davy.core.clock import Clock
from davy.core.errors import ConflictError

# A step of the election comes every two seconds: one that has not for so long never will.
ALIVE_SECONDS = 60.0


class OperatorMetrics:
    """What the operator says of itself to Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leading = Gauge(
            "davy_operator_leading",
            "Whether this process holds the Lease and acts",
            registry=registry,
        )
        self.ticks = Counter(
            "davy_operator_ticks",
            "Ticks of rollouts, by how they ended",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "davy_operator_tick_seconds",
            "Time of one tick: reading, deciding, writing",
            buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=registry,
        )


class Pulse:
    """When the process was last seen at work; ``ready`` once it has reached the API server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.monotonic()
        self.ready = False

    def beat(self) -> None:
        """Say that it is at work."""
        self._last = self._clock.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it was at work a short time ago."""
        return self._clock.monotonic() - self._last < ALIVE_SECONDS


def serve(host: str, port: int, *, pulse: Pulse, registry: CollectorRegistry) -> HealthServer:
    """Answer in a thread of its own until it is closed.

    Raises
    ------
    ConflictError
        The address cannot be listened on.
    """
    answers: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/healthz": lambda: _said(pulse.alive, "alive", "the election stands still"),
        "/readyz": lambda: _said(pulse.ready, "ready", "the API server was not reached yet"),
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
    }
    try:
        server = HealthServer((host, port), answers)
    except OSError as error:
        raise ConflictError(
            f"cannot be listened on ({error.strerror})",
            where=f"{host}:{port}",
            fix="End what listens there, or set DAVY_OPERATOR_PORT",
        ) from None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


class HealthServer(ThreadingHTTPServer):
    """Answers by path."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], answers: dict[str, Callable[[], tuple[int, str, bytes]]]
    ) -> None:
        self.answers = answers
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: HealthServer

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        status, kind, body = answer() if answer else (404, "text/plain", b"no such page\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Write nothing: probes come every few seconds."""


def _said(good: bool, yes: str, no: str) -> tuple[int, str, bytes]:
    status, words = (200, yes) if good else (503, no)
    return status, "text/plain", f"{words}\n".encode()
