from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.calibrate import calibrate, score_buckets


def _write(folder, task, rows=400, weeks=4, seed=0):
    rng = np.random.default_rng(seed)
    columns = {
        feature.name: rng.integers(feature.range.low, feature.range.high + 1, size=rows)
        if feature.type == "category"
        else rng.normal(size=rows).astype(np.float32)
        for feature in task.features
    }
    columns["gap"][rng.random(rows) < 0.3] = np.nan
    table = {"block": np.arange(rows) % weeks, "score": rng.random(rows, dtype=np.float32)}
    path = folder / "reference.parquet"
    pq.write_table(pa.table({**table, **columns}), path)
    return path


def test_every_feature_and_the_score_have_a_null_with_its_floor(make_task, tmp_path):
    task = make_task("monitoring.floors={ks: 0.2, chi2: 0.3, missing: 0.04}")
    calibration = calibrate(task, _write(tmp_path, task))
    found = {(item.feature, item.detector): item for item in calibration.nulls}
    assert set(found) == {
        *((name, detector) for name in ("times_bought", "gap", "price", "score")
          for detector in ("ks", "missing")),
        ("days_since", "chi2"), ("department", "chi2"),
    }  # fmt: skip
    assert found["gap", "ks"].floor == 0.2
    assert found["department", "chi2"].floor == 0.3
    assert found["gap", "missing"].floor == 0.04
    assert max(found["gap", "missing"].distances) > 0 == max(found["price", "missing"].distances)
    for item in calibration.nulls:
        assert item.distances == sorted(item.distances)
        assert len(item.distances) == 4 * 100
    assert (calibration.window_rows, calibration.blocks) == (50, 4)


def test_the_seed_decides(make_task, tmp_path):
    path = _write(tmp_path, make_task())
    assert calibrate(make_task(), path) == calibrate(make_task(), path)
    assert calibrate(make_task(), path) != calibrate(make_task("model.seed=99"), path)


def test_buckets_are_deciles_of_the_score(make_task, tmp_path):
    calibration = calibrate(make_task(), _write(tmp_path, make_task()))
    assert len(calibration.score_buckets) == 9
    assert calibration.score_buckets == sorted(calibration.score_buckets)
    assert calibration.score_shares == pytest.approx([0.1] * 10, abs=0.005)


def test_tied_scores_give_fewer_buckets_that_still_add_up():
    edges, shares = score_buckets(np.array([0.1] * 80 + [0.5] * 20))
    assert edges == [0.1, 0.5]
    assert shares == pytest.approx([0.8, 0.2, 0.0])


def test_bad_references_are_named(make_task, tmp_path):
    with pytest.raises(NotFoundError, match="Write the reference first"):
        calibrate(make_task(), tmp_path / "absent.parquet")
    path = _write(tmp_path, make_task(), weeks=1)
    with pytest.raises(InvalidInputError, match="at least 2"):
        calibrate(make_task(), path)
    pq.write_table(pq.read_table(path).drop_columns(["score", "gap"]), path)
    with pytest.raises(InvalidInputError, match="lacks the columns score, gap"):
        calibrate(make_task(), path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        calibrate(make_task(), path)
