"""What a day of looks at one rollout costs.

Belongs here: that. Not here: whether they decide rightly.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
from tests.benchmarks.rollout.streams import ERRORS, LOOK, LOOKS, SLOW

from davy.rollout.decide import decide
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts


def a_day_of_looks() -> tuple[float, float]:
    """Return the CPU seconds of a day of looks at one rollout, and of its dearest look.

    Two indicators, one of them at its margin, so that nothing is decided all day.
    """
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "canary"},
            "steps": [{"weight": 10}],
            "analysis": {
                "interval": "10s",
                "deadline": "48h",
                "indicators": [{"name": "errors"}, {"name": "slow"}],
                "vetoes": [],
            },
        }
    )
    start, rng = datetime(2017, 1, 2, tzinfo=UTC), np.random.default_rng(0)
    state = State(phase=Phase.PROGRESSING, step=0, weight=10, started=start, honoured_since=start)
    began, dearest = time.process_time(), 0.0
    for number in range(LOOKS):
        end = start + timedelta(seconds=LOOK * (number + 1))
        rates = ((ERRORS, 1.5 * ERRORS), (SLOW, 1.5 * SLOW))
        errors, slow = (
            Counts(900, int(rng.binomial(900, s)), 100, int(rng.binomial(100, c))) for s, c in rates
        )
        seen = Observation(
            weight=10,
            counts={"errors": errors, "slow": slow},
            start=end.timestamp() - LOOK,
            end=end.timestamp(),
        )
        before = time.process_time()
        decision = decide(spec, state, seen, end)
        dearest = max(dearest, time.process_time() - before)
        if decision.action != "hold":
            raise RuntimeError(f"decided at look {number}: the day is shorter than a day")
        state = decision.state
    return time.process_time() - began, dearest
