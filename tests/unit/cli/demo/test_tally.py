import json

from davy.cli.demo.tally import Tally


def test_everything_sent_is_answered_or_an_error_of_somebody():
    tally = Tally(sent=4)
    tally.record_answer("v1", 0.002)
    tally.record_answer("v2", 0.004)
    tally.record_error("v2", 500, "indices out of range")
    tally.record_error(None, 0, "ClientConnectorError")
    assert tally.settled == tally.sent
    assert tally.errors_of("v2") == 1
    assert tally.errors_of("none") == 1


def test_totals_survive_the_file_and_latencies_start_anew():
    tally = Tally(sent=2)
    tally.record_answer("v1", 0.002)
    tally.record_error("v1", 500, "a | b\nc")
    line = json.loads(json.dumps(tally.line(time=1.0, phase="normal")))
    again = Tally.from_line(line)
    assert (again.sent, again.answered, again.errors) == (2, tally.answered, tally.errors)
    assert list(again.errors) == ["v1|500|a / b c"]
    assert line["latency"]["v1"]["p50"] == 0.002
    assert tally.line(time=2.0, phase="normal")["latency"] == {}


def test_refusals_are_one_reason_whatever_they_measured():
    tally = Tally(sent=3)
    tally.record_error("v1", 503, "the predictor's queue: 1.01 s of work wait, 1 s may")
    tally.record_error("v1", 503, "the predictor's queue: 1.26 s of work wait, 1 s may")
    tally.record_error("v1", 500, "503|0.5")
    assert tally.errors["v1|503|the predictor's queue: … s of work wait, 1 s may"] == 2
    assert tally.refused == 2
