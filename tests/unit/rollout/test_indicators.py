"""What each indicator counts, what is absent, segments and score buckets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from davy.data.gate import IndicatorName
from davy.rollout import decide as decisions
from davy.rollout.counters import Cursor, Reading, read_interval
from davy.rollout.indicators import DEFINITIONS, segment_name, split_name
from davy.rollout.pods import PodCounts
from davy.rollout.series import (
    OUTCOMES,
    OUTLIERS,
    OUTPUT_VIOLATIONS,
    PARITY,
    PREDICTIONS,
    REQUESTS,
    Arms,
    Sample,
    Series,
    SeriesKey,
    segment_text,
)
from davy.rollout.shadow import NAMES as SHADOW_NAMES
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts, Criterion, Evidence, judge_parts

ARMS = Arms(stable="v1", canary="v2")
Rows = dict[tuple[str, str, str, str, str], tuple[float, float]]


def read(names: tuple[str, ...], rows: Rows) -> Reading:
    """A second look: each series (metric, version, pod, detail, segment) at 10 s and at 20 s."""
    series = [
        Series(SeriesKey(*key), (Sample(10.0, first), Sample(20.0, second)))
        for key, (first, second) in rows.items()
    ]
    before = [Series(item.key, item.samples[:1]) for item in series]
    cursor = Cursor()
    for found, now in ((before, 11.0), (series, 21.0)):
        reading = read_interval(
            cursor, found, arms=ARMS, indicators=names, objective=0.1, now=now, stale_after=5
        )
        assert reading.missing is None
        cursor = reading.cursor
    return reading


def arms(metric: str, detail: str, stable: float, canary: float, segment: str = "") -> Rows:
    return {
        (metric, "v1", "v1:1", detail, segment): (5, 5 + stable),
        (metric, "v2", "v2:1", detail, segment): (5, 5 + canary),
    }


ALIVE = arms(REQUESTS, "ok", 900, 100)


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("errors", arms(REQUESTS, "timeout", 9, 3), Counts(909, 9, 103, 3, 9, 3)),
        ("errors", arms(REQUESTS, "server_error", 9, 3), Counts(909, 9, 103, 3)),
        ("rejected", arms(REQUESTS, "client_error", 9, 3), Counts(909, 9, 103, 3)),
        ("contract", arms(OUTPUT_VIOLATIONS, "score/range", 1, 7), Counts(900, 1, 100, 7)),
        (
            "outliers",
            arms(OUTLIERS, "", 90, 40) | arms(PREDICTIONS, "0.5", 9000, 1000),
            Counts(9000, 90, 1000, 40),
        ),
        (
            "outcome",
            arms(OUTCOMES, "right", 80, 8) | arms(OUTCOMES, "wrong", 20, 4),
            Counts(100, 20, 12, 4),
        ),
        (
            "parity",
            arms(PARITY, "same", 50, 49) | arms(PARITY, "different", 0, 1),
            Counts(50, 0, 50, 1),
        ),
    ],
)
def test_events_and_requests(name: str, rows: Rows, expected: Counts) -> None:
    reading = read((name,), ALIVE | rows)
    assert reading.counts == {name: expected}
    assert not reading.absent


def test_every_name_that_a_task_may_use_is_defined_here() -> None:
    # The shadow step's are not for a task to name.
    assert DEFINITIONS.keys() - SHADOW_NAMES == set(get_args(IndicatorName))
    assert DEFINITIONS.keys() > SHADOW_NAMES


@pytest.mark.parametrize("name", ["contract", "outliers", "outcome", "parity", "shift"])
def test_what_nobody_counts_is_absent_and_not_zero(name: str) -> None:
    reading = read((name, "errors"), ALIVE)
    assert name not in reading.counts
    assert "v1 has no series davy_" in reading.absent[name]
    assert reading.counts["errors"] == Counts(900, 0, 100, 0), "the others go on"


def test_what_one_arm_alone_counts_is_absent() -> None:
    rows = {key: row for key, row in arms(OUTPUT_VIOLATIONS, "s/r", 0, 0).items() if key[1] == "v1"}
    assert "v2 has no series" in read(("contract",), ALIVE | rows).absent["contract"]


def test_a_counter_that_is_scraped_no_more_is_absent() -> None:
    rows = ALIVE | arms(OUTCOMES, "right", 0, 0) | arms(OUTCOMES, "wrong", 0, 0)
    series = [
        Series(SeriesKey(*key), (Sample(10.0, row[0]), Sample(20.0, row[1])))
        for key, row in rows.items()
    ]
    stale = [
        Series(item.key, item.samples[:1]) if item.key.metric == OUTCOMES else item
        for item in series
    ]
    cursor = Cursor()
    absent = []
    for found, now in ((series, 21.0), (stale, 27.0)):
        later = [
            Series(
                item.key,
                tuple(Sample(s.time + now - 21.0, s.value) for s in item.samples)
                if item.key.metric != OUTCOMES
                else item.samples,
            )
            for item in found
        ]
        reading = read_interval(
            cursor, later, arms=ARMS, indicators=("outcome",), objective=0.1, now=now, stale_after=5
        )
        cursor = reading.cursor
        absent.append(dict(reading.absent))
    assert not absent[0]
    assert "has no series davy_outcomes_total" in absent[1]["outcome"]


def test_counts_are_kept_by_pod_of_the_canary() -> None:
    rows = ALIVE | {
        (REQUESTS, "v2", "v2:2", "ok", ""): (0, 50),
        (REQUESTS, "v2", "v2:2", "server_error", ""): (0, 2),
        (REQUESTS, "v2", "v2:3", "ok", ""): (7, 7),
    }
    reading = read(("errors",), rows)
    assert reading.counts["errors"] == Counts(900, 0, 152, 2)
    assert reading.pods["errors"] == (PodCounts("v2:1", 100, 0), PodCounts("v2:2", 52, 2))


# -- segments ----------------------------------------------------------------------------------

GERMAN = segment_text({"country": "DE"})
FRENCH = segment_text({"country": "FR", "tier": "gold;country=DE"})
NAMES = ("errors", segment_name("errors", "country", "DE"), segment_name("errors", "country", "IT"))


def test_a_segment_counts_its_own_series_and_the_whole_counts_all() -> None:
    rows = arms(REQUESTS, "ok", 100, 10, GERMAN) | arms(REQUESTS, "ok", 200, 20, FRENCH)
    rows |= arms(REQUESTS, "server_error", 1, 5, GERMAN)
    reading = read(NAMES, rows)
    assert reading.counts["errors"] == Counts(301, 1, 35, 5)
    # A value that holds the words of another segment is not that segment.
    assert reading.counts["errors[country=DE]"] == Counts(101, 1, 15, 5)
    assert reading.counts["errors[country=IT]"] == Counts(0, 0, 0, 0)


def test_a_label_that_no_series_carries_is_absent() -> None:
    reading = read(NAMES, ALIVE)
    assert "no series of v1 carries the label country" in reading.absent["errors[country=DE]"]
    assert reading.counts["errors"].n_canary == 100


def document(**indicator: object) -> dict[str, object]:
    return {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}],
        "analysis": {"indicators": [{"name": "errors", **indicator}, {"name": "slow"}]},
    }


def test_segments_share_the_indicators_part_of_the_error_budget() -> None:
    segments = {"label": "country", "values": ["DE", "FR", "IT"]}
    spec = RolloutSpec.model_validate(document(segments=segments, share=3))
    criteria = {item.name: item for item in spec.criteria()}
    assert list(criteria) == [
        "errors", "errors[country=DE]", "errors[country=FR]", "errors[country=IT]", "slow",
    ]  # fmt: skip
    assert sum(item.alpha_fail for item in criteria.values()) == pytest.approx(0.05)
    assert criteria["errors"].alpha_fail == pytest.approx(0.05 * 0.75 / 4)
    assert {item.alpha_pass for item in criteria.values()} == {0.05}
    assert spec.segment_labels() == ("country",)


def test_a_spec_without_segments_hashes_as_before_there_were_any() -> None:
    assert "segments" not in str(RolloutSpec.model_validate(document()).document())


@pytest.mark.parametrize(
    "indicator",
    [
        {"segments": {"label": "country", "values": []}},
        {"segments": {"label": "country", "values": ["DE", "DE"]}},
        {"segments": {"label": 'a="b"', "values": ["DE"]}},
        {"name": "shift", "segments": {"label": "country", "values": ["DE"]}},
    ],
)
def test_segments_that_cannot_be_judged_are_refused(indicator: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RolloutSpec.model_validate(document(**indicator))


def test_a_defect_in_one_segment_alone_rolls_back() -> None:
    spec = RolloutSpec.model_validate(
        document(segments={"label": "country", "values": ["DE"]}, ratio=1.5)
    )
    whole, german = Counts(90_000, 900, 10_000, 104), Counts(9_000, 20, 1_000, 24)
    evidence = {
        "errors": Evidence.empty().with_interval(whole),
        "errors[country=DE]": Evidence.empty().with_interval(german),
    }
    state = State(phase=Phase.PROGRESSING, step=0, weight=5, evidence=evidence)
    verdicts = {item.indicator: item.outcome for item in decisions.verdicts_of(spec, state)}
    assert verdicts == {
        "errors": "pass",
        "errors[country=DE]": "fail",
        "slow": "inconclusive",
    }


# -- shift -------------------------------------------------------------------------------------

SHIFT = Criterion("shift", 1.5, 0.0, alpha_fail=0.05, alpha_pass=0.05, in_parts=True)


def test_each_bucket_is_counted_both_ways() -> None:
    rows = ALIVE | arms(PREDICTIONS, "0.5", 800, 60) | arms(PREDICTIONS, "+Inf", 100, 40)
    assert read(("shift",), rows).counts == {
        "shift[0.5+]": Counts(900, 800, 100, 60),
        "shift[0.5-]": Counts(100, 60, 900, 800),
        "shift[+Inf+]": Counts(900, 100, 100, 40),
        "shift[+Inf-]": Counts(100, 40, 900, 100),
    }


def test_buckets_that_differ_cannot_be_compared() -> None:
    rows = arms(PREDICTIONS, "0.5", 800, 60)
    rows[PREDICTIONS, "v2", "v2:1", "0.7", ""] = (0, 40)
    assert read(("shift",), ALIVE | rows).absent == {
        "shift": "the score buckets of the two arms differ"
    }


def shifted(shares: list[float], rng: np.random.Generator, looks: int) -> dict[str, Evidence]:
    parts: dict[str, Evidence] = {}
    for _ in range(looks):
        stable = rng.multinomial(900, [0.5, 0.3, 0.15, 0.05])
        canary = rng.multinomial(100, shares)
        for bucket, (k_s, k_c) in enumerate(zip(stable, canary, strict=True)):
            for sign, counts in (
                ("+", Counts(900, int(k_s), 100, int(k_c))),
                ("-", Counts(100, int(k_c), 900, int(k_s))),
            ):
                name = f"shift[{bucket}{sign}]"
                parts[name] = parts.get(name, Evidence.empty()).with_interval(counts)
    return parts


def test_scores_that_move_fail_and_scores_that_stay_pass() -> None:
    rng = np.random.default_rng(5)
    same = judge_parts(SHIFT, shifted([0.5, 0.3, 0.15, 0.05], rng, 120))
    assert same.outcome == "pass", same.reason
    more = judge_parts(SHIFT, shifted([0.4, 0.3, 0.15, 0.15], rng, 60))
    assert more.outcome == "fail"
    assert "shift[3+]" in more.reason
    fewer = judge_parts(SHIFT, shifted([0.645, 0.3, 0.05, 0.005], rng, 120))
    assert fewer.outcome == "fail"
    assert "-]" in fewer.reason
    assert judge_parts(SHIFT, {}).outcome == "inconclusive"


def test_shift_is_one_verdict_that_rolls_back_as_rarely_as_promised() -> None:
    rng, runs, wrong = np.random.default_rng(6), 60, 0
    truth = [0.5, 0.3, 0.15, 0.05]
    for _ in range(runs):
        # Exactly the tolerable limit in one bucket.
        limit = [truth[0] - 0.025, *truth[1:3], 0.075]
        wrong += judge_parts(SHIFT, shifted(limit, rng, 10)).outcome == "fail"
    assert wrong <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5


def test_an_absent_indicator_holds_and_a_failing_one_rolls_back_all_the_same() -> None:
    spec = RolloutSpec.model_validate(document())
    start = datetime(2017, 1, 2, tzinfo=UTC)
    state = State(
        phase=Phase.PROGRESSING, step=0, weight=5, started=start, honoured_since=start,
        step_requests=1000,
    )  # fmt: skip
    seen = Observation(
        weight=5,
        counts=dict.fromkeys(("errors", "slow"), Counts(95_000, 900, 50_000, 470)),
        start=start.timestamp() + 60,
        end=start.timestamp() + 120,
        absent={"outcome": "v2 has no series davy_outcomes_total"},
    )
    vetoes = {"analysis": {**spec.document()["analysis"], "vetoes": []}}
    spec = RolloutSpec.model_validate(spec.document() | vetoes)
    held = decisions.decide(spec, state, seen, start + timedelta(seconds=120))
    assert (held.action, held.reason) == ("hold", decisions.INDICATOR_ABSENT)
    bad = {"errors": Counts(950, 1, 50, 40), "slow": Counts(950, 1, 50, 0)}
    failed = decisions.decide(
        spec, state, replace(seen, counts=bad), start + timedelta(seconds=120)
    )
    assert failed.action == "rollback"


def test_names_split_into_indicator_and_part() -> None:
    assert split_name("errors") == ("errors", "")
    assert split_name(segment_name("errors", "country", "C[ô]te")) == (
        "errors",
        "country=C%5B%C3%B4%5Dte",
    )
