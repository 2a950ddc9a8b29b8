"""The servers of the benchmark: how each is started and what it can be asked.

Belongs here: commands, settings. Not here: environments of their own, processes, measuring.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.environment import interpreter
from tests.benchmarks.page import ROOT
from tests.benchmarks.serving.processes import Process, start
from tests.benchmarks.serving.workload import MIX, NAME, Case, rows_message, v2_message
from tests.fixtures.predictor_server import free_port

DAVY, STARLETTE, ASGI = "Davy", "Starlette", "raw ASGI"
BENTO, KSERVE, MLSERVER, RAW = "BentoML", "KServe SDK", "MLServer", "onnxruntime"
BASELINE = STARLETTE
MLSERVER_PACKAGES = ("mlserver==1.7.1", "onnxruntime", "numpy<2")
V2_PATH = f"/v2/models/{NAME}/infer"
# One run must not measure what the one before left in the environment.
COMMON = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "BENTOML_DO_NOT_TRACK": "True"}


@dataclass(slots=True)
class Rival:
    """A running server."""

    name: str
    port: int
    process: Process
    grpc_port: int | None = None
    messages: dict[Case, tuple[bytes, ...]] = field(default_factory=dict)

    def ask(self, case: Case) -> tuple[bytes, ...]:
        """Return the messages of a case, none where the server has no such encoding."""
        if case not in self.messages:
            rows = MIX if case.rows == 0 else (case.rows,)
            # Neither has the binary extension over HTTP.
            if case.encoding == "binary" and self.name in (BENTO, MLSERVER):
                found: tuple[bytes, ...] = ()
            elif self.name != BENTO:
                found = tuple(v2_message(V2_PATH, count, case.encoding) for count in rows)
            else:
                found = tuple(rows_message("/infer", count) for count in rows)
            self.messages[case] = found
        return self.messages[case]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What every server is started with."""

    work: Path
    package: Path
    sink_port: int

    @property
    def model(self) -> str:
        """Return the path of the model's file."""
        return str(self.package / "model.onnx")

    def davy(self, workers: int = 1) -> Rival:
        """Start ours: metrics, validation, payload log of every tenth request."""
        port, grpc_port = free_port(), free_port()
        settings = {
            "model_dir": str(self.package),
            "threads": "1",
            "grpc_port": str(grpc_port),
            "grpc_host": "127.0.0.1",
            "payload_url": f"http://127.0.0.1:{self.sink_port}/events",
            "payload_sample_rate": "0.1",
            # 64 connections with 1,000 rows each are more than may wait by default.
            "queue_rows": "100000",
        }
        if workers > 1:
            settings["workers"] = str(workers)
        environment = {f"DAVY_PREDICTOR_{name.upper()}": value for name, value in settings.items()}
        command = _bento("davy.predictor.service:Predictor", port)
        process = self._start("davy", command, environment, port, "/v2/health/ready")
        return Rival(DAVY, port, process, grpc_port)

    def starlette(self, workers: int = 1) -> Rival:
        """Start uvicorn with Starlette."""
        return self._uvicorn(STARLETTE, "starlette_app", workers)

    def asgi(self) -> Rival:
        """Start uvicorn with a bare function."""
        return self._uvicorn(ASGI, "asgi_app", 1)

    def bento(self) -> Rival:
        """Start BentoML as it comes."""
        port = free_port()
        command = _bento("tests.benchmarks.serving.rivals.bento_service:Stock", port)
        process = self._start("bento", command, {}, port, "/readyz")
        return Rival(BENTO, port, process)

    def kserve(self) -> Rival:
        """Start KServe's SDK."""
        port, grpc_port = free_port(), free_port()
        environment = {"BENCH_PORT": str(port), "BENCH_GRPC_PORT": str(grpc_port)}
        command = [sys.executable, "-m", "tests.benchmarks.serving.rivals.kserve_server"]
        process = self._start("kserve", command, environment, port, f"/v2/models/{NAME}/ready")
        return Rival(KSERVE, port, process, grpc_port)

    def mlserver(self) -> Rival:
        """Start MLServer; it does not resolve beside the rest, so it has its own environment."""
        python = interpreter("mlserver-1.7.1", MLSERVER_PACKAGES)
        port, grpc_port = free_port(), free_port()
        folder = self.work / "mlserver-models"
        folder.mkdir(exist_ok=True)
        settings = {
            "http_port": port,
            "grpc_port": grpc_port,
            "metrics_port": free_port(),
            "host": "127.0.0.1",
            # In the server's own process: a worker of its own would cost a copy of each request.
            "parallel_workers": 0,
        }
        model = {
            "name": NAME,
            "implementation": "tests.benchmarks.serving.rivals.mlserver_runtime.Net",
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        command = [str(python.with_name("mlserver")), "start", str(folder)]
        environment = {"PYTHONPATH": str(ROOT)}
        process = self._start("mlserver", command, environment, port, f"/v2/models/{NAME}/ready")
        return Rival(MLSERVER, port, process, grpc_port)

    def _uvicorn(self, name: str, module: str, workers: int) -> Rival:
        port = free_port()
        command = [
            *(sys.executable, "-m", "uvicorn", f"tests.benchmarks.serving.rivals.{module}:app"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
            *("--log-level", "warning", "--timeout-keep-alive", "120"),
        ]
        process = self._start(module, command, {}, port, "/v2/health/ready")
        return Rival(name, port, process)

    def _start(
        self, folder: str, command: list[str], more: Mapping[str, str], port: int, probe: str
    ) -> Process:
        path = self.work / f"{folder}-{port}"
        environment = {
            **COMMON,
            "BENCH_MODEL": self.model,
            "BENTOML_HOME": str(path / "bentoml"),
            **more,
        }
        return start(command, environment, path, f"http://127.0.0.1:{port}{probe}")


def _bento(service: str, port: int) -> list[str]:
    return [
        str(Path(sys.executable).with_name("bentoml")),
        *("serve", service, "--host=127.0.0.1", f"--port={port}", "--timeout-keep-alive=120"),
    ]
