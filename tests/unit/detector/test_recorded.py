"""Rows of a table: read as the server's tensors are, judged as the detector judges traffic."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from pyarrow import csv
from tests.fixtures.past_rows import DRIFT, WINDOW_ROWS, past_rows, write_calibrated_package
from tests.unit.detector.conftest import told

from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError, NotFoundError
from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.metrics import DetectorMetrics
from davy.detector.packages import FolderPackages, subject_of
from davy.detector.recorded import document, judge_rows, read_rows
from davy.detector.samples import Sample
from davy.detector.settings import DetectorSettings
from davy.protocol.tensors import tensor

START = datetime(2017, 12, 1, tzinfo=UTC)
FEATURES = ("kind", "amount", "visits", "channel")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_calibrated_package(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture
def settings(package):
    return DetectorSettings(store=package.path.parent.parent, engine="native", lateness_seconds=0)


@pytest.fixture
def subject(package, settings):
    return subject_of(package, settings)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes columns as a table of either format."""

    def make(columns, suffix=".parquet"):
        table, path = pa.table(columns), tmp_path / f"rows{suffix}"
        csv.write_csv(table, path) if suffix == ".csv" else pq.write_table(table, path)
        return path

    return make


def drifting(windows=4, first=2):
    """Windows of which those from `first` (from 0) on have larger amounts."""
    parts = [
        past_rows(WINDOW_ROWS, seed=50 + n, shift=DRIFT if n >= first else 0.0)
        for n in range(windows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def statuses(judged):
    return [item.result.status for item in judged]


def detectors_windows(package, settings, rows):
    """Return the windows of the detector itself, of the same rows as its own traffic."""
    version = package.contract.version
    metrics, clock = DetectorMetrics(CollectorRegistry()), ManualClock(START)
    parts = assemble(settings, FolderPackages(settings), metrics, clock, on_pair=[].append)
    place = 0
    try:
        for index in range(len(rows["score"])):
            when = START + timedelta(seconds=index)
            values = {name: rows[name][index].item() for name in FEATURES}
            score = rows["score"][index : index + 1]
            answer = (tensor("score", score),)
            for sample in (
                Sample("request", f"r{index}", version, when, values),
                Sample("response", f"r{index}", version, when, {"score": score[0].item()}, answer),
            ):
                asyncio.run(parts.consumer.apply([Entry(place, place + 1, [told(sample)])]))
                place += 1
        return parts.watcher.report()["versions"][0]["windows"]
    finally:
        parts.close()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_verdicts_are_those_of_the_detector(package, settings, subject, write, suffix):
    rows = drifting()
    live = detectors_windows(package, settings, rows)
    judged = judge_rows(subject, read_rows(write(rows, suffix), package.contract), where="t")
    ours = document(subject, judged)["windows"]
    assert [item["status"] for item in live] == ["ok", "ok", "drift", "drift"]
    assert live[-1]["active"]
    for name in ("rows", "scored", "status", "active", "features"):
        assert [item[name] for item in ours] == [item[name] for item in live]


def test_rows_are_ordered_by_time_and_ties_keep_their_order(package, write):
    rows = past_rows(6)
    hours = [5, 1, 1, 4, 0, 2]
    stamps = [START + timedelta(hours=hour) for hour in hours]
    found = read_rows(write({**rows, "at": stamps}), package.contract, time="at")
    order = [4, 1, 2, 5, 3, 0]
    assert found.columns["amount"].tolist() == rows["amount"][order].astype(float).tolist()
    assert found.times == [stamps[index] for index in order]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2017-01-02", "2017-01-01"], [datetime(2017, 1, 1), datetime(2017, 1, 2)]),  # noqa: DTZ001
        (
            ["2017-01-01T12:00:00+02:00", "2017-01-01T09:00:00Z"],
            [datetime(2017, 1, 1, 9, tzinfo=UTC), datetime(2017, 1, 1, 10, tzinfo=UTC)],
        ),
        (
            pa.array([9, 3], pa.date32()),
            [START.fromtimestamp(86400 * n, UTC).date() for n in (3, 9)],
        ),
        (pa.array([2, 1], pa.timestamp("ns")), [datetime(1970, 1, 1)] * 2),  # noqa: DTZ001
        ([7, 3], [3, 7]),
        ([0.5, -0.5], [-0.5, 0.5]),
    ],
)
def test_what_a_time_column_may_hold(package, write, times, expected):
    found = read_rows(write({**past_rows(2), "at": times}), package.contract, time="at")
    assert list(found.times) == expected


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2017-01-02", None], "has no value in row 2"),
        (["yesterday", "today"], "no timestamps"),
        (["2017-01-02T00:00:00", "2017-01-02T00:00:00Z"], "some with an offset"),
        ([1.0, math.nan], "not finite"),
        ([True, False], "holds bool"),
        ([[1], [2]], "holds list"),
    ],
)
def test_a_time_column_that_orders_nothing(package, write, times, message):
    path = write({**past_rows(2), "at": times})
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_rows(path, package.contract, time="at")
    assert "column 'at'" in str(caught.value)


