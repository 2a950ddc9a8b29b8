"""Pages as Grafana reads them.

Belongs here: Grafana's panels, variables, links. Not here: which queries there are.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from davy.dashboards.page import Choice, Page, Panel

# All pages carry it, and each links to the others by it.
TAG = "davy"
HEIGHT = {"number": 5, "lines": 8, "areas": 8, "table": 8}
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def render(page: Page) -> str:
    """Return a page as the JSON of a Grafana dashboard, the same bytes each time.

    Examples
    --------
    >>> from davy.dashboards.catalogue import PAGES
    >>> '"uid": "davy-overview"' in render(PAGES[0])
    True
    """
    built = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(page.span, "now")
        .refresh("30s")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("Davy")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
            .as_dropdown(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for choice in page.choices:
        built = built.with_variable(_variable(choice))
    for row in page.rows:
        built = built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built = built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _variable(choice: Choice) -> Any:
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.label)
        .datasource(_SOURCE)
        .query(f"label_values({choice.metric}, {choice.label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel) -> Any:
    if panel.shape == "number":
        drawn: Any = stat.Panel().graph_mode(BigValueGraphMode.NONE)
    elif panel.shape == "table":
        drawn = table.Panel().show_header(True)
    else:
        drawn = _lines(panel)
    drawn = (
        drawn.title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit("none" if panel.unit == "ratio" else panel.unit)
        .span(panel.width)
        .height(HEIGHT[panel.shape])
        .thresholds(_thresholds(panel))
    )
    if panel.low is not None:
        drawn = drawn.min(panel.low)
    if panel.high is not None:
        drawn = drawn.max(panel.high)
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place))
        if query.legend:
            target = target.legend_format(query.legend)
        if panel.shape == "table":
            target = target.format(PromQueryFormat.TABLE).instant()
        elif panel.shape == "number":
            target = target.instant()
        else:
            target = target.range()
        drawn = drawn.with_target(target.datasource(_SOURCE))
    return drawn


def _lines(panel: Panel) -> Any:
    drawn = (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if panel.shape == "areas" else 0)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.shape == "areas":
        drawn = drawn.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return drawn


def _thresholds(panel: Panel) -> Any:
    # Grafana wants the first level to begin nowhere.
    levels = panel.levels
    steps = [
        Threshold(value=None if place == 0 else level.value, color=level.color)
        for place, level in enumerate(levels)
    ] or [Threshold(value=None, color="green")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
