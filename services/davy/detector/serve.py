"""The detector as a process: settings, socket, server, signals.

Belongs here: putting the parts together once. Not here: any part.
"""

from __future__ import annotations

import errno
import signal
import socket

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from davy.core import logging
from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, ConflictError
from davy.detector.app import build_app
from davy.detector.assembly import assemble
from davy.detector.metrics import DetectorMetrics
from davy.detector.packages import FolderPackages
from davy.detector.pairing import Pair
from davy.detector.replay import begin_replay
from davy.detector.settings import DetectorSettings
from davy.detector.shadow import begin_shadow
from davy.drift import tabular_alibi

SHUTDOWN_SECONDS = 3


def serve(settings: DetectorSettings) -> None:
    """Serve until SIGTERM or SIGINT; open requests are answered before it returns.

    Raises
    ------
    ConflictError
        The port is in use; another detector uses the state's folder.
    ConfigurationError
        The address is not one of this machine's; the state's folder cannot be used.
    MissingDependencyError
        The engine is "alibi" and alibi-detect is not installed.
    """
    logging.configure(level=settings.log_level, style=settings.log_style)
    log = logging.get_logger("detector")
    if settings.engine == "alibi":
        tabular_alibi.check()
    clock = SystemClock()
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    packages = FolderPackages(settings)
    replayer = begin_replay(packages, settings, registry, clock)
    shadow = begin_shadow(packages, settings, registry, clock)
    beside = [one for one in (replayer, shadow) if one is not None]

    def on_pair(pair: Pair) -> None:
        for one in beside:
            one.on_pair(pair)

    parts = assemble(settings, packages, DetectorMetrics(registry), clock, on_pair)
    warm_up = tabular_alibi.load if settings.engine == "alibi" else lambda: None
    app = build_app(parts, registry, settings, clock, warm_up)
    with _bind(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        if not settings.store.is_dir():
            log.warning("store_not_there", store=str(settings.store))
        if settings.state is None:
            log.warning("state_not_kept", fix="Set DAVY_DETECTOR_STATE to a folder that lasts")
        log.info("listening", address=f"http://{host}:{port}", engine=settings.engine)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        # uvicorn raises the signal again when it is done: a clean end is not a death by signal.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            parts.close()
            for one in beside:
                one.close()
    log.info("stopped")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        where = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                "the port is in use", where=where, fix="Set DAVY_DETECTOR_PORT to a free one"
            ) from None
        raise ConfigurationError(
            f"cannot be listened on ({error.strerror})", where=where, fix="Set DAVY_DETECTOR_HOST"
        ) from None
    return listener
