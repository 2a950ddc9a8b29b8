"""One canary of the demo: start the arm, run the engine, stop the arm that lost.

Belongs here: the rollout's file and ports, what is shown at each look.
Not here: any decision (`davy.rollout`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from davy.cli.demo.stack import MODEL, Stack
from davy.core.clock import Clock
from davy.core.files import write_atomic
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.adapters.traefik_file import (
    Route,
    TraefikFile,
    dynamic_configuration,
    service_name,
)
from davy.rollout.decide import Decision
from davy.rollout.engine import Engine
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.spec import Rollout, read_rollout
from davy.rollout.state import Phase

STEPS = (5, 25, 50)
STEP_SECONDS = 8
DRAIN_SECONDS = 2.0
ROUTER_PATIENCE = 15.0

OnLook = Callable[[Decision], None]


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """How a rollout ended, the look that decided it, and where its record is."""

    name: str
    stable: str
    candidate: str
    phase: Phase
    record: Path
    decisive: Decision

    @property
    def failing(self) -> tuple[str, ...]:
        """Indicators that failed at the decisive look."""
        return tuple(v.indicator for v in self.decisive.verdicts if v.outcome == "fail")


@dataclass(frozen=True, slots=True)
class Canaries:
    """Runs rollouts one after the other on a running stack."""

    stack: Stack
    clock: Clock
    metrics: RolloutMetrics

    def route_all(self, version: str, url: str) -> None:
        """Send all traffic to one version, and wait until the router does.

        Raises
        ------
        UnavailableError
            The router did not take the configuration.
        """
        route = Route(MODEL, {version: [url]})
        document = dynamic_configuration(route, {version: 100})
        write_atomic(self.stack.router_file, yaml.safe_dump(document, sort_keys=False))
        service = f"{self.stack.addresses.url('router_api')}/api/http/services/{MODEL}@file"
        self.stack.supervisor.wait_until(
            "traefik",
            lambda: _only(service, service_name(route, version)),
            what=f"the router does not lead to {version} alone",
            seconds=ROUTER_PATIENCE,
        )

    def run(self, name: str, *, stable: str, candidate: str, on_look: OnLook) -> CanaryResult:
        """Start the candidate, run its rollout to the end, and stop the arm that lost."""
        stack = self.stack
        stack.start_arm(candidate)
        folder = stack.state / "rollouts" / name
        rollout = self._write_spec(folder / "rollout.yaml", name, candidate)
        urls = {version: [stack.arm_url(version)] for version in (stable, candidate)}
        traffic = TraefikFile(
            stack.router_file,
            stack.addresses.url("router_api"),
            Route(MODEL, urls),
            clock=self.clock,
        )
        prometheus = PrometheusHttp(stack.addresses.url("prometheus"), clock=self.clock)
        looks: list[Decision] = []

        def look(decision: Decision) -> None:
            stack.supervisor.check()
            looks.append(decision)
            on_look(decision)

        try:
            with FolderJournal(folder) as journal:
                engine = Engine(
                    rollout.spec,
                    name=name,
                    stable=stable,
                    traffic=traffic,
                    metrics=prometheus,
                    journal=journal,
                    packages=FolderPackages(
                        {version: stack.store / MODEL / version for version in urls},
                        self.clock,
                        stack.public_key,
                    ),
                    clock=self.clock,
                    metrics_of_rollout=self.metrics,
                    orders=FolderOrders(folder),
                )
                phase = engine.run(on_look=look)
                record = journal.path
        finally:
            traffic.close()
            prometheus.close()
        lost = stable if phase is Phase.PROMOTED else candidate
        # What the router gave to the arm before its weight became 0 may still be at work.
        time.sleep(DRAIN_SECONDS)
        winner = candidate if phase is Phase.PROMOTED else stable
        self.route_all(winner, stack.arm_url(winner))
        stack.stop_arm(lost)
        ends = [look for look in looks if look.action in ("rollback", "promote")]
        return CanaryResult(name, stable, candidate, phase, record, (ends or looks)[-1])

    def _write_spec(self, path: Path, name: str, candidate: str) -> Rollout:
        settings = self.stack.settings
        steps: list[dict[str, Any]] = [
            {"weight": weight, "minDuration": f"{STEP_SECONDS}s"} for weight in STEPS
        ]
        document = {
            "apiVersion": "davylamp.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": name},
            "spec": {
                "candidate": {"version": candidate},
                "steps": steps,
                "analysis": {
                    "interval": f"{settings.look_seconds}s",
                    "deadline": f"{settings.canary_deadline_seconds}s",
                    "prometheus": {"url": self.stack.addresses.url("prometheus")},
                },
                "onInconclusive": "Rollback",
            },
        }
        write_atomic(path, yaml.safe_dump(document, sort_keys=False))
        return read_rollout(path)


def _only(url: str, service: str) -> bool:
    """Say whether Traefik's weighted service leads to one service alone."""
    try:
        answer = httpx.get(url, timeout=2.0, trust_env=False)
        parts = answer.json()["weighted"]["services"] if answer.status_code == 200 else []
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return [part["name"].partition("@")[0] for part in parts] == [service]
