"""Requests: one a household and day, drawn the same whatever the pseudonyms are."""

import ibis
import pandas as pd
import pytest

from davy.data.engine import open_engine
from davy.features.history import draw_requests, read_history

SIZES = {"train": 20, "valid": 9, "test": 10_000, "replay": 0}


@pytest.fixture
def engine():
    with open_engine("test tables", threads=1) as connection:
        yield connection


def draw(connection, transactions, task, sizes=SIZES):
    history = read_history(connection, ibis.memtable(transactions))
    return history, draw_requests(history, task, sizes).to_pandas()


def test_sizes_bound_each_part(engine, small_transactions, small_task):
    _, requests = draw(engine, small_transactions, small_task)
    counts = requests.part.value_counts().to_dict()
    visits = small_transactions[small_transactions.week.between(11, 12)]
    large = visits.groupby(["household_id", "day"]).product_id.nunique() >= 5
    assert counts == {"train": 20, "valid": 9, "test": large.sum()}


def test_requests_are_numbered_in_the_order_of_time(engine, small_transactions, small_task):
    _, requests = draw(engine, small_transactions, small_task)
    ordered = requests.sort_values("request_no")
    assert list(ordered.request_no) == list(range(len(requests)))
    assert ordered.time.is_monotonic_increasing


def test_two_baskets_of_a_day_are_one_request(engine, small_transactions, small_task):
    visit = small_transactions[small_transactions.week == 11]
    size = visit.groupby("basket_id").product_id.nunique()
    basket = visit[visit.basket_id == size.idxmax()]
    more = basket.head(2).assign(
        basket_id=9999, product_id=[158, 159], time=basket.time + pd.Timedelta(hours=1)
    )
    history, requests = draw(
        engine, pd.concat([small_transactions, more]), small_task, {"test": 10_000}
    )
    [found] = requests[
        (requests.day == pd.Timestamp(basket.day.iloc[0]))
        & (requests.basket_size == size.max() + 2)
    ].itertuples()
    assert found.time == basket.time.iloc[0]
    visits = history.visits.to_pandas()
    same = (visits.household_no == found.household_no) & (visits.day_no == found.day_no)
    assert visits[same].baskets.item() == 2


def test_another_pseudonym_draws_the_same_visits(small_transactions, small_task):
    other = small_transactions.assign(
        household_id=small_transactions.household_id.map(lambda text: text[::-1])
    )
    drawn = []
    for transactions in (small_transactions, other):
        with open_engine("test tables", threads=1) as connection:
            _, requests = draw(connection, transactions, small_task)
            drawn.append(requests.sort_values("request_no"))
    for column in ("time", "week", "basket_size", "part"):
        assert list(drawn[0][column]) == list(drawn[1][column])
