"""A canary beside a baseline: three real predictors, Traefik, Prometheus, `davy rollout run`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.predictor_server import free_port, predictor_server
from tests.fixtures.programs import prometheus, running, traefik
from tests.fixtures.tiny_package import write_tiny_package

from davy.rollout.adapters.traefik_file import Route, dynamic_configuration, read_route

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DAVY = Path(sys.executable).parent / "davy"
COLUMNS = {"kind": ("INT64", 3), "amount": ("FP32", 50.0), "visits": ("FP32", 1.0),
           "channel": ("INT64", 1)}  # fmt: skip
ASKED = {
    "inputs": [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for name, (kind, value) in COLUMNS.items()
    ]
}


def shop(url: str, ended: threading.Event, answered: Counter[str]) -> None:
    """Ask one after another until told to end; count which version answered, or the status."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        while not ended.wait(0.01):
            answer = client.post(f"{url}/v2/models/tiny/infer", json=ASKED)
            found = answer.json()["model_version"] if answer.status_code == 200 else "failed"
            answered[found] += 1


def spec(canary: str, prometheus_url: str) -> dict[str, Any]:
    return {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": "tiny"},
        "spec": {
            "candidate": {"version": canary},
            "steps": [{"weight": 20}, {"weight": 40}],
            "analysis": {
                "interval": "1s",
                "deadline": "5m",
                "baseline": True,
                "indicators": [{"name": "errors", "ratio": 2, "allowance": 0.05}],
                "vetoes": [],
                "prometheus": {"url": prometheus_url},
            },
        },
    }


def test_it_is_compared_with_the_copy_and_takes_over(tmp_path: Path) -> None:
    stable, canary = (
        write_tiny_package(tmp_path / name, weight=weight)
        for name, weight in (("stable", 0.01), ("canary", 0.02))
    )
    old, new = stable.contract.version, canary.contract.version
    copy, answered, ended = f"{old}+baseline", Counter[str](), threading.Event()
    with (
        predictor_server(stable.path, tmp_path / "one") as one,
        predictor_server(canary.path, tmp_path / "two") as two,
        predictor_server(stable.path, tmp_path / "three", {"arm": "baseline"}) as three,
    ):
        urls = {old: one.url, new: two.url, copy: three.url}
        web, dynamic = free_port(), tmp_path / "dynamic"
        router = traefik(tmp_path, dynamic, web=web, api=free_port())
        addresses = [url.removeprefix("http://") for url in urls.values()]
        watcher = prometheus(tmp_path, {"predictor": addresses}, interval="500ms")
        file = dynamic / "davy.yaml"
        route = Route("tiny", {old: [one.url]})
        file.write_text(yaml.safe_dump(dynamic_configuration(route, {old: 100})))
        written = tmp_path / "rollout.yaml"
        written.write_text(yaml.safe_dump(spec(new, watcher.url)), encoding="utf-8")
        command = [str(DAVY), "rollout", "run", str(written), "--state", str(tmp_path / "state")]
        command += ["--stable", old, "--traefik-file", str(file), "--traefik-api", router.url]
        for version, url in urls.items():
            command += ["--server", f"{version}={url}"]
        for package in (stable, canary):
            command += ["--package", f"{package.contract.version}={package.path}"]
        with running(router, watcher):
            place = f"http://127.0.0.1:{web}"
            shopper = threading.Thread(target=shop, args=(place, ended, answered))
            shopper.start()
            try:
                ran = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=240
                )
            finally:
                ended.set()
                shopper.join(timeout=30)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert set(answered) == {old, new}, "the copy answers as the version that it is"
    found = read_route(file)
    assert found is not None
    assert found[1] == {old: 0, new: 100, copy: 0}
    lines = [json.loads(line) for line in (tmp_path / "state" / "record.jsonl").open()]
    assert lines[0]["baseline"] == copy
    # The two that are compared have the same share: of the stable arm it were 3 and 0.5 times.
    for weight in (20, 40):
        at = [
            counts
            for line in lines[1:]
            if line["weights"]["asked"] == line["weights"]["read"] == weight
            for counts in line["intervals"]["counts"]
        ]
        reference, own = (sum(counts[arm]["n"] for counts in at) for arm in ("stable", "canary"))
        assert own > 20
        assert 0.6 < reference / own < 2.0
    replayed = subprocess.run(
        [str(DAVY), "rollout", "replay", str(tmp_path / "state")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert replayed.returncode == 0, replayed.stderr
