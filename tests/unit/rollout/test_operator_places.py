"""Where the operator finds a package and a Prometheus, what it answers, what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.fixtures.operator_cluster import SPEC, OperatorBed, drive

from davy.core.clock import ManualClock
from davy.core.errors import ConflictError, NotFoundError
from davy.rollout.operator import health
from davy.rollout.operator.claims import rival
from davy.rollout.operator.health import OperatorMetrics, Pulse
from davy.rollout.operator.notes import LONGEST_MESSAGE, cause, last_note, look_note
from davy.rollout.operator.places import MissingPackage, package_folder
from davy.rollout.operator.ports import Resource
from davy.rollout.spec import Candidate
from davy.rollout.status import ModelRolloutStatus

START = datetime(2017, 1, 2, tzinfo=UTC)


def candidate(**changes: Any) -> Candidate:
    return Candidate.model_validate({"version": "v2", **changes})


def test_a_package_is_found_in_the_store_by_its_version(tmp_path: Path) -> None:
    (tmp_path / "next-basket" / "v2").mkdir(parents=True)
    (tmp_path / "next-basket" / "v1").mkdir()
    assert package_folder(candidate(), tmp_path) == tmp_path / "next-basket" / "v2"
    assert package_folder(candidate(packageURI="s3://x/v2"), tmp_path) is not None


def test_a_package_of_its_own_folder_is_taken_from_there(tmp_path: Path) -> None:
    own = tmp_path / "my package"
    own.mkdir()
    assert package_folder(candidate(packageURI=own.as_uri()), None) == own
    assert package_folder(candidate(packageURI="file:///no/such"), tmp_path) is None


@pytest.mark.parametrize("version", ["../../etc", "..", ".hidden", "v9"])
def test_a_version_never_leads_out_of_the_store(tmp_path: Path, version: str) -> None:
    (tmp_path / "next-basket" / "v2").mkdir(parents=True)
    assert package_folder(candidate(version=version), tmp_path) is None


def test_without_a_store_it_says_what_to_set() -> None:
    with pytest.raises(NotFoundError, match="DAVY_OPERATOR_STORE"):
        MissingPackage(None).facts("v2")
    assert MissingPackage(None).vetoes("v2", ["signature"]) == ()


def test_of_rollouts_of_another_service_none_is_a_rival() -> None:
    def resource(number: int, service: str) -> Resource:
        spec = {**SPEC, "inferenceServiceRef": {"name": service}}
        return Resource("shop", f"r{number}", f"uid-{number}", 1, START, spec)

    mine = resource(2, "next-basket")
    assert rival(mine, [mine, resource(1, "churn")]) is None
    assert rival(mine, [mine, resource(1, "next-basket")]) is not None


def test_an_end_that_was_not_told_is_told_by_the_next_operator() -> None:
    bed = OperatorBed(errors=0.2)
    bed.apply()
    drive(bed)
    record = bed.record()
    assert cause(record) is not None
    assert cause(record)[0] == "IndicatorFailed"  # type: ignore[index]
    assert last_note(1, record) is None, "the last look finished: nothing to tell"
    rolled_back = next(line for line in record.looks if line.decision.action == "rollback")
    again = look_note(1, rolled_back.look, "rollback", "IndicatorFailed", "x")
    assert again is not None
    assert (rolled_back.look > 1, again.key) == (True, f"1-{rolled_back.look}")
    assert again.key in {key for _, key in bed.notes}


def test_a_look_that_holds_is_not_told_and_a_long_reason_is_cut() -> None:
    assert look_note(1, 5, "hold", "Inconclusive", "x") is None
    told = look_note(1, 5, "advance", "AllPassed", "x" * 5000)
    assert told is not None
    assert len(told.message) == LONGEST_MESSAGE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def server(clock: ManualClock, registry: CollectorRegistry) -> Iterator[tuple[str, Pulse]]:
    pulse = Pulse(clock)
    running = health.serve("127.0.0.1", 0, pulse=pulse, registry=registry)
    yield f"http://127.0.0.1:{running.server_address[1]}", pulse
    running.shutdown()
    running.server_close()


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def test_it_is_ready_once_it_reached_the_api_server(server: tuple[str, Pulse]) -> None:
    url, pulse = server
    assert get(f"{url}/readyz").status_code == 503
    pulse.ready = True
    assert get(f"{url}/readyz").text == "ready\n"


def test_it_is_not_alive_when_nothing_moves(server: tuple[str, Pulse], clock: ManualClock) -> None:
    url, pulse = server
    assert get(f"{url}/healthz").status_code == 200
    clock.sleep(health.ALIVE_SECONDS)
    assert get(f"{url}/healthz").status_code == 503
    pulse.beat()
    assert get(f"{url}/healthz?verbose").status_code == 200


def test_it_has_metrics_and_no_other_page(
    server: tuple[str, Pulse], registry: CollectorRegistry
) -> None:
    url, _ = server
    OperatorMetrics(registry).ticks.labels("done").inc()
    assert 'davy_operator_ticks_total{outcome="done"} 1.0' in get(f"{url}/metrics").text
    assert get(f"{url}/").status_code == 404


def test_a_port_that_is_taken_is_named(server: tuple[str, Pulse], clock: ManualClock) -> None:
    port = int(server[0].rpartition(":")[2])
    with pytest.raises(ConflictError, match="DAVY_OPERATOR_PORT"):
        health.serve("127.0.0.1", port, pulse=Pulse(clock), registry=CollectorRegistry())


def test_an_empty_status_claims_nothing() -> None:
    assert not ModelRolloutStatus().claimed
