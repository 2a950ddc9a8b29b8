import numpy as np
import pytest

from davy.predictor.admission import Limits, Load, Speed, behind, refuse

LIMITS = Limits(queue_rows=100, max_wait_seconds=1.0)


def test_speed_tells_calls_from_rows() -> None:
    speed = Speed()
    rng = np.random.default_rng(1)
    for rows in rng.integers(1, 500, 200):
        speed.observe(int(rows), 0.001 + 2e-6 * float(rows))
    assert speed.per_call == pytest.approx(0.001)
    assert speed.per_row == pytest.approx(2e-6)
    assert speed.seconds(10_000) == pytest.approx(0.021)


def test_what_a_row_costs_is_remembered_over_requests_of_one_size() -> None:
    speed = Speed()
    speed.observe(1, 0.001)
    speed.observe(101, 0.002)
    for _ in range(2000):
        speed.observe(1, 0.001)
    assert speed.seconds(101) == pytest.approx(0.002, rel=0.05)


def test_speed_follows_a_model_that_becomes_slower() -> None:
    speed = Speed()
    for seconds in [0.001] * 200 + [0.01] * 200:
        speed.observe(10, seconds)
    assert speed.seconds(10) == pytest.approx(0.01, rel=0.05)


def test_speed_hardly_minds_what_another_process_took_from_it() -> None:
    speed, rng = Speed(), np.random.default_rng(3)
    for _ in range(10):
        speed.observe(100, 0.0001)
    for _ in range(2000):
        speed.observe(100, 0.02 if rng.uniform() < 0.1 else 0.0001)
        assert speed.seconds(100) < 0.0005


def test_speed_of_a_model_that_took_nothing_is_learnt() -> None:
    speed = Speed()
    for seconds in [0.0] * 50 + [0.01] * 400:
        speed.observe(10, seconds)
    assert speed.seconds(10) == pytest.approx(0.01, rel=0.05)


def test_speed_is_never_negative() -> None:
    speed = Speed()
    for rows, seconds in ((1, 0.5), (100, 0.1), (1, 0.0), (50, 2.0), (3, 0.0)):
        speed.observe(rows, seconds)
        assert min(speed.per_call, speed.per_row) >= 0
        assert speed.seconds(1) >= 0


def test_a_share_is_a_part_of_a_call() -> None:
    speed = Speed()
    speed.observe(1, 0.01)
    assert speed.share(10, 100) == pytest.approx(speed.per_row * 10 + speed.per_call / 10)
    assert speed.share(500, 100) == pytest.approx(speed.seconds(500))


@pytest.mark.parametrize(
    ("load", "rows", "own", "left", "refused"),
    [
        (Load(0, 0.0), 10**9, 10**6, 0.001, ""),
        (Load(0, 0.5), 10**9, 0.1, None, ""),
        (Load(90, 0.5), 10, 0.1, None, ""),
        (Load(90, 0.5), 11, 0.1, None, "90 rows wait, 100 may"),
        (Load(0, 1.5), 1, 0.1, None, "1.50 s of work wait"),
        (Load(1, 0.5), 1, 0.1, 0.7, ""),
        (Load(1, 0.5), 1, 0.1, 0.55, "would take 0.60 s, the deadline leaves 0.55"),
        (Load(1, 0.5), 1, 0.1, -1.0, "the deadline leaves 0.00"),
    ],
)
def test_who_may_wait(load: Load, rows: int, own: float, left: float | None, refused: str) -> None:
    error = refuse(load, rows, own, left, LIMITS)
    assert (error is None) == (not refused)
    if error is not None:
        assert refused in str(error)
        assert error.http_status == 503


@pytest.mark.parametrize(("seconds", "delay"), [(1.2, 2), (7.0, 7)])
def test_retry_after_is_when_the_queue_will_be_empty(seconds: float, delay: int) -> None:
    error = refuse(Load(5, seconds), 1, 0.0, None, LIMITS)
    assert error is not None
    assert error.delay == delay


@pytest.mark.parametrize(
    ("waited", "in_turn", "refused"),
    [(0.0, 0.0, False), (1.0, 0.9, False), (1.1, 0.2, True), (9.0, 0.1, False), (9.0, 0.11, True)],
)
def test_who_waits_for_the_loop_too_long_is_refused(
    waited: float, in_turn: float, refused: bool
) -> None:
    error = behind(waited, in_turn, LIMITS)
    assert (error is not None) is refused
    if error is not None:
        assert error.delay >= waited
        assert f"up to {waited:.2f} s" in str(error)