def test_values_are_rounded_to_the_models_type(package, write):
    rows = {**past_rows(2), "amount": np.array([0.1, 1e300])}
    found = read_rows(write(rows), package.contract).columns["amount"]
    assert found.tolist() == [float(np.float32(0.1)), math.inf]


def test_an_empty_cell_of_a_number_is_missing(package, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("kind,amount,visits,channel\n1,2.5,,1\n2,,,2\n")
    found = read_rows(path, package.contract).columns
    assert np.isnan(found["visits"]).all()
    assert np.isnan(found["amount"]).tolist() == [False, True]
    assert found["kind"].dtype == np.int64


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([1.0, 2.0], [1, 2]),
        ([True, False], [1, 0]),
        (pa.array([3, 4]).dictionary_encode(), [3, 4]),
        (pa.array([3, 4], pa.uint8()), [3, 4]),
    ],
)
def test_whole_numbers_of_another_type_are_categories(package, write, kinds, expected):
    found = read_rows(write({**past_rows(2), "kind": kinds}), package.contract).columns["kind"]
    assert (found.tolist(), found.dtype) == (expected, np.int64)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kind", [1.5, 2.0], "no whole numbers"),
        ("kind", [1, None], "has no value in row 2"),
        ("kind", [None, None], "has no value in row 1"),
        ("kind", ["a", "b"], "holds string, and the contract says INT64"),
        ("kind", pa.array([1, 2**64 - 1], pa.uint64()), "no whole numbers of 64 bits"),
        ("amount", ["1", "x"], "holds string, and the contract says FP32"),
        ("amount", [[1.0], [2.0]], "holds list"),
        ("amount", [START, START], "holds timestamp"),
    ],
)
def test_a_column_of_another_type_is_named(package, write, name, values, message):
    path = write({**past_rows(2), name: values})
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_rows(path, package.contract)
    assert f"column '{name}'" in str(caught.value)


def test_a_category_out_of_its_type(tmp_path, write):
    inputs = [{"name": "kind", "datatype": "INT8"}]
    contract = write_calibrated_package(tmp_path, inputs=inputs).contract
    with pytest.raises(InvalidInputError, match="out of the range of INT8"):
        read_rows(write({"kind": [1, 128]}), contract)


def test_text_is_not_watched(tmp_path, write):
    inputs = [{"name": "word", "datatype": "BYTES"}]
    contract = write_calibrated_package(tmp_path, inputs=inputs).contract
    with pytest.raises(InvalidInputError, match="input 'word': is of BYTES"):
        read_rows(write({"word": ["a"]}), contract)


def test_missing_columns_are_all_named(package, write):
    with pytest.raises(InvalidInputError, match="lacks the columns amount, visits, channel"):
        read_rows(write({"kind": [1]}), package.contract)


def test_one_missing_column_comes_with_what_is_near(package, write):
    rows = past_rows(2)
    rows["amuont"] = rows.pop("amount")
    with pytest.raises(InvalidInputError, match=r"the column amount.*amuont"):
        read_rows(write(rows), package.contract)


