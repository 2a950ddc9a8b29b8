"""One model, its versions side by side: what shoppers get, and why it takes as long as it does."""

from __future__ import annotations

from davy.dashboards.page import MODEL, Page, Panel, Query, Row

_OF = 'model=~"$model"'
_BY = "sum by (model, version{more}) (rate({metric}{{{of}{only}}}[$__rate_interval]))"


def _rate(metric: str, more: str = "", only: str = "") -> str:
    return _BY.format(metric=metric, of=_OF, more=more and f", {more}", only=only and f",{only}")


def _quantile(share: float, metric: str) -> Query:
    expr = f"histogram_quantile({share:g}, {_rate(f'{metric}_bucket', 'le')})"
    return Query(expr, f"{{{{model}}}} {{{{version}}}} p{share * 100:g}")


_VERSION = "{{model}} {{version}}"

MODEL_PAGE = Page(
    uid="davy-model",
    title="Davy / Model",
    description="One model, version beside version.",
    choices=(MODEL,),
    rows=(
        Row(
            "What shoppers get",
            (
                Panel(
                    "Requests by version",
                    "A canary's share of the traffic shows here as requests.",
                    (Query(_rate("davy_requests_total"), _VERSION),),
                    unit="reqps",
                    shape="areas",
                ),
                Panel(
                    "Requests that were not answered well",
                    "By outcome; client_error is the caller's own.",
                    (
                        Query(
                            _rate("davy_requests_total", "outcome", 'outcome!="ok"'),
                            "{{version}} {{outcome}}",
                        ),
                    ),
                    unit="reqps",
                    low=0,
                ),
                Panel(
                    "Latency",
                    "Median and 99th percentile from arrival to answer.",
                    (
                        _quantile(0.5, "davy_request_seconds"),
                        _quantile(0.99, "davy_request_seconds"),
                    ),
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Scores",
                    "Answers by the bucket of their score: another mix is other shoppers, or "
                    "another mind of the model.",
                    (
                        Query(
                            _rate("davy_predictions_total", "bucket"),
                            "{{version}} up to {{bucket}}",
                        ),
                    ),
                    shape="areas",
                    unit="cps",
                ),
            ),
        ),
        Row(
            "Inputs and outputs",
            (
                Panel(
                    "Values the contract does not allow",
                    "By feature and rule, whatever the contract does about them.",
                    (
                        Query(
                            _rate("davy_input_violations_total", "feature, rule") + " > 0",
                            "{{version}} {{feature}} {{rule}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                ),
                Panel(
                    "Answers that break the contract",
                    "By output and the first rule that they break.",
                    (
                        Query(
                            _rate("davy_output_violations_total", "output, rule"),
                            "{{version}} {{output}} {{rule}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                ),
                Panel(
                    "Outliers",
                    "Rows a second that the package's own scorer calls outliers.",
                    (Query(_rate("davy_outliers_total"), _VERSION),),
                    unit="rps",
                    low=0,
                ),
                Panel(
                    "Performance",
                    "Realised over the last labels that came, and estimated from the last window's "
                    "scores; a gap between them is what no score tells.",
                    (
                        Query(
                            f"davy_performance_realised{{{_OF}}}",
                            "{{version}} {{metric}} {{segment}}",
                        ),
                        Query(
                            f"davy_performance_estimate{{{_OF}}}",
                            "{{version}} {{metric}} {{segment}} estimated",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Inside the predictor",
            (
                Panel(
                    "Time until execution",
                    "From a request being read to its execution: the queue.",
                    (_quantile(0.5, "davy_queue_seconds"), _quantile(0.99, "davy_queue_seconds")),
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Rows executed together",
                    "Mean rows of an execution.",
                    (
                        Query(
                            f"{_rate('davy_batch_rows_sum')} / {_rate('davy_batch_rows_count')}",
                            _VERSION,
                        ),
                    ),
                    low=0,
                ),
                Panel(
                    "Payload events",
                    "Events a second that the detector took.",
                    (Query(_rate("davy_payload_events_total"), _VERSION),),
                    unit="cps",
                    low=0,
                ),
                Panel(
                    "Payload events lost",
                    "Events a second that were not told, by reason: drift is judged without them.",
                    (
                        Query(
                            _rate("davy_payload_events_dropped_total", "reason"),
                            "{{version}} {{reason}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                ),
            ),
        ),
    ),
)
