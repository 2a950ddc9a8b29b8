"""A command whose libraries are not installed says which extra has them."""

import subprocess
import sys

import pytest

# As in an environment without the library: it must not have been imported before.
WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {library!r}:
            raise ModuleNotFoundError("no module", name=name)

sys.meta_path.insert(0, Without())
sys.argv = ["davy", *{command!r}]
from davy.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("library", "command", "extra"),
    [
        ("scipy", ["detector", "serve"], "native"),
        ("psutil", ["demo", "run"], "demo"),
        ("grafana_foundation_sdk", ["dashboards", "generate"], "dashboards"),
    ],
)
def test_the_extra_is_named(library: str, command: list[str], extra: str) -> None:
    code = WITHOUT.format(library=library, command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode > 0
    assert f"Install davylamp[{extra}]" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
