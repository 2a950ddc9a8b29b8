"""What the one Containerfile promises of every image, and the recipes' patterns."""

import re
import sysconfig
from pathlib import Path

import pytest

from davy.packaging.builder import CONTAINERFILE, SCRIPTS
from davy.packaging.recipe import checkout_files, names, read_recipe

TEXT = (checkout_files() / CONTAINERFILE).read_text()
STEPS = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
FINAL = STEPS[STEPS.index("FROM scratch AS program") :]


def test_it_runs_as_nobody_by_number_with_something_that_reaps_as_its_first_process() -> None:
    assert "USER 65532:65532" in FINAL
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "/app/bin/serve"]' in FINAL
    # Nothing is run in the stages that are kept, and nothing is taken but from the build.
    for step in FINAL:
        assert not step.startswith(("RUN", "ADD", "VOLUME", "CMD"))
        if step.startswith("COPY"):
            assert step.startswith("COPY --from=build ")


def test_the_user_has_a_name_there_and_tmp_is_everybodys() -> None:
    assert "nonroot:x:65532:65532::/tmp:/bin/sh" in TEXT
    assert "chmod 1777 /rootfs/tmp" in TEXT
    assert " HOME=/tmp" in TEXT


def test_what_is_fetched_is_of_one_version_and_a_wheel() -> None:
    for name in ("UV", "CYCLONEDX", "WHEEL"):
        assert re.search(rf"^ARG {name}=\d+\.\d+\.\d+$", TEXT, re.MULTILINE)
    for step in STEPS:
        for install in re.findall(r"(?:uv )?pip install [^&;]*", step):
            assert (
                "--no-build" in install or "--only-binary :all:" in install or "/wheels" in install
            )
    assert "http" not in "".join(STEPS)


def test_each_script_is_copied_into_the_build_and_run() -> None:
    for script in SCRIPTS:
        assert (checkout_files() / script).is_file()
        if script != CONTAINERFILE:
            assert f"/build/{script} " in TEXT


@pytest.mark.parametrize("name", names(checkout_files()))
def test_what_an_image_goes_without_is_there_to_go_without(name: str) -> None:
    site = Path(sysconfig.get_path("purelib"))
    for pattern, why in read_recipe(checkout_files(), name).prune.items():
        assert any(site.glob(pattern)), f"{name}: nothing here matches {pattern}"
        assert why
