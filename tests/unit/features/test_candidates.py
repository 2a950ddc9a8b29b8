"""Candidates: the household's own products first, then the popular ones of the weeks before."""

import ibis
import pytest

from davy.data.engine import open_engine
from davy.features.candidates import (
    choose_candidates,
    monday,
    own_products,
    popular_products,
)
from davy.features.history import draw_requests, read_history

PER_BASKET = 25


@pytest.fixture(scope="module")
def tables(small_transactions, small_task):
    with open_engine("test tables", threads=1) as connection:
        history = read_history(connection, ibis.memtable(small_transactions))
        requests = connection.create_table(
            "requests", draw_requests(history, small_task, {"test": 15})
        )
        own = connection.create_table("own", own_products(history, requests, PER_BASKET))
        popular = connection.create_table(
            "popular", popular_products(history, requests, PER_BASKET)
        )
        chosen = choose_candidates(requests, own, popular, PER_BASKET)
        yield {
            "requests": requests.to_pandas(),
            "own": own.to_pandas(),
            "popular": popular.to_pandas(),
            "chosen": chosen.to_pandas(),
        }


def test_every_request_has_its_number_of_distinct_candidates(tables):
    sizes = tables["chosen"].groupby("request_no").product_id.agg(["size", "nunique"])
    assert len(sizes) == 15
    assert (sizes == PER_BASKET).all().all()


def test_own_products_come_before_popular_ones(tables):
    for request in tables["requests"].itertuples():
        chosen = tables["chosen"][tables["chosen"].request_no == request.request_no]
        own = tables["own"][tables["own"].request_no == request.request_no]
        popular = tables["popular"][
            tables["popular"].first_day == request.day_no - request.day_no % 7
        ].sort_values("place")
        filled = [p for p in popular.product_id if p not in set(own.product_id)]
        wanted = set(own.product_id) | set(filled[: PER_BASKET - len(own)])
        assert set(chosen.product_id) == wanted
        assert set(chosen[chosen.times_bought.notna()].product_id) == set(own.product_id)


def test_only_the_top_by_decayed_count_are_kept(small_transactions, small_task):
    with open_engine("test tables", threads=1) as connection:
        history = read_history(connection, ibis.memtable(small_transactions))
        requests = connection.create_table(
            "requests", draw_requests(history, small_task, {"test": 5})
        )
        every = own_products(history, requests, 1000).to_pandas()
        top = own_products(history, requests, 3).to_pandas()
    best = every.groupby("request_no").decayed_count.nlargest(3).groupby("request_no").min()
    assert (top.groupby("request_no").size() == 3).all()
    assert (top.groupby("request_no").decayed_count.min() == best).all()


@pytest.mark.parametrize(("day", "first"), [(0, 0), (6, 0), (7, 7), (-1, -7), (100, 98)])
def test_monday(day, first):
    assert ibis.duckdb.connect().execute(monday(ibis.literal(day))) == first
