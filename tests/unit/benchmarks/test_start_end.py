"""How the start-up benchmark ends a server: what counts as lost, and that nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.benchmarks import bench_start
from tests.benchmarks.bench_start import Server
from tests.benchmarks.serving.processes import kill
from tests.fixtures.predictor_server import free_port

# Answers 200 and 503 in turn, and half a second after SIGTERM it ends.
DRAINS = """
import http.server, itertools, signal, sys, threading
turn = itertools.cycle((200, 503))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(next(turn))
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(0.5, server.shutdown).start())
print("ready", flush=True)
server.serve_forever()
server.server_close()
"""
# A supervisor: the child that ends is started anew.
SUPERVISES = """
import subprocess, sys
while True:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("ready", flush=True)
    child.wait()
"""
# A runtime: it ends with its child.
RUNS = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
child.wait()
print("forgotten", flush=True)
"""


def begun(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=5)[1]


def test_what_is_not_answered_200_while_it_drains_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_start, "DRAIN_SECONDS", 0.4)
    port = free_port()
    with begun(DRAINS, str(port)) as process:
        server = Server(f"http://127.0.0.1:{port}", process, tmp_path / "log")
        answered, lost, seconds = bench_start._end(server, psutil.Process(process.pid))
    assert answered > 1
    assert abs(answered - lost) <= 1
    assert 0.3 < seconds < 10


def test_a_runtime_that_ends_with_its_container_may_still_clean_up() -> None:
    with begun(RUNS) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        kill(process, patience=10)
        assert process.stdout is not None
        assert process.stdout.read() == b"forgotten\n"
    assert len(below) == 1
    assert alive(below) == []


def test_a_supervisor_is_killed_with_the_children_that_it_starts_anew() -> None:
    with begun(SUPERVISES) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        kill(process, patience=0.5)
        marked = time.time()
        assert process.stdout is not None
        # The pipe ends when nobody holds it any more: neither it nor a child of it.
        assert set(process.stdout.read().split()) <= {b"ready"}
        assert time.time() - marked < 20
    assert alive(below) == []
    assert process.returncode != 0
