"""The block of a page that a benchmark writes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from tests.benchmarks.page import Block

from davy.core.errors import InvalidInputError

MODULES = ("drift", "outlier", "reload", "rollout", "rollout_baseline", "rollout_day", "start")
BLOCKS = [(f"tests.benchmarks.bench_{name}", "BLOCK") for name in MODULES]
BLOCKS.append(("tests.benchmarks.bench_rollout_day", "COST_BLOCK"))
BLOCKS.append(("tests.benchmarks.serving.report", "BLOCK"))


def block(folder: Path, text: str) -> Block:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return Block(page, "x")


def test_the_text_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    made = block(tmp_path, "above\n<!-- x:begin -->\nold\n<!-- x:end -->\nbelow – ü\n")
    for text in ("first", "second\n"):
        made.write(text)
    expected = "above\n<!-- x:begin -->\nsecond\n<!-- x:end -->\nbelow – ü\n"
    assert made.page.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    "text",
    [
        "nothing\n",
        "<!-- x:begin -->\nno end, and the rest of the page\n",
        "no begin\n<!-- x:end -->\n",
        "<!-- x:end -->\nturned\n<!-- x:begin -->\n",
        "<!-- x:begin -->\n<!-- x:begin -->\ntwice\n<!-- x:end -->\n",
        "<!-- y:begin -->\nanother's\n<!-- y:end -->\n",
    ],
)
def test_a_page_without_its_markers_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    made = block(tmp_path, text)
    with pytest.raises(InvalidInputError, match="x:begin"):
        made.check()
    with pytest.raises(InvalidInputError, match="x:begin"):
        made.write("new")
    assert made.page.read_text(encoding="utf-8") == text


def test_the_end_of_the_page_may_be_that_of_the_block(tmp_path: Path) -> None:
    made = block(tmp_path, "<!-- x:begin --><!-- x:end -->")
    made.write("new")
    assert made.page.read_text() == "<!-- x:begin -->\nnew\n<!-- x:end -->"


@pytest.mark.parametrize(("module", "name"), BLOCKS)
def test_every_benchmark_has_its_block_in_its_page(module: str, name: str) -> None:
    getattr(importlib.import_module(module), name).check()
