"""The feature files: their columns, order, split, units, and the errors of the step."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import read_model
from davy.data.prepare import prepare
from davy.data.task import PARTS, load_task, parse_task, task_text
from davy.features.build import FeatureReport, build


@pytest.fixture(scope="module")
def data(small_transactions, write_prepared, tmp_path_factory):
    return write_prepared(small_transactions, tmp_path_factory.mktemp("build") / "data")


@pytest.fixture(scope="module")
def built(small_task, data):
    build(small_task, data, data.parent / "features")
    return data.parent / "features"


def read(folder: Path) -> dict[str, pd.DataFrame]:
    return {part: pd.read_parquet(folder / f"{part}.parquet") for part in PARTS}


def changed(task, *overrides):
    return parse_task(task_text(task), overrides)


def test_columns_are_the_tasks_features_in_order_with_their_types(built, small_task):
    schema = pq.read_schema(built / "test.parquet")
    assert schema.names == [
        "request_id", "household_id", "product_id", "time", "week", "label", "basket_size",
        *(feature.name for feature in small_task.features),
        "segment_shopper", "segment_lapse", "baseline_popularity", "baseline_personal",
    ]  # fmt: skip
    for feature in small_task.features:
        wanted = "int64" if feature.type == "category" else "float"
        assert str(schema.field(feature.name).type) == wanted, feature.name
    assert str(schema.field("label").type) == "int8"


def test_missing_is_nan_not_null(built):
    table = pq.read_table(built / "train.parquet")
    assert all(column.null_count == 0 for column in table.columns)
    assert np.isnan(table["mean_gap_days"].to_numpy()).any()


def test_requests_are_whole_contiguous_and_in_the_order_of_time(built):
    for part, rows in read(built).items():
        assert rows.time.is_monotonic_increasing, part
        changes = (rows.request_id != rows.request_id.shift()).sum()
        assert changes == rows.request_id.nunique(), part
        assert (rows.groupby("request_id").size() == 30).all(), part
        assert not rows.duplicated(["request_id", "product_id"]).any(), part


def test_parts_share_no_request_and_no_week(built, small_task):
    parts = read(built)
    for part, (first, last) in small_task.split.parts().items():
        assert parts[part].week.between(first, last).all()
    ids = [set(rows.request_id) for rows in parts.values()]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_report_agrees_with_the_files(built):
    report = read_model(built / "features.json", FeatureReport)
    for part, rows in read(built).items():
        told = report.parts[part]
        requests = rows.drop_duplicates("request_id")
        assert (told.requests, told.rows) == (len(requests), len(rows))
        assert told.positives == rows.label.sum()
        assert told.recall == pytest.approx(rows.label.sum() / requests.basket_size.sum())
        positives = rows.groupby("request_id").label.sum()
        assert told.requests_without_positive == (positives == 0).sum()
        for segment in report.segments:
            counts = requests[f"segment_{segment.name}"].value_counts().to_dict()
            assert segment.requests[part] == counts
    everything = pd.concat(read(built).values())
    for feature in report.features:
        assert feature.missing == pytest.approx(everything[feature.name].isna().mean())


def test_two_builds_and_any_order_of_rows_give_the_same_files(
    built, small_task, small_transactions, write_prepared, tmp_path
):
    shuffled = small_transactions.sample(frac=1, random_state=9)
    build(small_task, write_prepared(shuffled, tmp_path / "data"), tmp_path / "again")
    for part, rows in read(tmp_path / "again").items():
        pd.testing.assert_frame_equal(rows, read(built)[part], check_exact=True)


def test_another_seed_draws_other_requests(small_task, data, built, tmp_path):
    few = changed(small_task, "model.train_baskets=10")
    other = changed(small_task, "model.train_baskets=10", "model.seed=8")
    for task, name in ((few, "few"), (other, "other")):
        build(task, data, tmp_path / name)
    drawn = [set(read(tmp_path / name)["train"].request_id) for name in ("few", "other")]
    assert [len(ids) for ids in drawn] == [10, 10]
    assert drawn[0] != drawn[1]
    assert drawn[0] < set(read(built)["train"].request_id)


def test_weeks_instead_of_days(small_task, data, built, tmp_path):
    weeks = changed(
        small_task,
        "features.days_since_basket.unit=week",
        "features.days_since_basket.range=[0, 8]",
        "features.days_since_bought.unit=week",
    )
    build(weeks, data, tmp_path)
    for part, rows in read(tmp_path).items():
        days = read(built)[part]
        np.testing.assert_array_equal(rows.days_since_basket, days.days_since_basket // 7)
        np.testing.assert_array_equal(rows.days_since_bought, days.days_since_bought // 7)
        assert (rows.segment_lapse == days.segment_lapse).all()


def test_cents_instead_of_dollars(small_task, data, built, tmp_path):
    build(changed(small_task, "features.unit_price.unit=cent"), data, tmp_path)
    for part, rows in read(tmp_path).items():
        np.testing.assert_allclose(rows.unit_price, read(built)[part].unit_price * 100, rtol=1e-6)


def test_a_category_is_capped_to_its_range(small_task, data, tmp_path):
    build(
        changed(
            small_task,
            "features.days_since_basket.range=[1, 3]",
            "features.department.range=[0, 2]",
        ),
        data,
        tmp_path,
    )
    rows = pd.concat(read(tmp_path).values())
    assert set(rows.days_since_basket) == {1, 2, 3}
    assert set(rows.department) == {0, 1, 2}
    report = read_model(tmp_path / "features.json", FeatureReport)
    assert len(report.departments) == 2


def test_a_task_without_departments_or_segments(small_task, data, tmp_path):
    task = changed(small_task, "features=[{name: times_bought, type: number}]", "segments=[]")
    report = build(task, data, tmp_path)
    assert [feature.name for feature in report.features] == ["times_bought"]
    assert report.departments == []


def test_fingerprint_follows_data_and_task(small_task, data, built, tmp_path):
    before = read_model(built / "features.json", FeatureReport)
    after = build(changed(small_task, "candidates.per_basket=20"), data, tmp_path)
    assert before.data_fingerprint == after.data_fingerprint == "0" * 64
    assert before.fingerprint != after.fingerprint


def test_no_data_step_before(small_task, tmp_path):
    with pytest.raises(NotFoundError, match=r"quality\.json"):
        build(small_task, tmp_path, tmp_path / "features")


def test_missing_and_damaged_transactions(small_task, small_transactions, write_prepared, tmp_path):
    folder = write_prepared(small_transactions, tmp_path / "data")
    path = folder / "transactions.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidInputError, match=r"transactions\.parquet"):
        build(small_task, folder, tmp_path / "features")
    path.unlink()
    with pytest.raises(NotFoundError, match="Run the data step"):
        build(small_task, folder, tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_a_part_without_requests(small_task, small_transactions, write_prepared, tmp_path):
    early = small_transactions[small_transactions.week < 13]
    with pytest.raises(InvalidInputError, match="no request in replay"):
        build(small_task, write_prepared(early, tmp_path / "data"), tmp_path / "features")


def test_an_unknown_feature_stops_before_any_work(small_task, tmp_path):
    task = changed(small_task, "features.unit_price.name=unit_prise")
    with pytest.raises(InvalidInputError, match="did you mean 'unit_price'"):
        build(task, tmp_path / "nothing", tmp_path / "features")


def test_sixty_real_households(tmp_path):
    root = Path(__file__).parents[3]
    task = load_task(root / "pipelines" / "tasks" / "next_basket.yaml")
    data = prepare(task, tmp_path / "data", households=60)
    report = build(task, tmp_path / "data", tmp_path / "features")

    assert data.households == 60
    assert report.data_fingerprint == data.data_fingerprint
    assert len(report.departments) == 15
    assert report.parts["train"].requests > 500
    for part in report.parts.values():
        assert part.rows == part.requests * 100
        assert 0.2 < part.recall < 0.6
    missing = {f.name: f.missing for f in report.features if f.missing}
    assert set(missing) <= {"days_since_bought", "mean_gap_days"}
    replay = pd.read_parquet(tmp_path / "features" / "replay.parquet")
    late = replay.drop_duplicates("request_id").days_since_basket > 8
    assert 0.05 < late.mean() < 0.5
