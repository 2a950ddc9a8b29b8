"""The start-up benchmark: its table and its sums."""

from tests.benchmarks.bench_start import Start, table


def test_a_row_has_medians_extremes_and_the_sum_of_what_was_lost() -> None:
    starts = [Start(s, 1.5, 190.0, 1.2, 40, lost) for s, lost in ((1.0, 0), (9.0, 2), (2.0, 0))]
    row = table({"the image": starts}, {"a": 50.4, "b": 300.0}).splitlines()[2]
    assert row == "| the image | 2.00 (1.00–9.00) | 1.50 | 190 | 1.2 | 2 of 122 |"
    assert "Image unpacked: 350 MB (a 50, b 300)" in table({"x": starts}, {"a": 50.4, "b": 300.0})
