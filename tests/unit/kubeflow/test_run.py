from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import ConfigurationError, DavyError, InvalidInputError
from davy.data.task import load_task, task_text
from davy.kubeflow import run as runs
from davy.kubeflow.failure import record
from davy.kubeflow.run import Follower, cache_name, failure, run_local

TASK = Path(__file__).parents[3] / "pipelines/tasks/next_basket.yaml"

LOG = """\
10:00:00.123 - INFO - Running pipeline: \x1b[95m'davy-train'\x1b[0m
--------------------------------------------------------------------------------
10:00:00.200 - INFO - Executing task \x1b[96m'prepare-data'\x1b[0m
10:00:00.300 - INFO - Streamed logs:

    reading
10:00:03.000 - INFO - Task \x1b[96m'prepare-data'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
10:00:03.100 - INFO - Task build-features cache hit (key=0123456789ab); skipping execution.
10:00:03.200 - INFO - Executing task \x1b[96m'train-model'\x1b[0m
10:00:03.300 - INFO - Streamed logs:

    Traceback (most recent call last):
      File "x.py", line 1, in <module>
    ValueError: no loss
    [KFP Executor] ended
10:00:04.000 - ERROR - Task \x1b[96m'train-model'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
Traceback (most recent call last):
RuntimeError: Pipeline finished with status FAILURE
"""


def followed(log: str) -> tuple[Follower, list[tuple[str, str]]]:
    seen: list[tuple[str, str]] = []
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    follower = Follower(lambda step, status: seen.append((step, status)), clock)
    for line in log.splitlines(keepends=True):
        follower.line(line)
        clock.sleep(0.5)
    return follower, seen


def test_each_step_is_told_once() -> None:
    _, seen = followed(LOG)
    assert seen == [
        ("prepare-data", "started"),
        ("prepare-data", "done in 2.0 s"),
        ("build-features", "cached"),
        ("train-model", "started"),
        ("train-model", "failed after 3.5 s"),
    ]


def test_the_step_s_own_words_are_the_failure(tmp_path: Path) -> None:
    follower, _ = followed(LOG)
    error = failure(follower, tmp_path, tmp_path / "pipeline.log")
    assert type(error) is DavyError
    assert str(error).startswith("step train-model: ValueError: no loss. The whole output is in ")
    assert str(tmp_path / "pipeline.log") in str(error)


def test_an_error_of_davy_s_keeps_its_class(tmp_path: Path) -> None:
    for number, words in enumerate(["of an older run", "below the floor"]):
        folder = tmp_path / f"davy-train-2026-01-0{number + 1}" / "train-model"
        record(InvalidInputError(words, where="evaluation.json", fix="Train longer"), folder)
    follower, _ = followed(LOG)
    error = failure(follower, tmp_path, tmp_path / "pipeline.log")
    assert type(error) is InvalidInputError
    assert error.exit_code == 65
    assert str(error).startswith(
        "step train-model: evaluation.json: below the floor. Train longer. The whole output"
    )


def test_a_run_that_never_starts_says_why(tmp_path: Path) -> None:
    follower, seen = followed("Traceback\n  File x\nModuleNotFoundError: No module named 'kfp'\n")
    error = failure(follower, tmp_path, tmp_path / "log")
    assert str(error).startswith("step start: ModuleNotFoundError: No module named 'kfp'")
    assert seen == []
    silent, _ = followed("")
    assert "it ended without a word" in str(failure(silent, tmp_path, tmp_path / "log"))


def test_leaving_early_ends_the_whole_run(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(marker)!r}).write_text(str(p.pid))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    with (
        pytest.raises(KeyboardInterrupt),
        runs.process([sys.executable, "-c", script], dict(os.environ)) as started,
    ):
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        raise KeyboardInterrupt
    assert started.returncode == -signal.SIGKILL
    assert _is_gone(int(marker.read_text()))


def _is_gone(pid: int) -> bool:
    for _ in range(100):
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


def test_a_step_that_is_unchanged_is_taken_from_the_cache(tmp_path: Path) -> None:
    task = load_task(TASK)
    unknown = task.features[1].model_copy(update={"name": "spend_on_mars"})
    task = task.model_copy(update={"features": (unknown,)})
    seen: list[tuple[str, str]] = []
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"^step build-features: .*spend_on_mars"):
            run_local(
                task_text(task),
                store=tmp_path / "store",
                work=tmp_path / "work",
                households=5,
                cache=True,
                on_step=lambda step, status: seen.append((step, status.partition(" ")[0])),
            )
    assert [item for item in seen if item[1] != "started"] == [
        ("prepare-data", "done"),
        ("build-features", "failed"),
        ("prepare-data", "cached"),
        ("build-features", "failed"),
    ]


def test_the_cache_knows_the_data_and_the_key(tmp_path: Path) -> None:
    packaged = load_task(TASK)
    name = cache_name(packaged, b"a")
    assert cache_name(packaged, b"a") == name
    assert cache_name(packaged, b"b") != name
    table = tmp_path / "transactions.parquet"
    table.write_bytes(b"1")
    task = load_task(TASK, [f"data.source=file://{tmp_path}"])
    before = cache_name(task, b"a")
    assert cache_name(task, b"a") == before
    table.write_bytes(b"12")
    assert cache_name(task, b"a") != before


def environment_with_a_space(folder: Path) -> str:
    """Return the interpreter of this environment under a path that has a space."""
    home = folder / "my environment"
    (home / "bin").mkdir(parents=True)
    (home / "pyvenv.cfg").symlink_to(Path(sys.prefix) / "pyvenv.cfg")
    (home / "lib").symlink_to(Path(sys.prefix) / "lib")
    python = home / "bin" / "python3"
    python.symlink_to(Path(sys.executable).resolve())
    return str(python)


def test_a_real_run_that_fails_leaves_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", environment_with_a_space(tmp_path))
    task = load_task(TASK, [f"data.source=file://{tmp_path / 'nowhere'}"])
    seen: list[tuple[str, str]] = []
    with pytest.raises(DavyError) as caught:
        run_local(
            task_text(task),
            store=tmp_path / "store",
            work=tmp_path / "work",
            households=5,
            on_step=lambda step, status: seen.append((step, status.partition(" ")[0])),
        )
    assert type(caught.value) is not DavyError
    assert str(caught.value).startswith("step prepare-data: ")
    assert "nowhere" in str(caught.value)
    assert seen == [("prepare-data", "started"), ("prepare-data", "failed")]
    assert list((tmp_path / "store").iterdir()) == []
    log = (tmp_path / "work" / "pipeline.log").read_text()
    assert "Traceback" in log
    assert "\x1b" not in log
    assert list((tmp_path / "work").glob(".run-*")) == []


@pytest.mark.parametrize("name", ["store", "work"])
def test_a_folder_that_cannot_be_is_refused_before_anything_is_done(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    folders = {"store": tmp_path / "store", "work": tmp_path / "work", name: tmp_path / "file"}
    with pytest.raises(ConfigurationError, match="file: cannot be made a folder"):
        run_local(task_text(load_task(TASK)), **folders)
