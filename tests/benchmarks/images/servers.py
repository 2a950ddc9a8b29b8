"""What operator, detector, predictor and pipeline do in their images.

Belongs here: starting each, asking it, ending it. Not here: what holds for every image (`pod`), the
table (`row`).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import yaml
from tests.benchmarks.bench_start import LINKS, ask
from tests.benchmarks.images.pod import Mount, Pod, fail, owned_by_nobody
from tests.benchmarks.images.row import Row
from tests.benchmarks.page import ROOT
from tests.fixtures.predictor_server import free_port
from tests.fixtures.tiny_package import write_tiny_package
from tests.fixtures.watched_package import exchange, write_watched_package

from davy.core.errors import ConfigurationError
from davy.protocol.events import BATCH_CONTENT_TYPE, encode_batch

# Long beside the time that one request takes on a busy machine.
DRAIN_SECONDS = 6.0
CLIENTS = 4
# A way to an API server that does not answer.
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nowhere",
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
}


TASK = ROOT / "pipelines/tasks/next_basket.yaml"
# All steps, on little: every library of theirs is loaded.
LITTLE = (
    "model.epochs=1",
    "model.train_baskets=200",
    "objective.floor=0",
    "compression.candidates=[fp32, int8, pruned]",
    "compression.budget=1",
    "monitoring.window_rows=50",
)


def operator(pod: Pod, row: Row) -> Row:
    """Run it without a cluster, and with one that does not answer."""
    code, text = pod.run()
    if code != ConfigurationError.exit_code or "no way to the API server" not in text:
        fail(f"without a cluster it ended with {code}", pod.log)
    port = free_port()
    config = pod.work / "kubeconfig"
    config.write_text(yaml.safe_dump(KUBECONFIG))
    variables = {
        "DAVY_OPERATOR_HOST": "127.0.0.1",
        "DAVY_OPERATOR_PORT": str(port),
        "KUBECONFIG": "/kubeconfig",
    }
    with pod.server(variables=variables, mounts={"/kubeconfig": Mount(config)}) as running:
        url = f"http://127.0.0.1:{port}"
        ready = running.wait(lambda: _status(f"{url}/healthz") == 200, "healthy")
        if _status(f"{url}/readyz") != 503:
            fail("it is ready without an API server", pod.log)
        memory = running.memory()
        return row.measured(ready=ready, memory=memory, end=running.end())


def detector(pod: Pod, row: Row) -> Row:
    """Run it with a package, and send it the events of two hundred requests."""
    package = write_watched_package(pod.work / "packages")
    port = free_port()
    variables = {
        "DAVY_DETECTOR_HOST": "127.0.0.1",
        "DAVY_DETECTOR_PORT": str(port),
        "DAVY_DETECTOR_STORE": "/mnt/store",
    }
    mounts = {"/mnt/store": Mount(pod.work / "packages" / "store")}
    with pod.server(variables=variables, mounts=mounts) as running:
        url = f"http://127.0.0.1:{port}"
        ready = running.wait(lambda: _status(f"{url}/health/ready") == 200, "ready")
        rng = np.random.default_rng(11)
        version = package.contract.version
        events = [event for n in range(200) for event in exchange(rng, n, version, broken=False)]
        answer = httpx.post(
            url,
            content=encode_batch(events),
            headers={"content-type": BATCH_CONTENT_TYPE},
            timeout=30,
        )
        if answer.status_code != 202:
            fail(f"events were answered {answer.status_code}: {answer.text}", pod.log)

        def judged() -> bool:
            versions = httpx.get(f"{url}/windows", timeout=30).json()["versions"]
            return bool(versions) and bool(versions[0]["windows"])

        running.wait(judged, "through with a window of events")
        memory = running.memory()
        return row.measured(ready=ready, memory=memory, end=running.end())


def predictor(pod: Pod, row: Row) -> Row:
    """Run it with a package where KServe puts one; several clients ask it while it drains."""
    package = write_tiny_package(pod.work / "packages").path
    hosts = pod.work / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    port = free_port()
    variables = {"PORT": str(port), "DAVY_PREDICTOR_DRAIN_SECONDS": str(DRAIN_SECONDS), **LINKS}
    with pod.server(
        ["--host", "127.0.0.1"],
        variables=variables,
        mounts={"/mnt/models": Mount(package), "/etc/hosts": Mount(hosts)},
    ) as running:
        url = f"http://127.0.0.1:{port}"
        ready = running.wait(lambda: _status(f"{url}/v2/health/ready") == 200, "ready")
        with httpx.Client(base_url=url, timeout=30) as client:
            ask(client)
        memory = running.memory()
        until = threading.Event()

        def wait() -> None:
            # Until well before the time that it drains has passed.
            time.sleep(DRAIN_SECONDS / 2)
            until.set()

        with ThreadPoolExecutor(CLIENTS) as clients:
            asking = [clients.submit(_statuses, f"{url}/v2", until) for _ in range(CLIENTS)]
            try:
                time.sleep(0.5)
                end = running.end(wait)
            finally:
                until.set()
            found = Counter(status for item in asking for status in item.result())
        if set(found) != {200}:
            fail(f"requests were answered {dict(found)}, 0 being none", pod.log)
        sys.stdout.write(
            f"{found.total()} requests answered from 0.5 s before SIGTERM to 3 s after\n"
        )
        return row.measured(ready=ready, memory=memory, end=end)


def _statuses(url: str, until: threading.Event) -> list[int]:
    """Ask, each time on a new connection."""
    found = []
    while not until.is_set():
        found.append(_status(url))
    return found


def pipeline(pod: Pod, row: Row) -> Row:
    """Run the first step of a compiled pipeline by Kubeflow's own command, and then all steps."""
    compiled = yaml.safe_load((ROOT / "pipelines/compiled/next_basket.yaml").read_text())
    container = compiled["deploymentSpec"]["executors"]["exec-prepare-data"]["container"]
    defaults = compiled["root"]["inputDefinitions"]["parameters"]
    out = owned_by_nobody(pod.work / "out")
    artifact = {
        "name": "data",
        "type": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
        "uri": "/out/data",
    }
    told = {
        "inputs": {
            "parameterValues": {
                "task_text": defaults["task_text"]["defaultValue"],
                "households": 20,
            }
        },
        "outputs": {
            "artifacts": {"data": {"artifacts": [artifact]}},
            "outputFile": "/out/executor_output.json",
        },
    }
    arguments = [item.replace("{{$}}", json.dumps(told)) for item in container["args"]]
    begun = time.monotonic()
    code, _ = pod.run(
        entrypoint=container["command"],
        arguments=arguments,
        mounts={"/out": Mount(out, writable=True)},
    )
    seconds = time.monotonic() - begun
    if code != 0 or not any(out.rglob("*.parquet")):
        fail(f"the step ended with {code} and wrote {_files(out)}", pod.log)
    task = ["/task.yaml", *(part for item in LITTLE for part in ("--set", item))]
    folders = ["--store", "/out/store", "--work", "/out/work", "--households", "40"]
    code, _ = pod.run(
        arguments=["davy", "pipeline", "run", *task, *folders],
        mounts={"/out": Mount(out, writable=True), "/task.yaml": Mount(TASK)},
    )
    if code != 0 or not any(out.glob("store/next_basket/*/model.onnx")):
        fail(f"the pipeline ended with {code} and wrote {_files(out)}", pod.log)
    return row.measured(ready=seconds, memory=None, end=None)


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def _files(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.rglob("*") if p.is_file())) or "nothing"
