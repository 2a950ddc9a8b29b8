from __future__ import annotations

import pytest

from davy.compression.choose import choose
from davy.compression.compress import compress
from davy.compression.report import read_candidates
from davy.core.errors import InvalidInputError, NotFoundError


def test_the_step_writes_every_candidate_and_its_evidence(compressed, make_task):
    task = make_task()
    candidates = read_candidates(compressed)
    assert [item.name for item in candidates] == ["fp32", "int8", "pruned", "pruned_int8"]
    assert sorted(path.name for path in compressed.iterdir()) == [
        "candidates.json", "fp32.onnx", "int8.onnx", "pruned.onnx", "pruned_int8.onnx",
    ]  # fmt: skip
    assert all(
        item.bytes == (compressed / f"{item.name}.onnx").stat().st_size for item in candidates
    )
    assert all(item.latency_seconds.value > 0 for item in candidates)
    pruned = next(item for item in candidates if item.name == "pruned")
    assert pruned.eligible
    assert "smaller" in pruned.reason
    assert choose(task.compression, candidates).candidates == candidates


def test_a_missing_model_or_report_is_named(features, make_task, tmp_path):
    with pytest.raises(NotFoundError, match=r"model\.pt: no such file"):
        compress(make_task(), features, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(NotFoundError):
        read_candidates(tmp_path)


def test_a_broken_report_is_named(tmp_path):
    path = tmp_path / "candidates.json"
    path.write_text("{}")
    with pytest.raises(InvalidInputError, match="not a list of candidates"):
        read_candidates(tmp_path)
    path.write_text('[{"name": "fp32"}]')
    with pytest.raises(InvalidInputError, match="candidate 1: bytes: Field required"):
        read_candidates(tmp_path)
