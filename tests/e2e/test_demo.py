"""The whole loop on a sample of households: real pipelines, BentoML, Traefik, Prometheus,
Alertmanager, as `make demo` runs them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fixtures.panels import empty_panels
from tests.fixtures.programs import prometheus, running
from tests.fixtures.signals import as_from_a_terminal

ROOT = Path(__file__).parents[2]
DAVY = Path(sys.executable).parent / "davy"
SAMPLE = {
    "DAVY_DEMO_HOUSEHOLDS": "500",
    "DAVY_DEMO_WINDOW_ROWS": "200",
    "DAVY_DEMO_PAYLOAD_SAMPLE_RATE": "0.1",
    "DAVY_DEMO_QUIET_WINDOWS": "2",
}

# What a demo need not show: it has no operator, nobody sends labels, nothing fails for good or is
# lost; while the stable arm has had no event, a ratio has no bound from above; and a budget is
# recorded so seldom that a demo may end before.
EMPTY_PANELS = {
    "davy-on-call: Error budget left",
    "davy-on-call: Operator that leads",
    "davy-model: Performance",
    "davy-rollout: Canary over stable, upper bound",
    "davy-rollout: Failed for good",
    "davy-drift: Events not used",
    "davy-drift: Answers that labels found wrong",
}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def start_demo(state: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [DAVY, "demo", "run"],
        cwd=ROOT,
        env={**os.environ, **SAMPLE, "DAVY_DEMO_STATE": str(state), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=as_from_a_terminal,  # noqa: PLW1509
    )


def processes_of(state: Path) -> list[str]:
    """Return the command lines of running programs that know the demo's folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if str(state).encode() in command:
                found.append((folder / "cmdline").read_text(errors="replace").replace("\0", " "))
    return found


def test_the_whole_loop_comes_out_as_claimed(tmp_path: Path):
    state = tmp_path / "demo"
    began = time.time()
    with start_demo(state) as demo:
        output, _ = demo.communicate()
    assert demo.returncode == 0, output
    claims = {claim["name"]: claim for claim in json.loads((state / "summary.json").read_text())}
    assert all(claim["holds"] for claim in claims.values()), output
    assert set(claims) == {
        "models",
        "compression",
        "canary of the better model",
        "canary of the defective model",
        "quiet period",
        "drift",
        "traffic",
        "replay",
    }
    assert "<svg" in (state / "report.html").read_text()
    assert not processes_of(state)
    for name in ("better", "defective"):
        record = state / "run" / "rollouts" / name / "record.jsonl"
        again = subprocess.run(
            [DAVY, "rollout", "replay", record], capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
    # What Prometheus saw is what the dashboards have to show.
    seen = prometheus(state / "run" / "prometheus", {}, interval="15s")
    with running(seen):
        assert set(empty_panels(seen.url, began, time.time())) <= EMPTY_PANELS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_it_ends_everything_that_it_started(tmp_path: Path, number: signal.Signals):
    state = tmp_path / "demo"
    with start_demo(state) as demo:
        steps = state / "run" / "pipelines" / "first" / "steps"
        end = time.monotonic() + 120
        while not steps.exists() and demo.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert len(processes_of(state)) > 1
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, output
    assert "everything that was started has been ended" in output
    assert not processes_of(state)


def test_two_demos_in_one_folder_are_refused(tmp_path: Path):
    state = tmp_path / "demo"
    with start_demo(state) as first:
        end = time.monotonic() + 60
        while not (state / "run").exists() and time.monotonic() < end:
            time.sleep(0.1)
        with start_demo(state) as second:
            output, _ = second.communicate(timeout=60)
        first.terminate()
        first.communicate(timeout=60)
    assert second.returncode == 73
    assert "another demo runs in this folder" in output
