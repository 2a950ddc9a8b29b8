"""The base configuration in a real Alertmanager that posts to a receiver of the test.

Only addresses and times are others than those of the file: its minutes would be waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.programs import alertmanager, running
from tests.fixtures.receiver import StandInReceiver, receiver, wait

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "monitoring" / "alertmanager" / "alertmanager.yaml"
# What the file's times become: the proportions between them stay those of the file.
QUICK = {"0s": "0s", "5s": "1s", "1m": "1s", "50s": "500ms", "1h": "1h", "12h": "12h"}
CANARY, STABLE = "2017.12.01-bbbbbbbb", "2017.11.01-aaaaaaaa"
WATCHDOG = {"alertname": "DavyWatchdog", "severity": "none"}
ROLLED_BACK = {"alertname": "DavyRolloutRolledBack", "severity": "ticket", "rollout": "next-basket"}


def quick(route: Mapping[str, Any]) -> dict[str, Any]:
    """Return a route and those below it with short times."""
    times = {
        key: QUICK[value]
        for key, value in route.items()
        if key in ("group_wait", "group_interval", "repeat_interval")
    }
    return {**route, **times, "routes": [quick(child) for child in route.get("routes", ())]}


def of(name: str, severity: str, version: str, **labels: str) -> dict[str, str]:
    return {
        "alertname": name,
        "severity": severity,
        "model": "next_basket",
        "version": version,
        **labels,
    }


OWN = [
    of("DavyModelErrors", "page", CANARY),
    of("DavyContractViolations", "page", CANARY, side="output", output="score", rule="range"),
    of("DavyContractViolations", "ticket", CANARY, side="input", feature="price", rule="range"),
    of("DavyOutliers", "ticket", CANARY),
    of("DavyFeatureDrift", "ticket", CANARY, feature="price", detector="ks"),
]


@dataclass
class Place:
    """An Alertmanager and where it posts to."""

    url: str
    told: StandInReceiver

    def fire(self, *alerts: Mapping[str, str]) -> None:
        """Say that alerts fire, as Prometheus does."""
        self._post(alerts, datetime.now(UTC) + timedelta(minutes=4))

    def resolve(self, *alerts: Mapping[str, str]) -> None:
        """Say that they have ended."""
        self._post(alerts, datetime.now(UTC))

    def state(self, labels: Mapping[str, str]) -> str:
        """Return what Alertmanager makes of an alert: active or suppressed."""
        found = self._get()
        return next(
            (item["status"]["state"] for item in found if item["labels"] == dict(labels)), ""
        )

    def _get(self) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v2/alerts", trust_env=False, timeout=10)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def _post(self, alerts: tuple[Mapping[str, str], ...], end: datetime) -> None:
        body = [{"labels": dict(labels), "endsAt": end.isoformat()} for labels in alerts]
        httpx.post(
            f"{self.url}/api/v2/alerts", json=body, trust_env=False, timeout=10
        ).raise_for_status()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    config = yaml.safe_load(CONFIG.read_text())
    config["route"] = quick(config["route"])
    with receiver() as told:
        for item in config["receivers"]:
            for webhook in item["webhook_configs"]:
                webhook["url"] = f"{told.url}/{item['name']}"
        program = alertmanager(tmp_path, config)
        with running(program):
            yield Place(program.url, told)


def test_pages_of_one_version_come_in_one_message_and_their_end_is_told(place: Place) -> None:
    labels = {"model": "next_basket", "version": STABLE}
    scores = [{**of("DavyContractViolations", "page", STABLE), "output": name} for name in "abc"]
    place.fire(*scores, of("DavyModelErrors", "page", STABLE))

    names = {"DavyContractViolations", "DavyModelErrors"}
    wait(lambda: place.told.alerts("pages") == names, "a message for each of the two names")
    by_name = {item["groupLabels"]["alertname"]: item for item in place.told.of("pages")}
    grouped = by_name["DavyContractViolations"]
    assert grouped["status"] == "firing"
    assert {alert["labels"]["output"] for alert in grouped["alerts"]} == {"a", "b", "c"}
    assert grouped["groupLabels"] == {"alertname": "DavyContractViolations", **labels}
    assert len(by_name["DavyModelErrors"]["alerts"]) == 1

    place.resolve(*scores)
    wait(lambda: bool(place.told.alerts("pages", "resolved")), "the end is told")
    last = place.told.of("pages")[-1]
    assert last["status"] == "resolved"
    assert {alert["labels"]["output"] for alert in last["alerts"]} == {"a", "b", "c"}
    assert place.told.alerts("pages", "resolved") == {"DavyContractViolations"}
    assert not place.told.of("tickets")


def test_tickets_reach_the_tickets_alone(place: Place) -> None:
    drifted = [
        of("DavyFeatureDrift", "ticket", STABLE, feature=name, detector="ks") for name in "ab"
    ]
    place.fire(*drifted)
    wait(lambda: bool(place.told.of("tickets")), "a ticket")
    (message,) = place.told.of("tickets")
    assert {alert["labels"]["feature"] for alert in message["alerts"]} == {"a", "b"}
    assert not place.told.of("pages")


def test_a_rollback_is_told_and_the_alerts_of_its_version_are_not(place: Place) -> None:
    rolled_back = {**ROLLED_BACK, "version": CANARY}
    place.fire(rolled_back)
    wait(lambda: "DavyRolloutRolledBack" in place.told.alerts("tickets"), "the rollback is told")
    # The page of the stable version is there last: what was to come before it, has come.
    place.fire(*OWN)
    stable = of("DavyModelErrors", "page", STABLE)
    outliers = of("DavyOutliers", "ticket", STABLE)
    place.fire(stable, outliers)
    wait(lambda: bool(place.told.of("pages")), "the stable version's page")
    wait(lambda: "DavyOutliers" in place.told.alerts("tickets"), "the stable version's ticket")

    wait(lambda: all(place.state(labels) == "suppressed" for labels in OWN), "all are inhibited")
    assert told_versions(place, "pages") == {STABLE}
    assert told_versions(place, "tickets") - {CANARY} == {STABLE}
    assert place.told.alerts("tickets") == {"DavyRolloutRolledBack", "DavyOutliers"}
    assert place.state(stable) == place.state(outliers) == "active"

    # What still fires once the rollback's alert has ended is heard.
    place.resolve(rolled_back)
    wait(lambda: told_versions(place, "pages") == {STABLE, CANARY}, "its pages come after all")


def told_versions(place: Place, name: str) -> set[str]:
    return {alert["labels"]["version"] for item in place.told.of(name) for alert in item["alerts"]}


def test_a_rollback_that_names_no_version_keeps_nothing_quiet(place: Place) -> None:
    place.fire(ROLLED_BACK, of("DavyModelErrors", "page", CANARY))
    wait(lambda: "DavyModelErrors" in place.told.alerts("pages"), "the page comes")
    wait(lambda: "DavyRolloutRolledBack" in place.told.alerts("tickets"), "the ticket comes")


def test_the_watchdog_reaches_its_own_receiver_again_and_again_and_never_as_ended(
    place: Place,
) -> None:
    place.fire(WATCHDOG)
    wait(lambda: len(place.told.of("watchdog")) >= 4, "four signs of life")
    assert not place.told.of("pages")
    assert not place.told.of("tickets")

    # An end, as when Prometheus is gone, is silence and not a message.
    place.resolve(WATCHDOG)
    wait(lambda: place.state(WATCHDOG) == "", "it has ended")
    other = of("DavyModelErrors", "page", STABLE)
    place.fire(other)
    wait(lambda: bool(place.told.of("pages")), "a later alert")
    assert place.told.alerts("watchdog", "resolved") == set()
