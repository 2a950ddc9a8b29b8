"""The load generator as a process, against a stand-in for the router."""

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from davy.cli.demo.processes import Supervisor
from davy.cli.demo.requests import PHASES


class StandInRouter(BaseHTTPRequestHandler):
    """Answers 500 as version two to every fifth request, 200 as version one to the others."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[Counter[str]] = Counter()
    ids: ClassVar[set[bytes]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.ids.add(body[7:27])
        bad = int(body[7:27]) % 5 == 0
        self.seen[body[-1:].decode()] += 1
        answer = b'{"error": "index out of range"}' if bad else b"{}"
        self.send_response(500 if bad else 200)
        self.send_header("davy-model-version", "two" if bad else "one")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def router():
    StandInRouter.seen = Counter()
    StandInRouter.ids = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandInRouter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_counts_every_request_and_answer_through_a_change_of_phase(router: str, tmp_path: Path):
    for phase in PHASES:
        body = b'{"id":"' + b"0" * 20 + b'"}' + phase[:1].encode()
        pq.write_table(
            pa.table({"body": pa.array([body], pa.binary()), "header_length": [29]}),
            tmp_path / f"{phase}.parquet",
        )
    out = tmp_path / "traffic.jsonl"
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start(
            "load",
            [
                sys.executable,
                "-m",
                "davy.cli.demo.load",
                f"--url={router}",
                f"--requests={tmp_path}",
                "--rate=50",
                f"--out={out}",
            ],
            control=True,
        )
        assert child.popen.stdin is not None
        supervisor.wait_until("load", out.exists, what="no traffic", seconds=30)
        time.sleep(1.2)
        child.popen.stdin.write(b'{"phase": "drift"}\n')
        child.popen.stdin.flush()
        time.sleep(1.2)
        child.popen.stdin.write(b'{"stop": true}\n')
        child.popen.stdin.flush()
        assert supervisor.finish("load", seconds=20) == 0, child.tail()
    last = json.loads(out.read_text().splitlines()[-1])
    answered, failed = last["answered"]["one"], last["errors"]["two|500|index out of range"]
    assert last["sent"] == answered + failed == sum(StandInRouter.seen.values())
    assert len(StandInRouter.ids) == last["sent"]
    assert failed == (last["sent"] + 4) // 5
    assert StandInRouter.seen["n"] > 0
    assert StandInRouter.seen["d"] > 0
