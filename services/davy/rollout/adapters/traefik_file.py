"""Traefik's file provider: one router, one weighted service over the versions.

Belongs here: the dynamic configuration, writing it whole, reading it back from Traefik's API.
Not here: starting Traefik, choosing weights.

Traefik needs, in its static configuration, ``providers.file.directory`` (or ``filename``) with
``watch``, and ``api.insecure`` or another way to its API. It hands out weights as an exact round
robin. A version whose servers all fail their health check gets no requests: the other has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from davy.core.clock import Clock
from davy.core.errors import ConfigurationError, InvalidInputError, UnavailableError
from davy.core.files import write_atomic
from davy.protocol.names import ARM_VARIABLE, BASELINE
from davy.rollout.series import Arms

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Route:
    """What stays the same whatever the weights are.

    ``name`` names the router and the weighted service; ``servers`` maps a version to the base URLs
    of its servers; ``health_path`` is asked every ``health_interval`` seconds, None for never.
    """

    name: str
    servers: Mapping[str, Sequence[str]]
    rule: str = "PathPrefix(`/`)"
    entry_points: Sequence[str] = ("web",)
    health_path: str | None = "/v2/health/ready"
    health_interval: float = 2.0


def dynamic_configuration(route: Route, weights: Mapping[str, int]) -> dict[str, Any]:
    """Return Traefik's dynamic configuration for weights in percent by version.

    Raises
    ------
    ConfigurationError
        A version has no servers.
    """
    services: dict[str, Any] = {}
    for version in weights:
        urls = route.servers.get(version)
        if not urls:
            copy = f", started with {ARM_VARIABLE}={BASELINE}" if version.endswith(BASELINE) else ""
            raise ConfigurationError(
                f"no server of version '{version}'",
                where=route.name,
                fix=f"Name one: --server {version}=URL{copy}",
            )
        balancer: dict[str, Any] = {"servers": [{"url": url} for url in urls]}
        if route.health_path is not None:
            interval = f"{route.health_interval:g}s"
            balancer["healthCheck"] = {
                "path": route.health_path,
                "interval": interval,
                "timeout": interval,
            }
        services[service_name(route, version)] = {"loadBalancer": balancer}
    weighted: dict[str, Any] = {
        "services": [
            {"name": service_name(route, version), "weight": weight}
            for version, weight in weights.items()
        ]
    }
    if route.health_path is not None:
        weighted["healthCheck"] = {}
    services[route.name] = {"weighted": weighted}
    router = {
        "rule": route.rule,
        "service": route.name,
        "entryPoints": list(route.entry_points),
    }
    return {"http": {"routers": {route.name: router}, "services": services}}


def _weights(arms: Arms, percent: int) -> dict[str, int]:
    shares = arms.shares(percent)
    weights = {arms.stable: shares.stable, arms.canary: shares.canary}
    return weights | ({arms.baseline: shares.baseline} if arms.baseline else {})


def service_name(route: Route, version: str) -> str:
    """Return the name of a version's own service."""
    return f"{route.name}-{version}"


def read_route(path: Path) -> tuple[Route, dict[str, int]] | None:
    """Return the route that a file of this module holds, and its weights by version.

    None when there is no such file, or one that was not written by `dynamic_configuration`.
    """
    try:
        http = yaml.safe_load(path.read_text(encoding="utf-8"))["http"]
        ((name, router),) = http["routers"].items()
        weights, servers, checks = {}, {}, []
        for part in http["services"][name]["weighted"]["services"]:
            version = part["name"].removeprefix(f"{name}-")
            balancer = http["services"][part["name"]]["loadBalancer"]
            weights[version] = int(part["weight"])
            servers[version] = [server["url"] for server in balancer["servers"]]
            checks.append(balancer.get("healthCheck"))
        interval = float(checks[0]["interval"].removesuffix("s")) if checks[0] else 2.0
        route = Route(
            name,
            servers,
            rule=router["rule"],
            entry_points=tuple(router["entryPoints"]),
            health_path=checks[0]["path"] if checks[0] else None,
            health_interval=interval,
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
    return route, weights


class TraefikFile:
    """Traffic by a file that Traefik watches.

    Parameters
    ----------
    path : Path
        The dynamic configuration file.
    api : str
        Base URL of Traefik's API.
    route : Route
        What stays the same.
    clock : Clock
        Where the time comes from.
    patience : float
        Seconds to wait until a weight is honoured.
    """

    def __init__(
        self, path: Path, api: str, route: Route, *, clock: Clock, patience: float = 10.0
    ) -> None:
        self.path = path
        self.route = route
        self._clock = clock
        self._patience = patience
        # Straight to the router: a proxy of the environment has no say on its address.
        self._http = httpx.Client(base_url=api, timeout=5.0, trust_env=False)

    def close(self) -> None:
        """Close the connection to the API."""
        self._http.close()

    def set_weight(self, arms: Arms, percent: int) -> None:
        """Write the weights, and wait for them within `patience`; see the port."""
        if not 0 <= percent <= 100:
            raise InvalidInputError(f"a weight is 0 to 100 percent, not {percent}")
        weights = _weights(arms, percent)
        document = dynamic_configuration(self.route, weights)
        text = yaml.safe_dump(document, sort_keys=False)
        # Writing what is there already would make Traefik load it again.
        if not self.path.exists() or self.path.read_text(encoding="utf-8") != text:
            write_atomic(self.path, text)
        until = self._clock.monotonic() + self._patience
        while self.read_weight(arms) != percent and self._clock.monotonic() < until:
            self._clock.sleep(POLL_SECONDS)

    def read_weight(self, arms: Arms) -> int | None:
        """Return the canary's weight in percent as Traefik has it.

        None when Traefik has no such service, or one over other versions.

        Raises
        ------
        UnavailableError
            Traefik's API does not answer.
        """
        service = self._service(self.route.name)
        if service is None:
            return None
        parts = service.get("weighted", {}).get("services", [])
        found = {part["name"].partition("@")[0]: int(part.get("weight", 1)) for part in parts}
        canary, total = found.get(service_name(self.route, arms.canary), 0), sum(found.values())
        if not total or 100 * canary % total:
            return None
        percent = 100 * canary // total
        # What is split otherwise, the baseline's share too, is not that weight.
        for version, share in _weights(arms, percent).items():
            if 100 * found.pop(service_name(self.route, version), -1) != share * total:
                return None
        return None if any(found.values()) else percent

    def not_ready(self, arms: Arms) -> tuple[str, ...]:
        """Return the versions without a server that is up."""
        return tuple(version for version in arms.versions if not self._has_ready(version))

    def answers(self, version: str) -> bool:
        """Say whether a server of this version is ready by its own word.

        Traefik knows only servers that it routes to, and takes a new one to be up until it asked.
        """
        path = self.route.health_path or "/"
        for url in self.route.servers.get(version, ()):
            try:
                answer = httpx.get(url.rstrip("/") + path, timeout=5.0, trust_env=False)
            except httpx.HTTPError:
                continue
            if answer.is_success or self.route.health_path is None:
                return True
        return False

    def _has_ready(self, version: str) -> bool:
        service = self._service(service_name(self.route, version))
        if service is None or service.get("status") != "enabled":
            return False
        return "UP" in service.get("serverStatus", {}).values()

    def _service(self, name: str) -> dict[str, Any] | None:
        place = f"/api/http/services/{quote(name, safe='')}@file"
        try:
            answer = self._http.get(place)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"Traefik's API does not answer ({error})",
                where=str(self._http.base_url),
                fix="Start Traefik with its API, or correct the address",
            ) from None
        return found
