"""What HTTPRoutes of the Gateway API say about the arms of an InferenceService.

Belongs here: weights and acceptance, from route objects. Not here: fetching them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

Route = Mapping[str, Any]


def shared_weights(routes: Iterable[Route], workloads: Collection[str]) -> dict[str, int] | None:
    """Return the weight of each backend Service, where all rules of all routes agree on shares.

    Rules that lead to none of the workloads (a transformer's, an explainer's) do not count. A
    backend without a weight has 1, as the Gateway API says. None when no rule leads to an arm, or
    two rules split differently.
    """
    found: dict[str, int] | None = None
    for route in routes:
        for rule in (route.get("spec") or {}).get("rules") or ():
            weights: dict[str, int] = {}
            for backend in rule.get("backendRefs") or ():
                weight = backend.get("weight")
                weights[backend["name"]] = 1 if weight is None else int(weight)
            if not set(weights) & set(workloads):
                continue
            if found is not None and _shares(found) != _shares(weights):
                return None
            found = weights
    return found


def programmed(routes: Collection[Route]) -> bool:
    """Say whether every gateway has accepted every route as it is written now."""
    return bool(routes) and all(_accepted(route) for route in routes)


def _accepted(route: Route) -> bool:
    generation = route["metadata"].get("generation")
    parents = (route.get("status") or {}).get("parents") or ()
    return bool(parents) and all(
        _holds(parent, "Accepted", generation) and _holds(parent, "ResolvedRefs", generation)
        for parent in parents
    )


def _holds(parent: Mapping[str, Any], kind: str, generation: Any) -> bool:
    return any(
        condition.get("type") == kind
        and condition.get("status") == "True"
        and condition.get("observedGeneration") == generation
        for condition in parent.get("conditions") or ()
    )


def _shares(weights: Mapping[str, int]) -> dict[str, Fraction]:
    total = sum(weights.values()) or 1
    return {name: Fraction(weight, total) for name, weight in weights.items() if weight}
