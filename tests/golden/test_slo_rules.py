"""The committed rules are those of the SLO files."""

from pathlib import Path

import pytest

from davy.slo.rules import document
from davy.slo.spec import read_slo

MONITORING = Path(__file__).parents[2] / "monitoring"
SLOS = sorted((MONITORING / "slos").glob("*.yaml"))


@pytest.mark.parametrize("path", SLOS, ids=lambda path: path.name)
def test_the_rules_are_as_committed(path: Path) -> None:
    rules = MONITORING / "rules" / f"slo_{path.name}"
    assert document(read_slo(path), f"monitoring/slos/{path.name}") == rules.read_text(
        encoding="utf-8"
    ), f"run: davy slo generate monitoring/slos/{path.name} --out monitoring/rules/{rules.name}"


def test_no_rules_are_left_of_an_slo_file_that_is_gone() -> None:
    names = {f"slo_{path.name}" for path in SLOS}
    assert {path.name for path in (MONITORING / "rules").glob("slo_*")} == names
