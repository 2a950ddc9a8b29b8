"""What the detector, Prometheus and Alertmanager say.

Belongs here: reading their HTTP answers. Not here: what is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from davy.core.errors import UnavailableError

DRIFT_ALERT = "DavyFeatureDrift"


@dataclass(frozen=True, slots=True)
class Alert:
    """One firing alert as Alertmanager has it."""

    name: str
    feature: str
    version: str
    summary: str
    runbook: str


class Watch:
    """Reads the three services.

    Parameters
    ----------
    detector, prometheus, alertmanager : str
        Base URLs.
    """

    def __init__(self, *, detector: str, prometheus: str, alertmanager: str) -> None:
        self._detector = detector
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._http = httpx.Client(timeout=5.0, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def windows(self, version: str) -> list[dict[str, Any]]:
        """Return the detector's tested windows of a version, oldest first."""
        for item in self._get(f"{self._detector}/windows")["versions"]:
            if item["version"] == version:
                windows: list[dict[str, Any]] = item["windows"]
                return windows
        return []

    def firing(self, alert: str) -> list[dict[str, str]]:
        """Return the labels of an alert's firing instances in Prometheus."""
        answer = self._get(f"{self._prometheus}/api/v1/alerts")
        return [
            item["labels"]
            for item in answer["data"]["alerts"]
            if item["labels"]["alertname"] == alert and item["state"] == "firing"
        ]

    def fired_within(self, alert: str, seconds: float) -> bool:
        """Say whether an alert was firing at any time in the last seconds."""
        query = (
            f'count_over_time(ALERTS{{alertname="{alert}",alertstate="firing"}}[{seconds:.0f}s])'
        )
        answer = self._get(f"{self._prometheus}/api/v1/query", query=query)
        return bool(answer["data"]["result"])

    def received(self, alert: str) -> list[Alert]:
        """Return an alert's instances as Alertmanager has them."""
        return [
            Alert(
                name=item["labels"]["alertname"],
                feature=item["labels"].get("feature", ""),
                version=item["labels"].get("version", ""),
                summary=item["annotations"].get("summary", ""),
                runbook=item["annotations"].get("runbook_url", ""),
            )
            for item in self._get(f"{self._alertmanager}/api/v2/alerts", active="true")
            if item["labels"]["alertname"] == alert
        ]

    def _get(self, url: str, **params: str) -> Any:
        try:
            answer = self._http.get(url, params=params)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"no good answer: {error}", where=url) from None
