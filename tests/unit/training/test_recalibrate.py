"""A package calibrated on other rows: what changes, what stays, and what the old one keeps."""

from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.fixtures import tiny_package
from tests.fixtures.past_rows import DRIFT, WINDOW_ROWS, past_rows, write_calibrated_package

from davy.core.errors import InvalidInputError
from davy.packaging.package import MODEL, REFERENCE, read_package
from davy.training.recalibrate import PastRows, recalibrate

CATEGORIES = ("kind", "channel")
NOW = datetime(2018, 2, 3, tzinfo=UTC)


def shifted(weeks=4, rows=150, *, scored=True, shift=DRIFT, **changes):
    columns = {**past_rows(weeks * rows, seed=9, shift=shift), **changes}
    if not scored:
        del columns["score"]
    measured = {
        name: values if values.dtype.kind == "i" else values.astype(float)
        for name, values in columns.items()
    }
    return PastRows(measured, np.repeat(np.arange(weeks), rows), "rows.parquet")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    evidence = folder / "evidence.csv"
    evidence.write_text("a\n1\n")
    return write_calibrated_package(folder, extra={"evidence/why.csv": evidence})


@pytest.fixture(scope="module")
def written(package, tmp_path_factory):
    before = {name: path.read_bytes() for name, path in package.files.items()}
    store = tmp_path_factory.mktemp("store")
    found = recalibrate(package, shifted(scored=False), store=store, created=NOW)
    assert {name: path.read_bytes() for name, path in package.files.items()} == before
    return found


def test_a_new_version_stands_beside_the_old_one(package, written):
    assert written.contract.version.startswith("2018.02.03-")
    assert written.contract.lineage.parent == package.contract.version
    assert read_package(written.path).identity == written.identity
    assert read_package(package.path).identity == package.identity


def test_only_reference_and_calibration_are_others(package, written):
    assert written.content(MODEL) == package.content(MODEL)
    assert written.content("evidence/why.csv") == package.content("evidence/why.csv")
    anew = {"version", "created", "calibration", "lineage"}
    old, new = (p.contract.model_dump(exclude=anew) for p in (package, written))
    assert new == old


def test_the_reference_holds_the_rows_and_the_models_own_scores(written):
    table = pq.read_table(written.path / REFERENCE)
    expected = past_rows(600, seed=9, shift=DRIFT)
    assert table.column_names == ["block", "kind", "amount", "visits", "channel", "score"]
    np.testing.assert_array_equal(table["amount"].to_numpy(), expected["amount"])
    scores = tiny_package.expected_scores(expected)
    np.testing.assert_allclose(table["score"].to_numpy(), scores, rtol=1e-5)


def test_the_calibration_is_measured_on_the_new_rows(package, written):
    old, new = package.contract.calibration, written.contract.calibration
    assert (new.window_rows, new.blocks) == (WINDOW_ROWS, 4)
    assert {(n.feature, n.detector): n.floor for n in new.nulls} == {
        (n.feature, n.detector): n.floor for n in old.nulls
    }
    assert new.score_buckets[0] > old.score_buckets[0]
    assert [n.distances for n in new.nulls] != [n.distances for n in old.nulls]


def test_the_rows_of_its_own_reference_give_the_calibration_that_it_has(package, tmp_path):
    columns = pq.read_table(package.path / REFERENCE)
    measured = {
        name: columns[name].to_numpy().astype(np.int64 if name in CATEGORIES else float)
        for name in columns.column_names
    }
    past = PastRows(measured, measured.pop("block").astype(int), "reference.parquet")
    again = recalibrate(package, past, store=tmp_path, created=NOW)
    assert again.contract.calibration == package.contract.calibration


def test_a_floor_of_one_feature_stays(package, tmp_path):
    calibration = package.contract.calibration.model_dump(mode="json")
    calibration["nulls"][0]["floor"] = 0.31
    first = write_calibrated_package(tmp_path, calibration=calibration)
    found = recalibrate(first, shifted(), store=tmp_path / "other", created=NOW)
    key = (calibration["nulls"][0]["feature"], calibration["nulls"][0]["detector"])
    floors = {(n.feature, n.detector): n.floor for n in found.contract.calibration.nulls}
    assert [k for k, floor in floors.items() if floor == 0.31] == [key]


@pytest.mark.parametrize(
    ("past", "message"),
    [
        (shifted(weeks=1, rows=0), r"holds 0 block\(s\)"),
        (shifted(weeks=1, rows=300), r"holds 1 block\(s\)"),
        (shifted(weeks=5, rows=49), "most of its 5 blocks have less than half of a window's 100"),
        (shifted(score=np.full(600, np.nan)), "600 of 600 rows have no score"),
        (shifted(scored=False, kind=np.full(600, 99)), "the model does not take the rows"),
    ],
)
def test_rows_that_nothing_can_be_calibrated_on(package, tmp_path, past, message):
    with pytest.raises(InvalidInputError, match=message):
        recalibrate(package, past, store=tmp_path / "store", created=NOW)
    assert not list(tmp_path.glob("store/*/2*"))


def test_a_score_of_another_name_must_be_given(tmp_path):
    outputs = [{"name": "chance", "datatype": "FP32"}]
    package = write_calibrated_package(tmp_path, outputs=outputs)
    with pytest.raises(InvalidInputError, match="--score"):
        recalibrate(package, shifted(scored=False), store=tmp_path / "other", created=NOW)
    assert recalibrate(package, shifted(), store=tmp_path / "other", created=NOW).path.is_dir()
