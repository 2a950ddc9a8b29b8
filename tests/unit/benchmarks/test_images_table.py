"""The images' table: its rows, and which of them stay; and what is said to hold for every image."""

import json
from pathlib import Path

import pytest
from tests.benchmarks import bench_images
from tests.benchmarks.images import pod
from tests.benchmarks.images.row import Row, materials, table

from davy.packaging.recipe import checkout_files, names, read_recipe

OLD = """# images

| image | runs |
|---|---|
| `a` | a program |

| `a:1` | of before |
| `b:1` | of before |
| `c:0` | of another release |
"""


def test_a_row_has_what_was_measured_and_dashes_for_what_was_not() -> None:
    row = Row("a:1", 1234.4, 1300, 75, 24)
    assert row.text() == "| `a:1` | 1,234 | 1,300 | 75 | 24 | – | – | – |"
    row = row.measured(ready=2.04, memory=126.4, end=0.96)
    assert row.text() == "| `a:1` | 1,234 | 1,300 | 75 | 24 | 2.0 | 126 | 1.0 |"


def test_rows_that_were_not_measured_again_stay_in_their_order() -> None:
    lines = table(OLD, {"x": Row("b:1", 1, 2, 3, 4)}, ["a:1", "b:1", "d:1"], "a note").splitlines()
    assert lines[2:] == [
        "| `a:1` | of before |",
        "| `b:1` | 1 | 2 | 3 | 4 | – | – | – |",
        "",
        "a note",
    ]


def test_packages_are_counted_by_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "app" / "sbom" / "image.cdx.json"
    file.parent.mkdir(parents=True)
    purls = ["pkg:pypi/numpy@1", "pkg:pypi/rich@2", "pkg:deb/debian/dash@1?arch=amd64"]
    file.write_text(json.dumps({"components": [{"purl": purl} for purl in purls]}))
    assert materials(tmp_path) == (2, 1)


def test_every_image_and_variant_is_measured() -> None:
    files = checkout_files()
    assert {name.partition("-")[0] for name in bench_images.IMAGES} == set(names(files))
    for name in bench_images.IMAGES:
        folder, _, variant = name.partition("-")
        assert read_recipe(files, folder, variant).budget_mb > 0


@pytest.mark.parametrize(
    ("told", "beside", "wrong"),
    [
        ({"user": [65532, 65532], "written": ["/tmp"], "zombies": 0}, 1, None),  # noqa: S108
        ({"user": [0, 0], "written": ["/tmp"], "zombies": 0}, 1, "'user': \\[0, 0\\]"),  # noqa: S108
        ({"user": [65532, 65532], "written": ["/", "/tmp"], "zombies": 0}, 1, "written"),  # noqa: S108
        ({"user": [65532, 65532], "written": ["/tmp"], "zombies": 1}, 1, "'zombies': 1"),  # noqa: S108
        # A probe that cannot tell says nothing.
        ({"user": [65532, 65532], "written": ["/tmp"], "zombies": 0}, 0, "was not seen"),  # noqa: S108
    ],
)
def test_an_image_that_breaks_what_is_promised_of_all_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict, beside: int, wrong: str | None
) -> None:
    def stand_in_for_run(self: pod.Pod, *, arguments=(), entrypoint=None):
        answer = told if entrypoint is None else {**told, "zombies": beside}
        return 0, f"a line of something else\n{json.dumps(answer)}\n"

    monkeypatch.setattr(pod.Pod, "run", stand_in_for_run)
    (tmp_path / "log").write_text("what it wrote")
    tried = pod.Pod(tmp_path, {}, tmp_path)
    if wrong is None:
        pod.check(tried)
    else:
        with pytest.raises(SystemExit, match=wrong):
            pod.check(tried)
