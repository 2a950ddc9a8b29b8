"""The programs that start in an image, and the script that builds one; nothing is built here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from davy.packaging.recipe import checkout_files


def stand_in(folder: Path, name: str, script: str) -> Path:
    """Write a program that stands in for another."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def entered(tmp_path: Path, image: str, *arguments: str, **variables: str) -> str:
    """Return what an image's program runs, as told by stand-ins."""
    told = "BENTOML_PORT DAVY_OPERATOR_HOST DAVY_DETECTOR_HOST DAVY_DETECTOR_ENGINE"
    script = f"""for name in {told}; do
  eval "value=\\${{$name:-}}"
  if [ -n "$value" ]; then printf '%s ' "$value"; fi
done
echo "stand-in for $(basename $0) $*" """
    for name in ("bentoml", "davy"):
        stand_in(tmp_path, name, script)
    done = subprocess.run(
        [str(checkout_files() / image / "serve"), *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_predictor_listens_where_it_is_told_and_passes_options_on(tmp_path: Path) -> None:
    def predictor(*arguments: str, **variables: str) -> str:
        return entered(tmp_path, "predictor", *arguments, **variables)

    # Here is no Bento at the image's path: the image that is given a package.
    serve, service = "stand-in for bentoml serve", "davy.predictor.service:Predictor"
    assert predictor() == f"{serve} {service}"
    assert predictor(PORT="8080") == f"8080 {serve} {service}"
    assert predictor(BENTOML_PORT="3001") == f"3001 {serve} {service}"
    assert predictor(PORT="8080", BENTOML_PORT="3001") == f"8080 {serve} {service}"
    options = ("--port", "8080", "--timeout-keep-alive", "120")
    assert predictor(*options) == f"{serve} {' '.join(options)} {service}"


@pytest.mark.parametrize("image", ["operator", "detector"])
def test_a_server_is_reached_from_outside_of_its_pod_unless_it_is_told_otherwise(
    tmp_path: Path, image: str
) -> None:
    # Here is no alibi-detect at the image's path: the variant without it.
    engine = "native " if image == "detector" else ""
    assert entered(tmp_path, image) == f"0.0.0.0 {engine}stand-in for davy {image} serve"
    host = {f"DAVY_{image.upper()}_HOST": "127.0.0.1"}
    ran = entered(tmp_path, image, "--help", **host)
    assert ran == f"127.0.0.1 {engine}stand-in for davy {image} serve --help"


def test_an_engine_that_is_named_stays(tmp_path: Path) -> None:
    ran = entered(tmp_path, "detector", DAVY_DETECTOR_ENGINE="alibi")
    assert ran == "0.0.0.0 alibi stand-in for davy detector serve"


@pytest.mark.parametrize("image", ["predictor", "operator", "detector", "pipeline"])
def test_another_program_is_run_instead(tmp_path: Path, image: str) -> None:
    assert entered(tmp_path, image, "echo", "a b") == "a b"


def test_the_pipeline_has_the_command_line(tmp_path: Path) -> None:
    assert entered(tmp_path, "pipeline", "--version") == "stand-in for davy --version"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with stand-ins for davy, python and docker; returns the script."""
    script = tmp_path / "services" / "images" / "build.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(checkout_files() / "build.sh", script)
    stand_in(tmp_path / ".venv" / "bin", "python", f'echo "$@" >"{tmp_path}/calls"')
    stand_in(tmp_path / "bin", "docker", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in ("SSL_CERT_FILE", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/etc/pip.conf")
    return script


@pytest.mark.parametrize(
    ("bento", "made"), [("echo tiny:1; echo /store/tiny", True), ("exit 69", False)]
)
def test_no_image_is_built_of_a_bento_that_failed(
    built: Path, tmp_path: Path, bento: str, made: bool
) -> None:
    calls = tmp_path / "calls"
    stand_in(
        tmp_path / ".venv" / "bin",
        "davy",
        f'if [ "$2" = bento ]; then {bento}; else echo "$@" >"{calls}"; fi',
    )
    done = subprocess.run(["sh", str(built), "predictor", "package", "--name", "x"], check=False)
    assert (done.returncode == 0) is made
    if made:
        assert calls.read_text() == "package image tiny:1 --pip-config /etc/pip.conf --name x\n"
    else:
        assert done.returncode == 69
        assert not calls.exists()


@pytest.mark.parametrize(
    "arguments",
    [["detector", "--variant", "native"], ["predictor"], ["predictor", "--name", "a:1"]],
)
def test_an_image_without_a_package_needs_no_bento(
    built: Path, tmp_path: Path, arguments: list[str]
) -> None:
    subprocess.run(["sh", str(built), *arguments], check=True)
    name, *options = arguments
    ran = " ".join(["-m davy.packaging.component", name, "--pip-config /etc/pip.conf", *options])
    assert (tmp_path / "calls").read_text() == f"{ran}\n"


def test_nothing_is_built_of_nothing(built: Path) -> None:
    done = subprocess.run(["sh", str(built)], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "name an image" in done.stderr
