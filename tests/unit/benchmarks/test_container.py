"""What an image may do that a benchmark runs, and what it weighs."""

import json
import os
from pathlib import Path

import pytest
from tests.benchmarks.container import Mount, bundle_config, run_command, weight

ABOUT = {"Env": ["PATH=/app/bin"], "Entrypoint": ["/app/bin/serve"], "WorkingDir": "/app/bento"}


def test_a_file_of_two_names_weighs_once_and_a_link_its_own_length(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    assert weight(tmp_path) == pytest.approx(1.000001)


def test_an_image_is_run_read_only_as_nobody_with_only_tmp_to_write_to() -> None:
    config = bundle_config(
        Path("/files"), ABOUT, {"PORT": "1"}, {"/mnt/models": Mount(Path("/package"))}
    )
    assert config["root"] == {"path": "/files", "readonly": True}
    process = config["process"]
    assert process["user"] == {"uid": 65532, "gid": 65532}
    assert process["noNewPrivileges"]
    assert not any(process["capabilities"].values())
    assert process["env"] == ["PATH=/app/bin", "PORT=1"]
    writable = {m["destination"] for m in config["mounts"] if "ro" not in m.get("options", [])}
    assert writable == {"/proc", "/dev", "/tmp"}  # noqa: S108 (inside the container)


def test_a_pod_may_name_arguments_a_command_and_a_folder_to_write_to(tmp_path: Path) -> None:
    out = {"/out": Mount(Path("/results"), writable=True)}
    config = bundle_config(Path("/files"), ABOUT, {}, out, arguments=["--port", "1"])
    assert config["process"]["args"] == ["/app/bin/serve", "--port", "1"]
    assert config["mounts"][-1]["options"] == ["rbind", "rw"]
    config = bundle_config(Path("/files"), ABOUT, {}, {}, entrypoint=["sh", "-c"], arguments=["x"])
    assert config["process"]["args"] == ["sh", "-c", "x"]
    *_, bundle, name = run_command(config, tmp_path, "tried")
    assert json.loads((Path(bundle) / "config.json").read_text()) == config
    assert name.startswith("davy-tried-")
