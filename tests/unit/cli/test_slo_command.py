from pathlib import Path

import pytest
import yaml
from tests.fixtures.tiny_package import write_tiny_package
from typer.testing import CliRunner

from davy.cli.slo import app
from davy.core.errors import InvalidInputError


def write(path: Path, seconds: float) -> Path:
    objective = {"name": "fast", "kind": "latency", "seconds": seconds, "target": 0.99}
    path.write_text(yaml.safe_dump({"model": "m_1", "team": "t", "objectives": [objective]}))
    return path


def test_rules_go_to_the_terminal_or_to_a_file(tmp_path: Path) -> None:
    slo, out = write(tmp_path / "slo.yaml", 0.25), tmp_path / "rules.yaml"
    shown = CliRunner().invoke(app, ["generate", str(slo)])
    written = CliRunner().invoke(app, ["generate", str(slo), "--out", str(out)])
    assert (shown.exit_code, written.exit_code) == (0, 0)
    assert written.stdout.strip() == str(out)
    assert shown.stdout == out.read_text()


def test_a_prometheus_operator_gets_its_resource(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["generate", str(write(tmp_path / "s.yaml", 0.25)), "--operator"]
    )
    resource = yaml.safe_load(result.stdout)
    assert (resource["kind"], resource["metadata"]["name"]) == ("PrometheusRule", "davy-slo-m-1")


def test_a_latency_that_nothing_counts_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", str(write(tmp_path / "s.yaml", 0.3))])
    assert isinstance(result.exception, InvalidInputError)
    assert "objective fast" in str(result.exception)
    assert "0.3 s is no bound" in str(result.exception)


@pytest.mark.parametrize(("seconds", "taken"), [(0.3, True), (0.31, False)])
def test_the_objective_of_a_package_is_a_bound(tmp_path: Path, seconds: float, taken: bool) -> None:
    package = write_tiny_package(tmp_path, rollout={"latency_objective_seconds": 0.3}).path
    slo = write(tmp_path / "slo.yaml", seconds)
    result = CliRunner().invoke(app, ["generate", str(slo), "--package", str(package)])
    assert (result.exit_code == 0) == taken
