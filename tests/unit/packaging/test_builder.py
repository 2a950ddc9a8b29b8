"""The builders' commands, and what a build that fails says; nothing is built here."""

import itertools
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.errors import (
    InvalidInputError,
    MissingDependencyError,
    NotFoundError,
    TemporaryError,
)
from davy.packaging.builder import (
    SCRIPTS,
    Image,
    Plan,
    Secrets,
    archive_file,
    build,
    command,
    find_builder,
    identifier_file,
    lay_out,
    qualified,
    save,
    save_command,
    works,
)
from davy.packaging.recipe import Recipe, checkout_files, read_recipe

CREATED = datetime(2017, 12, 31, tzinfo=UTC)
RECIPE = Recipe(description="tiny", requirements="serve", port=3000, budget_mb=1)
PLAN = Plan("tiny:1", CREATED, {"org.opencontainers.image.title": "tiny", "a": "b"}, RECIPE)


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
    assert options(arguments, "--build-arg") == [
        "DEBIAN=localhost/debian:12",
        "BUDGET_MB=1",
        "NAME=tiny",
        "VERSION=1",
        "WORKDIR=/app",
        "PORT=3000",
    ]
    # Beside the context, or it would be part of it.
    assert options(arguments, "--iidfile") == [str(identifier_file(context))]
    assert not identifier_file(context).is_relative_to(context)


def test_what_listens_says_its_port_and_what_does_not_has_none(tmp_path: Path) -> None:
    arguments = command("docker", PLAN, tmp_path / "context")
    assert options(arguments, "--target") == ["server"]
    silent = RECIPE.model_copy(
        update={"port": None, "programs": ("coreutils:bin/mktemp",), "sources": ("a", "b")}
    )
    plan = Plan("registry.example:5000/team/davy-pipeline:1", CREATED, {}, silent)
    arguments = command("docker", plan, tmp_path / "context")
    assert options(arguments, "--target") == ["program"]
    given = options(arguments, "--build-arg")
    assert "PROGRAMS=coreutils:bin/mktemp" in given
    assert "SOURCES=a b" in given
    assert "NAME=davy-pipeline" in given
    assert not [value for value in given if value.startswith("PORT")]


def test_a_context_has_the_scripts_the_recipe_and_the_program_that_starts(tmp_path: Path) -> None:
    files = checkout_files()
    lay_out(tmp_path / "context", files, "operator", read_recipe(files, "operator"))
    found = {
        str(p.relative_to(tmp_path / "context"))
        for p in (tmp_path / "context").rglob("*")
        if p.is_file()
    }
    assert found == {*SCRIPTS, "prune.json", "app/bin/serve"}
    with pytest.raises(NotFoundError, match="Run it in a checkout"):
        lay_out(tmp_path / "other", tmp_path, "operator", RECIPE)


def test_a_missing_secret_is_told(tmp_path: Path) -> None:
    for name in ("ca", "uv", "pip"):
        with pytest.raises(NotFoundError, match=f"no-{name}"):
            Secrets(**{name: tmp_path / f"no-{name}"}).check()
    there = tmp_path / "ca.pem"
    there.touch()
    Secrets(ca=there).check()


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
    stand_in(tmp_path / "bin", "buildah", "exit 125")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(TemporaryError, match="buildah ended with 125") as failed:
        build("buildah", PLAN, tmp_path / "context")
    assert "disk" in failed.value.fix


def test_an_archive_is_named_as_containers_tools_name_one(tmp_path: Path) -> None:
    assert archive_file(f"oci-archive:{tmp_path}/a.tar") == tmp_path / "a.tar"
    for output in (f"{tmp_path}/a.tar", "oci-archive:", f"docker-archive:{tmp_path}/a.tar"):
        with pytest.raises(InvalidInputError, match="is not of the form oci-archive:FILE"):
            archive_file(output)
    with pytest.raises(InvalidInputError, match="no such folder"):
        archive_file(f"oci-archive:{tmp_path}/no/a.tar")


def test_an_image_in_an_archive_has_a_name_that_a_node_finds() -> None:
    assert qualified("davy-operator:1") == "localhost/davy-operator:1"
    assert qualified("team/davy-operator:1") == "localhost/team/davy-operator:1"
    for name in ("localhost/a:1", "registry.example/a:1", "registry:5000/a:1"):
        assert qualified(name) == name


def test_every_builder_writes_an_archive_under_that_name(tmp_path: Path) -> None:
    image, file = Image("tiny:1", "sha256:ab"), tmp_path / "a.tar"
    assert save_command("buildah", image, file) == [
        ["buildah", "push", "--quiet", "sha256:ab", f"oci-archive:{file}:localhost/tiny:1"]
    ]
    for builder in ("docker", "podman"):
        tag, write = save_command(builder, image, file)
        assert tag == [builder, "tag", "sha256:ab", "localhost/tiny:1"]
        assert write[-3:] == ["--output", str(file), "localhost/tiny:1"]
        assert ("oci-archive" in write) is (builder == "podman")


def test_an_archive_replaces_what_is_there_and_a_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    file = tmp_path / "a.tar"
    file.write_text("of an earlier image")
    stand_in(tmp_path / "bin", "buildah", f'[ ! -e {file} ] && echo "$@" >{file}')
    save("buildah", Image("tiny:1", "sha256:ab"), file)
    assert file.read_text().startswith("push --quiet sha256:ab")
    stand_in(tmp_path / "bin", "buildah", "exit 3")
    with pytest.raises(TemporaryError, match="buildah ended with 3"):
        save("buildah", Image("tiny:1", "sha256:ab"), file)