@pytest.mark.parametrize("option", ["time", "score"])
def test_a_named_column_must_be_there(package, write, option):
    with pytest.raises(InvalidInputError, match="lacks the column when"):
        read_rows(write(past_rows(2)), package.contract, **{option: "when"})


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_column_that_is_there_twice(package, tmp_path, suffix):
    rows = past_rows(2)
    table = pa.Table.from_arrays(
        [pa.array(v) for v in (*rows.values(), rows["kind"])], names=[*rows, "kind"]
    )
    path = tmp_path / f"rows{suffix}"
    csv.write_csv(table, path) if suffix == ".csv" else pq.write_table(table, path)
    with pytest.raises(InvalidInputError, match="has the column kind more than once"):
        read_rows(path, package.contract)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("rows.parquet", b"kind,amount\n1,2\n", "Parquet"),
        ("rows.parquet", b"", "Parquet"),
        ("rows.csv", b"", "CSV"),
        ("rows.csv", b"kind,amount,visits,channel\n1,2\n", "CSV"),
        ("rows.csv", b"kind,amount,visits,channel\n1,\xff\xfe,3,1,9\n", "CSV"),
    ],
)
def test_a_file_that_is_no_table(package, tmp_path, name, content, kind):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=f"cannot be read as {kind}"):
        read_rows(path, package.contract)


def test_no_file(package, tmp_path):
    for path in (tmp_path, tmp_path / "rows.csv"):
        with pytest.raises(NotFoundError, match="no such file"):
            read_rows(path, package.contract)


def test_without_a_score_only_the_score_is_insufficient(package, subject, write):
    rows = {name: values for name, values in drifting(1).items() if name != "score"}
    (judged,) = judge_rows(subject, read_rows(write(rows), package.contract), where="t")
    found = {(item.feature, item.detector): item.status for item in judged.result.features}
    assert found.pop(("score", "ks")) == "insufficient"
    assert set(found.values()) == {"ok"}
    assert judged.scored == 0


def test_the_score_may_have_another_name_and_gaps(package, write):
    rows = past_rows(3)
    rows["output_score"] = np.array([0.25, math.inf, math.nan])
    del rows["score"]
    found = read_rows(write(rows), package.contract, score="output_score").columns["score"]
    assert np.isnan(found).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(90, ["ok"]), (189, ["ok", "insufficient"]), (190, ["ok", "ok"]), (200, ["ok", "ok"])],
)
def test_the_last_window_counts_when_it_is_nearly_full(package, subject, write, rows, expected):
    table = write({name: values[:rows] for name, values in drifting(2).items()})
    judged = judge_rows(subject, read_rows(table, package.contract), where="t")
    assert statuses(judged) == expected
    assert judged[-1].last == rows


@pytest.mark.parametrize("rows", [0, 1, 89])
def test_too_few_rows_for_any_verdict(package, subject, write, rows):
    found = read_rows(write(past_rows(rows)), package.contract)
    with pytest.raises(InvalidInputError, match=f"rows.parquet: holds {rows} rows, and 90 are"):
        judge_rows(subject, found, where="rows.parquet")


@pytest.mark.parametrize("value", [math.nan, 5.0, math.inf])
def test_a_constant_feature_is_drift_and_no_crash(package, subject, write, value):
    rows = {**drifting(2, first=9), "visits": np.full(200, value, np.float32)}
    judged = judge_rows(subject, read_rows(write(rows), package.contract), where="t")
    assert {item.feature for item in judged[-1].result.drifted} == {"visits"}
    assert {feature for feature, _ in judged[-1].active} == {"visits"}


def test_ten_thousand_new_categories(package, subject, write):
    rows = {**drifting(2, first=9), "kind": np.arange(200) * 50 + 100}
    judged = judge_rows(subject, read_rows(write(rows), package.contract), where="t")
    assert ("kind", "chi2") in judged[-1].active
