"""The Traefik adapter against a real Traefik: weights honoured, no request lost, health seen."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import Result
from tests.fixtures.predictor_server import free_port
from tests.fixtures.programs import running, traefik
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.cli.rollout_override import Places, remember
from davy.core.clock import SystemClock
from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    UnavailableError,
)
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.traefik_file import (
    Route,
    TraefikFile,
    dynamic_configuration,
    read_route,
)
from davy.rollout.back import begin
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.series import Arms

ARMS = Arms(stable="2017.11.01-aaaaaaaa", canary="2017.12.01-bbbbbbbb")


@dataclass
class StandInPredictor:
    """Answers with its version; `ready` is its health."""

    version: str
    ready: bool = True
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        predictor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                healthy = predictor.ready or not self.path.endswith("/ready")
                body = predictor.version.encode()
                self.send_response(200 if healthy else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@dataclass
class Place:
    """A running Traefik with its two predictors."""

    file: Path
    web: str
    api: str
    stable: StandInPredictor
    canary: StandInPredictor

    def adapter(self, *, patience: float = 15.0) -> TraefikFile:
        servers = {ARMS.stable: [self.stable.url], ARMS.canary: [self.canary.url]}
        route = Route("next-basket", servers, health_interval=0.3)
        return TraefikFile(self.file, self.api, route, clock=SystemClock(), patience=patience)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    # Before the ports are chosen: else a stand-in may be given one that Traefik has yet to take.
    stable, canary = StandInPredictor(ARMS.stable), StandInPredictor(ARMS.canary)
    dynamic, web = tmp_path / "dynamic", free_port()
    program = traefik(tmp_path, dynamic, web=web, api=free_port())
    try:
        with running(program):
            yield Place(
                dynamic / "davy.yaml", f"http://127.0.0.1:{web}", program.url, stable, canary
            )
    finally:
        for predictor in (stable, canary):
            predictor.server.shutdown()
            predictor.server.server_close()


def test_no_request_fails_while_weights_change_and_shares_are_exact(place: Place) -> None:
    adapter = place.adapter()
    assert adapter.read_weight(ARMS) is None
    adapter.set_weight(ARMS, 0)
    assert adapter.read_weight(ARMS) == 0
    answers: Counter[str] = Counter()
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=place.web, trust_env=False, timeout=5) as client:
            while not stop.is_set():
                try:
                    answer = client.get("/v2/models/m/infer")
                    answers[answer.text if answer.status_code == 200 else "failed"] += 1
                except httpx.HTTPError as error:
                    answers[f"failed: {type(error).__name__}"] += 1
                time.sleep(0.01)

    workers = [threading.Thread(target=load) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for percent in (5, 25, 50, 100, 0, 100):
            adapter.set_weight(ARMS, percent)
            assert adapter.read_weight(ARMS) == percent
            time.sleep(0.3)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    failed = {name: count for name, count in answers.items() if name.startswith("failed")}
    assert failed == {}
    assert answers[ARMS.stable] > 20
    assert answers[ARMS.canary] > 20
    adapter.set_weight(ARMS, 25)
    with httpx.Client(base_url=place.web, trust_env=False) as client:
        shares = Counter(client.get("/").text for _ in range(40))
    assert shares == {ARMS.stable: 30, ARMS.canary: 10}
    adapter.close()


def test_an_arm_that_is_not_ready_is_seen_and_gets_no_traffic(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 50)
    until = time.monotonic() + 15
    while adapter.not_ready(ARMS) and time.monotonic() < until:
        time.sleep(0.1)
    assert adapter.not_ready(ARMS) == ()
    place.canary.ready = False
    until = time.monotonic() + 15
    while not adapter.not_ready(ARMS) and time.monotonic() < until:
        time.sleep(0.1)
    assert adapter.not_ready(ARMS) == (ARMS.canary,)
    with httpx.Client(base_url=place.web, trust_env=False) as client:
        assert {client.get("/").text for _ in range(10)} == {ARMS.stable}
    adapter.close()


def test_another_pair_of_versions_is_not_mistaken_for_ours(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 50)
    assert adapter.read_weight(Arms("2017.10.01-cccccccc", ARMS.stable)) is None
    adapter.close()


def test_a_baseline_has_the_canarys_share_and_none_once_the_canary_has_all(place: Place) -> None:
    arms = replace(ARMS, baseline=f"{ARMS.stable}+baseline")
    third, adapter = StandInPredictor(arms.baseline), place.adapter()
    adapter.route = replace(
        adapter.route, servers={**adapter.route.servers, arms.baseline: [third.url]}
    )
    try:
        with httpx.Client(base_url=place.web, trust_env=False) as client:
            for percent, shares in ((10, (80, 10, 10)), (40, (20, 40, 40)), (100, (0, 100, 0))):
                adapter.set_weight(arms, percent)
                assert adapter.read_weight(arms) == percent
                answers = Counter(client.get("/").text for _ in range(100))
                assert tuple(answers[version] for version in arms.versions) == shares
        until = time.monotonic() + 15
        while adapter.not_ready(arms) and time.monotonic() < until:
            time.sleep(0.1)
        assert adapter.not_ready(arms) == ()
        # The file of three arms is read back whole by who sends traffic back without a rollout.
        found = read_route(place.file)
        assert found is not None
        assert found[1] == {arms.stable: 0, arms.canary: 100, arms.baseline: 0}
        # Two arms only: what a split between three says is none of theirs.
        adapter.set_weight(arms, 10)
        assert adapter.read_weight(ARMS) is None
        adapter.set_weight(ARMS, 10)
        assert (adapter.read_weight(ARMS), adapter.read_weight(arms)) == (10, None)
    finally:
        adapter.close()
        third.server.shutdown()
        third.server.server_close()


def test_asking_for_what_is_there_does_not_write_again(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 5)
    before = place.file.stat()
    adapter.set_weight(ARMS, 5)
    assert place.file.stat().st_ino == before.st_ino
    adapter.close()


def test_a_weight_that_is_not_honoured_is_told_by_reading_it(place: Place) -> None:
    adapter = place.adapter(patience=0.5)
    adapter.set_weight(ARMS, 5)
    adapter.path = place.file.parent.parent / "not-watched.yaml"
    adapter.set_weight(ARMS, 50)
    assert adapter.read_weight(ARMS) == 5
    adapter.close()


def serve_only(place: Place, predictor: StandInPredictor) -> None:
    """Let Traefik lead to one version alone, as after a promotion."""
    route = Route("next-basket", {predictor.version: [predictor.url]}, health_interval=0.3)
    document = dynamic_configuration(route, {predictor.version: 100})
    place.file.write_text(yaml.safe_dump(document))
    wait_for_answer(place, predictor.version)


def wait_for_answer(place: Place, version: str) -> None:
    until = time.monotonic() + 15
    with httpx.Client(base_url=place.web, trust_env=False, timeout=5) as client:
        while time.monotonic() < until:
            answer = client.get("/")
            if answer.status_code == 200 and answer.text == version:
                return
            time.sleep(0.1)
    raise AssertionError(f"{version} never answered")


def go_back(place: Place, good: StandInPredictor, *more: str) -> Result:
    arguments = [
        "rollback", str(place.file.parents[1] / "back"), "--to", good.version,
        "--server", f"{good.version}={good.url}", "--by", "on call",
        "--because", "errors since noon",
        "--traefik-file", str(place.file), "--traefik-api", place.api, *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("bad_is", ["up", "not ready", "gone"])
def test_a_person_goes_back_whether_the_bad_version_is_up_or_down(
    place: Place, bad_is: str
) -> None:
    bad, good = place.canary, place.stable
    serve_only(place, bad)
    bad.ready = bad_is == "up"
    if bad_is == "gone":
        bad.server.shutdown()
        bad.server.server_close()
    result = go_back(place, good, "--no-verify")
    assert result.exit_code == 0, result.exception
    assert f"all traffic goes to {good.version}" in result.stdout
    with httpx.Client(base_url=place.web, trust_env=False, timeout=5) as client:
        answers = Counter(client.get("/").text for _ in range(20))
    assert answers == {good.version: 20}
    record = read_record(place.file.parents[1] / "back" / "record.jsonl")
    assert record.looks[0].actor == "on call"
    without = "(without the evidence: veto signature: not verified: --no-verify was said)"
    assert record.looks[0].decision.message == f"errors since noon {without}"
    assert record.looks[-1].decision.phase == "Promoted"
    assert replay(record).difference is None
    # The router's name, rule and entry points are those that were there.
    kept = read_route(place.file)
    assert kept is not None
    assert kept[0].name == "next-basket"
    assert kept[1] == {bad.version: 0, good.version: 100}


def test_the_folder_of_a_rollout_that_ended_knows_its_router(place: Place) -> None:
    canary, stable = place.canary, place.stable
    folder = place.file.parents[1] / "state"
    arms = Arms(stable=stable.version, canary=canary.version)
    with FolderJournal(folder) as journal:
        begin(journal, name="next-basket", arms=arms, clock=SystemClock(), objective=0.1)
    serve_only(place, canary)
    remember(folder, Places(traefik_file=place.file, traefik_api=place.api, packages={}))
    result = CliRunner().invoke(app, ["rollback", str(folder), "--because", "x", "--server",
                                      f"{stable.version}={stable.url}"])  # fmt: skip
    assert result.exit_code == 0, result.exception
    assert f"all traffic goes to {stable.version}" in result.stdout
    line = read_record(folder / "record.jsonl").looks[0]
    assert (line.decision.action, line.decision.message) == ("rollback", "x")
    # It served before: nobody has to find its package and key at night, and the record says so.
    assert [veto.message for veto in line.vetoes] == ["not verified: it served before this rollout"]
    other = CliRunner().invoke(app, ["promote", str(folder), "--because", "x"]).exception
    assert isinstance(other, ConfigurationError)
    assert "cannot be verified" in str(other)


def test_a_version_that_is_not_ready_or_not_verified_gets_nothing(place: Place) -> None:
    bad, good = place.canary, place.stable
    serve_only(place, bad)
    before = place.file.read_text()
    unverified = go_back(place, good).exception
    assert isinstance(unverified, ConfigurationError)
    assert "--no-verify" in str(unverified)
    good.ready = False
    result = go_back(place, good, "--no-verify").exception
    assert isinstance(result, UnavailableError)
    assert "Nothing was changed" in str(result)
    assert place.file.read_text() == before
    assert not (place.file.parents[1] / "back" / "record.jsonl").exists()


def test_a_rollout_that_still_runs_is_named_before_anything_is_overridden(place: Place) -> None:
    serve_only(place, place.canary)
    with FolderJournal(place.file.parents[1] / "back"):
        result = go_back(place, place.stable, "--no-verify").exception
    assert isinstance(result, ConflictError)
    assert "Say it again" in str(result)


def test_a_route_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "davy.yaml"
    servers = {"v1": ["http://127.0.0.1:1"], "v2": ["http://127.0.0.1:2", "http://127.0.0.1:3"]}
    for health in ("/v2/health/ready", None):
        route = Route("a-b", servers, rule="Host(`x`)", entry_points=("in",), health_path=health)
        path.write_text(yaml.safe_dump(dynamic_configuration(route, {"v1": 95, "v2": 5})))
        assert read_route(path) == (route, {"v1": 95, "v2": 5})
    for text in ("", "[]", "http: {routers: {}}", "http: {routers: {a: {}, b: {}}}", "{"):
        path.write_text(text)
        assert read_route(path) is None
    assert read_route(tmp_path / "none.yaml") is None


def test_bad_requests_are_refused(place: Place) -> None:
    adapter = place.adapter()
    with pytest.raises(InvalidInputError, match="0 to 100"):
        adapter.set_weight(ARMS, 101)
    with pytest.raises(ConfigurationError, match="no server of version 'v9'"):
        adapter.set_weight(Arms(ARMS.stable, "v9"), 5)
    with pytest.raises(ConfigurationError, match="no server of version") as caught:
        adapter.set_weight(replace(ARMS, baseline=f"{ARMS.stable}+baseline"), 5)
    assert "started with DAVY_PREDICTOR_ARM=baseline" in str(caught.value.fix)
    assert not place.file.exists()
    adapter.close()


def test_an_api_that_does_not_answer_is_temporary(tmp_path: Path) -> None:
    api = f"http://127.0.0.1:{free_port()}"
    adapter = TraefikFile(tmp_path / "d.yaml", api, Route("r", {}), clock=SystemClock())
    with pytest.raises(UnavailableError, match="Traefik's API does not answer"):
        adapter.read_weight(ARMS)
    adapter.close()
