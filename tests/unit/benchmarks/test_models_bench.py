"""The benchmark of models: what its lines say of scores with known truth."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from tests.benchmarks.bench_models import COMPARED, README
from tests.benchmarks.models.compare import Scored, binary_lines, table
from tests.benchmarks.models.ranking import _recall
from tests.benchmarks.page import Block

ROWS = 2000


def scores(noise: float, seed: int, label) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(label * 0.3 + 0.2 + rng.normal(0, noise, label.size), 0, 1)


@pytest.fixture(scope="module")
def label():
    return (np.random.default_rng(0).random(ROWS) < 0.2).astype(float)


def test_a_better_model_is_ahead_and_an_equal_one_is_not(label):
    unit = np.repeat(np.arange(ROWS // 4), 4)
    good = Scored("good", [scores(0.1, seed, label) for seed in (1, 2, 3)])
    equal = Scored("equal", [scores(0.1, seed, label) for seed in (4, 5, 6)])
    poor = Scored("poor", [scores(0.4, 7, label)], chance=False)
    first, second, third = binary_lines(label, unit, good, [equal, poor])
    assert first.value == pytest.approx(
        np.mean([average_precision_score(label, score) for score in good.scores])
    )
    assert first.second == pytest.approx(
        np.mean([roc_auc_score(label, score) for score in good.scores])
    )
    assert first.low < first.value < first.high
    assert first.ahead is None
    difference, low, high = second.ahead
    assert low < 0 < high
    assert difference == pytest.approx(first.value - second.value)
    assert third.ahead[1] > 0.2
    assert third.calibration is None
    assert (first.seeds, third.seeds, third.spread) == (3, 1, 0.0)


def test_a_table_has_a_cell_for_each_heading(label):
    one = Scored("one", [scores(0.1, 1, label)])
    lines = binary_lines(label, np.arange(ROWS), one, [Scored("two", one.scores, chance=False)])
    rows = table(lines, measures=("PR-AUC", "ROC-AUC")).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "| +0.0000 [+0.0000, +0.0000] |" in rows[-1]


def test_recall_is_the_share_of_the_basket_among_the_first_ten():
    # Two requests of 12 candidates: one bought product at place 1, one at place 12.
    values = np.tile(-np.arange(12.0), 2)
    label = np.zeros(24)
    label[[0, 11, 12]] = 1
    test = SimpleNamespace(
        sizes=lambda: np.array([12, 12]), requests=2, rows=24, label=label,
        starts=np.array([0, 12]), basket_size=np.array([4, 1]),
    )  # fmt: skip
    assert _recall(test, values) == pytest.approx((1 / 4 + 1) / 2)


@pytest.mark.parametrize("name", COMPARED)
def test_every_task_has_its_place_in_the_page(name):
    Block(README, f"models-{name}").check()
