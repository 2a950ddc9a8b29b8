"""What people ask of a rollout that runs: kept, read at the next look, done once, recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rollout_cluster import CrashedHereError, StandInCluster

from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError, TemporaryError
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.memory import MemoryJournal, StatedPackages
from davy.rollout.decide import PAUSED, Decision
from davy.rollout.engine import Engine
from davy.rollout.orders import NoOrders, Order, OrderKind, order, paused_by, pending
from davy.rollout.override import OVERRIDDEN
from davy.rollout.ports import GateFacts
from davy.rollout.record import Header
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase
from davy.rollout.vetoes import Veto

START = datetime(2017, 1, 2, tzinfo=UTC)
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
PACKAGES = StatedPackages(FACTS, (Veto("signature", active=False, message="verified"),))
SPEC = RolloutSpec.model_validate(
    {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}, {"weight": 50}],
        "analysis": {"interval": "5s", "deadline": "10m", "vetoes": ["signature"]},
    }
)


def engine(cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders) -> Engine:
    return Engine(
        SPEC,
        name="next-basket",
        stable="v1",
        traffic=cluster,
        metrics=cluster,
        journal=journal,
        packages=PACKAGES,
        clock=cluster.clock,
        orders=orders,
    )


@pytest.fixture
def cluster() -> StandInCluster:
    return StandInCluster(ManualClock(START))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FolderJournal]:
    with FolderJournal(tmp_path) as held:
        yield held


@pytest.fixture
def orders(tmp_path: Path) -> FolderOrders:
    return FolderOrders(tmp_path)


def ask(
    orders: FolderOrders,
    cluster: StandInCluster,
    kind: OrderKind,
    why: str = "why",
    ahead: float = 0.0,
) -> None:
    """Ask as a person does whose clock is so many seconds ahead."""
    header = read_record(orders.folder / "record.jsonl").header
    now = cluster.clock.now() + timedelta(seconds=ahead)
    orders.add(order(kind, by="on call", because=why, time=now).for_record(header))


def looks(running: Engine, cluster: StandInCluster, count: int) -> Decision:
    for _ in range(count):
        decision = running.look()
        cluster.clock.sleep(5)
    return decision


def test_a_pause_holds_until_it_is_resumed_and_names_who_and_why(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    running = engine(cluster, journal, orders)
    looks(running, cluster, 2)
    ask(orders, cluster, "pause", "the logs look odd")
    held = looks(running, cluster, 30)
    assert (held.action, held.reason) == ("hold", PAUSED)
    assert held.message == "paused by on call: the logs look odd"
    assert running.state.weight == 5
    ask(orders, cluster, "resume")
    assert running.run() == Phase.PROMOTED
    record = journal.read()
    assert record is not None
    assert replay(record).difference is None


def test_a_paused_canary_that_fails_is_rolled_back(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    cluster.canary_errors = 0.5
    running = engine(cluster, journal, orders)
    looks(running, cluster, 2)
    assert running.state.weight == 5
    ask(orders, cluster, "pause")
    assert running.run() == Phase.ROLLED_BACK


def test_a_person_promotes_and_the_record_says_without_which_evidence(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    running = engine(cluster, journal, orders)
    looks(running, cluster, 2)
    ask(orders, cluster, "promote", "the sale begins")
    assert running.run() == Phase.PROMOTED
    record = read_record(journal.path)
    line = record.looks[2]
    assert (line.actor, line.decision.reason) == ("on call", OVERRIDDEN)
    assert line.decision.message.startswith("the sale begins (without the evidence: errors is inc")
    assert "step 1 of 2 was reached" in line.decision.message
    # Done once: the router was asked for 100 by the override alone, and nothing came after it.
    assert [line.actor for line in record.looks].count("on call") == 1
    assert cluster.asked[-1] == 100
    assert replay(record).difference is None


def test_the_last_word_of_several_counts(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    running = engine(cluster, journal, orders)
    looks(running, cluster, 2)
    ask(orders, cluster, "promote")
    cluster.clock.sleep(1)
    ask(orders, cluster, "rollback")
    assert running.run() == Phase.ROLLED_BACK
    assert 100 not in cluster.asked


def test_what_a_person_wants_does_not_wait_for_the_next_look(
    journal: FolderJournal, orders: FolderOrders
) -> None:
    class ClockOnWhichSomebodyAsks(ManualClock):
        """A manual clock; at second 1 a person asks for a rollback."""

        def sleep(self, seconds: float) -> None:
            before = self.now()
            ManualClock.sleep(self, seconds)
            if before <= START + timedelta(seconds=1) < self.now():
                header = read_record(journal.path).header
                asked = order("rollback", by="on call", because="w", time=self.now())
                orders.add(asked.for_record(header))

    cluster = StandInCluster(ClockOnWhichSomebodyAsks(START))
    running = engine(cluster, journal, orders)
    stop = threading.Event()

    def second_look(decision: Decision) -> None:
        if decision.state.looks == 2:
            stop.set()

    running.run(on_look=second_look, stop=stop)
    assert cluster.clock.now() < START + timedelta(seconds=2)
    assert running.state.weight == 0


@pytest.mark.parametrize("effect", range(1, 40))
def test_an_order_is_done_once_whatever_the_engine_crashes_at(
    cluster: StandInCluster, tmp_path: Path, effect: int
) -> None:
    orders = FolderOrders(tmp_path)
    cluster.crash_at = effect
    for _ in range(4):
        with FolderJournal(tmp_path) as held:
            try:
                running = engine(cluster, held, orders)
                if not orders.read():
                    looks(running, cluster, 3)
                    ask(orders, cluster, "rollback")
                    cluster.clock.sleep(1)
                running.run()
            except CrashedHereError:
                continue
            break
    record = read_record(tmp_path / "record.jsonl")
    assert [line.actor for line in record.looks].count("on call") == 1
    assert record.looks[-1].decision.phase == Phase.ROLLED_BACK
    assert cluster.weight == 0


def test_orders_that_cannot_be_read_hold_the_rollout_and_say_why(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    running = engine(cluster, journal, orders)
    orders.path.write_text("{}\n")
    held = looks(running, cluster, 20)
    assert held.reason == PAUSED
    assert "line 1 is no order" in held.message


def test_a_line_that_a_crash_cut_off_is_no_order_and_does_not_spoil_the_next(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    assert orders.read() == ()
    engine(cluster, journal, orders)
    ask(orders, cluster, "pause")
    with orders.path.open("ab") as file:
        file.write(b'{"kind":"resu')
    assert [item.kind for item in orders.read()] == ["pause"]


def test_orders_of_an_earlier_rollout_in_the_folder_are_not_of_this_one(
    cluster: StandInCluster, tmp_path: Path, orders: FolderOrders
) -> None:
    with FolderJournal(tmp_path) as held:
        looks(engine(cluster, held, orders), cluster, 2)
        ask(orders, cluster, "pause", ahead=3600)
        ask(orders, cluster, "rollback", ahead=3600)
        held.path.unlink()
    with FolderJournal(tmp_path) as held:
        assert engine(cluster, held, orders).run() == Phase.PROMOTED


@pytest.mark.parametrize("ahead", [-120.0, 0.0, 120.0])
@pytest.mark.parametrize("restarted", [False, True])
def test_an_order_is_done_once_whatever_the_clock_of_who_asks_says(
    cluster: StandInCluster, tmp_path: Path, ahead: float, restarted: bool
) -> None:
    orders = FolderOrders(tmp_path)
    with FolderJournal(tmp_path) as held:
        running = engine(cluster, held, orders)
        looks(running, cluster, 2)
        ask(orders, cluster, "rollback", ahead=ahead)
        looks(running, cluster, 1)
        if restarted:
            running = engine(cluster, held, orders)
        assert running.run() == Phase.ROLLED_BACK
    record = read_record(tmp_path / "record.jsonl")
    (line,) = [line for line in record.looks if line.actor == "on call"]
    assert line.orders == [orders.read()[0].id]
    assert replay(record).difference is None


@pytest.mark.parametrize("ahead", [-120.0, 120.0])
def test_a_pause_holds_and_a_resume_ends_it_whatever_the_clocks_say(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders, ahead: float
) -> None:
    running = engine(cluster, journal, orders)
    ask(orders, cluster, "pause", ahead=ahead)
    assert looks(running, cluster, 3).reason == PAUSED
    ask(orders, cluster, "resume", ahead=-ahead)
    assert looks(running, cluster, 1).reason != PAUSED


def test_an_order_that_another_overtook_is_not_done_after_it(
    cluster: StandInCluster, journal: FolderJournal, orders: FolderOrders
) -> None:
    running = engine(cluster, journal, orders)
    looks(running, cluster, 2)
    ask(orders, cluster, "promote", ahead=60)
    ask(orders, cluster, "rollback")
    first, last = orders.read()
    looks(running, cluster, 1)
    # Somebody takes the line out of the file before the weight was read back.
    orders.path.write_text(first.model_dump_json() + "\n")
    assert engine(cluster, journal, orders).run() == Phase.ROLLED_BACK
    assert 100 not in cluster.asked
    line = read_record(journal.path).looks[2]
    assert line.orders == [first.id, last.id]


def test_an_order_needs_a_person_and_a_reason() -> None:
    for by, because in (("", "why"), ("on call", " "), ("davy", "why")):
        with pytest.raises(InvalidInputError):
            order("pause", by=by, because=because, time=START)


def test_without_a_place_for_orders_there_are_none() -> None:
    asked = order("pause", by="on call", because="why", time=START)
    assert NoOrders().read() == ()
    with pytest.raises(InvalidInputError, match="no pause can be asked"):
        NoOrders().add(asked)


def header_of(generation: int, canary: str = "v2") -> Header:
    return Header(
        time=START,
        rollout="shop/next-basket",
        generation=generation,
        settings_hash=str(generation),
        spec={},
        stable="v1",
        canary=canary,
        latency_objective_seconds=0.1,
    )


def asked_for(kind: OrderKind) -> Order:
    return order(kind, by="on call", because="why", time=START)


def test_an_order_is_of_the_record_that_it_was_given_to() -> None:
    header, other = header_of(1), header_of(2)
    promote, pause = asked_for("promote").for_record(header), asked_for("pause").for_record(header)
    assert pending([promote, pause], header, ()) == (promote,)
    assert pending([promote], header, [promote.id]) == ()
    assert pending([promote], other, ()) == ()
    assert paused_by([pause, promote], header) == pause
    assert paused_by([pause], other) is None
    assert paused_by([pause, asked_for("resume").for_record(header)], header) is None


def test_an_order_of_a_resource_is_of_its_candidate_and_of_no_later_attempt() -> None:
    asked = asked_for("promote").for_resource("uid", "v2", 3)
    assert asked.is_of(header_of(3))
    assert asked.is_of(header_of(2)), "only what is not judged was edited since it began"
    assert not asked.is_of(header_of(4))
    assert not asked.is_of(header_of(3, canary="v3"))


def test_an_order_of_no_record_or_without_an_id_is_of_none() -> None:
    header = header_of(1)
    assert not asked_for("promote").is_of(header)
    old = Order(kind="promote", by="on call", because="why", time=START, candidate="v2",
                generation=9)  # fmt: skip
    assert not old.is_of(header)
    assert len({asked_for("pause").id for _ in range(100)}) == 100


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="cannot be written"):
        FolderOrders(tmp_path / "none").add(asked_for("pause"))


def test_a_rollout_without_orders_goes_on_as_before(cluster: StandInCluster) -> None:
    running = Engine(
        SPEC,
        name="r",
        stable="v1",
        traffic=cluster,
        metrics=cluster,
        journal=MemoryJournal(),
        packages=PACKAGES,
        clock=cluster.clock,
    )
    assert running.run() == Phase.PROMOTED
