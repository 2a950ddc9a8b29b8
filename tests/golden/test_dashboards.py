"""The committed dashboards are those of their code."""

from pathlib import Path

import pytest

from davy.dashboards.catalogue import PAGES
from davy.dashboards.grafana import render
from davy.dashboards.page import Page

FOLDER = Path(__file__).parents[2] / "monitoring/dashboards"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_the_dashboard_is_as_committed(page: Page) -> None:
    committed = FOLDER / f"{page.uid}.json"
    assert render(page) == committed.read_text(encoding="utf-8"), "run: davy dashboards generate"


def test_no_dashboard_is_left_of_a_page_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {page.uid for page in PAGES}
