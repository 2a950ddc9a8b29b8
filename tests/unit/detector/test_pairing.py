import random
from datetime import UTC, datetime, timedelta

import pytest

from davy.detector.ledger import Ledger
from davy.detector.pairing import Exchange, Half, Pairing, pair_key
from davy.detector.samples import Sample
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent

START = datetime(2017, 1, 1, tzinfo=UTC)


@pytest.fixture
def pairing():
    found = Ledger()
    yield Pairing(found, join_seconds=30, pending=5, pending_bytes=10_000)
    found.close()


def half(kind, number, now=0.0, *, place=None, version="v1", told="v1", service="m", body=b"{}"):
    when = START + timedelta(seconds=number)
    kind_of_event = REQUEST if kind == "request" else RESPONSE
    event = PayloadEvent(f"r{number}", kind_of_event, "/s", when, service, "n", told, 1.0, body)
    sample = Sample(kind, f"r{number}", version, when, {"score": number / 10})
    default = 2 * number + (kind == "response")
    return Half(event, sample, default if place is None else place, now)


def expire(pairing, now):
    return [exchange.id for exchange in pairing.expire(now)]


@pytest.mark.parametrize("order", [("request", "response"), ("response", "request")])
def test_a_request_meets_its_response_whichever_comes_first(pairing, order):
    first, second = (half(kind, 1) for kind in order)
    assert pairing.take(first) is None
    found = pairing.take(second)
    assert isinstance(found, Exchange)
    assert (found.version, found.id, found.time) == ("v1", "r1", START + timedelta(seconds=1))
    assert found.pair.request.type == REQUEST
    assert found.pair.response.type == RESPONSE
    assert (found.place, found.settled, pairing.held_bytes) == (2, False, 0)


def test_a_source_that_names_no_version_is_paired_by_id_and_the_response_names_it(pairing):
    pairing.take(half("request", 1, version="", told=""))
    assert pairing.take(half("response", 1, version="v7", told="")).version == "v7"


def test_a_request_alone_that_names_no_version_has_none(pairing):
    pairing.take(half("request", 1, version="", told=""))
    assert [exchange.version for exchange in pairing.expire(30)] == [""]


def test_one_id_in_two_services_or_versions_is_two_exchanges(pairing):
    pairing.take(half("request", 1))
    assert pairing.take(half("response", 1, service="other")) is None
    assert pairing.take(half("response", 1, version="v2", told="v2")) is None
    assert isinstance(pairing.take(half("response", 1)), Exchange)


@pytest.mark.parametrize("kind", ["request", "response"])
def test_what_was_told_before_is_a_duplicate(pairing, kind):
    pairing.take(half(kind, 1))
    assert pairing.take(half(kind, 1, place=90)) == "duplicate"
    other = "response" if kind == "request" else "request"
    found = pairing.take(half(other, 1))
    pairing.known.settle(found.key)
    assert pairing.take(half(kind, 1, place=91)) == "duplicate"
    assert pairing.take(half(other, 1, place=92)) == "duplicate"


def test_a_response_after_the_bound_is_late_and_told_again_a_duplicate(pairing):
    pairing.take(half("request", 1))
    assert expire(pairing, 29.9) == []
    (found,) = pairing.expire(30)
    assert (found.response, found.pair) == (None, None)
    pairing.known.settle(found.key, done=True)
    assert pairing.take(half("response", 1, 31)) == "late"
    assert pairing.take(half("response", 1, 31, place=90)) == "duplicate"
    assert pairing.take_orphans() == 0


def test_a_response_that_nobody_asked_for_is_let_go_and_counted_once(pairing):
    pairing.take(half("response", 1))
    assert expire(pairing, 30) == []
    assert [pairing.take_orphans(), pairing.take_orphans()] == [1, 0]
    assert pairing.take(half("request", 1, 31)) is None
    assert pairing.waiting() == {"v1": 1}


def test_what_waits_is_bounded_and_the_oldest_gives_way(pairing):
    for number in range(8):
        pairing.take(half("request", number))
        pairing.take(half("response", 100 + number))
    assert expire(pairing, 0) == ["r0", "r1", "r2"]
    assert pairing.take_orphans() == 3
    assert pairing.waiting() == {"v1": 5}


def test_the_bytes_of_what_waits_are_bounded(pairing):
    for number in range(4):
        pairing.take(half("request", number, body=b"x" * 3000))
    assert expire(pairing, 0) == ["r0"]
    assert pairing.held_bytes == 9000


def test_the_oldest_place_is_that_of_what_still_waits(pairing):
    assert pairing.oldest() is None
    for number in (3, 1, 2):
        pairing.take(half("request", number, place=number * 10))
    assert pairing.oldest() == 10
    pairing.take(half("response", 1, place=50))
    assert pairing.oldest() == 20


def test_what_is_recovered_is_known_from_what_is_told_again(pairing):
    first = half("request", 1)
    pairing.take(first)
    pairing.take(half("request", 2))
    again = Pairing(pairing.known, join_seconds=30, pending=5)
    assert again.take(first) is None
    found = again.take(half("response", 1))
    assert isinstance(found, Exchange)
    assert not found.settled
    again.known.settle(found.key)
    # Counted, and yet to be written: it comes once more, and says so.
    third = Pairing(pairing.known, join_seconds=30, pending=5)
    third.take(half("request", 1))
    assert third.take(half("response", 1)).settled
    third.known.settle(found.key, done=True)
    fourth = Pairing(pairing.known, join_seconds=30, pending=5)
    assert fourth.take(half("request", 1)) is None
    assert fourth.take(half("response", 1)) is None
    assert fourth.waiting() == {}


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_and_told_more_than_once_each_exchange_comes_once(seed):
    rng = random.Random(seed)
    ledger = Ledger()
    pairing = Pairing(ledger, join_seconds=30, pending=1000)
    told = [half(k, n) for n in range(100) for k in ("request", "response") for _ in range(3)]
    rng.shuffle(told)
    found = []
    for place, item in enumerate(told):
        one = Half(item.event, item.sample, place, 0.0)
        if isinstance(exchange := pairing.take(one), Exchange):
            ledger.settle(exchange.key)
            found.append(exchange.id)
    assert sorted(found) == sorted(f"r{number}" for number in range(100))
    ledger.close()


def test_the_key_of_a_pair_does_not_run_its_parts_together():
    one = half("request", 1, service="ab").event
    other = half("request", 1, service="a").event
    assert pair_key(one) != pair_key(other)
    assert len(pair_key(one)) == 16
