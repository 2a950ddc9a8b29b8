from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import read_model
from davy.outlier.document import OutlierDocument, from_document
from davy.packaging.contract import Interval
from davy.training.outliers import affordable, calibrate_outliers, fit_detector
from davy.training.reference import read_reference


@pytest.fixture(scope="module")
def reference(make_task, tmp_path_factory):
    """Rows in which times_bought and the gap go together."""
    rng = np.random.default_rng(0)
    rows = 1200
    bought = rng.poisson(10, rows).astype(np.float32)
    gap = (100 / (bought + 1) * rng.lognormal(0, 0.1, rows)).astype(np.float32)
    gap[rng.random(rows) < 0.2] = np.nan
    columns = {
        "block": np.arange(rows) % 4,
        "score": rng.random(rows, dtype=np.float32),
        "days_since": rng.integers(1, 21, rows),
        "times_bought": bought,
        "gap": gap,
        "price": rng.lognormal(1, 0.5, rows).astype(np.float32),
        "department": rng.integers(0, 6, rows),
    }
    path = tmp_path_factory.mktemp("reference") / "reference.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def seconds(lower, upper):
    return Interval(value=(lower + upper) / 2, lower=lower, upper=upper, n=60)


@pytest.mark.parametrize("method", ["mahalanobis", "isolation_forest"])
def test_the_file_is_the_detector_that_the_contract_speaks_of(
    make_task, reference, price_model, tmp_path, method
):
    task = make_task(f"monitoring.outliers={{method: {method}, false_positive_rate: 0.02}}")
    found = calibrate_outliers(task, reference, price_model, tmp_path)
    assert (found.method, found.false_positive_rate, found.rows) == (method, 0.02, 600)
    assert found.batch == task.compression.batch
    detector = from_document(read_model(tmp_path / found.file, OutlierDocument))
    assert detector.threshold.value == found.threshold
    assert type(detector.scorer).__name__.lower() == method.replace("_", "")
    columns = read_reference(task, reference)
    rows = {feature.name: columns[feature.name] for feature in task.features}
    again = fit_detector(task, rows)
    np.testing.assert_array_equal(detector.scorer.score(rows), again.scorer.score(rows))
    assert 0.001 <= detector.flags(rows).mean() <= 0.04
    for interval in (found.seconds, found.model_seconds):
        assert 0 < interval.lower <= interval.value <= interval.upper < 1
    assert found.in_request == (found.seconds.upper < found.model_seconds.lower)


def test_the_threshold_comes_from_rows_that_the_fit_did_not_see(make_task, reference):
    """Wild rows that are only in one half move either the fit or the threshold."""
    task = make_task()
    columns = read_reference(task, reference)
    rows = {feature.name: columns[feature.name] for feature in task.features}
    order = np.random.default_rng(task.model.seed).permutation(1200)
    plain = fit_detector(task, rows)
    seen, held_out = dict(rows), dict(rows)
    for changed, places in ((seen, order[:600]), (held_out, order[600:])):
        changed["price"] = rows["price"].copy()
        changed["price"][places] *= 3
    assert fit_detector(task, seen).scorer.centre.tolist() != plain.scorer.centre.tolist()
    calibrated = fit_detector(task, held_out)
    np.testing.assert_array_equal(calibrated.scorer.centre, plain.scorer.centre)
    assert calibrated.threshold.value > plain.threshold.value


def test_a_task_may_do_without(make_task, reference, price_model, tmp_path):
    task = make_task("monitoring.outliers.method=none")
    assert calibrate_outliers(task, reference, price_model, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_cost_is_what_the_clock_says(make_task, reference, price_model, tmp_path):
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    found = calibrate_outliers(make_task(), reference, price_model, tmp_path, clock=clock)
    # On a clock that stands, nothing is surely cheaper.
    assert (found.seconds.value, found.model_seconds.value, found.in_request) == (0, 0, False)


@pytest.mark.parametrize(
    ("scorer", "model", "cheap", "words"),
    [
        ((20e-6, 30e-6), (31e-6, 40e-6), True, "scoring 100 rows took 25 µs, the model 36 µs"),
        ((20e-6, 30e-6), (30e-6, 40e-6), False, "cannot be told"),
        ((20e-6, 30e-6), (10e-6, 21e-6), False, "cannot be told"),
        ((20e-6, 30e-6), (10e-6, 19e-6), False, "must cost less than the model"),
    ],
)
def test_it_is_scored_in_the_request_only_when_surely_cheaper(scorer, model, cheap, words):
    found, why = affordable(seconds(*scorer), seconds(*model), 100)
    assert found is cheap
    assert words in why


def test_too_few_rows_for_the_rate_are_named(make_task, reference, price_model, tmp_path):
    task = make_task("monitoring.outliers.false_positive_rate=0.001")
    with pytest.raises(
        InvalidInputError, match=r"monitoring\.outliers: .*999 rows or more.*method to none"
    ):
        calibrate_outliers(task, reference, price_model, tmp_path)


def test_bad_files_are_named(make_task, reference, price_model, tmp_path):
    with pytest.raises(NotFoundError, match="Write the reference first"):
        calibrate_outliers(make_task(), tmp_path / "absent.parquet", price_model, tmp_path)
    table = io.BytesIO(reference.read_bytes())
    lacking = tmp_path / "lacking.parquet"
    pq.write_table(pq.read_table(table).drop_columns(["gap"]), lacking)
    with pytest.raises(InvalidInputError, match="lacks the columns gap"):
        calibrate_outliers(make_task(), lacking, price_model, tmp_path)
