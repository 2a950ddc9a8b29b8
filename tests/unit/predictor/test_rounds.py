from hypothesis import given
from hypothesis import strategies as st

from davy.predictor.admission import Limits
from davy.predictor.rounds import Round, Ticket, choose

LIMITS = Limits(batch_rows=100, batch_wait_seconds=1.0)


def ticket(rows: int, group: object = "m", deadline: float | None = None) -> Ticket:
    return Ticket(group, rows, rows / 1000, 0.0, deadline)


def pick(*waiting: Ticket, now: float = 0.0, after_large: bool = False) -> Round:
    return choose(waiting, now, LIMITS, after_large=after_large)


def test_nobody_waits() -> None:
    assert pick() == Round((), ())


def test_oldest_first_until_the_rows_are_used_up() -> None:
    assert pick(ticket(40), ticket(40), ticket(40), ticket(20)).batch == (0, 1, 3)


def test_other_groups_are_left_for_later_rounds() -> None:
    assert pick(ticket(1), ticket(1, "n"), ticket(1)).batch == (0, 2)


def test_without_a_group_one_is_executed_alone() -> None:
    assert pick(ticket(1, None), ticket(1, None)).batch == (0,)


def test_seconds_are_a_budget_too() -> None:
    slow = Ticket("m", 1, 0.6, 0.0)
    assert pick(slow, slow, ticket(1)).batch == (0, 2)


def test_a_large_one_is_executed_alone_and_then_a_small_one_goes_first() -> None:
    waiting = (ticket(500), ticket(700), ticket(1), ticket(2))
    first = pick(*waiting)
    assert first == Round((0,), (), large=True)
    second = pick(*waiting[1:], after_large=True)
    assert (second.batch, second.large) == ((1, 2), False)
    third = pick(waiting[1])
    assert third == Round((0,), (), large=True)


def test_large_ones_follow_each_other_where_nobody_else_waits() -> None:
    assert pick(ticket(500), ticket(500), after_large=True).batch == (0,)


def test_what_is_too_late_is_named_and_not_executed() -> None:
    found = pick(ticket(1, deadline=1.0), ticket(1, deadline=3.0), ticket(1), now=2.0)
    assert found == Round((1, 2), (0,))


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from(["m", "n", None])), min_size=1, max_size=60
    )
)
def test_everybody_is_served_once_and_nobody_is_passed_over_for_long(
    asked: list[tuple[int, str | None]],
) -> None:
    waiting = list(enumerate(ticket(rows, group) for rows, group in asked))
    served: list[int] = []
    after_large = False
    rounds = 0
    while waiting:
        rounds += 1
        oldest = waiting[0]
        found = choose([t for _, t in waiting], 0.0, LIMITS, after_large=after_large)
        chosen = [waiting[i] for i in found.batch]
        rows = sum(t.rows for _, t in chosen)
        assert found.batch
        assert len(chosen) == 1 or rows <= LIMITS.batch_rows
        assert len({t.group for _, t in chosen}) == 1
        # The oldest is passed over only once, when it is large and comes after a large one.
        if oldest not in chosen:
            assert after_large
            assert oldest[1].rows > LIMITS.batch_rows
        served += [index for index, _ in chosen]
        waiting = [item for item in waiting if item not in chosen]
        after_large = found.large
    assert sorted(served) == list(range(len(asked)))
    assert rounds <= len(asked)
