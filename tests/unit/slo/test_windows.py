from datetime import timedelta

import pytest

from davy.slo.windows import BURNS, Burn, text, windows

MONTH = timedelta(days=30)


def test_the_burn_rates_of_a_month_are_the_workbooks():
    assert [round(burn.rate(MONTH), 6) for burn in BURNS] == [14.4, 6, 3, 1]


@pytest.mark.parametrize("burn", BURNS)
@pytest.mark.parametrize("days", [7, 30, 90])
def test_a_window_at_the_threshold_spends_the_share_that_it_names(burn: Burn, days: int):
    target, period = 0.995, timedelta(days=days)
    spent = burn.threshold(target, period) * burn.long
    assert spent / ((1 - target) * period) == pytest.approx(burn.share)


@pytest.mark.parametrize("burn", BURNS)
def test_the_minimum_makes_five_bad_events_at_the_threshold(burn: Burn):
    least = burn.minimum(0.999, MONTH)
    assert least * burn.threshold(0.999, MONTH) >= 5 - 1e-6
    assert (least - 1) * burn.threshold(0.999, MONTH) < 5


def test_a_threshold_above_all_events_needs_no_more_than_those_five():
    assert BURNS[0].minimum(0.5, MONTH) == 5


def test_every_window_is_recorded_once():
    assert [text(window) for window in windows()] == ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]


def test_what_is_no_whole_minute_is_said_in_seconds():
    assert text(timedelta(seconds=90)) == "90s"
