import io
import json

import structlog

from davy.core import logging


def test_lines_carry_the_bound_ids():
    stream = io.StringIO()
    logging.configure(stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1", rollout="next-basket"):
        logging.get_logger("predictor").warning("slow", seconds=2)
    logging.get_logger("predictor").debug("not written")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "slow"
    assert (event["request_id"], event["rollout"], event["part"]) == (
        "r1",
        "next-basket",
        "predictor",
    )
    assert event["level"] == "warning"


def test_console_style_is_text():
    stream = io.StringIO()
    logging.configure(style="console", stream=stream)
    logging.get_logger("demo").info("ready")
    assert "ready" in stream.getvalue()
