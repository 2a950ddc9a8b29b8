import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from davy.cli.detector import app
from davy.core.errors import ConfigurationError, InvalidInputError, UnavailableError

FEATURE = {
    "feature": "unit_price",
    "detector": "ks",
    "status": "drift",
    "effect": 0.31,
    "floor": 0.12,
    "p_value": 0.00125,
    "adjusted": 0.03,
    "statistic": 0.31,
    "reason": "",
    "comparisons": [{"what": "median", "reference": 2.0, "window": 2.5}],
    "examples": [2.5, None],
}
QUIET = {**FEATURE, "feature": "department", "status": "ok", "effect": 0.01, "comparisons": []}
REPORT = {
    "versions": [
        {
            "model": "next_basket",
            "version": "v1",
            "window_rows": 400,
            "rows": 12,
            "waiting": 0,
            "active": [{"feature": "unit_price", "detector": "ks"}],
            "windows": [
                {
                    "start": "2017-01-01T00:00:00.953152+00:00",
                    "end": "2017-01-01T00:01:00+00:00",
                    "rows": 400,
                    "scored": 400,
                    "status": "drift",
                    "reason": "",
                    "seconds": 0.02,
                    "active": [],
                    "features": [QUIET, FEATURE],
                }
            ],
        },
        {"model": "m", "version": "v2", "window_rows": 9, "rows": 1, "active": [], "windows": []},
    ],
    "not_watched": [{"version": "v3", "reason": "unknown_version", "message": "no package"}],
    "dropped": {"unknown_version": 7},
}


class StandInDetector(BaseHTTPRequestHandler):
    answer = b""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def run():
    """Return a function that runs `davy detector windows` against a given answer."""

    def invoke(answer, *options):
        handler = type("Handler", (StandInDetector,), {"answer": answer})
        with HTTPServer(("127.0.0.1", 0), handler) as server:
            thread = Thread(target=server.handle_request)
            thread.start()
            url = f"http://127.0.0.1:{server.server_port}"
            result = CliRunner().invoke(
                app, ["windows", "--url", url, *options], env={"COLUMNS": "150"}
            )
            thread.join()
        return result

    return invoke


def test_the_table_shows_what_drifted_and_what_it_looks_like(run):
    result = run(json.dumps(REPORT).encode())
    assert result.exit_code == 0, result.output
    for shown in (
        "next_basket v1: drift",
        "400 rows, 2017-01-01 00:00:00 to 2017-01-01 00:01:00 UTC; 1 window kept, next window 12",
        "unit_price",
        "ACTIVE",
        "median 2 → 2.5",
        "m v2: no window yet, next window 1 of 9 rows",
        "not watched: v3: no package",
        "events dropped: unknown_version 7",
    ):
        assert shown in result.output
    assert "department" not in result.output


def test_values_that_are_infinite_are_shown_as_such(run):
    compared = [{"what": "median", "reference": 2.0, "window": "inf"}]
    window = {
        **REPORT["versions"][0]["windows"][0],
        "features": [{**FEATURE, "comparisons": compared}],
    }
    report = {**REPORT, "versions": [{**REPORT["versions"][0], "windows": [window]}]}
    result = run(json.dumps(report).encode())
    assert result.exit_code == 0, result.output
    assert "median 2 → inf" in result.output


def test_all_shows_the_quiet_features_too(run):
    assert "department" in run(json.dumps(REPORT).encode(), "--all").output


def test_json_is_what_the_detector_says(run):
    assert json.loads(run(json.dumps(REPORT).encode(), "--json").output) == REPORT


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]"])
def test_something_else_answers_there(run, answer):
    assert isinstance(run(answer).exception, InvalidInputError)


def test_nothing_answers_there():
    result = CliRunner().invoke(app, ["windows", "--url", "http://127.0.0.1:1"])
    assert isinstance(result.exception, UnavailableError)
    assert "davy detector serve" in str(result.exception)


def test_a_misspelt_setting_names_its_nearest_match(monkeypatch):
    monkeypatch.setenv("DAVY_DETECTOR_STOER", "x")
    result = CliRunner().invoke(app, ["serve"])
    assert isinstance(result.exception, ConfigurationError)
    assert "did you mean 'store'?" in str(result.exception)
