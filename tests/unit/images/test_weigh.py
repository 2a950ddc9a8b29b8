"""The bound on what an image weighs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from davy.packaging.recipe import checkout_files


def laid_out(root: Path) -> Path:
    (root / "app" / "bento" / "src" / "package").mkdir(parents=True)
    (root / "app" / "bento" / "src" / "package" / "model.onnx").write_bytes(b"x" * 5_000_000)
    (root / "app" / "a").write_bytes(b"x" * 1_500_000)
    os.link(root / "app" / "a", root / "app" / "b")
    (root / "app" / "c").symlink_to("a")
    return root / "app"


def test_a_file_weighs_once_and_the_model_not_at_all(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    assert script("weigh").weight([laid_out(tmp_path)]) == 1_500_000 + len("a")


def test_a_build_over_its_budget_fails_with_both_figures(tmp_path: Path) -> None:
    folder = laid_out(tmp_path)
    for budget, code in ((2, 0), (1, 1)):
        done = subprocess.run(
            [sys.executable, str(checkout_files() / "weigh.py"), str(budget), str(folder)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code
        if code:
            assert "has 2 MB and a budget of 1 MB" in done.stderr
