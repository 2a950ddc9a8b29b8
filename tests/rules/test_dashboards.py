"""Every panel asks Prometheus something that it understands, and says what to read from it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.fixtures.panels import asked

from davy.dashboards.catalogue import PAGES
from davy.dashboards.grafana import render
from davy.dashboards.page import Page, Panel

PANELS = [(page, panel) for page in PAGES for panel in page.panels]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)


@each_page
def test_prometheus_understands_every_query(page: Page, tmp_path: Path) -> None:
    rules = [
        {"record": f"q:{place}", "expr": asked(query.expr)}
        for place, query in enumerate(q for panel in page.panels for q in panel.queries)
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": page.uid, "rules": rules}]}))
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: it comes with Debian's package prometheus"
    done = subprocess.run(
        [promtool, "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_page
def test_every_variable_that_a_query_names_can_be_chosen(page: Page) -> None:
    chosen = {f"${choice.name}" for choice in page.choices}
    for panel in page.panels:
        for query in panel.queries:
            assert {name for name in ("$model", "$rollout") if name in query.expr} <= chosen
            assert "$" not in asked(query.expr)


@pytest.mark.parametrize(
    ("page", "panel"), PANELS, ids=[f"{page.uid}: {panel.title}" for page, panel in PANELS]
)
def test_every_panel_says_what_to_read_from_it(page: Page, panel: Panel) -> None:
    assert panel.description.endswith(".")
    assert [other.title for other in page.panels].count(panel.title) == 1
    assert panel.width <= 24
    assert [level.value for level in panel.levels] == sorted(level.value for level in panel.levels)


@each_page
def test_panels_do_not_lie_on_one_another(page: Page) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(render(page))["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
