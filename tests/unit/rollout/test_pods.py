"""One bad pod is no bad model: leaving pods out, asking for others, and what is promised."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from davy.rollout import decide as decisions
from davy.rollout.counters import Cursor
from davy.rollout.decide import Decision, decide
from davy.rollout.pods import MOST_PODS, PodAction, PodCounts, shares_host
from davy.rollout.record import Header, LookLine, Record, look_line
from davy.rollout.replay import replay, resume
from davy.rollout.series import REQUESTS, Sample, SeriesKey
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts, Criterion, Evidence, fails, judge

START = datetime(2017, 1, 2, tzinfo=UTC)
SLOW = Criterion("slow", 1.5, 0.0, alpha_fail=0.025, alpha_pass=0.05, node_like=True)
ERRORS = replace(SLOW, name="errors", node_like=False)
Pods = Sequence[tuple[str, int, int]]


def after(*looks: Pods, node: int = 0, k_stable: int = 20) -> Evidence:
    """Evidence of looks in each of which the stable arm has 2 % events."""
    evidence = Evidence.empty()
    for pods in looks:
        rows = [PodCounts(*pod) for pod in pods]
        n, k = sum(row.n for row in rows), sum(row.k for row in rows)
        evidence = evidence.with_interval(Counts(1000, k_stable, n, k, 0, node), pods=rows)
    return evidence


BAD_B = [("a", 100, 2), ("b", 100, 30)]


def test_a_fail_that_hangs_on_one_pod_is_not_believed_and_asks_for_its_replacement() -> None:
    evidence = after(*[BAD_B] * 10)
    assert fails(SLOW, evidence.all), "without the rule it fails"
    verdict = judge(SLOW, evidence)
    assert verdict.outcome == "inconclusive"
    assert verdict.pod_action == PodAction("replace", "b")
    assert "hangs on the pod b alone" in verdict.reason


def test_what_all_pods_show_is_believed() -> None:
    verdict = judge(SLOW, after(*[[("a", 100, 30), ("b", 100, 30)]] * 10))
    assert verdict.outcome == "fail"
    assert verdict.pod_action is None


def test_a_fail_that_each_pod_alone_does_not_show_yet_waits_without_asking() -> None:
    looks = [[("a", 100, 5), ("b", 100, 5), ("c", 100, 5)]]
    outcomes = []
    for count in range(1, 40):
        verdict = judge(SLOW, after(*looks * count))
        outcomes.append((fails(SLOW, after(*looks * count).all), verdict.outcome))
        assert verdict.pod_action is None
    assert (True, "inconclusive") in outcomes
    assert outcomes[-1] == (True, "fail")


def test_without_a_pod_the_evidence_is_that_of_the_others() -> None:
    looks = [
        [("a", 50, 1)],
        [("a", 40, 2), ("b", 60, 9)],
        [("b", 50, 8), ("c", 50, 1)],
    ]
    evidence = after(*looks)
    for pod in "abc":
        others = Evidence.empty()
        for pods in looks:
            rest = [item for item in pods if item[0] != pod]
            n, k = sum(item[1] for item in rest), sum(item[2] for item in rest)
            others = others.with_interval(Counts(1000, 20, n, k))
        kept = evidence.left_out.without[pod]
        for theta in (0.7, 1.5, 6.0):
            found = kept.ratio.log_evidence_above(theta)
            assert found == pytest.approx(others.ratio.log_evidence_above(theta), abs=1e-9)
        assert (kept.rate.requests, kept.rate.events) == (others.rate.requests, others.rate.events)


def test_pods_that_are_replaced_again_and_again_do_not_grow_the_state() -> None:
    evidence = after(*([(f"pod-{number}", 10, 0)] for number in range(3 * MOST_PODS)))
    assert len(evidence.left_out.pods) == MOST_PODS
    assert evidence.rate.requests == 30 * MOST_PODS


@pytest.mark.parametrize(
    ("criterion", "k", "node", "same_host", "outcome"),
    [
        (SLOW, 8, 0, False, "inconclusive"),  # slow answers of the only pod
        (SLOW, 8, 0, True, "fail"),  # the stable arm runs there as well
        (SLOW, 50, 0, False, "fail"),  # gross
        (ERRORS, 8, 0, False, "fail"),  # what no node does
        (ERRORS, 8, 8, False, "inconclusive"),  # timeouts
    ],
)
def test_the_only_pod_is_believed_where_no_node_explains_it(
    criterion: Criterion, k: int, node: int, same_host: bool, outcome: str
) -> None:
    evidence = after(*[[("a", 100, k)]] * 10, node=node)
    verdict = judge(criterion, evidence, same_host=same_host)
    assert verdict.outcome == outcome
    expected = PodAction("add", "a") if outcome == "inconclusive" else None
    assert verdict.pod_action == expected


def test_where_pods_are_not_known_a_fail_is_a_fail() -> None:
    evidence = Evidence.empty().with_interval(Counts(1000, 20, 1000, 80))
    assert judge(SLOW, evidence).outcome == "fail"


def test_a_pod_chosen_after_looking_costs_evidence() -> None:
    left_out = after(BAD_B).left_out
    spent = [left_out.alpha_without(0.05, pod) for pod in "ab"]
    assert spent[0] > spent[1]
    assert sum(0.1 * 0.05 / ((i + 1) * (i + 2)) for i in range(10_000)) < 0.1 * 0.05


@pytest.mark.parametrize(
    ("canary", "stable", "shared"),
    [
        (["10.0.0.1:80"], ["10.0.0.1:81", "10.0.0.2:80"], True),
        (["10.0.0.1:80", "10.0.0.3:80"], ["10.0.0.1:81"], False),
        (["model-canary-0"], ["model-0"], False),
        ([], ["10.0.0.1:80"], False),
    ],
)
def test_hosts_are_told_by_names(canary: list[str], stable: list[str], shared: bool) -> None:
    assert shares_host(canary, stable) is shared


def test_with_one_arbitrarily_bad_pod_a_sound_canary_is_rolled_back_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(11)
    runs, alpha = 60, 0.1
    criterion = replace(SLOW, ratio=1.0, alpha_fail=alpha)
    believing = standing = 0
    for _ in range(runs):
        evidence, wrong = Evidence.empty(), False
        for _ in range(40):
            rows = [PodCounts(pod, 60, int(rng.binomial(60, 0.05))) for pod in "ab"]
            rows.append(PodCounts("c", 60, int(rng.binomial(60, 0.5))))
            n, k = 180, sum(row.k for row in rows)
            row = Counts(500, int(rng.binomial(500, 0.05)), n, k)
            evidence = evidence.with_interval(row, pods=rows)
            if fails(criterion, evidence.all):
                believing += not wrong
                others = evidence.left_out.without.values()
                wrong = wrong or all(fails(criterion, kept) for kept in others)
                if len(others) == 3 and not fails(criterion, evidence.left_out.without["c"]):
                    break
        standing += wrong
    assert believing == runs, "the test catches a rule that believes each fail"
    assert standing <= runs * alpha + 3 * (runs * alpha * (1 - alpha)) ** 0.5


# -- in a rollout ------------------------------------------------------------------------------

SPEC = RolloutSpec.model_validate(
    {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 10}],
        "analysis": {
            "interval": "10s",
            "deadline": "24h",
            "indicators": [{"name": "slow", "ratio": 1.5}],
            "vetoes": [],
        },
    }
)
HEADER = Header(
    time=START,
    rollout="r",
    generation=1,
    settings_hash=SPEC.settings_hash(),
    spec=SPEC.document(),
    stable="v1",
    canary="v2",
    latency_objective_seconds=0.1,
)


class Looking:
    """Looks at a canary, writing each down."""

    def __init__(self) -> None:
        self.state, self.number, self.lines = State(), 0, list[LookLine]()
        self.last: dict[SeriesKey, Sample] = {}

    def look(self, pods: Pods, **changes: Any) -> Decision:
        self.number += 1
        now = START + timedelta(seconds=10 * self.number)
        rows = tuple(PodCounts(*pod) for pod in pods)
        counts = Counts(1000, 20, sum(row.n for row in rows), sum(row.k for row in rows))
        for pod, version in [("s", "v1"), *((row.pod, "v2") for row in rows)]:
            key = SeriesKey(REQUESTS, version, pod, "ok")
            self.last[key] = Sample(now.timestamp(), 1.0)
        seen = Observation(
            weight=self.state.weight,
            counts={"slow": counts},
            pods={"slow": rows},
            start=now.timestamp() - 10,
            end=now.timestamp(),
            honoured=START.timestamp(),
            cursor=Cursor(dict(self.last)),
        )
        asked = self.state.weight
        decision = decide(SPEC, self.state, replace(seen, **changes), now)
        self.lines.append(look_line(HEADER, asked, replace(seen, **changes), decision, now))
        self.state = decision.state
        return decision


def test_a_replaced_pod_is_asked_for_once_waited_for_and_then_left_out() -> None:
    rollout = Looking()
    rollout.look([])
    decision = rollout.look(BAD_B)
    for _ in range(20):
        if decision.pod_action:
            break
        decision = rollout.look(BAD_B)
    assert (decision.action, decision.reason) == ("hold", decisions.POD_EFFECT)
    assert decision.pod_action == PodAction("replace", "b")
    assert decision.state.replaced == "b"
    again = rollout.look(BAD_B)
    assert again.pod_action is None, "asked for once"
    assert (again.action, again.reason) in {
        ("hold", decisions.POD_EFFECT),
        ("hold", decisions.INCONCLUSIVE),
    }
    sound: Pods = [("a", 100, 1), ("c", 100, 1)]
    still = [rollout.look(sound) for _ in range(2)]
    assert {item.reason for item in still} <= {decisions.POD_EFFECT, decisions.INCONCLUSIVE}
    ends = [rollout.look(sound) for _ in range(60)]
    promoted = next(item for item in ends if item.action == "promote")
    assert "seen: canary" in promoted.message
    record = Record(HEADER, tuple(rollout.lines))
    assert replay(record).difference is None
    assert resume(record).replaced == "b"
    asked = [line.decision.pod_action for line in record.looks if line.decision.pod_action]
    assert [(item.kind, item.pod) for item in asked] == [("replace", "b")]


def test_a_pod_that_is_not_replaced_never_lets_the_rollout_go_on() -> None:
    rollout = Looking()
    rollout.look([])
    for number in range(150):
        # It is well again later, but serves on: whoever should have replaced it did not.
        decision = rollout.look(BAD_B if number < 20 else [("a", 100, 0), ("b", 100, 0)])
        assert decision.action == "hold"
    assert rollout.state.replaced == "b"
    assert decision.reason == decisions.POD_EFFECT
    assert "still serves" in decision.message


def test_a_model_that_is_slow_everywhere_is_rolled_back_after_the_replacement_too() -> None:
    rollout = Looking()
    rollout.look([])
    for _ in range(12):
        rollout.look(BAD_B)
    assert rollout.state.replaced == "b"
    worse: Pods = [("a", 100, 30), ("c", 100, 30)]
    actions = [rollout.look(worse).action for _ in range(10)]
    assert "rollback" in actions


def test_a_second_pod_is_asked_for_until_it_is_there() -> None:
    rollout = Looking()
    rollout.look([])
    decision = [rollout.look([("a", 100, 8)]) for _ in range(15)][-1]
    assert decision.pod_action == PodAction("add", "a")
    assert decision.reason == decisions.POD_EFFECT
    both = [rollout.look([("a", 100, 8), ("b", 100, 8)]) for _ in range(60)]
    assert "rollback" in [item.action for item in both]


def test_a_record_of_pods_that_was_changed_does_not_replay() -> None:
    rollout = Looking()
    for pods in itertools.chain([[]], [BAD_B] * 12):
        rollout.look(pods)
    assert rollout.state.replaced == "b"
    lines = list(rollout.lines)
    document = json.loads(lines[-1].model_dump_json())
    document["intervals"]["pods"] = [["slow", "a", 100, 30], ["slow", "b", 100, 2]]
    for index in range(1, len(lines)):
        changed = json.loads(lines[index].model_dump_json())
        changed["intervals"]["pods"] = document["intervals"]["pods"]
        lines[index] = LookLine.model_validate(changed)
    assert replay(Record(HEADER, tuple(lines))).difference is not None
