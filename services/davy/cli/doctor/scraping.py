"""Whether a Prometheus has the counters of both arms, with the labels that tell whose they are.

Belongs here: pure checks of its answer. Not here: asking it (`davy.cli.doctor.cluster_facts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from davy.cli.doctor.finding import Finding, fail, ok, skip
from davy.rollout.kserve import service as isvc
from davy.rollout.series import MODEL_INFO

CHECK = "Prometheus"
REMEDY_SCRAPE = (
    "Install the predictors' PodMonitor (the chart's monitoring.prometheusOperator), or scrape by "
    "prometheus.io annotations and attach the labels namespace and pod"
)


def unreachable(url: str, problem: str) -> Finding:
    """Return the finding for a Prometheus that does not answer."""
    return fail(
        CHECK,
        f"{url}: {problem}",
        "From outside of the cluster: 'kubectl port-forward' it and pass --prometheus "
        "http://127.0.0.1:9090; in the cluster: set DAVY_OPERATOR_PROMETHEUS_URL",
    )


def arms(
    url: str, answer: Any, services: Sequence[Mapping[str, Any]] | None
) -> tuple[Finding, ...]:
    """Judge what it answers to the query of `MODEL_INFO`.

    Parameters
    ----------
    url : str
        Its address.
    answer : object
        The decoded body of an instant query, whatever it is.
    services : sequence of mapping, optional
        The InferenceServices whose arms it should scrape; None when they may not be listed.
    """
    series = _series(answer)
    if series is None:
        return (unreachable(url, "answers what no Prometheus would"),)
    if services is None:
        said = f"{url} answers; which InferenceServices it should scrape may not be listed"
        return (skip(CHECK, said, "Run it with the rights of a person for that"),)
    if not services:
        return (skip(CHECK, f"{url} answers; there is no InferenceService to look for"),)
    found = [ok(CHECK, f"{url} answers")]
    return (*found, *(_arm(item, series) for item in services))


def _arm(service: Mapping[str, Any], series: Sequence[Mapping[str, str]]) -> Finding:
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    check, version = f"scraping {namespace}/{name}", isvc.serving_version(service)
    if version is None:
        return skip(check, "its predictor does not say which version it serves")
    of_version = [labels for labels in series if labels.get("version") == version]
    if not of_version:
        return fail(check, f"no target says {MODEL_INFO} of version {version}", REMEDY_SCRAPE)
    lacking = sorted(
        label for label in ("namespace", "pod") if any(not item.get(label) for item in of_version)
    )
    if lacking:
        return fail(
            check,
            f"targets of version {version} lack the label {', '.join(lacking)}",
            REMEDY_SCRAPE,
        )
    here = {item["pod"] for item in of_version if item["namespace"] == namespace}
    if not here:
        places = ", ".join(sorted({item["namespace"] for item in of_version}))
        return fail(check, f"version {version} is scraped in {places} alone", REMEDY_SCRAPE)
    return ok(check, f"version {version} from {len(here)} pod{'s' if len(here) > 1 else ''}")


def _series(answer: Any) -> list[dict[str, str]] | None:
    try:
        if answer["status"] != "success":
            return None
        return [dict(item["metric"]) for item in answer["data"]["result"]]
    except (KeyError, TypeError, ValueError):
        return None
