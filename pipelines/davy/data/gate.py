"""What a task may ask of the gate: the indicators that it knows, and the limits of their figures.

Belongs here: names and limits that the task, the contract and the gate share. Not here: judging
by them (`davy.rollout`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

# Answers that failed, answers later than the latency objective, requests that were turned away;
# answers that break the contract, rows flagged as outliers, labels that say wrong, requests that
# are answered otherwise when replayed, and scores whose distribution moved.
IndicatorName = Literal[
    "errors", "slow", "rejected", "contract", "outliers", "outcome", "parity", "shift"
]
# The canary's rate over the stable arm's.
Ratio = Annotated[float, Field(ge=1, lt=100)]
# The canary's own rate.
Allowance = Annotated[float, Field(ge=0, lt=1)]
