"""The start-up benchmark: its table, its sums, and what an image may do that it runs."""

import os
from pathlib import Path

import pytest
from tests.benchmarks.bench_start import (
    Start,
    bundle_config,
    table,
    weight,
)

ABOUT = {"Env": ["PATH=/app/bin"], "Entrypoint": ["/app/bin/serve"], "WorkingDir": "/app/bento"}


def test_a_row_has_medians_extremes_and_the_sum_of_what_was_lost() -> None:
    starts = [Start(s, 1.5, 190.0, 1.2, 40, lost) for s, lost in ((1.0, 0), (9.0, 2), (2.0, 0))]
    row = table({"the image": starts}, {"a": 50.4, "b": 300.0}).splitlines()[2]
    assert row == "| the image | 2.00 (1.00–9.00) | 1.50 | 190 | 1.2 | 2 of 122 |"
    assert "Image unpacked: 350 MB (a 50, b 300)" in table({"x": starts}, {"a": 50.4, "b": 300.0})


def test_a_file_of_two_names_weighs_once_and_a_link_its_own_length(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1_000_000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    assert weight(tmp_path) == pytest.approx(1.000001)


def test_an_image_is_run_read_only_as_nobody_with_only_tmp_to_write_to() -> None:
    config = bundle_config(Path("/files"), ABOUT, {"PORT": "1"}, {"/mnt/models": Path("/package")})
    assert config["root"] == {"path": "/files", "readonly": True}
    process = config["process"]
    assert process["user"] == {"uid": 65532, "gid": 65532}
    assert process["noNewPrivileges"]
    assert not any(process["capabilities"].values())
    assert process["env"] == ["PATH=/app/bin", "PORT=1"]
    writable = {m["destination"] for m in config["mounts"] if "ro" not in m.get("options", [])}
    assert writable == {"/proc", "/dev", "/tmp"}  # noqa: S108 (inside the container)
