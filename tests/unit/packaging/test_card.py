from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from davy.packaging.card import figure, size
from davy.packaging.card_render import render_page, render_text
from davy.packaging.contract import Contract

NASTY = "<script>alert('x')</script>"


class Checker(HTMLParser):
    """Collects tags and text, and fails on tags that do not match."""

    VOID = frozenset({"meta", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


FIGURES = [
    "0.1873 [0.1773, 0.1973]",  # the model
    "0.1712 [0.1612, 0.1812]",  # the baseline
    "2,400",
    "0.1222 [0.1122, 0.1322]",  # a segment
    "900,123",
    "2017-04-02",
    "51.2 kB",
    "202.0 kB",
    "0.42 [0.4, 0.45] at 100 rows",
    "-0.0004 [-0.0104, 0.0096]",
    "not eligible: loses too much for shopper=new",
    "0.044",  # median of the null
    "up to 0.1",
    "mahalanobis score is above 41.25: at most 0.01 of rows like the 1,400",
    "Rows are scored as they are answered: scoring 100 rows took 41 µs",
    "20.0%",
    "100 ms",
    "household",
]


@pytest.mark.parametrize("expected", FIGURES)
def test_both_cards_hold_the_figures_of_the_contract(draft: Contract, expected: str) -> None:
    page = " ".join(parsed(render_page(draft)).words)
    assert expected in page
    assert expected in render_text(draft).replace("\\", "")


def test_the_chosen_candidate_and_its_reason_are_said(draft: Contract) -> None:
    for card in (render_text(draft).replace("\\", ""), render_page(draft)):
        assert "Chosen: int8. It is the smallest of those that keep the quality." in card
    assert "| **int8** |" in render_text(draft)


@pytest.mark.parametrize(
    ("chosen", "precision", "said"),
    [("fp32", "fp32", "fp32"), ("pruned_int8", "int8", "pruned_int8, int8"), ("", "fp32", "fp32")],
)
def test_the_model_is_not_said_twice(
    draft: Contract, chosen: str, precision: str, said: str
) -> None:
    compression = draft.compression.model_copy(update={"chosen": chosen})
    contract = draft.model_copy(update={"compression": compression, "quantization": precision})
    assert f"| Model | {said} |" in render_text(contract).replace("\\", "")


def test_the_verdict_names_the_best_baseline(draft: Contract) -> None:
    assert "above the best baseline, personal with 0.1712" in render_text(draft)
    assert "Their intervals overlap" in render_text(draft)
    poor = draft.baselines["personal"].model_copy(
        update={
            "overall": draft.metrics[0].overall.model_copy(update={"value": 0.1, "upper": 0.11})
        }
    )
    assert "overlap" not in render_text(draft.model_copy(update={"baselines": {"poor": poor}}))
    worse = draft.model_copy(update={"metrics": [draft.baselines["personal"]]})
    assert "not above the best baseline" in render_text(worse)
    alone = draft.model_copy(update={"baselines": {}})
    assert "no baseline was measured" in render_text(alone)


def test_limits_are_drawn_from_the_evidence(draft: Contract) -> None:
    text = render_text(draft).replace("\\", "")
    assert "fewer than 100 units for: shopper=new" in text
    assert "The baseline personal has a higher ndcg@10 for: shopper=new." in text
    assert "Compression (int8) changed quality by -0.0004" in text
    assert "not trained with differential privacy" in text
    private = draft.privacy.model_copy(update={"epsilon": 3.0, "delta": 1e-6})
    text = render_text(draft.model_copy(update={"privacy": private}))
    assert "ε = 3, δ = 1e-06" in text


def test_the_card_says_when_it_was_measured(draft: Contract) -> None:
    text = render_text(draft).replace("\\", "")
    assert (
        "learnt from 2017-04-02 to 2017-10-07 and was measured on 2017-11-05 to 2017-12-02" in text
    )
    assert "later time" not in text
    older = render_text(draft.model_copy(update={"measured": None}))
    assert "the time that it was measured on is not recorded" in older


def test_nothing_in_a_contract_becomes_a_tag(draft: Contract) -> None:
    def nasty(value: object) -> object:
        if isinstance(value, dict):
            return {key: nasty(item) for key, item in value.items()}
        if isinstance(value, list):
            return [nasty(item) for item in value]
        return value

    fields = draft.model_dump(mode="json")
    for place in ("name", "task", "quantization"):
        fields[place] = NASTY
    fields["inputs"][0] |= {"name": NASTY, "unit": NASTY}
    fields["training"] |= {"code_version": NASTY, "libraries": {NASTY: NASTY}}
    fields["metrics"][0]["name"] = NASTY
    fields["metrics"][0]["segments"] = {NASTY: fields["metrics"][0]["overall"]}
    fields["baselines"] = {NASTY: fields["metrics"][0]}
    fields["compression"] |= {"why": NASTY}
    fields["compression"]["candidates"][0] |= {"name": NASTY, "reason": NASTY}
    fields["calibration"]["nulls"][0]["feature"] = NASTY
    fields["rollout"]["indicators"][0]["name"] = NASTY
    fields["privacy"]["pseudonymised"] = [NASTY]
    fields["lineage"] = {"parent": NASTY, "pipeline_run": NASTY}
    contract = Contract.model_validate(nasty(fields))
    page = parsed(render_page(contract))
    assert "script" not in page.tags
    assert " ".join(page.words).count(NASTY) >= 15
    assert "<script" not in render_text(contract)


def test_the_page_needs_nothing_else(draft: Contract) -> None:
    page = parsed(render_page(draft))
    assert page.links == []
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert "url(" not in render_page(draft)


def test_the_version_is_only_ever_interpolated(draft: Contract) -> None:
    version = "2026.03.04-0123abcd"
    named = draft.model_copy(update={"version": version})
    for render in (render_text, render_page):
        assert version in render(named)
        assert render(named).replace(version, "") == render(draft)


def test_an_empty_contract_still_has_a_card(draft: Contract) -> None:
    fields = json.loads(draft.model_dump_json())
    fields |= {"metrics": [], "baselines": {}, "inputs": [], "segments": []}
    fields["compression"]["candidates"] = []
    fields["calibration"] = {"window_rows": 400, "blocks": 0}
    contract = Contract.model_validate(fields)
    assert "The alarms were not calibrated" in render_text(contract)
    parsed(render_page(contract))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (12345, "12,345"), (0.123456, "0.1235"), (-1.5, "-1.5"), (1e-7, "1e-07")],
)
def test_figures_have_four_digits(value: float, expected: str) -> None:
    assert figure(value) == expected


@pytest.mark.parametrize(("count", "expected"), [(999, "1.0 kB"), (2_500_000, "2.50 MB")])
def test_sizes_are_decimal(count: int, expected: str) -> None:
    assert size(count) == expected


def test_it_says_when_rows_are_not_scored_and_when_only_on_demand(draft: Contract) -> None:
    assert draft.outliers is not None
    none = render_text(draft.model_copy(update={"outliers": None}))
    assert "Single rows are not scored" in none
    update = {"in_request": False, "why": "too dear"}
    told = draft.outliers.model_copy(update=update)
    text = render_text(draft.model_copy(update={"outliers": told}))
    assert "only where the predictor is told to: too dear." in text
