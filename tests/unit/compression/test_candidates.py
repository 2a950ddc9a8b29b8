from __future__ import annotations

import onnx
import pytest
import torch
from onnx import numpy_helper

from davy.compression.candidates import make, needs_reduced_range, prune
from davy.compression.export import read_onnx
from davy.core.errors import InvalidInputError
from davy.training.examples import read_examples
from davy.training.network import build_network


@pytest.fixture(scope="module")
def examples(features, make_task):
    task = make_task()
    return tuple(read_examples(task, features / f"{part}.parquet") for part in ("train", "valid"))


def _weights(path):
    return {
        item.name: tuple(item.dims)
        for item in read_onnx(path).graph.initializer
        if item.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8) and len(item.dims) == 2
    }


def test_structured_pruning_makes_the_matrices_smaller(network, examples, make_task):
    before = [tuple(value.shape) for value in network.body.parameters()]
    smaller, details = prune(make_task(), network, *examples)
    assert smaller.widths == (16, 8)
    assert smaller.body[2].weight.shape == (8, 16)
    assert sum(p.numel() for p in smaller.body.parameters()) < 0.5 * sum(
        p.numel() for p in network.body.parameters()
    )
    assert len(details["fine_tune_valid"]) == 2
    assert [tuple(value.shape) for value in network.body.parameters()] == before


def test_fine_tuning_mends(network, examples, make_task):
    from davy.training.evaluate import request_quality
    from davy.training.fitting import score

    task, valid = make_task(), examples[1]

    def quality(model):
        return request_quality(task, valid, score(model, valid)).mean()

    raw, details = prune(
        make_task("compression.fine_tune_epochs=0", "compression.prune_share=0.7"),
        network,
        *examples,
    )
    mended, _ = prune(make_task("compression.prune_share=0.7"), network, *examples)
    assert "fine_tune_valid" not in details
    assert quality(mended) >= quality(raw)


def test_pruning_is_repeatable(network, examples, make_task):
    first, second = (prune(make_task(), network, *examples)[0] for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_nothing_to_prune_is_an_error(examples, make_task):
    with pytest.raises(InvalidInputError, match=r"no unit of \(1,\) can go at a share of 0\.5"):
        prune(make_task(), build_network(make_task(), (1,)), *examples)


@pytest.mark.parametrize(("share", "widths"), [(0.25, (24, 12)), (0.75, (8, 4))])
def test_the_share_decides_how_many_units_go(network, examples, make_task, share, widths):
    task = make_task(f"compression.prune_share={share}", "compression.fine_tune_epochs=0")
    assert prune(task, network, *examples)[0].widths == widths


def test_the_files_hold_smaller_and_8_bit_weights(compressed):
    fp32, pruned, int8 = (
        _weights(compressed / f"{name}.onnx") for name in ("fp32", "pruned", "int8")
    )
    assert sum(rows * columns for rows, columns in pruned.values()) < sum(
        rows * columns for rows, columns in fp32.values()
    )
    assert len(int8) == len(fp32)
    kinds = [
        item.data_type
        for item in read_onnx(compressed / "int8.onnx").graph.initializer
        if len(item.dims) == 2
    ]
    assert kinds.count(onnx.TensorProto.INT8) == 2
    tables = [
        numpy_helper.to_array(item)
        for item in read_onnx(compressed / "int8.onnx").graph.initializer
        if item.name.startswith("embeddings")
    ]
    assert [table.shape[0] for table in tables] == [20, 6]
    assert all(table.dtype == "float32" for table in tables)


def test_only_what_the_task_names_is_made(network, examples, make_task, tmp_path):
    task = make_task("compression.candidates=[pruned_int8, fp32]")
    made = list(make(task, network, *examples, tmp_path))
    assert [item.name for item in made] == ["fp32", "pruned_int8"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp32.onnx", "pruned_int8.onnx"]
    assert made[1].details["widths"] == [16, 8]
    assert made[1].details["format"] == "QDQ u8s8"


@pytest.mark.parametrize(
    ("machine", "flags", "reduced"),
    [
        ("x86_64", {"avx2"}, True),
        ("AMD64", set(), True),
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("x86_64", {"avx_vnni"}, False),
        ("aarch64", set(), False),
    ],
)
def test_seven_bits_where_products_would_saturate(machine, flags, reduced):
    assert needs_reduced_range(machine, frozenset(flags)) is reduced
