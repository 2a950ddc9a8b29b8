import os
import subprocess
import sys
from pathlib import Path

import pytest

from davy.core.errors import ConfigurationError
from davy.predictor.multiprocess import VARIABLE, separate

PROGRAM = """
import os, subprocess, sys
from davy.predictor.multiprocess import VARIABLE, separate
folder = separate(os.environ)
assert folder.is_dir() and VARIABLE not in os.environ
print(folder)
worker = "import os; from davy.predictor.multiprocess import separate; print(separate(os.environ))"
environment = {**os.environ, VARIABLE: "/a/shared/folder"}
subprocess.run([sys.executable, "-c", worker], env=environment, check=True)
"""


def run(tmp_path: Path) -> list[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(VARIABLE, None)
    done = subprocess.run(
        [sys.executable, "-u", "-c", PROGRAM],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_a_worker_uses_the_folder_of_its_own_supervisor(tmp_path: Path) -> None:
    supervisor, worker = run(tmp_path)
    assert supervisor == worker
    another, _ = run(tmp_path)
    assert another != supervisor
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"davy-predictor-{os.getuid()}-{os.getppid()}").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="another user"):
        separate({VARIABLE: "/a/shared/folder"})
