"""What an image is built from and by which command; nothing is built here."""

import importlib.util
import itertools
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from davy.core.errors import (
    InvalidInputError,
    MissingDependencyError,
    NotFoundError,
    TemporaryError,
)
from davy.packaging.image import (
    FILES,
    Plan,
    Secrets,
    build_image,
    checkout_files,
    command,
    fill,
    find_builder,
    identifier_file,
    plan,
    works,
)

CREATED = datetime(2017, 12, 31, tzinfo=UTC)
PLAN = Plan("tiny:1", CREATED, {"org.opencontainers.image.title": "tiny", "a": "b"})


@pytest.fixture
def prune() -> ModuleType:
    # No part of the package: it runs in the image's build alone.
    spec = importlib.util.spec_from_file_location("prune", checkout_files() / "prune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(arguments: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(arguments) if option == name]


@pytest.mark.parametrize(
    ("working", "wanted", "found"),
    [
        ({"docker", "podman", "buildah"}, None, "docker"),
        ({"buildah"}, None, "buildah"),
        ({"docker", "podman"}, "podman", "podman"),
    ],
)
def test_the_wanted_builder_or_the_first_that_works(working, wanted, found) -> None:
    assert find_builder(wanted, working.__contains__) == found


def test_a_builder_that_does_not_work_is_not_replaced_by_another() -> None:
    with pytest.raises(MissingDependencyError, match="buildah is not installed"):
        find_builder("buildah", {"docker"}.__contains__)
    with pytest.raises(MissingDependencyError, match="no builder"):
        find_builder(None, set[str]().__contains__)
    with pytest.raises(InvalidInputError, match="'kaniko' is no builder"):
        find_builder("kaniko", lambda _: True)


def test_every_builder_gets_the_packages_own_time(tmp_path: Path) -> None:
    epoch = str(int(CREATED.timestamp()))
    context = tmp_path / "context"
    assert f"SOURCE_DATE_EPOCH={epoch}" in options(command("docker", PLAN, context), "--build-arg")
    for builder in ("podman", "buildah"):
        arguments = command(builder, PLAN, context)
        assert arguments[0] == builder
        assert options(arguments, "--timestamp") == [epoch]


def test_secrets_are_mounted_and_never_arguments_of_the_build(tmp_path: Path) -> None:
    secrets = Secrets(Path("/etc/ca.pem"), Path("/etc/uv.toml"), Path("/etc/pip.conf"))
    arguments = command("buildah", PLAN, tmp_path / "context", secrets=secrets)
    assert options(arguments, "--secret") == [
        "id=ca,src=/etc/ca.pem",
        "id=uv,src=/etc/uv.toml",
        "id=pip,src=/etc/pip.conf",
    ]
    assert not [value for value in options(arguments, "--build-arg") if "/etc" in value]
    assert options(command("buildah", PLAN, tmp_path / "context"), "--secret") == []


def test_labels_name_base_and_place_of_the_id(tmp_path: Path) -> None:
    context = tmp_path / "context"
    arguments = command("buildah", PLAN, context, base="localhost/debian:12")
    assert options(arguments, "--label") == ["a=b", "org.opencontainers.image.title=tiny"]
    assert options(arguments, "--tag") == ["tiny:1"]
    assert options(arguments, "--build-arg") == ["DEBIAN=localhost/debian:12"]
    # Beside the context, or it would be part of it.
    assert options(arguments, "--iidfile") == [str(identifier_file(context))]
    assert not identifier_file(context).is_relative_to(context)


def written_bento(folder: Path, creation: str) -> Path:
    (folder / "src" / "davy" / "__pycache__").mkdir(parents=True)
    (folder / "src" / "davy" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / "src" / "davy" / "x.py").write_text("x = 1\n")
    (folder / "bento.yaml").write_text(f"name: tiny\ncreation_time: '{creation}'\nversion: 1\n")
    return folder


def test_two_bentos_of_one_package_make_the_same_context(tmp_path: Path) -> None:
    contexts = []
    for number in (1, 2):
        bento = written_bento(tmp_path / f"bento{number}", f"2026-11-2{number}T02:10:20.8+00:00")
        context = tmp_path / f"context{number}"
        fill(context, bento, checkout_files(), CREATED)
        contexts.append(
            {p.relative_to(context): p.read_bytes() for p in context.rglob("*") if p.is_file()}
        )
    assert contexts[0] == contexts[1]
    assert {str(name) for name in contexts[0]} == {
        *FILES,
        "bento/bento.yaml",
        "bento/src/davy/x.py",
    }
    assert b"'2017-12-31T00:00:00+00:00'" in contexts[0][Path("bento/bento.yaml")]


def test_what_is_no_bento_of_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a Bento of a package"):
        plan(written_bento(tmp_path, "now"))


def test_a_missing_secret_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("davy.packaging.image.find_builder", lambda _: "buildah")
    monkeypatch.setattr("davy.packaging.image.plan", lambda *_: PLAN)
    for name in ("ca", "uv", "pip"):
        with pytest.raises(NotFoundError, match=f"no-{name}"):
            build_image(tmp_path, secrets=Secrets(**{name: tmp_path / f"no-{name}"}))


def stand_in(folder: Path, name: str, script: str) -> Path:
    """Write a program that stands in for another."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_builder_that_does_not_answer_in_time_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "docker", "exec sleep 30")
    stand_in(tmp_path, "podman", "exit 1")
    stand_in(tmp_path, "buildah", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    began = time.monotonic()
    assert not works("docker", timeout=0.2)
    assert time.monotonic() - began < 10
    assert not works("podman")
    assert works("buildah")


def test_a_build_that_fails_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", "buildah", '[ "$1" = version ] || exit 125')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr("davy.packaging.image.plan", lambda *_: PLAN)
    bento = written_bento(tmp_path / "bento", "now")
    with pytest.raises(TemporaryError, match="buildah ended with 125") as failed:
        build_image(bento, builder="buildah")
    assert "disk" in failed.value.fix


@pytest.mark.parametrize(
    ("bento", "built"), [("echo tiny:1; echo /store/tiny", True), ("exit 69", False)]
)
def test_the_script_builds_no_image_of_a_bento_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bento: str, built: bool
) -> None:
    script = tmp_path / "services" / "images" / "predictor" / "build.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(checkout_files() / "build.sh", script)
    calls = tmp_path / "calls"
    stand_in(
        tmp_path / ".venv" / "bin",
        "davy",
        f'if [ "$2" = bento ]; then {bento}; else echo "$@" >"{calls}"; fi',
    )
    stand_in(tmp_path / "bin", "docker", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in ("SSL_CERT_FILE", "UV_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/etc/pip.conf")
    done = subprocess.run(["sh", str(script), "package", "--name", "x"], check=False)
    assert (done.returncode == 0) is built
    if built:
        assert calls.read_text() == "package image tiny:1 --pip-config /etc/pip.conf --name x\n"
    else:
        assert done.returncode == 69
        assert not calls.exists()


def test_pruning_removes_what_it_names_and_fails_when_a_wheel_changed(
    prune: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "tests").mkdir(parents=True)
    (tmp_path / "lib" / "tests" / "a.py").write_bytes(b"x" * 1000)
    (tmp_path / "lib" / "core.py").write_bytes(b"x" * 10)
    for name in ("kept.so", "copy.so"):
        (tmp_path / "lib" / name).write_bytes(b"y" * 500)
    monkeypatch.setattr(prune, "UNNEEDED", {"**/tests": "tests"})
    monkeypatch.setattr(prune, "COPIES", {"lib/kept.so": ("copy.so",)})
    monkeypatch.setattr(prune, "UNSTRIPPED", ())
    # A link's own size is that of the name in it.
    assert prune.prune(tmp_path) == 1000 + 500 - len("kept.so")
    assert (tmp_path / "lib" / "copy.so").read_bytes() == b"y" * 500
    assert (tmp_path / "lib" / "core.py").is_file()
    with pytest.raises(SystemExit, match=r"nothing matches \*\*/tests"):
        prune.prune(tmp_path)


def test_a_copy_that_is_none_stops_the_pruning(
    prune: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.so").write_bytes(b"1")
    (tmp_path / "copy.so").write_bytes(b"2")
    monkeypatch.setattr(prune, "UNNEEDED", {})
    monkeypatch.setattr(prune, "COPIES", {"kept.so": ("copy.so",)})
    with pytest.raises(SystemExit, match="is no copy"):
        prune.prune(tmp_path)


def entered(tmp_path: Path, *arguments: str, **variables: str) -> str:
    program = tmp_path / "bentoml"
    program.write_text('#!/bin/sh\necho "${BENTOML_PORT:-none} stand-in for bentoml $*"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [str(checkout_files() / "serve"), *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_image_listens_where_it_is_told_and_passes_options_on(tmp_path: Path) -> None:
    serve = "stand-in for bentoml serve"
    assert entered(tmp_path) == f"none {serve} /app/bento"
    assert entered(tmp_path, PORT="8080") == f"8080 {serve} /app/bento"
    assert entered(tmp_path, BENTOML_PORT="3001") == f"3001 {serve} /app/bento"
    assert entered(tmp_path, PORT="8080", BENTOML_PORT="3001") == f"8080 {serve} /app/bento"
    options = ("--port", "8080", "--timeout-keep-alive", "120")
    assert entered(tmp_path, *options) == f"none {serve} {' '.join(options)} /app/bento"
    assert entered(tmp_path, "echo", "a b") == "a b"
