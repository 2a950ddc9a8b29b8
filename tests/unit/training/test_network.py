from __future__ import annotations

import numpy as np
import pytest
import torch

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.network import build_network, load_network, one_thread


def _inputs(task, rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(int(f.range.low), int(f.range.high) + 1, (rows,), generator=generator)
        if f.type == "category"
        else torch.rand(rows, generator=generator) * 50
        for f in task.features
    ]


def test_scores_are_probabilities_and_rows_do_not_meet(make_task):
    task = make_task()
    network = build_network(task).eval()
    inputs = _inputs(task, 100)
    scores = network(*inputs)
    assert scores.shape == (100,)
    assert ((scores > 0) & (scores < 1)).all()
    alone = torch.cat([network(*(column[i : i + 1] for column in inputs)) for i in range(100)])
    torch.testing.assert_close(scores, alone)


def test_missing_and_wild_numbers_give_finite_scores(make_task):
    task = make_task()
    network = build_network(task).eval()
    for value in (float("nan"), float("inf"), float("-inf"), 1e30):
        inputs = _inputs(task, 3)
        for index, feature in enumerate(task.features):
            if feature.type == "number":
                inputs[index][1] = value
        assert torch.isfinite(network(*inputs)).all(), value


@pytest.mark.parametrize("code", [0, -1, 21, 10**6])
def test_a_code_outside_its_range_is_an_error(make_task, code):
    task = make_task()
    inputs = _inputs(task, 3)
    inputs[0][1] = code
    with pytest.raises(IndexError):
        build_network(task)(*inputs)


def test_missing_indicators_only_for_what_may_be_missing(make_task):
    network = build_network(make_task())
    dense = network.dense(torch.tensor([[1.0, float("nan"), float("nan")]]))
    assert dense.shape == (1, 5)
    assert dense[0, 3:].tolist() == [1.0, 1.0]


def test_standardise_takes_logarithms_of_heavy_tails_only(make_task):
    network = build_network(make_task())
    rng = np.random.default_rng(0)
    columns = {
        "times_bought": rng.lognormal(2, 1.5, 5000).astype(np.float32),
        "gap": np.where(rng.random(5000) < 0.5, np.nan, rng.normal(30, 5, 5000)),
        "price": np.full(5000, 3.0),
    }
    network.standardise(columns)
    assert network.number_log.tolist() == [True, False, False]
    dense = network.dense(torch.from_numpy(np.stack(list(columns.values()), 1)).float())
    known = ~np.isnan(columns["gap"])
    assert abs(float(dense[:, 0].mean())) < 0.05
    assert abs(float(dense[known, 1].std()) - 1) < 0.05
    assert dense[:, 2].tolist() == [0.0] * 5000


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(make_task):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second = build_network(make_task()), build_network(make_task())
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.body[0].weight, second.body[0].weight)
    other = build_network(make_task("model.seed=4"))
    assert not torch.equal(first.body[0].weight, other.body[0].weight)


def test_widths_follow_the_layers(make_task):
    assert build_network(make_task()).widths == (32, 16)
    assert build_network(make_task(), (5,)).widths == (5,)


def test_loading_names_what_is_wrong(make_task, tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(NotFoundError, match="Train the model first"):
        load_network(make_task(), path)
    path.write_bytes(b"not a model")
    with pytest.raises(InvalidInputError, match="not the weights"):
        load_network(make_task(), path)
    torch.save(build_network(make_task(), (4,)).state_dict(), path)
    with pytest.raises(InvalidInputError, match="not the weights"):
        load_network(make_task(), path)


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
