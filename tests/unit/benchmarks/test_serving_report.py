"""The serving benchmark's tables."""

from __future__ import annotations

import pytest
from tests.benchmarks.serving import report
from tests.benchmarks.serving.figures import Cell
from tests.benchmarks.serving.fleet import DAVY, KSERVE, STARLETTE
from tests.benchmarks.serving.found import Broken, Found
from tests.benchmarks.serving.workload import MAIN, cases


def cell(server: str, case: str, requests: int, *, failed: int = 0) -> Cell:
    return Cell(server, case, 0, requests, failed, 1.0, 0.5, 0.001, 0.002)


def found(**changes: object) -> Found:
    case = str(MAIN)
    made = Found(
        started=0.0,
        ended=600.0,
        cells=[cell(DAVY, case, 500), cell(STARLETTE, case, 1000), cell(KSERVE, case, 100)],
        memory={DAVY: (300.0, 400.0)},
        ready={DAVY: 2.0},
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def line(text: str, start: str) -> list[str]:
    return next(
        [part.strip() for part in row.strip("|").split("|")]
        for row in text.splitlines()
        if row.startswith(f"| {start}")
    )


def test_a_goal_that_is_missed_is_shown_as_missed() -> None:
    text = report.render(found())
    assert line(text, "requests/s of Starlette's")[1:] == ["≥ 1", "0.50 (0.50–0.50)", "**no**"]
    assert line(text, "MB of the worker")[1:] == ["< 250", "300.0", "**no**"]
    assert line(text, "seconds to ready")[-1] == "yes"


def test_what_was_not_measured_says_so() -> None:
    text = report.render(found(absent={"mlserver": "no such wheel"}))
    assert "not measured: no such wheel" in line(text, "MLServer")[1]
    assert line(text, "gRPC, 1 row")[2] == "not measured"
    assert line(text, "two workers")[2] == "not measured"


def test_requests_that_failed_are_named() -> None:
    text = report.render(found(cells=[cell(DAVY, str(MAIN), 500, failed=7)]))
    assert f"{DAVY}, {MAIN}: 7 requests not answered 200" in text


@pytest.mark.parametrize("whose", [DAVY, STARLETTE])
def test_a_goal_whose_requests_failed_is_not_held(whose: str) -> None:
    case = str(MAIN)
    cells = [
        cell(name, case, 2000 if name == DAVY else 1000, failed=int(name == whose))
        for name in (DAVY, STARLETTE)
    ]
    held = line(report.render(found(cells=cells)), "requests/s of Starlette's")[-1]
    assert held == "**no**: requests failed"
    unbroken = [cell(DAVY, case, 2000), cell(STARLETTE, case, 1000)]
    assert line(report.render(found(cells=unbroken)), "requests/s of Starlette's")[-1] == "yes"
    broken = found(cells=unbroken, broken=[Broken(whose, case, "closed")] * 2)
    text = report.render(broken)
    assert line(text, "requests/s of Starlette's")[-1] == "**no**: requests failed"
    assert f"- {whose}, {case}: closed (2 of the rounds)" in text


def test_a_second_worker_that_did_not_start_is_named() -> None:
    assert "- davy_2 did not start: port taken" in report.render(
        found(absent={"davy_2": "port taken"})
    )


def test_every_table_has_as_many_columns_as_its_head() -> None:
    rows = report.render(found(absent={"bento": "gone"})).splitlines()
    blocks = [[]]
    for row in rows:
        if row.startswith("|"):
            blocks[-1].append(row.count("|"))
        elif blocks[-1]:
            blocks.append([])
    assert all(len(set(block)) == 1 for block in blocks if block)


def test_every_case_is_measured_once() -> None:
    names = [str(case) for case in cases()]
    assert len(names) == len(set(names)) == 26
    assert names[0] == str(MAIN)
