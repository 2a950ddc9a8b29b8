"""Charts as SVG, and how far an indicator is from its verdict."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError
from davy.rollout.forecast import expected, forecast
from davy.rollout.picture import write_picture
from davy.rollout.svg import Mark, Panel, Scale, drawing
from davy.rollout.verdict import Counts, Criterion, Evidence, judge

ERRORS = Criterion("errors", ratio=1.5, allowance=0.01, alpha_fail=0.05, alpha_pass=0.05)


def test_a_scale_places_values_and_clips_what_is_beyond() -> None:
    linear, log = Scale(0.0, 50.0), Scale(0.1, 10.0, log=True)
    assert (linear.place(25.0), linear.place(-1.0), linear.place(99.0)) == (0.5, 0.0, 1.0)
    assert log.place(1.0) == pytest.approx(0.5)
    assert (log.place(0.0), log.place(math.inf)) == (0.0, 1.0)
    assert log.ticks() == pytest.approx([0.1, 1.0, 10.0])
    assert linear.ticks() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert Scale(3.0, 3.0).ticks() == [3.0]


@pytest.mark.parametrize("high", [0.003, 1.0, 7.0, 12.0, 999.0, 86400.0])
def test_an_axis_has_between_two_and_eight_round_labels(high: float) -> None:
    ticks = Scale(0.0, high).ticks()
    assert 2 <= len(ticks) <= 8
    assert ticks[-1] <= high * (1 + 1e-6)


def test_a_drawing_is_well_formed_whatever_the_names_are() -> None:
    name = '<b>&"quoted"\''
    mark = Mark([(0.0, 1.0), (1.0, 2.0)], "#000000", name, stair=True, dashed=True)
    panel = Panel(name, Scale(0.0, 1.0), Scale(0.0, 2.0), marks=(mark, Mark([], "#000000")))
    root = ET.fromstring(drawing(name, [panel], notes=[name]))  # noqa: S314 (made here)
    texts = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count(name) == 4
    line = next(root.iter("{http://www.w3.org/2000/svg}polyline")).attrib["points"]
    assert len(line.split()) == 3  # a stair keeps its value until the next


def test_labels_of_lines_that_end_together_do_not_cover_each_other() -> None:
    marks = [Mark([(0.0, 1.0), (1.0, 1.0)], "#000000", f"line {i}") for i in range(3)]
    panel = Panel("p", Scale(0.0, 1.0), Scale(0.0, 2.0), marks=marks)
    root = ET.fromstring(drawing("t", [panel]))  # noqa: S314 (made here)
    places = [
        float(item.attrib["y"])
        for item in root.iter("{http://www.w3.org/2000/svg}text")
        if (item.text or "").startswith("line ")
    ]
    assert min(abs(a - b) for a in places for b in places if a != b) >= 13


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.html", "<svg/>", title="<t>", text="a < b")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        write_picture(tmp_path / "a.html" / "b.svg", "<svg/>", title="t", text="x")
    page = (tmp_path / "a.html").read_text()
    assert "<title>&lt;t&gt;</title>" in page
    assert "a &lt; b" in page


def seen(n_stable: int, k_stable: int, n_canary: int, k_canary: int) -> Evidence:
    return Evidence.empty().with_interval(Counts(n_stable, k_stable, n_canary, k_canary))


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [(seen(1900, 2, 100, 0), "pass"), (seen(1900, 19, 100, 4), "fail")],
)
def test_so_many_more_requests_decide_and_a_tenth_fewer_do_not(
    evidence: Evidence, outcome: str
) -> None:
    found = forecast(ERRORS, evidence, share=0.05, canary_rate=10.0)
    assert found is not None
    assert found.requests is not None
    assert found.outcome == outcome
    assert found.seconds == pytest.approx(found.requests / 10)
    canary = evidence.rate.events / evidence.rate.requests
    stable = evidence.totals.k_stable / evidence.totals.n_stable

    def after(requests: int) -> str:
        more = Counts(19 * requests, round(19 * requests * stable), requests,
                      round(requests * canary))  # fmt: skip
        return judge(ERRORS, evidence.with_interval(more)).outcome

    assert after(found.requests) == outcome
    assert after(round(found.requests * 0.9)) == "inconclusive"


def test_nothing_is_forecast_on_nothing_and_what_never_ends_says_so() -> None:
    assert forecast(ERRORS, Evidence.empty(), share=0.05, canary_rate=1.0) is None
    assert forecast(ERRORS, seen(0, 0, 16, 3), share=0.05, canary_rate=1.0) is None
    bare = Criterion("errors", ratio=1.5, allowance=0.0, alpha_fail=0.05, alpha_pass=0.05)
    never = expected(bare, Evidence.empty(), stable=0.0, canary=0.0, share=0.05, canary_rate=1.0)
    assert (never.outcome, never.requests, never.seconds) == ("inconclusive", None, None)
    slow = forecast(ERRORS, seen(1900, 2, 100, 0), share=0.05, canary_rate=None)
    assert slow is not None
    assert slow.seconds is None
