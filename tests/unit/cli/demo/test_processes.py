import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from davy.cli.demo.processes import ProcessDiedError, Supervisor, find_program
from davy.core.errors import MissingDependencyError, UnavailableError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def until_dead(pid: int) -> bool:
    end = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_all_children_end_with_the_block(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        pids = [supervisor.start(name, SLEEPER).popen.pid for name in ("a", "b")]
        assert all(is_alive(pid) for pid in pids)
    assert all(until_dead(pid) for pid in pids)


@pytest.mark.parametrize("own_session", [False, True])
def test_grandchildren_end_too(tmp_path: Path, own_session: bool):
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
        f"                         start_new_session={own_session})\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start("parent", [sys.executable, "-c", script])
        supervisor.wait_until("parent", lambda: child.tail() != "", what="no pid", seconds=10)
        grandchild = int(child.tail())
        assert is_alive(grandchild)
    assert until_dead(grandchild)


def test_children_end_when_the_demo_is_killed(tmp_path: Path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from davy.cli.demo.processes import Supervisor\n"
        f"child = Supervisor(Path({str(tmp_path)!r})).start('a', {SLEEPER!r})\n"
        "print(child.popen.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        child = int(demo.stdout.readline())
        # The kernel is told by setpriv, just before it becomes the program.
        end = time.monotonic() + 10
        while "setpriv" in Path(f"/proc/{child}/exe").readlink().name and time.monotonic() < end:
            time.sleep(0.01)
        assert is_alive(child)
        demo.kill()
    assert until_dead(child)


def test_a_program_that_dies_is_named_with_its_last_words(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(
            "router", [sys.executable, "-c", "raise SystemExit('no such entry point')"]
        )
        with pytest.raises(
            ProcessDiedError, match=r"router: ended with code 1.*\n.*no such entry point"
        ):
            supervisor.wait_ready("router", "http://127.0.0.1:9/", seconds=10)


def test_a_program_that_never_gets_ready_is_an_error_with_its_log(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("router", SLEEPER)
        with pytest.raises(UnavailableError, match=r"no answer at .*router\.log"):
            supervisor.wait_ready("router", "http://127.0.0.1:9/", seconds=0.5)


def test_a_missing_program_says_what_to_install():
    with pytest.raises(MissingDependencyError, match="Install Debian's package nothing"):
        find_program("no-such-program-here", package="Debian's package nothing")
