"""``davy retrain``: train again where a policy says so.

Belongs here: options and what is printed. Not here: the decision (`davy.retrain`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from davy.core.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from davy.retrain.decide import Decision
    from davy.retrain.run import Retrainer

app = typer.Typer(help="Train again where a policy says so.", no_args_is_help=True)

PolicyFile = Annotated[Path, typer.Argument(help="Policy file, as pipelines/retrain/churn.yaml.")]
Prometheus = Annotated[str, typer.Option(help="Address of Prometheus.")]
RecordFile = Annotated[
    Path | None,
    typer.Option("--record", help="What was decided and started; beside the policy if left out."),
]
SIGN = {"yes": "✓", "no": "✗", "unknown": "?"}
# A decision is none or blocked without a fault; these are.
FAILED = ("failed", "canary_failed")


@app.callback()
def group() -> None:
    """Train again where a policy says so."""


@app.command()
def check(policy: PolicyFile, prometheus: Prometheus, record: RecordFile = None) -> None:
    """Tell what would be done now, and why; change nothing."""
    _tell(_retrainer(policy, prometheus, record).look())


@app.command()
def run(
    policy: PolicyFile,
    prometheus: Prometheus,
    record: RecordFile = None,
    every: Annotated[
        float, typer.Option(help="Hours between decisions; 0 decides once and ends.", min=0)
    ] = 0.0,
    metrics_port: Annotated[
        int, typer.Option(help="Port of /metrics while it goes on; 0 serves none.", min=0)
    ] = 0,
    host: Annotated[str, typer.Option(help="Address of /metrics.")] = "127.0.0.1",
) -> None:
    """Decide, record it, and train where that was decided; the result enters as a canary."""
    from prometheus_client import REGISTRY, start_http_server

    from davy.retrain.metrics import RetrainMetrics

    retrainer = _retrainer(policy, prometheus, record)
    metrics = RetrainMetrics(REGISTRY)
    metrics.begin(retrainer.policy.model)
    if metrics_port:
        if not every:
            raise ConfigurationError("--metrics-port is for --every", where="davy retrain run")
        start_http_server(metrics_port, host)
    decision: Decision | None
    while True:
        try:
            decision, outcome = retrainer.once()
        except UnavailableError as error:
            if not every:
                raise
            print(f"nothing decided: {error}", flush=True)
            decision, outcome = None, "unavailable"
        else:
            _tell(decision)
            print(f"outcome: {outcome}", flush=True)
        metrics.decided(retrainer.policy.model, decision, outcome)
        if not every:
            raise typer.Exit(1 if outcome in FAILED else 0)
        retrainer.clock.sleep(every * 3600)


def _retrainer(policy: Path, prometheus: str, record: Path | None) -> Retrainer:
    from davy.core.clock import SystemClock
    from davy.retrain.observe import PrometheusValues
    from davy.retrain.policy import read_policy
    from davy.retrain.record import Record
    from davy.retrain.run import Processes, Retrainer

    return Retrainer(
        read_policy(policy),
        PrometheusValues(prometheus),
        Record(record or policy.with_suffix(".record.jsonl")),
        Processes(),
        SystemClock(),
    )


def _tell(decision: Decision) -> None:
    for title, checks in (("Reasons", decision.reasons), ("Guards", decision.guards)):
        print(title)
        for item in checks:
            print(f"  {SIGN[item.state]} {item.name}: {item.seen}")
    print(f"{decision.outcome}: {decision.reason}")
