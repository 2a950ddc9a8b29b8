"""A task over one table: what may be said of sources, segments, labels and transforms."""

import numpy as np
import pandas as pd
import pytest

from davy.core.errors import InvalidInputError
from davy.data.table import as_numbers, read_table
from davy.data.table_task import TableTask, load_table_task, parse_table_task

BASE = {
    "name": "orders",
    "kind": "classification",
    "data": {"source": "file://orders.csv"},
    "time": "made_at",
    "label": {"name": "late", "classes": ["no", "yes"]},
    "features": [{"name": "amount", "type": "number"}],
    "segments": [{"name": "region", "categories": ["north", "south"]}],
    "objective": {"metric": "roc_auc"},
}
ROWS = 200


def task(**changes) -> TableTask:
    return parse_table_task({**BASE, **changes}, where="test")


def orders(folder, **columns) -> TableTask:
    """Write a made-up table, one row a day; return the task that reads it."""
    rng = np.random.default_rng(0)
    frame = {
        "made_at": pd.date_range("2026-01-01", periods=ROWS).astype(str),
        "late": rng.choice(["no", "yes"], ROWS),
        "amount": rng.normal(size=ROWS),
        "region": rng.choice(["north", "south", "west"], ROWS),
        **columns,
    }
    pd.DataFrame(frame).to_csv(folder / "orders.csv", index=False)
    return task(data={"source": f"file://{folder / 'orders.csv'}"})


def changed(one: TableTask, **label) -> TableTask:
    return one.model_copy(update={"label": one.label.model_copy(update=label)})


def test_a_segment_that_is_no_feature_cuts_the_rows_and_is_no_input(tmp_path):
    table = read_table(orders(tmp_path))
    assert set(table.test.features) == {"amount"}
    raw = pd.read_csv(tmp_path / "orders.csv").tail(table.test.count)
    wanted = raw.region.map({"north": 1, "south": 2, "west": 0})
    np.testing.assert_array_equal(table.test.segments["region"], wanted)


def test_a_label_that_was_not_known_yet_is_not_learnt_from(tmp_path):
    one = orders(tmp_path)
    at_once, later = read_table(one), read_table(changed(one, delay_days=30))
    assert at_once.not_yet_known == 0
    assert later.test.count == at_once.test.count == 40
    # Of the days before the test's first, the last 29 are not known when it begins.
    assert later.not_yet_known == 29
    assert later.valid.count == 40 - 29
    assert later.train.count == at_once.train.count


def test_a_label_is_known_at_a_column_of_its_own(tmp_path):
    known = pd.date_range("2026-01-01", periods=ROWS) + pd.Timedelta(days=1)
    known = known.where(np.arange(ROWS) != 5, pd.Timestamp("2027-01-01"))
    one = changed(orders(tmp_path, known=known.astype(str)), known_at="known")
    table = read_table(one)
    assert table.not_yet_known == 1
    assert table.train.count == 119
    # `delay_days` does not count then.
    assert read_table(changed(one, delay_days=30)).not_yet_known == 1


def test_plain_numbers_are_read_as_their_text_is():
    for values in ([1, 2, 3], [0.5, np.nan, np.inf], [-1.5, 2.0, 7.25]):
        plain, wrong = as_numbers(pd.Series(values))
        text, wrong_text = as_numbers(pd.Series([str(value) for value in values]))
        np.testing.assert_array_equal(plain, text)
        assert wrong == wrong_text
    # True is no number, as a column or as text.
    assert as_numbers(pd.Series([True, False]))[1] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"source": "completejourney:"}}, "data.table what is to be built"),
        ({"data": {"source": "file://shop"}}, "data.table what is to be built"),
        ({"data": {"source": "file://a.csv", "table": "churn"}}, "a file is a table already"),
        ({"data": {"source": "ftp://a.csv"}}, "cannot be read"),
        ({"data": {"source": "file://s", "table": "churn", "timezone": "Nowhere/At"}}, "time zone"),
        ({"segments": ["amount"]}, "segment 'amount' is no category"),
        ({"segments": [{"name": "amount", "categories": ["1"]}]}, "is the name of a feature"),
        ({"segments": [{"name": "late", "categories": ["yes"]}]}, "is the label itself"),
        ({"segments": [{"name": "s", "categories": ["a", "a"]}]}, "categories twice"),
        ({"segments": [BASE["segments"][0]] * 2}, "names 'region' twice"),
        ({"time": None, "label": {**BASE["label"], "known_at": "k"}}, "known_at needs time"),
        (
            {
                "features": [
                    {"name": "c", "type": "category", "categories": ["a"], "transform": "log"}
                ]
            },
            "cannot have a transform",
        ),
    ],
)
def test_faults_are_explained(change, message):
    with pytest.raises(InvalidInputError, match=message):
        task(**change)


def test_a_column_of_a_segment_that_is_not_there_is_named(tmp_path):
    one = orders(tmp_path)
    gone = one.model_copy(
        update={"segments": (one.cuts[0].model_copy(update={"column": "regio"}),)}
    )
    with pytest.raises(InvalidInputError, match="region: no column 'regio'; did you mean"):
        read_table(gone)


def test_a_folder_is_found_from_the_task_and_a_package_is_not_looked_for(tmp_path):
    import yaml

    for source, wanted in (
        ("file://shop", f"file://{tmp_path / 'shop'}"),
        ("completejourney:", "completejourney:"),
    ):
        path = tmp_path / "t.yaml"
        path.write_text(yaml.safe_dump({**BASE, "data": {"source": source, "table": "churn"}}))
        assert load_table_task(path).data.source == wanted
